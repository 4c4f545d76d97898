"""The systematic sweep: the program dies at each step of the path of one job, is run again, and the job is there once.

`dying` names the steps; here they are listed in a clean run and then died at one by one.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from conftest import Sandbox, csv_text, finish
from program_server import ProgramServer
from strategies import REGION

from batchsubmit.core.jobs import JobSubmitted
from batchsubmit.ledger.lines import Chain
from batchsubmit.ledger.read import read_events

SIDE_BY_SIDE = 4
MOST_RUNS = 5
NEVER = "never"
PATHS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "lookup, found": {"fault": "lost_after"},
    "lookup, absent": {"fault": "error_before"},
}
CHANGES = ("of write", "after write", "of send", "after send", "after receive")
"""Steps that leave something else behind than the step before: the ledger is longer, or the service knows more."""

pytestmark = pytest.mark.timeout(300)


@dataclass(slots=True)
class Place:
    """A sandbox of its own: cases do not see one another."""

    server: ProgramServer
    sandbox: Sandbox

    def begin(self, fault: dict[str, Any] | None) -> None:
        """A new case: an empty service, and what shall go wrong on it."""
        self.sandbox.disturb(*([fault] if fault else []))
        self.sandbox.change("POST", "reset")

    def run(self, folder: Path, die_at: str | None) -> int:
        """Run the program in a folder; gives its exit status, or its signal's negative."""
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "dummy",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_CLEANROOMSML": self.sandbox.url,
            "BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": "0.2",
            "BATCHSUBMIT_RETRY__BASE_SECONDS": "0.01",
        }
        arguments = ("submit", "jobs.csv", "--rate", "0")
        with self.server.start(arguments, folder, environment, die_at=die_at) as process:
            return finish(process).status


@contextmanager
def a_place(server: ProgramServer) -> Iterator[Place]:
    """Start a sandbox."""
    quotas = ("--per-membership", "0", "--per-account", "0", "--starts-per-second", "0", "--job-seconds", "3600")
    with server.start(("sandbox", *quotas), Path.cwd(), dict(os.environ)) as process:
        try:
            yield Place(server, Sandbox(process.stdout.readline().decode().strip()))
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def places(_program_server: ProgramServer) -> Iterator["SimpleQueue[Place]"]:
    """Some places, to be taken and put back."""
    free: SimpleQueue[Place] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(SIDE_BY_SIDE):
            free.put(stack.enter_context(a_place(_program_server)))
        yield free


@dataclass(frozen=True, slots=True)
class Case:
    """What became of a job whose program died at one step."""

    status: int
    steps: list[str]
    last_status: int
    on_service: list[str]
    submitted: list[tuple[str, str]]

    @property
    def is_exactly_once(self) -> bool:
        """One job on the service, one ARN in the ledger, the same, and the end was reached."""
        return (
            self.last_status == 0
            and len(self.on_service) == 1
            and [arn for _, arn in self.submitted] == self.on_service
        )


def died_at(
    step: str, fault: dict[str, Any] | None, folder: Path, place: Place, *, died_before_at: str | None = None
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
        events = list(read_events(file, ledger, Chain()))
    return Case(
        status=status,
        steps=(folder / "steps.txt").read_text().splitlines(),
        last_status=last_status,
        on_service=[job["arn"] for job in place.sandbox.jobs()],
        submitted=[(event.job, event.arn) for event in events if isinstance(event, JobSubmitted)],
    )


Dying = Callable[[str, Path, Place], Case]


def clean_run(folder: Path, places: "SimpleQueue[Place]", case: Dying) -> list[str]:
    """Run without a death; gives the steps."""
    clean = _in_a_place(case, NEVER, folder / "clean", places)
    assert clean.status == 0, clean
    assert clean.is_exactly_once, clean
    return clean.steps


def sweep(folder: Path, places: "SimpleQueue[Place]", case: Dying, steps: Iterable[str]) -> None:
    """Die at each of these steps."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        dying = {
            step: threads.submit(_in_a_place, case, step, folder / f"step-{number}", places)
            for number, step in enumerate(steps)
        }
    cases = {step: each.result() for step, each in dying.items()}
    assert {step for step, each in cases.items() if each.status != -signal.SIGKILL} == set()
    assert {step: each.steps[-1] for step, each in cases.items()} == {step: step for step in cases}
    wrong = {step: each for step, each in cases.items() if not each.is_exactly_once}
    assert not wrong, wrong


def changes(steps: Iterable[str]) -> list[str]:
    """The steps that leave something else behind than the one before."""
    return [step for step in steps if step.endswith(CHANGES)]


def _in_a_place(case: Dying, step: str, folder: Path, places: "SimpleQueue[Place]") -> Case:
    place = places.get()
    try:
        return case(step, folder, place)
    finally:
        places.put(place)


@pytest.mark.parametrize("path", PATHS)
def test_a_program_that_dies_at_any_step_has_its_job_exactly_once(
    tmp_path: Path, places: "SimpleQueue[Place]", path: str
) -> None:
    """Before and after every write, fsync, send and receive, and in the middle of them.

    Until the first byte is sent all paths are the plain one, and what leaves nothing else behind is died at in that.
    """
    fault = PATHS[path]

    def case(step: str, folder: Path, place: Place) -> Case:
        return died_at(step, fault, folder, place)

    steps = clean_run(tmp_path, places, case)
    sweep(tmp_path, places, case, changes(steps[steps.index("2 start: before send") :]) if fault else steps)
    for kind in ("append", "write", "fdatasync", "reserve", "start", "send", "receive"):
        assert any(kind in name for name in steps), kind
    assert any(name.endswith("after list_page") for name in steps) == (fault is not None)


def test_a_program_that_dies_again_at_any_step_has_its_job_exactly_once(
    tmp_path: Path, places: "SimpleQueue[Place]"
) -> None:
    """The first time between acceptance and record, the second time on the way to find that out."""

    def case(step: str, folder: Path, place: Place) -> Case:
        return died_at(step, None, folder, place, died_before_at="2 start: after start")

    steps = clean_run(tmp_path, places, case)
    sweep(tmp_path, places, case, changes(steps))
    assert any(name.endswith("after get") for name in steps)
    assert not any(name.endswith("before start") for name in steps)
