"""What a program is told of its jobs: each decided once, whoever decided it."""

from collections.abc import Mapping

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


class Watched:
    """Jobs one and two over a ledger with these events; `told` are their outcomes."""

    def __init__(self, *events: jobs.JobEvent, follows: bool = False) -> None:
        self.told: list[Outcome] = []
        self.book = LedgerState.of(events)
        self.observer = OutcomeObserver(self.told.append, self.book, follows=follows)
        self.observer.begin([ONE.key, TWO.key], [], retry=None)

    def records(self, *events: jobs.JobEvent) -> None:
        """Record events of this run: the ledger has each first."""
        for event in events:
            self.book.apply(event)
            self.observer.saw(event)

    def ends(self, *by_others: jobs.JobEvent, reasons: Mapping[str, str] | None = None) -> list[Outcome]:
        """End the run, whose ledger got these events of other runs meanwhile; gives all outcomes."""
        for event in by_others:
            self.book.apply(event)
        self.observer.end(reasons or {})
        return self.told


def test_what_the_ledger_knows_is_told_at_once_as_earlier() -> None:
    """Jobs submitted and failed before have their outcome before anything is sent, and no second one."""
    watched = Watched(SUBMITTED, FAILED)
    assert len(watched.told) == 2
    watched.records(SUBMITTED)
    assert [type(each) for each in watched.ends()] == [Submitted, Rejected]
    assert all(each.earlier for each in watched.told)


def test_events_are_told_once_and_those_of_other_jobs_not_at_all() -> None:
    """A job of the ledger that was not among the requests is none of the caller's."""
    watched = Watched()
    other = jobs.JobRejected(**OTHER.stamp(AT), code="x", message="", attempt=1)
    watched.records(SUBMITTED, SUBMITTED, other, FAILED)
    assert len(watched.told) == 2
    assert [(type(each), each.name, each.earlier) for each in watched.ends()] == [
        (Submitted, "one", False),
        (Rejected, "two", False),
    ]


def test_an_end_is_told_only_where_jobs_are_followed() -> None:
    """Runs see ends also without being asked to follow; a caller who did not ask is not told by chance."""
    for follows, kinds in ((False, [Submitted]), (True, [Submitted, Finished])):
        watched = Watched(follows=follows)
        watched.records(SUBMITTED, FINISHED)
        assert [type(each) for each in watched.ends()] == kinds
        assert [type(each) for each in Watched(SUBMITTED, FINISHED, follows=follows).told] == kinds


def test_what_another_run_decided_meanwhile_is_told_at_the_end() -> None:
    """No event of ours decides a job that another run on the ledger submitted and saw the end of."""
    watched = Watched(follows=True)
    watched.observer.saw(FINISHED)
    told = watched.ends(SUBMITTED, FINISHED, FAILED)
    assert [(type(each), each.earlier) for each in told] == [(Submitted, True), (Finished, True), (Rejected, True)]


def test_what_is_unknown_at_the_end_is_told_with_the_reason() -> None:
    """An intent without an answer is unknown; a job that was never tried has no outcome."""
    told = Watched().ends(INTENT, reasons={TWO.key: "List may not be called"})
    assert told == [Unknown(key=TWO.key, membership=TWO.membership, name="two", reason="List may not be called")]
    assert [type(each) for each in Watched().ends(INTENT)] == [Unknown]
