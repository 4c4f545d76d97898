"""The in-memory sides of the seam `ledger.base.Ledger`: one as quick as memory, one whose disk takes its time."""

import asyncio
from collections.abc import Awaitable, Iterable

from batchsubmit.core.jobs import Event
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import Ledger
from batchsubmit.ledger.lines import encode_line


class MemoryLedger(Ledger):
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


class SlowLedger(Ledger):
    """A ledger whose disk takes its time: what is not durable yet may be lost with the process, from its end on."""

    def __init__(self, events: Iterable[Event] = (), *, write_seconds: float = 0.004) -> None:
        super().__init__(LedgerState())
        self.events = list(events)
        for event in self.events:
            self.state.apply(event)
        self.durable = len(self.events)
        self._write_seconds = write_seconds
        self._waiting: list[asyncio.Future[None]] = []
        self._writing = False
        self._is_dead = False

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; what is returned resolves once the disk has it."""
        self.note(event)
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append(durable)
        return durable

    def note(self, event: Event) -> None:
        """Record an event with the next group."""
        if self._is_dead:
            raise StoppedError("the process is dead")
        self.events.append(event)
        self.state.apply(event)
        if not self._writing:
            self._write_a_group()

    def _write_a_group(self) -> None:
        self._writing = True
        group, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        # What comes before this timer's turn belongs to the next group, as with a thread that writes.
        loop.call_later(self._write_seconds, self._written, len(self.events), group)

    def _written(self, count: int, group: list[asyncio.Future[None]]) -> None:
        if self._is_dead:
            return
        self.durable = count
        for durable in group:
            if not durable.done():
                durable.set_result(None)
        self._writing = False
        if self._waiting or self.durable < len(self.events):
            self._write_a_group()

    def killed(self, *, kept: int = 0) -> "SlowLedger":
        """End with the process; gives what the next one finds: all that was durable, and `kept` events after it."""
        self._is_dead = True
        return SlowLedger(self.events[: self.durable + kept], write_seconds=self._write_seconds)
