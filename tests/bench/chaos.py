"""Chaos: every known fault at once at some per cent, random kills, pauses and signals; the service counts the jobs.

    .venv/bin/python tests/bench/chaos.py [--minutes 10] [--jobs 1000] [--share 0.1] [--seed N] [--only MODE]

A proxy (`tests/support/chaos_proxy.py`) stands before Clean Rooms ML, SQS and DynamoDB and disturbs a share of all
calls, half of them after they took effect: HTML, empty and truncated answers with status 200, `{}`, 500, 503, cut
connections, answers that trickle, repeated page tokens, unknown statuses, Get's 404 for a job that exists, another
job's ARN. The sandbox adds conflicts and throttling of its own. Meanwhile the program is killed, stopped for a while
and continued, asked to end by SIGTERM and SIGINT, and, in the manifest mode, its ledger is taken away under it; then it
is started again. At the end the faults stop, and one more run must finish the work.

Half of the time goes to `submit` on a ledger file, half to a fleet of three workers on one queue and one table. Prints
`jobs, started twice, lost, wrong exit statuses, longest end` for each; exit status 1 where anything is not as it should
be.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

from fleet import POISON, Fleet, fleet
from fleet import request as message
from harness import machine, tell
from workload import PROGRAM, Sandbox, fetch, request, sandbox, surroundings, write_manifest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from chaos_proxy import ChaosProxy, chaos_proxy
from local_aws import local_aws

SETTLE_SECONDS = 1.0
READ_TIMEOUT_SECONDS = 1.0
GRACE_SECONDS = 10.0
LONGEST_END_SECONDS = GRACE_SECONDS + 15.0
"""A worker's grace and the 15 s that the manual tells a container to add."""

LONGEST_LIFE_SECONDS = 15.0
LAST_RUN_SECONDS = 600
WORKERS = 3
START_SECONDS = 10.0
"""A process that is this young may not have its signal handlers yet."""
TROUBLE = {
    "StartTrainedModelInferenceJob": {"conflict": 0.02, "throttled": 0.02, "aborted_after": 0.02, "reset_after": 0.02},
    "ListTrainedModelInferenceJobs": {"throttled": 0.02, "empty_page": 0.02},
}
SETTINGS = {
    "lookup__settle_seconds": SETTLE_SECONDS,
    "aws__read_timeout_seconds": READ_TIMEOUT_SECONDS,
    "aws__connect_timeout_seconds": 1,
    "retry__base_seconds": 0.05,
    "retry__cap_seconds": 0.5,
    "retry__max_attempts": 1000,
}
ENDED = {signal.SIGKILL: {-signal.SIGKILL}, signal.SIGTERM: {0, 3}, signal.SIGINT: {0, 3}}
"""The exit statuses that a process may end with that got a signal; one that got none may end with 0 or 3 too."""

Process = subprocess.Popen[bytes]


@dataclass(slots=True)
class Ends:
    """How processes ended."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0

    def send(self, process: Process, number: signal.Signals, words: Callable[[], str]) -> None:
        """Send a signal and wait for the end; a process that does not end within its grace is wrong."""
        began = time.monotonic()
        process.send_signal(number)
        try:
            process.wait(LONGEST_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"did not end within {LONGEST_END_SECONDS:g} s of {number.name}: {words()}")
            process.kill()
            process.wait()
            return
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
        self.take(process.returncode, number.name, ENDED[number] | {3}, words)

    def take(self, status: int, cause: str, right: set[int], words: Callable[[], str]) -> None:
        """Count an end."""
        self.statuses[f"{cause}: {status}"] += 1
        if status not in right:
            self.wrong.append(f"{cause} ended with {status}: {words()}")


@dataclass(frozen=True, slots=True)
class Count:
    """Jobs as the service has them."""

    jobs: int
    twice: int
    lost: int

    @classmethod
    def of(cls, service: Sandbox, names: list[str]) -> "Count":
        """Compare with the names that there should be, each once."""
        found = Counter(job["name"] for job in service.jobs())
        return cls(len(names), sum(found.values()) - len(found), sum(name not in found for name in names))


class Manifest:
    """One manifest and its ledger under attack."""

    def __init__(
        self, service: Sandbox, proxy: ChaosProxy, folder: Path, jobs: int, rate: float, random: Random
    ) -> None:
        self._service, self._folder, self._random = service, folder, random
        self._names = [str(request(number)["name"]) for number in range(jobs)]
        self._manifest = write_manifest(folder / "jobs.csv", jobs)
        self._ledger = folder / "jobs.ledger.jsonl"
        self._words = folder / "stderr"
        self._rate = rate
        self._environment = surroundings(proxy.url, **SETTINGS)
        self.ends = Ends()

    def attack(self, until: float) -> None:
        """Start and disturb until a moment has come."""
        attacks = [self._kill, self._kill, self._term, self._interrupt, self._pause, self._take_ledger]
        while time.monotonic() < until:
            with self._start() as process:
                life = self._random.uniform(0, LONGEST_LIFE_SECONDS)
                try:
                    process.wait(life)
                except subprocess.TimeoutExpired:
                    attack = self._random.choice(attacks)
                    if attack == self._kill or self._is_under_way(process):
                        attack(process)
                else:
                    self.ends.take(process.returncode, "by itself", {0, 3}, self._said)
            tell(f"{self._service.accepted():,} of {len(self._names):,} jobs; {dict(self.ends.statuses)}")

    def finish(self) -> None:
        """Run undisturbed to the end, and verify."""
        for command in ("submit", str(self._manifest), "--rate", "0"), ("verify",):
            line = [*PROGRAM, *command, *(["--ledger"] if command[0] == "submit" else []), str(self._ledger)]
            ended = subprocess.run(
                line,
                env=self._environment,
                cwd=self._folder,
                capture_output=True,
                text=True,
                timeout=LAST_RUN_SECONDS,
                check=False,
            )
            self.ends.take(ended.returncode, f"last {command[0]}", {0}, lambda ended=ended: ended.stdout + ended.stderr)

    def count(self) -> Count:
        """What the service has."""
        return Count.of(self._service, self._names)

    def _start(self) -> Process:
        command = [*PROGRAM, "submit", str(self._manifest), "--ledger", str(self._ledger), "--rate", str(self._rate)]
        with self._words.open("wb") as words:
            return subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=words, stderr=words)

    def _is_under_way(self, process: Process) -> bool:
        """Wait until the run has its ledger open (its handlers are set then); False where it ended before."""
        while process.poll() is None:
            files = Path(f"/proc/{process.pid}/fd")
            with suppress(OSError):
                if any(each.readlink() == self._ledger for each in files.iterdir()):
                    return True
            time.sleep(0.05)
        self.ends.take(process.returncode, "by itself", {0, 3}, self._said)
        return False

    def _said(self) -> str:
        return "\n".join(self._words.read_text(errors="replace").splitlines()[-8:])

    def _kill(self, process: Process) -> None:
        self.ends.send(process, signal.SIGKILL, self._said)

    def _term(self, process: Process) -> None:
        self.ends.send(process, signal.SIGTERM, self._said)

    def _interrupt(self, process: Process) -> None:
        self.ends.send(process, signal.SIGINT, self._said)

    def _pause(self, process: Process) -> None:
        """Stop the process for longer than its time-outs; it must go on as if nothing had been."""
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(1, 3 * READ_TIMEOUT_SECONDS))
        process.send_signal(signal.SIGCONT)
        time.sleep(self._random.uniform(0, 3))
        self._term(process)

    def _take_ledger(self, process: Process) -> None:
        """Remove the ledger under the run: it must end with 4, and the next one must refuse until it is put back."""
        kept = self._folder / "kept"
        self._ledger.rename(kept)
        try:
            process.wait(LONGEST_END_SECONDS)
        except subprocess.TimeoutExpired:
            kept.rename(self._ledger)
            self._term(process)
            return
        self.ends.take(process.returncode, "ledger removed", {0, 3, 4}, self._said)
        self._put_back(kept)

    def _put_back(self, kept: Path) -> None:
        """Put it back, by the message's own command where the run saved it."""
        saved = [line for line in self._words.read_text().splitlines() if "rescued-" in line and " mv " in f" {line}"]
        if not list(self._folder.glob("*.rescued-*")):
            kept.rename(self._ledger)
            return
        with self._start() as process:
            process.wait(LAST_RUN_SECONDS)
        self.ends.take(process.returncode, "run beside a saved ledger", {4}, self._said)
        said = " ".join([*saved, *self._said().split("\n")])
        command = said[said.index("mv ") :].split("\n")[0]
        words = shlex.split(command)
        paths = [word for word in words[1:] if not word.startswith("-")][:2]
        Path(self._folder, paths[0]).rename(Path(self._folder, paths[1].rstrip(".")))
        kept.unlink()


def attack_manifest(jobs: int, share: float, seconds: float, seed: int, folder: Path) -> bool:
    """The manifest mode."""
    with (
        sandbox("--list-lag-seconds", str(SETTLE_SECONDS / 3)) as service,
        chaos_proxy(service.url, share, seed) as proxy,
    ):
        disturb(service, seed)
        batch = Manifest(service, proxy, folder, jobs, 2 * jobs / seconds, Random(seed))
        batch.attack(time.monotonic() + seconds)
        proxy.share = 0
        disturb(service, seed, calm=True)
        batch.finish()
        return show("manifest", batch.count(), batch.ends, proxy)


def disturb(service: Sandbox, seed: int, *, calm: bool = False) -> None:
    """Let the sandbox's own faults happen, or none."""
    plan = {} if calm else {"probabilities": TROUBLE, "slow_seconds": READ_TIMEOUT_SECONDS * 2, "seed": seed}
    fetch(f"{service.url}/_sandbox/faults", method="PUT", body=json.dumps(plan).encode())


def attack_fleet(jobs: int, share: float, seconds: float, seed: int, folder: Path) -> bool:
    """The fleet mode: a faulty queue, a faulty table and a faulty service at once."""
    with (
        local_aws(folder) as aws,
        sandbox("--list-lag-seconds", str(SETTLE_SECONDS / 3)) as service,
        chaos_proxy(service.url, share, seed) as cleanrooms,
        chaos_proxy(aws.url, share, seed + 1) as local,
        fleet(aws, local.url, cleanrooms.url, folder, **fleet_settings(jobs, seconds)) as workers,
    ):
        workers.environment["AWS_ENDPOINT_URL"] = local.url
        disturb(service, seed)
        bodies: list[object] = [message(number) for number in range(jobs)]
        step = max(jobs // len(POISON), 1)
        for number, body in enumerate(POISON):
            bodies.insert(number * (step + 1), body)
        workers.queue.put(*bodies)
        ends = Ends()
        crew = attack_workers(workers, ends, Random(seed), time.monotonic() + seconds, service)
        cleanrooms.share = local.share = 0
        disturb(service, seed, calm=True)
        finish_fleet(workers, crew, ends)
        letters = Counter(each["Body"] for each in workers.queue.dead.drain()) if workers.queue.dead else Counter()
        # Where the answer to a move is lost, it is made again, as it must be: SQS cannot be asked what a queue has.
        if letters.keys() != set(POISON):
            ends.wrong.append(
                f"dead letters: {len(letters.keys() & set(POISON))} of {len(POISON)}, {letters.total()} in all"
            )
        local.met += cleanrooms.met
        return show("fleet", Count.of(service, [str(message(number)["name"]) for number in range(jobs)]), ends, local)


def fleet_settings(jobs: int, seconds: float) -> dict[str, object]:
    """Those of `submit`, a short grace, and a rate that lets the work last as long as the attack."""
    rate = 2 * jobs / seconds / WORKERS
    return {**SETTINGS, "worker__grace_seconds": GRACE_SECONDS, "rate__max_per_second": rate}


def attack_workers(workers: Fleet, ends: Ends, random: Random, until: float, service: Sandbox) -> list[Process]:
    """Three workers, one of which ends every few seconds; returns those that live at the end."""
    crew = [workers.begin() for _ in range(WORKERS)]
    while time.monotonic() < until:
        time.sleep(random.uniform(START_SECONDS, START_SECONDS + LONGEST_LIFE_SECONDS))
        victim = crew.pop(random.randrange(len(crew)))
        if victim.poll() is not None:
            ends.take(victim.returncode, "by itself", {3}, lambda: last_words(workers.folder))
        elif random.random() < 0.2:
            pause(victim, random)
            crew.append(victim)
            continue
        else:
            number = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            ends.send(victim, number, lambda: last_words(workers.folder))
        crew.append(workers.begin())
        tell(f"{service.accepted():,} jobs; {dict(ends.statuses)}")
    return crew


def pause(process: Process, random: Random) -> None:
    """Stop a worker for longer than its lease, so that others take its jobs; it must find that out."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(1, 10))
    process.send_signal(signal.SIGCONT)


def finish_fleet(workers: Fleet, crew: list[Process], ends: Ends) -> None:
    """Let undisturbed workers empty the queue, end them, and verify."""
    deadline = time.monotonic() + LAST_RUN_SECONDS
    while workers.queue.size():
        crew = [each if each.poll() is None else workers.begin() for each in crew]
        if time.monotonic() > deadline:
            ends.wrong.append(f"{workers.queue.size()} messages left after {LAST_RUN_SECONDS} s")
            break
        time.sleep(0.5)
    for process in crew:
        ends.send(process, signal.SIGTERM, lambda: last_words(workers.folder))
    verified = subprocess.run(
        [*PROGRAM, "verify", workers.table], env=workers.environment, check=False, capture_output=True, text=True
    )
    ends.take(verified.returncode, "verify", {0}, lambda: verified.stdout + verified.stderr)


def last_words(folder: Path) -> str:
    """What the newest logs end with."""
    logs = sorted(folder.glob("worker-*.log"), key=lambda each: each.stat().st_mtime)[-3:]
    return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-3:])


def show(mode: str, count: Count, ends: Ends, proxy: ChaosProxy) -> bool:
    """Print the figures; returns whether all is as it should be."""
    print(
        f"{mode}: jobs {count.jobs}, started twice {count.twice}, lost {count.lost}, "
        f"wrong ends {len(ends.wrong)}, longest end {ends.longest_seconds:.1f} s; "
        f"{proxy.met.total()} faults of {len(proxy.met)} kinds, ends {dict(ends.statuses)}",
        flush=True,
    )
    for each in ends.wrong:
        print(f"  {each}")
    return not (count.twice or count.lost or ends.wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of both modes together (10)")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of each mode (1,000)")
    parser.add_argument("--share", type=float, default=0.1, help="of the calls that are disturbed (0.1)")
    parser.add_argument("--seed", type=int, help="of faults and moments; printed, if none is given")
    parser.add_argument("--folder", help="where everything is written, and kept")
    parser.add_argument("--only", choices=("manifest", "fleet"), help="one of the two")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else SystemRandom().randrange(10**6)
    print(f"seed {seed}; {machine()}", flush=True)
    modes = {"manifest": attack_manifest, "fleet": attack_fleet}
    chosen = [options.only] if options.only else list(modes)
    clean = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            place = Path(options.folder or folder, name)
            place.mkdir(parents=True)
            seconds = options.minutes * 60 / len(chosen)
            clean.append(modes[name](options.jobs, options.share, seconds, seed, place))
    sys.exit(0 if all(clean) else 1)


if __name__ == "__main__":
    main()
