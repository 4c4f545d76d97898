"""The systematic sweep: the program dies at each step of the path of one job, is run again, and the job is there once.

`dying.py` makes the steps; here they are counted in a clean run and then died at one by one.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from conftest import CONSOLE_SCRIPT, Sandbox, csv_text
from strategies import REGION

from batchsubmit.core.jobs import JobSubmitted
from batchsubmit.ledger.read import read_events

LAUNCHER = Path(__file__).parents[1] / "support" / "dying.py"
SIDE_BY_SIDE = 4
MOST_MORE_STEPS = 40
MOST_RUNS = 5
NEVER = 0
PATHS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "lookup, found": {"fault": "lost_after"},
    "lookup, absent": {"fault": "error_before"},
}

pytestmark = pytest.mark.timeout(300)


@dataclass(slots=True)
class Place:
    """A launcher and a sandbox of its own: cases do not see one another."""

    launcher: "subprocess.Popen[str]"
    sandbox: Sandbox

    def begin(self, fault: dict[str, Any] | None) -> None:
        """A new case: an empty service, and what shall go wrong on it."""
        self.sandbox.disturb(*([fault] if fault else []))
        self.sandbox.change("POST", "reset")

    def run(self, folder: Path, die_at: int | None) -> int:
        """Run the program in a folder; gives its exit status, or its signal's negative."""
        environment = {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "dummy",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_CLEANROOMSML": self.sandbox.url,
            "BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": "0.2",
            "BATCHSUBMIT_RETRY__BASE_SECONDS": "0.01",
        }
        order = {
            "folder": str(folder),
            "arguments": ["submit", "jobs.csv", "--rate", "0"],
            "environment": environment,
            "die_at": die_at,
        }
        assert self.launcher.stdin is not None
        assert self.launcher.stdout is not None
        self.launcher.stdin.write(json.dumps(order) + "\n")
        self.launcher.stdin.flush()
        return int(self.launcher.stdout.readline())


@contextmanager
def a_place() -> Iterator[Place]:
    """Start a launcher and a sandbox."""
    quotas = ["--per-membership", "0", "--per-account", "0", "--job-seconds", "3600"]
    with (
        subprocess.Popen(
            [CONSOLE_SCRIPT, "sandbox", "--starts-per-second", "0", *quotas], stdout=subprocess.PIPE, text=True
        ) as sandbox,
        subprocess.Popen(
            [sys.executable, LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as launcher,
    ):
        assert sandbox.stdout is not None
        try:
            yield Place(launcher, Sandbox(sandbox.stdout.readline().strip()))
        finally:
            launcher.terminate()
            sandbox.terminate()


@pytest.fixture(scope="module")
def places() -> Iterator["SimpleQueue[Place]"]:
    """Some places, to be taken and put back."""
    free: SimpleQueue[Place] = SimpleQueue()
    with ExitStack() as stack, ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        for place in threads.map(stack.enter_context, [a_place() for _ in range(SIDE_BY_SIDE)]):
            free.put(place)
        yield free


@dataclass(frozen=True, slots=True)
class Case:
    """What became of a job whose program died at one step."""

    status: int
    steps: list[str]
    last_status: int
    on_service: list[str]
    submitted: list[tuple[str, str]]
    output: str

    @property
    def is_exactly_once(self) -> bool:
        """One job on the service, one ARN in the ledger, the same, and the end was reached."""
        return (
            self.last_status == 0
            and len(self.on_service) == 1
            and [arn for _, arn in self.submitted] == self.on_service
            and "Traceback" not in self.output
        )


def died_at(
    step: int, fault: dict[str, Any] | None, folder: Path, place: Place, *, died_before_at: int | None = None
) -> Case:
    """Die at this step, then run the same command again until it ends by itself."""
    folder.mkdir()
    (folder / "jobs.csv").write_text(csv_text(["the-job"]))
    place.begin(fault)
    if died_before_at is not None:
        assert place.run(folder, died_before_at) == -signal.SIGKILL
    status = last_status = place.run(folder, step)
    for _ in range(MOST_RUNS):
        if last_status == 0:
            break
        last_status = place.run(folder, None)
    ledger = folder / "jobs.ledger.jsonl"
    with ledger.open("rb") as file:
        events = list(read_events(file, ledger))
    return Case(
        status=status,
        steps=(folder / "steps.txt").read_text().splitlines(),
        last_status=last_status,
        on_service=[job["arn"] for job in place.sandbox.jobs()],
        submitted=[(event.job, event.arn) for event in events if isinstance(event, JobSubmitted)],
        output=(folder / "output.txt").read_text(),
    )


def sweep(folder: Path, places: "SimpleQueue[Place]", case: Callable[[int, Path, Place], Case], least: float) -> Case:
    """Count the steps, then die at each; gives the clean run. `least` is the share of runs that must have died."""

    def one(step: int) -> Case:
        place = places.get()
        try:
            return case(step, folder / f"step-{step}", place)
        finally:
            places.put(place)

    clean = one(NEVER)
    assert clean.status == 0, clean.output
    assert clean.is_exactly_once, clean
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        cases = dict(enumerate(threads.map(one, range(1, len(clean.steps) + 1)), start=1))
    assert sum(each.status == -signal.SIGKILL for each in cases.values()) >= len(cases) * least
    for step in range(len(cases) + 1, len(cases) + MOST_MORE_STEPS):  # of runs that look more often than the clean one
        if least == 1 or _died_at(cases) >= set(clean.steps):
            break
        cases[step] = one(step)
    wrong = {f"{step}: {each.steps[-1]}": each for step, each in cases.items() if not each.is_exactly_once}
    assert not wrong, wrong
    assert _died_at(cases) >= set(clean.steps)
    return clean


def _died_at(cases: Mapping[int, Case]) -> set[str]:
    return {each.steps[-1] for each in cases.values() if each.status == -signal.SIGKILL}


@pytest.mark.parametrize("path", PATHS)
def test_a_program_that_dies_at_any_step_has_its_job_exactly_once(
    tmp_path: Path, places: "SimpleQueue[Place]", path: str
) -> None:
    """Before and after every write, fsync, send and receive, and in the middle of them."""
    fault = PATHS[path]
    # The number of looks until a job is absent depends on the machine's mood; every other step comes each time.
    least = 0.8 if fault else 1
    clean = sweep(tmp_path, places, lambda step, folder, place: died_at(step, fault, folder, place), least)
    for kind in ("append", "write", "fdatasync", "reserve", "start", "send", "receive"):
        assert any(kind in name for name in clean.steps), kind
    assert ("after list_page" in clean.steps) == (fault is not None)


def test_a_program_that_dies_again_at_any_step_has_its_job_exactly_once(
    tmp_path: Path, places: "SimpleQueue[Place]"
) -> None:
    """The first time between acceptance and record, the second time on the way to find that out."""
    place = places.get()
    steps = died_at(NEVER, None, tmp_path / "first", place).steps
    places.put(place)
    accepted = steps.index("after start") + 1

    def case(step: int, folder: Path, place: Place) -> Case:
        return died_at(step, None, folder, place, died_before_at=accepted)

    clean = sweep(tmp_path, places, case, 0.8)
    assert "after get" in clean.steps
    assert "before start" not in clean.steps
