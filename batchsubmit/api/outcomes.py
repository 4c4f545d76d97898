"""What becomes of jobs, for a program that submits them: one value each, told as it becomes known.

Every job has one of `Submitted`, `Failed` and `Unknown`, unless the run stops before; where jobs are followed, a
`Finished` comes after `Submitted`. It watches the run like any observer, and asks the ledger about the rest.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from batchsubmit.core import jobs
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import Action, JobState, Phase, decide, is_good_end
from batchsubmit.manifest.check import InvalidRow


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
class Failed(_Outcome):
    """The job can not be submitted as it is; code and message are the service's own."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(_Outcome):
    """The job may or may not run on the service. The next run looks it up; it is never sent again blindly."""

    reason: str


Outcome: TypeAlias = Submitted | Finished | Failed | Unknown


class OutcomeWatch:
    """Tells the outcomes of certain jobs; an observer of the run, with a beginning and an end."""

    def __init__(self, tell: Callable[[Outcome], None], *, follows: bool) -> None:
        self._tell = tell
        self._follows = follows
        self._undecided: dict[str, None] = {}
        self._running: dict[str, None] = {}

    def begin(self, keys: Iterable[str], book: LedgerState, *, retry_failed: bool) -> None:
        """Tell what the ledger has of these jobs, and wait for the others."""
        for key in keys:
            state = book.get(key)
            if state is not None and decide(state, retry_failed=retry_failed) in _SETTLED:
                self._settle(state, {})
            else:
                self._undecided[key] = None

    def tell_invalid(self, rows: Iterable[InvalidRow], book: LedgerState) -> None:
        """Tell the requests that are left out because they are wrong, and recorded as failed."""
        for row in rows:
            said = row.failed(at="")
            self._tell(
                Failed(
                    key=row.key,
                    membership=row.membership,
                    name=row.name,
                    code=said.code,
                    message=said.message,
                    earlier=book.get(row.key) is not None,
                )
            )

    def end(self, book: LedgerState, reasons: Mapping[str, str]) -> None:
        """Tell what no event of this run told: what others did, and (with the reasons why) what is still unknown."""
        for key in (*self._running, *self._undecided):
            state = book.get(key)
            if state is not None:
                self._settle(state, reasons)

    def _settle(self, state: JobState, reasons: Mapping[str, str]) -> None:
        key, membership, name = state.job, state.membership, state.name
        match state.phase:
            case Phase.SUBMITTED | Phase.FINISHED:
                if key not in self._running:
                    self._accept(Submitted(key=key, membership=membership, name=name, arn=state.arn, earlier=True))
                if state.phase is Phase.FINISHED:
                    status, message = state.status, state.message
                    self._finish(
                        Finished(
                            key=key,
                            membership=membership,
                            name=name,
                            arn=state.arn,
                            status=status,
                            message=message,
                            code=state.code,
                            earlier=True,
                        )
                    )
            case Phase.FAILED:
                code, message = state.code, state.message
                self._tell(Failed(key=key, membership=membership, name=name, code=code, message=message, earlier=True))
            case Phase.INTENT | Phase.UNKNOWN:
                reason = reasons.get(key) or state.message or "a call may have left, and no answer is recorded"
                self._tell(Unknown(key=key, membership=membership, name=name, reason=reason))
            case Phase.REFUSED | Phase.ABSENT:
                pass
            case _:
                assert_never(state.phase)

    def saw(self, event: jobs.JobEvent) -> None:
        """Tell an event if it decides one of the jobs."""
        key, membership, name = event.job, event.membership, event.name
        match event:
            case jobs.Submitted() if key in self._undecided:
                self._accept(Submitted(key=key, membership=membership, name=name, arn=event.arn))
            case jobs.JobRejected() if key in self._undecided:
                del self._undecided[key]
                code, message = event.code, event.message
                self._tell(Failed(key=key, membership=membership, name=name, code=code, message=message))
            case jobs.Finished() if key in self._running:
                self._finish(
                    Finished(
                        key=key,
                        membership=membership,
                        name=name,
                        arn=event.arn,
                        status=event.status,
                        message=event.message,
                        code=event.code,
                    )
                )
            case _:
                pass

    def _accept(self, outcome: Submitted) -> None:
        self._undecided.pop(outcome.key, None)
        if self._follows:
            self._running[outcome.key] = None
        self._tell(outcome)

    def _finish(self, outcome: Finished) -> None:
        if self._running.pop(outcome.key, self) is None:
            self._tell(outcome)

    def rate_cut(self, per_second: float) -> None:
        """No job is decided by it."""

    def ledger_took(self, seconds: float) -> None:
        """No job is decided by it."""


_SETTLED = frozenset({Action.NOTHING, Action.LEAVE_FAILED})
