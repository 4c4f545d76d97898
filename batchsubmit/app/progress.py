"""What a progress display may look at while a run goes on (see `observers.progress.Watched`)."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from batchsubmit.clock import SystemClock
from batchsubmit.core.source import Source
from batchsubmit.errors import LedgerError
from batchsubmit.forecast import RunHistory
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.read import Tail
from batchsubmit.observers.counts import Tally
from batchsubmit.pacing import RateGate
from batchsubmit.slots import Slots
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.stopping import Stop
from batchsubmit.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state of a run, read at any moment."""

    to_do: int
    tally: Tally
    stop: Stop
    source: Source
    slots: Slots
    engine: Engine
    gate: RateGate
    expected: Callable[[], str]

    def submitted(self) -> int:
        """Jobs submitted by this run."""
        return self.tally.submitted

    def failed(self) -> int:
        """Jobs that failed in this run, on the way to the service or on it."""
        return self.tally.failed + self.tally.finished_badly

    def unknown(self) -> int:
        """Jobs whose fate became unknown in this run."""
        return self.tally.unknown

    def under_way(self) -> int:
        """Jobs taken in hand: calls, and tries that wait for their turn."""
        return self.engine.under_way

    def full_lanes(self) -> int:
        """Memberships whose jobs wait for a slot; none while slots wait for jobs, which wait for the rate."""
        return 0 if self.gate.is_awaited else self.slots.full_lanes()

    def held_by_others(self) -> str:
        """How much of which quota others seem to use while jobs wait for it; the worst case of all."""
        return str(max(self.slots.held_by_others(), key=lambda held: held.slots, default=""))

    def held(self) -> str:
        """The quotas, not of slots, that hold lanes, and how many lanes; empty where none."""
        quotas = Counter(self.engine.held_lanes().values())
        return ", ".join(f"{quota} in {counted(count, 'membership')}" for quota, count in quotas.items())

    def running(self) -> int:
        """Jobs of ours that are known to run."""
        return self.slots.running_of_ours()

    def stopping(self) -> str:
        """Why the run is ending early; empty where it is not."""
        return str(self.stop.reason or "")


def expecting(ledger: Location) -> Callable[[], str]:
    """Give what says when all will be done, in the words of `status --watch`; it reads on in the ledger, and blocks.

    Of a table, which has to be read as a whole each time, it says nothing.
    """
    if not isinstance(ledger, Path):
        return lambda: ""
    feed, progress, clock = Tail(ledger), RunHistory(), SystemClock()

    def look() -> str:
        nonlocal progress
        beginnings = feed.beginnings
        try:
            for event in feed.poll():
                if feed.beginnings != beginnings:
                    progress, beginnings = RunHistory(), feed.beginnings
                progress.apply(event)
        except (OSError, LedgerError):
            return ""
        return progress.words(clock.now())

    return look


Display = Callable[[View], AbstractContextManager[object]]
"""Shows a run while it lasts."""
