"""The ledger: what was about to happen and what happened, written down before anybody relies on it.

`Ledger` is the seam. `file.FileLedger` is the real side, `memory.MemoryLedger` the one for tests and simulations;
both pass the same contract tests. The ledger knows nothing of AWS, pace or slots.
"""

from collections.abc import Awaitable
from typing import Protocol

from batchsubmit.book import Book
from batchsubmit.jobs import Event


class Ledger(Protocol):
    """An append-only record of events with one writer."""

    @property
    def book(self) -> Book:
        """The fold of all events, those under way to the disk included."""
        ...

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; what is returned resolves once it is durable.

        The event is taken before this returns, so a caller that is cancelled while it waits loses nothing.
        Raises StoppedError, here or from the awaitable, where the ledger can no longer be relied on.
        """
        ...

    def note(self, event: Event) -> None:
        """Record an event that nothing waits for; it becomes durable with the next that somebody does."""
        ...
