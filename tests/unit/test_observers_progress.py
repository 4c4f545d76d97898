"""What is shown while a run goes on."""

import asyncio
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import (
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    RefusalCause,
    Refused,
)
from batchsubmit.core.ledger_state import Counts
from batchsubmit.observers.base import RunCounts
from batchsubmit.observers.progress import DecidedPace, RunProgress, WorkerProgress, showing
from batchsubmit.text import fitted, rate, with_names


def said(stopping: str = "", why: tuple[str, ...] = (), **numbers: int) -> str:
    """The sentence of a run with these numbers."""
    counts = Counts(**({"total": 1200, "pending": 1200 - sum(numbers.values())} | numbers))
    eta = "ETA Fri 27 Nov 06:10"
    slots = (10, 10) if "running" in numbers else (0, None)
    now = RunProgress(
        counts=counts, slots=slots, per_second=20 / 3600, eta=eta, in_progress=4, why=why, stopping=stopping
    )
    return ", ".join(now.parts())


def test_a_quiet_run_has_a_short_sentence() -> None:
    """What is zero is not said."""
    assert said() == "0 %, 0 of 1,200 done, 0 submitted, 20/h, ETA Fri 27 Nov 06:10"


def test_all_that_happens_is_said_in_one_line() -> None:
    """Failures, unknown jobs, the slots, why jobs wait, and why it is stopping."""
    words = said("signal", ("waiting for a slot in 3 memberships",), submitted=30, failed=1, unknown=2, running=10)
    assert words.endswith(
        "30 submitted, 10 of 10 slots used, 20/h, 1 failed, 2 unknown, 19 end not checked, "
        "waiting for a slot in 3 memberships, stopping (signal), 4 in progress"
    )


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    """However much there is to say; what is longer than a line is cut."""
    parts = said("signal", ("x" * 200,), submitted=30, failed=1, unknown=2, running=10).split(", ")
    assert all(len(line) <= width for line in fitted(parts, width))


@pytest.mark.parametrize(
    ("per_second", "words"), [(2.5, "2.5/s"), (1, "1/s"), (0.2, "12/min"), (20 / 3600, "20/h"), (0.4 / 3600, "0.4/h")]
)
def test_a_rate_has_the_unit_that_fits(per_second: float, words: str) -> None:
    """As people say it."""
    assert rate(per_second) == words


async def test_a_terminal_gets_a_live_display_that_is_gone_at_the_end() -> None:
    """And no task is left."""
    out = io.StringIO()
    shown = asyncio.Event()

    class Watching(io.StringIO):
        def write(self, text: str) -> int:
            if "7 of 1,200" in text:
                shown.set()
            return out.write(text)

    console = Console(file=Watching(), force_terminal=True, width=200, color_system=None)
    counts = Counts(total=1200, submitted=7, pending=1193)
    with showing(lambda: RunProgress(counts=counts), lambda: (0.0, ""), console):
        await asyncio.wait_for(shown.wait(), 5)
    assert "7 of 1,200 done" in out.getvalue()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_elsewhere_a_first_line_comes_at_once_with_its_time() -> None:
    """The next one half a minute later; whoever reads a log sees when."""
    out = io.StringIO()
    with showing(lambda: RunProgress(counts=Counts(total=1, pending=1)), lambda: (0.0, ""), Console(file=out)):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} 0 %, 0 of 1 done.*\n", out.getvalue())
        await asyncio.sleep(0)
    assert out.getvalue().count("\n") == 1


def test_a_worker_says_what_waits_and_how_fast_it_goes() -> None:
    """It has no total, so no share of one."""
    counts = Counts(submitted=30, rejected=1)
    waiting = {"a": 7, "b": 5, "c": 0}
    now = WorkerProgress(counts=counts, state="ready", waiting=waiting, in_progress=2, slots=(9, 10), per_second=0.5)
    words = "ready, 12 waiting in 2 memberships, 2 in progress, 9 of 10 slots used, 30 submitted, 30/min, 1 rejected"
    assert ", ".join(now.parts()) == words


def test_the_pace_of_a_worker_is_that_of_its_decisions() -> None:
    """From the first one on: before it, nobody knows how long there was nothing to do."""
    pace = DecidedPace()
    assert pace.read() == (0.0, "")
    at = timestamp(datetime.now(UTC) - timedelta(seconds=100))
    for _ in range(5):
        pace.saw(JobSubmitted(**{**JOB, "at": at}, arn="a", attempt=1, via="start"))
    assert pace.read()[0] == pytest.approx(0.05, rel=0.1)


def test_a_membership_is_shown_by_the_name_that_people_give_it() -> None:
    """Not where the id is a part of an ARN or a path, which somebody may copy."""
    names = {"1-a": "Retail"}
    assert with_names("in membership 1-a: held (1-a)", names) == "in membership Retail: held (Retail)"
    kept = "arn:membership/1-a/x 1-a/y 11-a 1-ab"
    assert with_names(kept, names) == kept


JOB = {"at": "", "job": "k", "membership": "m", "name": "n"}


def test_a_tally_counts_each_event_and_judges_after_each_decision() -> None:
    """Intents and refusals decide nothing."""
    judged: list[str] = []
    tally = RunCounts(lambda each: judged.append(repr(each)))
    events: list[JobEvent] = [
        Intent(**JOB, attempt=1, trained_model="m"),
        Refused(**JOB, code="402", cause=RefusalCause.SLOTS, attempt=1),
        Refused(**JOB, code="ServiceQuotaExceededException", cause=RefusalCause.OTHER_QUOTA, attempt=1),
        Refused(**JOB, code="ThrottlingException", cause=RefusalCause.THROTTLED, attempt=1),
        JobSubmitted(**JOB, arn="a", attempt=1, via="start"),
        JobRejected(**JOB, code="c", message="", attempt=1),
        JobFinished(**JOB, arn="a", status="ACTIVE", message=""),
        JobFinished(**JOB, arn="a", status="CREATE_FAILED", message=""),
        JobUnknown(**JOB, reason="r", attempt=1),
    ]
    for event in events:
        tally.saw(event)
    tally.rate_cut(2.5)
    assert (tally.submitted, tally.rejected, tally.unknown) == (1, 1, 1)
    assert (tally.succeeded, tally.failed) == (1, 1)
    assert (tally.refused_by_quota, tally.throttled) == (1, 1)
    assert len(judged) == 5
