"""The ledger: what was about to happen and what happened, written down before anybody relies on it.

`Ledger` is the seam. `file.FileLedger` is the real side of one writer, `shared.SharedLedger` that of a fleet, on a
DynamoDB table; `memory.MemoryLedger` is for tests and simulations. All pass the same contract tests. The ledger knows
nothing of Clean Rooms ML, pace or slots.
"""

from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from batchsubmit.core.jobs import Event
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState
from batchsubmit.errors import StoppedError


@dataclass(frozen=True, slots=True)
class Mine:
    """The job is in our hands until it is let go; from `state`, `states.decide` says what may be done with it."""

    state: JobState | None


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody else has the job in hand, or another task of this process; ask again after a while."""

    by: str
    retry_after_seconds: float


Claim: TypeAlias = Mine | Taken


class LostJobError(StoppedError):
    """The job is in the hands of another worker now, which looks up what this one left open: it must not be sent."""


class ClaimedArnError(StoppedError):
    """The ledger has this ARN as another job's; `owner` is that job's key. The event was not written."""

    def __init__(self, arn: str, owner: str) -> None:
        super().__init__(f"{arn} is already that of job {owner}")
        self.arn = arn
        self.owner = owner


class Ledger(Protocol):
    """An append-only record of events. Each job has one writer at a time: whoever claimed it."""

    @property
    def is_shared(self) -> bool:
        """Whether others write to it as well, so that it has jobs which the book does not know."""
        ...

    @property
    def book(self) -> LedgerState:
        """The fold of the events, those under way to the disk included; of a shared ledger, of the jobs in hand."""
        ...

    async def claim(self, key: str) -> Claim:
        """Take a job in hand, before its first event is put.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        ...

    def holds(self, key: str) -> bool:
        """Whether a claimed job is certainly still ours. To be asked right before a call: afterwards it is too late."""
        ...

    def let_go(self, key: str) -> None:
        """Give up a job, decided or not; what was put and noted of it is still written."""
        ...

    async def recall(self, keys: Iterable[str]) -> None:
        """Bring what is known of these jobs into the book, without claiming them."""
        ...

    async def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Where these jobs stand, as far as they are known, without claiming them or bringing them into the book."""
        ...

    async def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger already knows, and whose they are (ARN to key)."""
        ...

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; what is returned resolves once it is durable.

        The event is taken before this returns, so a caller that is cancelled while it waits loses nothing.
        Raises, here or from the awaitable, StoppedError where the ledger can no longer be relied on, and of a shared
        ledger LostJobError and ClaimedArnError.
        """
        ...

    def note(self, event: Event) -> None:
        """Record an event that nothing waits for; it becomes durable with the next of its job that somebody does."""
        ...
