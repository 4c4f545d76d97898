"""Takes jobs in hand before they are judged: on a shared ledger, what the source knew of them may be old by then."""

from dataclasses import dataclass

from batchsubmit.core.states import Action, decide
from batchsubmit.ledger.base import Ledger, Mine, Taken


@dataclass(frozen=True, slots=True)
class Held:
    """The job is in our hands, and this is to be done with it."""

    action: Action


class Claims:
    """One run's hands."""

    def __init__(self, ledger: Ledger, *, retry_failed: bool = False) -> None:
        self._ledger = ledger
        self._retry_failed = retry_failed
        self._to_send_again: set[str] = set()

    async def take(self, key: str) -> Held | Taken:
        """Claim a job. Raises StoppedError where the ledger can no longer be relied on."""
        match await self._ledger.claim(key):
            case Mine(state):
                action = decide(state, retry_failed=self._retry_failed)
                is_resent = action is Action.LOOK_UP and key in self._to_send_again
                return Held(Action.SUBMIT if is_resent else action)
            case taken:
                return taken

    def let_go(self, key: str) -> None:
        """Give a job out of hand, decided or not."""
        self._ledger.let_go(key)

    def send_again(self, key: str) -> None:
        """Remember the user's word that this job is to be sent although nobody knows what became of it."""
        self._to_send_again.add(key)
