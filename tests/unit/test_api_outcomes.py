"""What a program is told of its jobs: each decided once, whoever decided it."""

from conftest import job_arn, job_named

from batchsubmit.api.outcomes import Finished, Outcome, OutcomeObserver, Rejected, Submitted, Unknown
from batchsubmit.core import jobs
from batchsubmit.core.ledger_state import LedgerState

AT = "2026-11-23T00:00:00.000000Z"
ONE, TWO, OTHER = job_named("one"), job_named("two"), job_named("other")
SUBMITTED = jobs.JobSubmitted(**ONE.stamp(AT), arn=job_arn("one"), attempt=1, via="start")
FINISHED = jobs.JobFinished(**ONE.stamp(AT), arn=job_arn("one"), status="ACTIVE", message="")
INTENT = jobs.Intent(**TWO.stamp(AT), attempt=1, trained_model=TWO.trained_model)
FAILED = jobs.JobRejected(**TWO.stamp(AT), code="ValidationException", message="no", attempt=1)


def book_of(*events: jobs.JobEvent) -> LedgerState:
    """What a ledger of these events knows."""
    book = LedgerState()
    for event in events:
        book.apply(event)
    return book


def watching(*events: jobs.JobEvent, follows: bool = False) -> tuple[OutcomeObserver, list[Outcome]]:
    """Watch jobs one and two over a ledger with these events."""
    told: list[Outcome] = []
    watch = OutcomeObserver(told.append, follows=follows)
    watch.begin([ONE.key, TWO.key], book_of(*events), retry=None)
    return watch, told


def test_what_the_ledger_knows_is_told_at_once_as_earlier() -> None:
    """Jobs submitted and failed before have their outcome before anything is sent, and no second one."""
    watch, told = watching(SUBMITTED, FAILED)
    watch.saw(SUBMITTED)
    watch.end(book_of(SUBMITTED, FAILED), {})
    assert [type(each) for each in told] == [Submitted, Rejected]
    assert all(each.earlier for each in told)


def test_events_are_told_once_and_those_of_other_jobs_not_at_all() -> None:
    """A job of the ledger that was not among the requests is none of the caller's."""
    watch, told = watching()
    for event in (SUBMITTED, SUBMITTED, jobs.JobRejected(**OTHER.stamp(AT), code="x", message="", attempt=1), FAILED):
        watch.saw(event)
    watch.end(book_of(SUBMITTED, FAILED), {})
    assert [(type(each), each.name, each.earlier) for each in told] == [
        (Submitted, "one", False),
        (Rejected, "two", False),
    ]


def test_an_end_is_told_only_where_jobs_are_followed() -> None:
    """Runs see ends also without being asked to follow; a caller who did not ask is not told by chance."""
    for follows, kinds in ((False, [Submitted]), (True, [Submitted, Finished])):
        watch, told = watching(follows=follows)
        watch.saw(SUBMITTED)
        watch.saw(FINISHED)
        watch.end(book_of(SUBMITTED, FINISHED), {})
        assert [type(each) for each in told] == kinds
        _, before = watching(SUBMITTED, FINISHED, follows=follows)
        assert [type(each) for each in before] == kinds


def test_what_another_run_decided_meanwhile_is_told_at_the_end() -> None:
    """No event of ours decides a job that another run on the ledger submitted and saw the end of."""
    watch, told = watching(follows=True)
    watch.saw(FINISHED)
    watch.end(book_of(SUBMITTED, FINISHED, FAILED), {})
    assert [(type(each), each.earlier) for each in told] == [(Submitted, True), (Finished, True), (Rejected, True)]


def test_what_is_unknown_at_the_end_is_told_with_the_reason() -> None:
    """An intent without an answer is unknown; a job that was never tried has no outcome."""
    watch, told = watching()
    watch.end(book_of(INTENT), {TWO.key: "List may not be called"})
    assert told == [Unknown(key=TWO.key, membership=TWO.membership, name="two", reason="List may not be called")]
    watch, told = watching()
    watch.end(book_of(INTENT), {})
    assert [type(each) for each in told] == [Unknown]
