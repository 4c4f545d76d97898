"""Claims where one process has the whole ledger: answered at once, from its book.

They still keep two tasks of that process off one job, as when a queue delivers a message twice.
"""

from collections.abc import Collection, Iterable

from batchsubmit.core.ledger_state import Book
from batchsubmit.core.states import JobState
from batchsubmit.ledger.base import Claim, Mine, Taken

_ASK_AGAIN_SECONDS = 1.0


class SoleWriter:
    """The part of a `Ledger` that is about whose a job is."""

    is_shared = False

    def __init__(self, book: Book) -> None:
        self.book = book
        self._in_hand: set[str] = set()

    async def claim(self, key: str) -> Claim:
        """Take a job in hand."""
        if key in self._in_hand:
            return Taken("this run", _ASK_AGAIN_SECONDS)
        self._in_hand.add(key)
        return Mine(self.book.get(key))

    def holds(self, key: str) -> bool:
        """Nobody else writes here."""
        del key
        return True

    def let_go(self, key: str) -> None:
        """Give up a job."""
        self._in_hand.discard(key)

    async def recall(self, keys: Iterable[str]) -> None:
        """Do nothing: the book has all jobs."""

    async def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Where these jobs stand by the book."""
        return {key: state for key in keys if (state := self.book.get(key)) is not None}

    async def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger knows, and whose they are."""
        return self.book.claims(arns)
