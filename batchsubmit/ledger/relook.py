"""Follows a shared ledger that others write: each look reads the whole table, and locks nothing.

A table has no order of time to read on from, so every poll begins anew.
"""

from collections.abc import Iterable, Iterator

from batchsubmit.core.jobs import Event, RunEnded, RunStarted
from batchsubmit.ledger.location import TableLocation
from batchsubmit.ledger.read import read_ledger


class Relook:
    """The feed (see `report.live`) of a table."""

    def __init__(self, location: TableLocation, region: str | None) -> None:
        self.location = location
        self.beginnings = 1
        self._region = region

    def __repr__(self) -> str:
        return f"<Relook {self.location}, {self.beginnings} times>"

    def poll(self) -> Iterator[Event]:
        """Give all events there are. Raises UsageError, LedgerError, StoppedError."""
        self.beginnings += 1
        yield from as_told(list(read_ledger(self.location, region=self._region)))


def as_told(events: Iterable[Event]) -> list[Event]:
    """Order events by time, as if the last run that has not ended were the only one that is under way.

    Its beginning comes after those of all other runs and before what was done to jobs since, by whichever run: they
    work on the same jobs.
    """
    events = list(events)
    ended = {event.run for event in events if isinstance(event, RunEnded)}
    begun = [event for event in events if isinstance(event, RunStarted) and event.run not in ended]
    last = max(begun, key=lambda event: event.at, default=None)

    def place(event: Event) -> tuple[str, int]:
        if event is last:
            return event.at, 1
        if last is not None and isinstance(event, RunStarted | RunEnded):
            return min(event.at, last.at), 0
        return event.at, 2

    return sorted(events, key=place)
