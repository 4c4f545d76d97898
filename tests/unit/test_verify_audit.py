"""A ledger's own soundness: events in an order that no run writes, each told with its line."""

import pytest
from conftest import EPOCH, job_arn, job_named

from batchsubmit.clock import timestamp
from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Event,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
    RunEnded,
    RunStarted,
    Stamp,
)
from batchsubmit.verify import Audit

AT = timestamp(EPOCH)
STARTED = RunStarted(at=AT, run="r", batch="", manifest="m.csv", manifest_sha256="0", version="0", holder="process 7")
ENDED = RunEnded(at=AT, run="r", exit_status=0, reason="", counts={})


def stamp(name: str) -> Stamp:
    """Begin an event of the job of this name."""
    return job_named(name).stamp(AT)


def intent(name: str = "a", attempt: int = 1) -> Intent:
    """A call is about to leave."""
    return Intent(**stamp(name), attempt=attempt, trained_model="model")


def submitted(name: str = "a", *, arn: str = "", via: str = "start", attempt: int = 1) -> JobSubmitted:
    """The service has the job."""
    return JobSubmitted(**stamp(name), arn=arn or job_arn(name), attempt=attempt, via=via)


def refused(name: str = "a", attempt: int = 1) -> Refused:
    """Not accepted."""
    return Refused(**stamp(name), code="ThrottlingException", attempt=attempt)


def unknown(name: str = "a", attempt: int = 1) -> JobUnknown:
    """Accepted or not."""
    return JobUnknown(**stamp(name), reason="read time-out", attempt=attempt)


def absent(name: str = "a", attempt: int = 1) -> Absent:
    """Not accepted after all."""
    return Absent(**stamp(name), attempt=attempt)


def failed(name: str = "a", attempt: int = 1) -> JobRejected:
    """Not to be submitted."""
    return JobRejected(**stamp(name), code="ValidationException", message="no", attempt=attempt)


def duplicate(name: str = "a") -> Duplicate:
    """One more job with the key."""
    return Duplicate(**stamp(name), arn=job_arn("second"), of=job_arn(name))


def finished(name: str = "a") -> JobFinished:
    """Run to its end."""
    return JobFinished(**stamp(name), arn=job_arn(name), status="ACTIVE", message="")


def faults_of(*events: Event) -> list[str]:
    """What an audit of these lines finds."""
    return Audit(events).faults


SOUND: dict[str, list[JobEvent]] = {
    "accepted at once": [intent(), submitted()],
    "refused, then accepted": [intent(), refused(), intent(), submitted()],
    "looked up and found": [intent(), unknown(), submitted(via="lookup")],
    "killed in the call and found": [intent(), submitted(via="lookup")],
    "killed in the call and not found": [intent(), absent(), intent(attempt=2), submitted(attempt=2)],
    "not found, then accepted": [intent(), unknown(), absent(), intent(attempt=2), submitted(attempt=2)],
    "sent again as its user wished": [intent(), unknown(), intent(attempt=2), submitted(attempt=2)],
    "found after it was given up": [intent(), unknown(), absent(), submitted(via="lookup")],
    "in doubt for a second reason": [intent(), unknown(), unknown()],
    "failed, then retried well": [intent(), failed(), intent(attempt=2), submitted(attempt=2)],
    "an invalid row": [failed(attempt=0)],
    "an invalid row in two runs": [failed(attempt=0), failed(attempt=0)],
    "two jobs for one key": [intent(), unknown(), submitted(via="lookup"), duplicate()],
    "followed to its end": [intent(), submitted(), finished()],
    "lost by a copy and found": [submitted(via="lookup", attempt=0), duplicate(), finished()],
    "an invalid row that runs after all": [failed(attempt=0), submitted(via="lookup", attempt=0)],
    "a duplicate found late": [intent(), submitted(), finished(), duplicate()],
}

UNSOUND: dict[str, tuple[list[JobEvent], str]] = {
    "submitted without an intent": ([submitted()], "line 1: a: submitted without a call"),
    "found without an intent": ([submitted(via="lookup")], "line 1: a: submitted without a call"),
    "answered by no call": ([submitted(attempt=0)], "line 1: a: submitted without a call"),
    "found twice": (
        [submitted(via="lookup", attempt=0), submitted(via="lookup", attempt=0)],
        "line 2: a: submitted a second time",
    ),
    "answered after a refusal": ([intent(), refused(), submitted()], "line 3: a: submitted without a call"),
    "answered after a doubt": ([intent(), unknown(), submitted()], "line 3: a: submitted without a call"),
    "submitted twice": ([intent(), submitted(), submitted()], "line 3: a: submitted a second time"),
    "submitted, then found": ([intent(), submitted(), submitted(via="lookup")], "line 3: a: submitted a second time"),
    "called after it was submitted": (
        [intent(), submitted(), intent()],
        "line 3: a: a call after the job was submitted",
    ),
    "called after it finished": (
        [intent(), submitted(), finished(), intent()],
        "line 4: a: a call after the job was submitted",
    ),
    "failed after it was submitted": ([intent(), submitted(), failed()], "line 3: a: failed after it was submitted"),
    "refused without an intent": ([refused()], "line 1: a: refused without a call"),
    "refused twice": ([intent(), refused(), refused()], "line 3: a: refused without a call"),
    "refused after it was submitted": ([intent(), submitted(), refused()], "line 3: a: refused without a call"),
    "unknown without an intent": ([unknown()], "line 1: a: unknown without a call"),
    "unknown after it was submitted": ([intent(), submitted(), unknown()], "line 3: a: unknown without a call"),
    "absent without an intent": ([absent()], "line 1: a: absent without a doubt"),
    "absent after a refusal": ([intent(), refused(), absent()], "line 3: a: absent without a doubt"),
    "absent after it was submitted": ([intent(), submitted(), absent()], "line 3: a: absent without a doubt"),
    "finished before it was submitted": ([intent(), finished()], "line 2: a: finished, or has a duplicate, before"),
    "a duplicate of nothing": ([duplicate()], "line 1: a: finished, or has a duplicate, before"),
}


@pytest.mark.parametrize("events", SOUND.values(), ids=SOUND)
def test_what_runs_write_is_sound(events: list[JobEvent]) -> None:
    """No fault, within a run or across several."""
    assert faults_of(STARTED, *events, ENDED) == []
    assert faults_of(*(line for event in events for line in (STARTED, event))) == []


@pytest.mark.parametrize(("events", "told"), UNSOUND.values(), ids=UNSOUND)
def test_an_event_out_of_its_order_is_told_with_its_line(events: list[JobEvent], told: str) -> None:
    """The line, the job's name, and why; the events before it are sound."""
    [fault] = faults_of(*events)
    assert fault.startswith(told)


def test_lines_of_runs_and_of_other_jobs_are_counted_too() -> None:
    """The number is the file's, not the job's."""
    faults = faults_of(STARTED, intent("a"), intent("b"), submitted("a"), submitted("b"), submitted("a"), ENDED)
    assert faults == ["line 6: a: submitted a second time"]


def test_every_fault_is_told_and_none_hides_the_next() -> None:
    """Reading goes on behind a fault."""
    faults = faults_of(absent("a"), refused("b"), intent("c"), submitted("c"), failed("c"))
    assert [fault.split(": ")[0] for fault in faults] == ["line 1", "line 2", "line 5"]


def test_two_jobs_of_one_arn_are_told_at_the_second() -> None:
    """One job of the service cannot be two of ours."""
    arn = job_arn("shared")
    [fault] = faults_of(intent("a"), intent("b"), submitted("a", arn=arn), submitted("b", arn=arn))
    assert fault == f"line 4: b: its ARN {arn} is already that of job {job_named('a').key}"


def test_the_audit_s_state_is_that_of_any_reader() -> None:
    """What is compared with the service afterwards is the fold of all lines."""
    audit = Audit((intent("a"), submitted("a"), intent("b")))
    assert {state.name: state.phase for state in audit.state} == {"a": Phase.SUBMITTED, "b": Phase.INTENT}
