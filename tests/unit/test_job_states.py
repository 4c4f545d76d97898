"""Where a job stands after its events, and what a run may then do with it."""

from collections import Counter

import pytest

from batchsubmit.core.job_states import UNDECIDED, Action, JobState, Phase, Retry, decide, fold
from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
    RunEnded,
    RunStarted,
)
from batchsubmit.core.ledger_state import LedgerState

JOB = {"at": "2026-11-23T00:00:00.000000Z", "job": "k", "membership": "m", "name": "n"}
INTENT = Intent(**JOB, attempt=1, trained_model="model")
SECOND_INTENT = Intent(**{**JOB, "at": "2026-11-23T00:05:00.000000Z"}, attempt=2, trained_model="model")
SUBMITTED = JobSubmitted(**JOB, arn="arn", attempt=1, via="start")
REFUSED = Refused(**JOB, code="ThrottlingException", attempt=1)
UNKNOWN = JobUnknown(**JOB, reason="read time-out", attempt=1)
ABSENT = Absent(**JOB, attempt=1)
FAILED = JobRejected(**JOB, code="ValidationException", message="no", attempt=1)
FINISHED = JobFinished(**JOB, arn="arn", status="ACTIVE", message="")


def state_after(*events: JobEvent) -> JobState:
    """Fold events from the first on."""
    state: JobState | None = None
    for event in events:
        state = fold(state, event)
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("events", "phase", "action"),
    [
        ([INTENT], Phase.INTENT, Action.LOOK_UP),
        ([INTENT, UNKNOWN], Phase.UNKNOWN, Action.LOOK_UP),
        ([INTENT, REFUSED], Phase.REFUSED, Action.SUBMIT),
        ([INTENT, UNKNOWN, ABSENT], Phase.ABSENT, Action.SUBMIT),
        ([INTENT, SUBMITTED], Phase.SUBMITTED, Action.NOTHING),
        ([INTENT, UNKNOWN, SUBMITTED], Phase.SUBMITTED, Action.NOTHING),
        ([INTENT, FAILED], Phase.REJECTED, Action.NOTHING),
        ([INTENT, SUBMITTED, FINISHED], Phase.FINISHED, Action.NOTHING),
        ([INTENT, REFUSED, SECOND_INTENT], Phase.INTENT, Action.LOOK_UP),
    ],
)
def test_the_last_event_says_where_a_job_stands(events: list[JobEvent], phase: Phase, action: Action) -> None:
    """And that alone says what may be done with it."""
    state = state_after(*events)
    assert state.phase is phase
    assert decide(state) is action


def test_a_job_the_ledger_does_not_know_is_submitted() -> None:
    """A new row of the manifest."""
    assert decide(None) is Action.SUBMIT


@pytest.mark.parametrize("events", [[INTENT], [INTENT, UNKNOWN]])
def test_an_undecided_job_is_looked_up_never_sent_again(events: list[JobEvent]) -> None:
    """Sending it again may start, and cost, a second job."""
    state = state_after(*events)
    assert state.phase in UNDECIDED
    assert decide(state) is Action.LOOK_UP
    assert decide(state, retry=Retry()) is Action.LOOK_UP


def test_a_failed_job_is_tried_again_only_when_the_user_says_so() -> None:
    """A request that can never work would fail at each run."""
    state = state_after(INTENT, FAILED)
    assert decide(state) is Action.NOTHING
    assert decide(state, retry=Retry()) is Action.SUBMIT


BAD = JobFinished(**JOB, arn="arn", status="CREATE_FAILED", code="INTERNAL_ERROR", message="")
ROUND = Intent(**{**JOB, "at": "2026-11-24T00:00:00.000000Z"}, attempt=2, trained_model="model", round=1)


def test_a_job_that_ran_and_failed_is_sent_again_as_another_round() -> None:
    """It is as one that never ran, with a tag of its own; the first ARN stays the job's."""
    failed = state_after(INTENT, SUBMITTED, BAD)
    assert decide(failed) is Action.NOTHING
    assert decide(failed, retry=Retry()) is Action.SUBMIT
    assert (failed.tag, failed.next_round) == ("k", 1)
    again = fold(failed, ROUND)
    assert (again.phase, again.arn, again.status, again.earlier) == (Phase.INTENT, "", "", ("arn",))
    assert (again.tag, again.next_round) == ("k.1", 1)
    assert decide(again, retry=Retry()) is Action.LOOK_UP
    book = LedgerState.of([INTENT, SUBMITTED, BAD, ROUND, JobSubmitted(**JOB, arn="second", attempt=2, via="start")])
    assert book.claims({"arn", "second"}) == {"arn": "k", "second": "k"}


@pytest.mark.parametrize("events", [[INTENT, SUBMITTED], [INTENT, SUBMITTED, FINISHED], [INTENT, UNKNOWN]])
def test_only_a_job_that_ran_and_failed_has_another_round(events: list[JobEvent]) -> None:
    """Whatever an intent says."""
    assert fold(state_after(*events), ROUND).round == 0


@pytest.mark.parametrize(
    ("retry", "is_taken"),
    [
        (Retry(), True),
        (Retry(statuses=frozenset({"rejected"})), False),
        (Retry(codes=frozenset({"INTERNAL_ERROR"}), names=("n*",)), True),
        (Retry(codes=frozenset({"OTHER"})), False),
        (Retry(names=("x*",)), False),
        (Retry(before=INTENT.at), False),
        (Retry(before=ROUND.at), True),
    ],
)
def test_a_retry_takes_what_it_is_asked_for(retry: Retry, is_taken: bool) -> None:
    """By status, code and name; never what was tried since it began."""
    assert retry.takes(state_after(INTENT, SUBMITTED, BAD)) is is_taken


def test_a_cancelled_job_did_not_fail() -> None:
    """Someone wanted its end."""
    cancelled = JobFinished(**JOB, arn="arn", status="INACTIVE", message="")
    assert not Retry().takes(state_after(INTENT, SUBMITTED, cancelled))


@pytest.mark.parametrize("events", [[INTENT, SUBMITTED], [INTENT, SUBMITTED, FINISHED]])
def test_a_submitted_job_is_never_sent_again(events: list[JobEvent]) -> None:
    """Whatever the user says."""
    assert decide(state_after(*events), retry=Retry()) is Action.NOTHING


def test_a_state_keeps_what_lookup_and_people_need() -> None:
    """Attempt, time of the intent, model, ARN, and the service's own words."""
    unknown = state_after(INTENT, REFUSED, SECOND_INTENT, JobUnknown(**JOB, reason="lost", attempt=2))
    assert (unknown.attempt, unknown.since, unknown.trained_model) == (2, SECOND_INTENT.at, "model")
    assert unknown.message == "lost"
    assert state_after(INTENT, SUBMITTED).arn == "arn"
    failed = state_after(INTENT, FAILED)
    assert (failed.code, failed.message) == ("ValidationException", "no")
    finished = state_after(INTENT, SUBMITTED, JobFinished(**JOB, arn="arn", status="CREATE_FAILED", message="boom"))
    assert (finished.arn, finished.status, finished.message) == ("arn", "CREATE_FAILED", "boom")


def test_a_duplicate_changes_nothing_but_is_remembered() -> None:
    """The job is submitted; the other one runs, and is paid for, beside it. The ledger claims both."""
    duplicate = Duplicate(**JOB, arn="second", of="arn")
    state = state_after(INTENT, SUBMITTED, duplicate)
    assert (state.phase, state.arn, state.duplicates) == (Phase.SUBMITTED, "arn", ("second",))
    book = LedgerState()
    for event in (INTENT, SUBMITTED, duplicate):
        book.apply(event)
    assert book.claims({"arn", "second", "third"}) == {"arn": "k", "second": "k"}


def test_a_book_counts_jobs_by_phase_and_knows_who_has_the_ledger() -> None:
    """A run that has not ended is the one that holds it."""
    book = LedgerState()
    started = RunStarted(
        at=JOB["at"], run="r", batch="", manifest="m.csv", manifest_sha256="0", version="0", holder="process 1"
    )
    for event in (started, INTENT, SUBMITTED, Intent(**{**JOB, "job": "other"}, attempt=1, trained_model="model")):
        book.apply(event)
    assert Counter(each.phase for each in book) == {Phase.SUBMITTED: 1, Phase.INTENT: 1}
    assert len(book) == 2
    assert {state.job for state in book} == {"k", "other"}
    assert book.get("nobody") is None
    assert book.runs == [started]
    assert book.work.end is None
    ended = RunEnded(at=JOB["at"], run="r", exit_status=0, reason="", counts={})
    book.apply(ended)
    assert book.work.end is ended
    book.apply(started)
    assert book.work.end is None
