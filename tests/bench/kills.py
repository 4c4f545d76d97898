"""The long kill sweep: SIGKILL at random moments, run again until it ends, and count jobs on the service's side.

    .venv/bin/python tests/bench/kills.py [--kills 200] [--rows 10000] [--seed N] [--folder FOLDER]

The real program submits a manifest to `batchsubmit sandbox`, a process of its own that lives through all kills. Most
kills come when the ledger has grown by a random number of bytes and a random few milliseconds have passed, so that they
are spread over the whole manifest and fall on any step of a call; the others at the latest at a random moment after the
start, so that they also fall on validation, the reading of the ledger and the lookup of unknown jobs. List shows a job
only after a third of the settle time.

Prints `kills, rows, duplicates, losses`: jobs that the sandbox has beyond one for each row, and rows without a job. The
ledger's ARNs must be the sandbox's. Exit status 1 where anything is not as it should be.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

from harness import machine, tell
from workload import PROGRAM, Sandbox, request, sandbox, surroundings, write_manifest

BYTES_A_JOB = 600
"""Roughly what intent and outcome take in the ledger; only spreads the kills."""

SETTLE_SECONDS = 0.6
LAG_SECONDS = SETTLE_SECONDS / 3
LONGEST_DELAY_SECONDS = 0.01
EARLY_SHARE = 0.25
LATEST_EARLY_SECONDS = 3.0
LONGEST_RUN_SECONDS = 600
_POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Count:
    """What the sweep is about, as counted on the sandbox's side, and how the ledger compares."""

    kills: int
    rows: int
    duplicates: int
    losses: int
    strangers: int
    arns_only_in_ledger: int
    arns_only_on_service: int

    def __str__(self) -> str:
        return f"kills {self.kills}, rows {self.rows}, duplicates {self.duplicates}, losses {self.losses}"

    @property
    def is_clean(self) -> bool:
        """Whether every row has one job, and the ledger knows it."""
        wrong = (self.duplicates, self.losses, self.strangers, self.arns_only_in_ledger, self.arns_only_on_service)
        return not any(wrong)


class Sweep:
    """One manifest on one ledger, killed again and again."""

    def __init__(self, service: Sandbox, folder: Path, rows: int, random: Random) -> None:
        self._service = service
        self._rows = rows
        self._random = random
        self._folder = folder
        self._ledger = folder / "jobs.ledger.jsonl"
        self._complaints = folder / "stderr"
        self._manifest = write_manifest(folder / "jobs.csv", rows)
        self._environment = surroundings(
            service.url,
            lookup__settle_seconds=SETTLE_SECONDS,
            retry__base_seconds=0.01,
            retry__cap_seconds=0.1,
        )

    def run(self, kills: int) -> int:
        """Kill as often as said, or until the batch is done before; returns the number of kills."""
        for done in range(kills):
            if not self._killed(kills - done):
                return done
            if (done + 1) % 10 == 0:
                tell(f"{done + 1} kills, {self._accepted():,} of {self._rows:,} jobs on the service")
        return kills

    def end(self) -> str:
        """Let the program come to its end, undisturbed; returns its summary, RuntimeError where it is not all well."""
        with self._start() as process:
            summary, _ = process.communicate(timeout=LONGEST_RUN_SECONDS)
        if process.returncode:
            raise self._ended_badly(process.returncode)
        return str(summary.decode().strip())

    def count(self, kills: int) -> Count:
        """Compare service, manifest and ledger."""
        jobs = self._service.jobs()
        per_row = Counter((job["membershipIdentifier"], job["name"]) for job in jobs)
        rows = {(row["membershipIdentifier"], row["name"]) for row in map(request, range(self._rows))}
        on_service = {job["arn"] for job in jobs}
        events = [json.loads(line) for line in self._ledger.read_bytes().splitlines()]
        in_ledger = {event["arn"] for event in events if event["event"] == "submitted"}
        return Count(
            kills=kills,
            rows=self._rows,
            duplicates=sum(per_row[row] - 1 for row in rows if row in per_row),
            losses=len(rows - per_row.keys()),
            strangers=len(per_row.keys() - rows),
            arns_only_in_ledger=len(in_ledger - on_service),
            arns_only_on_service=len(on_service - in_ledger),
        )

    def _killed(self, kills_left: int) -> bool:
        """Run and kill; False where the program had ended before."""
        with self._start() as process:
            is_early = self._random.random() < EARLY_SHARE
            seconds = self._random.uniform(0, LATEST_EARLY_SECONDS) if is_early else LONGEST_RUN_SECONDS
            until = time.monotonic() + seconds
            self._wait(process, until=until, size=self._size() + self._growth(kills_left))
            time.sleep(self._random.uniform(0, LONGEST_DELAY_SECONDS))
            ended = process.poll()
            process.kill()
        if ended:
            raise self._ended_badly(ended)
        return ended is None

    def _growth(self, kills_left: int) -> float:
        """Draw by how much the ledger may grow in this run, so that the kills are spread over what is left to do."""
        left = max(self._rows - self._accepted(), 0) * BYTES_A_JOB / kills_left
        return self._random.uniform(1, 2 * max(left, 1))

    def _wait(self, process: "subprocess.Popen[bytes]", *, until: float, size: float) -> None:
        """Wait until a moment has come, the ledger has a size, or the program has ended."""
        while process.poll() is None and time.monotonic() < until and self._size() < size:
            time.sleep(_POLL_SECONDS)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [*PROGRAM, "submit", str(self._manifest), "--ledger", str(self._ledger), "--rate", "0", "--json"]
        with self._complaints.open("wb") as complaints:
            return subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, stderr=complaints
            )

    def _ended_badly(self, status: int) -> RuntimeError:
        return RuntimeError(f"a run ended by itself with {status}: {self._complaints.read_text()}")

    def _size(self) -> int:
        try:
            return self._ledger.stat().st_size
        except FileNotFoundError:
            return 0

    def _accepted(self) -> int:
        return self._service.accepted()


def measure(kills: int, rows: int, seed: int, folder: str | None = None) -> Count:
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        sandbox("--list-lag-seconds", str(LAG_SECONDS)) as service,
    ):
        sweep = Sweep(service, Path(place), rows, Random(seed))
        killed = sweep.run(kills)
        tell(f"{killed} kills; last run")
        tell(sweep.end())
        return sweep.count(killed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how often the program is killed (200)")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the manifest (10,000)")
    parser.add_argument("--seed", type=int, help="of the random moments; printed, if none is given")
    parser.add_argument("--folder", help="where the ledger is written (the folder for temporary files)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else SystemRandom().randrange(10**6)
    print(f"seed {seed}; {machine()}", flush=True)
    began = time.monotonic()
    count = measure(options.kills, options.rows, seed, options.folder)
    print(count)
    print(f"ledger: {count.arns_only_in_ledger} ARNs that the service has not, {count.arns_only_on_service} missing")
    print(f"{time.monotonic() - began:.0f} s")
    if not count.is_clean:
        sys.exit(1)


if __name__ == "__main__":
    main()
