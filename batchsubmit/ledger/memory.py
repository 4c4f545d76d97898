"""A ledger in memory, for tests and simulations: the same promises, but for a process only."""

from collections.abc import Awaitable

from batchsubmit.core.jobs import Event
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.ledger.codec import encode_line
from batchsubmit.ledger.file import SoleWriter


class MemoryLedger(SoleWriter):
    """Keeps the events in a list; `lines()` is what the file would hold."""

    def __init__(self) -> None:
        super().__init__(LedgerState())
        self.events: list[Event] = []

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; durable at once, as far as memory is."""
        self.note(event)
        return _nothing()

    def note(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event)
        self.book.apply(event)

    def lines(self) -> bytes:
        """Encode the events as a ledger file."""
        return b"".join(map(encode_line, self.events))


async def _nothing() -> None:
    """Resolve at once."""
