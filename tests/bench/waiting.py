"""What waiting costs: CPU of a `submit` whose jobs have no slot, as a share of a core.

    .venv/bin/python tests/bench/waiting.py [--jobs N] [--memberships N] [--seconds S] [--runs N] [--folder FOLDER]

A real sandbox with AWS's default quotas, whose jobs outlast the benchmark, and the real program with its default
settings on 100,000 jobs in 50 memberships. `own`: its first ten jobs hold all slots. `others`: ten jobs of another
ledger hold them, so that nothing of its own runs. Each with the progress display on a terminal, and with lines off one.
CPU is read from /proc (Linux) over `--seconds`, from `--settle` seconds after the first call on, so that the start is
not in it. `calls` are those of all kinds that the sandbox saw meanwhile.
"""

import argparse
import json
import os
import pty
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness import Figures, alternate, machine, print_figures
from workload import PROGRAM, Sandbox, fetch, sandbox, surroundings, write_manifest

_ACCOUNT_SLOTS = 10
_PATIENCE_SECONDS = 120.0


def memberships(count: int) -> list[str]:
    """So many memberships."""
    return [f"{number:08x}-0000-4000-8000-{number:012x}" for number in range(1, count + 1)]


def cpu_seconds(pid: int) -> float:
    """What a process has used of a core."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def calls(service: Sandbox) -> int:
    """Calls of every kind that the sandbox has seen."""
    by_operation = json.loads(fetch(f"{service.url}/_sandbox/stats"))["calls"]
    return sum(sum(codes.values()) for codes in by_operation.values())


class Waiting:
    """A manifest, and a sandbox without a free slot."""

    def __init__(self, service: Sandbox, folder: Path, jobs: int, lanes: int) -> None:
        self._service = service
        self._folder = folder
        self._lanes = memberships(lanes)
        self._manifest = write_manifest(folder / "jobs.csv", jobs, self._lanes)
        self._environment = surroundings(service.url, rate__max_per_second=0) | {
            "TERM": "xterm",
            "COLUMNS": "120",
            "LINES": "40",
        }

    def measure(self, seconds: float, settle: float, *, others: bool, terminal: bool) -> Figures:
        """Let the program wait for a while."""
        self._service.reset()
        if others:
            self._take_all_slots()
        before = calls(self._service)
        ledger = self._folder / f"{time.monotonic_ns()}.ledger.jsonl"
        command = [*PROGRAM, "submit", str(self._manifest), "--ledger", str(ledger), "--yes"]
        with self._running(command, terminal=terminal) as process:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while calls(self._service) == before:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the program made no call")
                time.sleep(0.1)
            time.sleep(settle)
            began, used, called = time.monotonic(), cpu_seconds(process.pid), calls(self._service)
            time.sleep(seconds)
            share = 100 * (cpu_seconds(process.pid) - used) / (time.monotonic() - began)
            return {"% of a core": share, "calls": calls(self._service) - called}

    def _take_all_slots(self) -> None:
        """Let another ledger's jobs, two in each of five memberships, hold all slots of the account."""
        manifest = write_manifest(self._folder / "others.csv", _ACCOUNT_SLOTS, self._lanes[:5])
        manifest.write_text(manifest.read_text().replace("job-", "other-"))
        ledger = self._folder / f"{time.monotonic_ns()}.others.jsonl"
        command = [*PROGRAM, "submit", str(manifest), "--ledger", str(ledger), "--yes"]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    @contextmanager
    def _running(self, command: list[str], *, terminal: bool) -> Iterator["subprocess.Popen[bytes]"]:
        ours, its = pty.openpty() if terminal else os.pipe()
        reader = threading.Thread(target=_read_into_nothing, args=[ours], daemon=True)
        reader.start()
        with subprocess.Popen(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its
        ) as process:
            os.close(its)
            try:
                yield process
            finally:
                process.kill()
        reader.join()
        os.close(ours)


def _read_into_nothing(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1 << 16):
            pass
    except OSError:  # a terminal's way to say that nobody writes any more
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs that wait (100000)")
    parser.add_argument("--memberships", type=int, default=50, help="memberships that they are in (50)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long is measured (60)")
    parser.add_argument("--settle", type=float, default=15.0, help="seconds from the first call until then (15)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--folder", help="where manifest and ledgers are written (the folder for temporary files)")
    options = parser.parse_args()
    quotas = ("--per-membership", "5", "--per-account", str(_ACCOUNT_SLOTS))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, sandbox(*quotas) as service:
        waiting = Waiting(service, Path(folder), options.jobs, options.memberships)
        alternatives = {
            f"{'others' if others else 'own'}, {'terminal' if terminal else 'lines'}": partial(
                waiting.measure, options.seconds, options.settle, others=others, terminal=terminal
            )
            for others in (False, True)
            for terminal in (True, False)
        }
        measured = alternate(alternatives, runs=options.runs, warm_ups=0)
    print(machine())
    print_figures(measured)


if __name__ == "__main__":
    main()
