"""The ledger: what was about to happen and what happened, written down before anyone relies on it.

`Ledger` is the seam: `file.FileLedger` is the side of one writer, `shared.SharedLedger` that of a fleet, on a DynamoDB
table. The ledger knows nothing of Clean Rooms ML, pace or slots, and this module loads nothing of AWS.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from batchsubmit.core.job_states import JobState
from batchsubmit.core.jobs import Duplicate, Event, JobSubmitted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import StoppedError

if TYPE_CHECKING:
    import asyncio

ASK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Mine:
    """The job is ours until it is released; from `state`, `job_states.decide` says what may be done with it."""

    state: JobState | None


@dataclass(frozen=True, slots=True)
class Taken:
    """Another worker, or another task of this process, has the job; ask again after a while."""

    by: str
    retry_after_seconds: float


Claim: TypeAlias = Mine | Taken


class LostJobError(StoppedError):
    """Another worker has the job now, and looks up what this one left open: it must not be sent."""


class ClaimedArnError(StoppedError):
    """The ledger has this ARN as another job's; `owner` is that job's key. The event was not written."""

    def __init__(self, arn: str, owner: str) -> None:
        super().__init__(f"{arn} is already that of job {owner}")
        self.arn = arn
        self.owner = owner


class Ledger(ABC):
    """An append-only record of events. Each job has one writer at a time: the one that claimed it.

    What is not abstract is as a ledger with one writer does it, and a shared one does otherwise. `state` is the fold of
    the events, those being written included; of a shared ledger, of the claimed jobs. `failure` says why the ledger
    can no longer be relied on, if it cannot.
    """

    is_shared = False
    """Whether others write to it as well, so that it has jobs which `state` does not know."""

    def __init__(self, state: LedgerState) -> None:
        self.state = state
        self.failure: StoppedError | None = None
        self._claimed: set[str] = set()

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be relied on, now or any more, for health checks."""
        return str(self.failure or "")

    async def claim(self, key: str) -> Claim:
        """Claim a job, before its first event is put. Raises StoppedError where the ledger cannot be relied on."""
        if key in self._claimed:
            return Taken("this run", ASK_AGAIN_SECONDS)
        self._claimed.add(key)
        return Mine(self.state.get(key))

    def holds(self, key: str) -> bool:
        """Whether a claimed job is certainly still ours. Ask right before a call: afterwards it is too late."""
        del key
        return True

    def release(self, key: str) -> None:
        """Give up a job, decided or not; what was put and noted of it is still written."""
        self._claimed.discard(key)

    async def load(self, keys: Iterable[str]) -> None:
        """Read what the ledger has of these jobs into `state`, without claiming them."""
        if self.is_shared:
            for key, state in (await self.states(list(keys))).items():
                self.state.restore(key, state)

    async def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Read these jobs, as far as the ledger has them, without claiming them or keeping them in `state`."""
        return {key: state for key in keys if (state := self.state.get(key)) is not None}

    async def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger knows, and the keys of their jobs (ARN to key)."""
        return self.state.claims(arns)

    @abstractmethod
    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; what is returned resolves once it is durable.

        The event is taken before this returns, so a caller that is cancelled while it waits loses nothing.
        Raises, here or from the awaitable, StoppedError where the ledger can no longer be relied on, ClaimedArnError,
        and of a shared ledger LostJobError.
        """

    def note(self, event: Event) -> None:
        """Record an event that nothing waits for; it becomes durable with the next awaited event of its job."""
        self.put(event)

    def refuse_claimed(self, event: Event) -> None:
        """Refuse an ARN that another job has. Raises ClaimedArnError."""
        if isinstance(event, JobSubmitted | Duplicate):
            owner = self.state.claims([event.arn]).get(event.arn, event.job)
            if owner != event.job:
                raise ClaimedArnError(event.arn, owner)


def resolve(durable: "asyncio.Future[None]", error: StoppedError | None) -> None:
    """Answer the task that waits for an event, if one does."""
    if durable.done():
        return
    if error is None:
        durable.set_result(None)
    else:
        durable.set_exception(error)
        durable.exception()  # fetched, or asyncio complains where nobody waits
