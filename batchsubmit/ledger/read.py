"""The one way in which commands read a ledger, wherever it is: location in, events out, in order for each job.

Nothing is locked: a ledger is read also while runs write to it. `read_entries` is for those that tell of a ledger: it
keeps to the order of time, and is laxer than a run that owns the ledger.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from batchsubmit.core.jobs import Entry, Event, RunEnded, RunStarted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.codec import LineDamagedError, decode_entry, decode_line, require_likeness
from batchsubmit.ledger.location import Location, TableLocation


def read_book(path: Path) -> LedgerState:
    """Fold all whole lines of a ledger.

    Raises LedgerError with the number of the first damaged line.
    """
    with path.open("rb") as file:
        book = LedgerState()
        for event in read_events(file, path):
            book.apply(event)
    return book


def read_events(file: BinaryIO, path: Path) -> Iterator[Event]:
    """Yield the event of each line; a last line without a newline is left out.

    Raises LedgerError with the number of the first damaged line.
    """
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            event = decode_line(line)
        except LineDamagedError as exc:
            raise LedgerError(
                f"the ledger {path} is damaged at line {number}: {exc}. Restore the file from a copy, then run "
                "batchsubmit verify --repair on it"
            ) from exc
        yield event


def read_ledger(location: Location, *, region: str | None = None) -> Iterator[Event]:
    """Yield the events of a file in the order of its lines, or of a table job by job. `region` is a table's.

    Raises UsageError where it cannot be read, LedgerError where it is damaged, StoppedError where DynamoDB
    does not tell.
    """
    if not isinstance(location, Path):
        from batchsubmit.ledger.scan import read_table  # noqa: PLC0415 (botocore takes a fifth of a second)

        yield from read_table(location.table, region)
        return
    require_likeness(location)
    try:
        with location.open("rb") as file:
            yield from read_events(file, location)
    except OSError as exc:
        raise UsageError(f"the ledger {location} cannot be read: {exc.strerror}") from exc


def fold_ledger(location: Location, *, region: str | None = None) -> LedgerState:
    """Where all jobs of a ledger stand. Raises as `read_ledger` does."""
    book = LedgerState()
    for event in read_ledger(location, region=region):
        book.apply(event)
    return book


def read_entries(
    location: Location, *, region: str | None = None, warn: Callable[[str], None] = lambda _: None
) -> Iterator[Entry]:
    """Yield the events of a ledger by time, as far as they are written; `warn` is told what was left out.

    A file's last line may be damaged, or still be written: it is left out. Events of later versions are passed on
    unrecognised. A table gives its events job by job, so all of them are held in memory to be put in order.
    Raises as `read_ledger` does.
    """
    if not isinstance(location, Path):
        yield from sorted(read_ledger(location, region=region), key=lambda event: event.at)
        return
    require_likeness(location)
    try:
        with location.open("rb") as file:
            yield from _read_leniently(file, location, warn)
    except OSError as exc:
        raise UsageError(f"the ledger {location} cannot be read: {exc.strerror}") from exc


def _read_leniently(file: BinaryIO, path: Path, warn: Callable[[str], None]) -> Iterator[Entry]:
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            # A run may be writing it just now, or a crash tore it; the next run sees to that.
            warn(f"line {number}, the last one, is not whole and was left out")
            return
        try:
            yield decode_entry(line)
        except LineDamagedError as exc:
            if not file.readline():
                warn(f"line {number}, the last one, is damaged and was left out: {exc}")
                return
            raise LedgerError(
                f"the ledger {path} is damaged at line {number}: {exc}. Restore the file from a copy, then run "
                "batchsubmit verify --repair on it"
            ) from exc


class Tail:
    """The feed (see `observers.live`) of a ledger file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beginnings = 1
        self._offset = 0
        self._lines = 0
        self._inode = -1

    def __repr__(self) -> str:
        return f"<Tail {self.path} at {self._offset}>"

    def poll(self) -> Iterator[Event]:
        """Give what was appended since the last look. Raises OSError, LedgerError with the damaged line's number.

        Where the file was replaced, or cut off before our place (a write that failed is taken back), it begins anew.
        """
        with self.path.open("rb") as file:
            self._check_place(file)
            yield from self._read(file)

    def _check_place(self, file: BinaryIO) -> None:
        now = os.fstat(file.fileno())
        if self._offset and (now.st_ino != self._inode or now.st_size < self._offset):
            self._begin_anew()
        self._inode = now.st_ino

    def _begin_anew(self) -> None:
        self.beginnings += 1
        self._offset = self._lines = 0

    def _read(self, file: BinaryIO) -> Iterator[Event]:
        file.seek(self._offset)
        is_first = True
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                event = decode_line(line)
            except LineDamagedError as exc:
                if is_first and self._offset:
                    # What we had read may have been taken back and written over since: look at all of it once more.
                    self._begin_anew()
                    yield from self._read(file)
                    return
                raise LedgerError(f"the ledger {self.path} is damaged at line {self._lines + 1}: {exc}") from exc
            is_first = False
            self._offset += len(line)
            self._lines += 1
            yield event


class TableFollower:
    """The feed (see `observers.live`) of a table."""

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
