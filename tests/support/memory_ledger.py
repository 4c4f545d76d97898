"""The in-memory side of the seam `ledger.base.Ledger`."""

from collections.abc import Awaitable

from batchsubmit.core.jobs import Event
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.ledger.base import SoleWriter
from batchsubmit.ledger.codec import encode_line


class MemoryLedger(SoleWriter):
    """A ledger in memory; `lines()` is what the file would hold."""

    def __init__(self) -> None:
        super().__init__(LedgerState())
        self.events: list[Event] = []

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; it is as durable as memory is, at once."""
        self.refuse_claimed(event)
        self.note(event)
        return _nothing()

    def note(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event)
        self.state.apply(event)

    def lines(self) -> bytes:
        """Encode the events as a ledger file."""
        return b"".join(map(encode_line, self.events))


async def _nothing() -> None:
    """Resolve at once."""
