"""The outcomes of jobs, for a program that submits them: one value each, given as soon as it is known.

Every job has one of `Submitted`, `Rejected` and `Unknown`, unless the run stops before; where jobs are followed, a
`Finished` comes after `Submitted`. `OutcomeObserver` observes the run and asks the ledger about the rest.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from batchsubmit.core import jobs
from batchsubmit.core.job_states import Action, JobState, Phase, Retry, decide, is_good_end
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.observers.base import Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """The job by its key in the ledger, its membership and its name, its own among those of the trained model there.

    `earlier` says that the ledger knew it already, or that another run which shares the ledger did it.
    """

    key: str
    membership: str
    name: str
    earlier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(_Outcome):
    """The service has the job, exactly once, under this ARN."""

    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(_Outcome):
    """The service ran the job to its end: `ACTIVE` is well; any other status is not, and code and message say why."""

    arn: str
    status: str
    message: str = ""
    code: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the job did what it was to do."""
        return is_good_end(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(_Outcome):
    """The service refused the job for good; code and message are the service's own."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(_Outcome):
    """The job may or may not run on the service. The next run looks it up; it is never sent again blindly."""

    reason: str


Outcome: TypeAlias = Submitted | Finished | Rejected | Unknown


def _job(of: JobState | jobs.JobEvent) -> dict[str, Any]:
    return {"key": of.job, "membership": of.membership, "name": of.name}


class OutcomeObserver(Observer):
    """Gives the outcomes of certain jobs to `give`, by what the ledger has of them (`known`) when they are decided."""

    def __init__(self, give: Callable[[Outcome], None], known: LedgerState, *, follows: bool) -> None:
        self._give = give
        self._known = known
        self._follows = follows
        self._undecided: dict[str, None] = {}
        self._running: dict[str, None] = {}

    def begin(self, keys: Iterable[str], invalid: Iterable[jobs.JobRejected], *, retry: Retry | None) -> None:
        """Give what the ledger has of these jobs, and wait for the others; give the requests that are wrong."""
        for key in keys:
            state = self._known.get(key)
            if decide(state, retry=retry) is Action.NOTHING:
                self._give_state(state, earlier=True)
            else:
                self._undecided[key] = None
        for event in invalid:
            earlier = self._known.get(event.job) is not None
            self._give(Rejected(**_job(event), code=event.code, message=event.message, earlier=earlier))

    def saw(self, event: jobs.JobEvent) -> None:
        """Give the outcome, if the event decides one of the jobs."""
        decides = isinstance(event, jobs.JobSubmitted | jobs.JobRejected) and event.job in self._undecided
        if decides or (isinstance(event, jobs.JobFinished) and event.job in self._running):
            self._give_state(self._known.get(event.job))

    def end(self, reasons: Mapping[str, str]) -> None:
        """Give what no event of this run did: what others did, and (with the reasons why) what is still unknown."""
        for key in (*self._running, *self._undecided):
            self._give_state(self._known.get(key), earlier=True, reason=reasons.get(key, ""))

    def _give_state(self, state: JobState | None, *, earlier: bool = False, reason: str = "") -> None:
        if state is None:
            return
        match state.phase:
            case Phase.SUBMITTED | Phase.FINISHED:
                self._undecided.pop(state.job, None)
                if state.job not in self._running:
                    self._give(Submitted(**_job(state), arn=state.arn, earlier=earlier))
                    self._running |= {state.job: None} if self._follows else {}
                if state.phase is Phase.FINISHED and state.job in self._running:
                    del self._running[state.job]
                    end = {name: getattr(state, name) for name in ("arn", "status", "message", "code")}
                    self._give(Finished(**_job(state), **end, earlier=earlier))
            case Phase.REJECTED:
                self._undecided.pop(state.job, None)
                self._give(Rejected(**_job(state), code=state.code, message=state.message, earlier=earlier))
            case Phase.INTENT | Phase.UNKNOWN:
                reason = reason or state.message or "a call may have left, and no answer is recorded"
                self._give(Unknown(**_job(state), reason=reason))
            case Phase.REFUSED | Phase.ABSENT:
                pass
            case _:
                assert_never(state.phase)
