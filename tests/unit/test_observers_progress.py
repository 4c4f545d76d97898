"""What is shown while a run goes on."""

import asyncio
import io
from typing import Any

from rich.console import Console

from batchsubmit.core.jobs import Finished, Intent, JobEvent, JobRejected, RefusalCause, Refused, Submitted, Unknown
from batchsubmit.observers.base import RunCounts
from batchsubmit.observers.progress import RunProgress, sentence, showing


def said(elapsed_seconds: float = 0.0, **numbers: Any) -> str:  # noqa: ANN401 (the members of RunProgress)
    """The sentence of a run with these numbers."""
    return sentence(RunProgress(**({"to_do": 1200, "in_progress": 4} | numbers)), elapsed_seconds, "done in 3.2 hours")


def test_a_quiet_run_has_a_short_sentence() -> None:
    """What is zero is not said."""
    assert said() == "0 of 1,200 submitted, 0 s elapsed, done in 3.2 hours"


def test_all_that_happens_is_said_in_one_line() -> None:
    """Failures, unknown jobs, the quota, jobs that run, and why it is stopping."""
    assert said(3725, submitted=30, failed=1, unknown=2, full_lanes=1, running=5, stopping="signal") == (
        "30 of 1,200 submitted, 1 failed, 2 unknown, waiting for quota in 1 membership, 5 jobs still running, "
        "1 h 2 min elapsed, stopping (signal), 4 in progress"
    )


def test_a_quota_that_others_use_up_is_named() -> None:
    """Nothing of ours runs, and yet there is no slot."""
    words = said(full_lanes=1, held_by_others="5 of 5")
    assert "waiting for quota in 1 membership, the quota looks used by others: 5 of 5, " in words


def test_a_quota_that_holds_memberships_is_named() -> None:
    """By its own name and value: a slot that is freed does not help."""
    words = said(held="'Data access budget' of 0 in 1 membership")
    assert "held by the quota 'Data access budget' of 0 in 1 membership, " in words


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
    with showing(lambda: RunProgress(to_do=1200, submitted=7), str, console):
        await asyncio.wait_for(shown.wait(), 5)
    assert "7 of 1,200 submitted" in out.getvalue()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_elsewhere_a_short_run_shows_nothing() -> None:
    """A plain line comes every half minute only."""
    out = io.StringIO()
    with showing(lambda: RunProgress(to_do=1), str, Console(file=out, force_terminal=False)):
        await asyncio.sleep(0)
    assert out.getvalue() == ""


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
        Submitted(**JOB, arn="a", attempt=1, via="start"),
        JobRejected(**JOB, code="c", message="", attempt=1),
        Unknown(**JOB, reason="r", attempt=1),
        Finished(**JOB, arn="a", status="ACTIVE", message=""),
        Finished(**JOB, arn="a", status="CREATE_FAILED", message=""),
    ]
    for event in events:
        tally.saw(event)
    tally.rate_cut(2.5)
    assert (tally.submitted, tally.failed, tally.unknown) == (1, 1, 1)
    assert (tally.succeeded, tally.failed) == (1, 1)
    assert (tally.refused_by_quota, tally.throttled) == (1, 1)
    assert len(judged) == 5
