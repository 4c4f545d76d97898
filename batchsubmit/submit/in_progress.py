"""What an engine has under way, and the bell that rings when that changes: all that its parts know of each other."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from batchsubmit.errors import LedgerError, StoppedError
from batchsubmit.submit.stopping import Stop, StopReason


class InProgress:
    """Counts of what goes on; `undecided` is the reason by key for jobs that stay unknown."""

    def __init__(self, stop: Stop) -> None:
        self.in_hand = 0
        self.lookups = 0
        self.undecided: dict[str, str] = {}
        self._blocked: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._stop = stop
        stop.on_request(self.ring)

    @property
    def is_anything(self) -> bool:
        """Whether something goes on that may bring new work."""
        return bool(self.in_hand or self.lookups or self._blocked)

    def ring(self) -> None:
        """Tell the loop that something has changed."""
        self._changed.set()

    def hear(self) -> None:
        """Begin a turn of the loop: what rings from now on is for the next one."""
        self._changed.clear()

    async def wait(self) -> None:
        """Wait for the bell."""
        await self._changed.wait()

    @property
    def has_blocked_lanes(self) -> bool:
        """Whether any lane waits for the lookup of unknown jobs."""
        return bool(self._blocked)

    def is_blocked(self, membership: str) -> bool:
        """Whether a lane waits for the lookup of unknown jobs."""
        return membership in self._blocked

    def block(self, membership: str) -> None:
        """Let a lane wait for one more job."""
        self._blocked[membership] += 1

    def unblock(self, membership: str) -> None:
        """Let a lane wait for one job less."""
        self._blocked[membership] -= 1
        if not self._blocked[membership]:
            del self._blocked[membership]
        self.ring()

    @contextmanager
    def out_of_hand(self) -> Iterator[None]:
        """Count a job out of hand, whatever became of its call."""
        try:
            yield
        finally:
            self.in_hand -= 1
            self.ring()

    @contextmanager
    def looking_up(self) -> Iterator[None]:
        """Count a lookup, or another wait for a job's fate, while it lasts."""
        self.lookups += 1
        try:
            yield
        finally:
            self.lookups -= 1
            self.ring()

    @contextmanager
    def stopping_on_ledger_trouble(self) -> Iterator[None]:
        """End the run in good order where an event cannot be written down."""
        try:
            yield
        except StoppedError as exc:
            is_lost = isinstance(exc, LedgerError)
            self._stop.request(StopReason.LEDGER_LOST if is_lost else StopReason.LEDGER, str(exc))
