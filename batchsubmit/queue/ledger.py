"""What the queue's side asks of the ledger's, so that it need not know any ledger."""

from collections.abc import Sequence
from typing import Protocol

from batchsubmit.core.jobs import JobRejected
from batchsubmit.core.states import Action


class QueueLedger(Protocol):
    """The ledger, as far as messages are concerned."""

    async def standing(self, keys: Sequence[str]) -> Sequence[Action]:
        """Say for each key what may be done with the job. Raises StoppedError.

        What is to be looked up is handed to the engine too, which claims the job first: it may be in other hands.
        """
        ...

    def standing_now(self, key: str) -> Action:
        """Say the same of one key, by what is known in this process."""
        ...

    async def record(self, event: JobRejected) -> bool:
        """Write down that a message can never work, and wait until that is durable; False where somebody else has.

        Raises StoppedError.
        """
        ...

    def now(self) -> str:
        """The time for an event's `at`."""
        ...
