"""The one way in which commands read a ledger, wherever it is: location in, events out, in order for each job.

Nothing is locked: a ledger is read also while runs write to it. `read_entries` is for those that tell of a ledger: it
keeps to the order of time, and is laxer than a run that owns the ledger.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from batchsubmit.core.jobs import Entry, Event
from batchsubmit.core.ledger_state import Book
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.codec import LineDamagedError, decode_entry
from batchsubmit.ledger.folding import read_events
from batchsubmit.ledger.likeness import require_likeness
from batchsubmit.ledger.location import Location


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


def fold_ledger(location: Location, *, region: str | None = None) -> Book:
    """Where all jobs of a ledger stand. Raises as `read_ledger` does."""
    book = Book()
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
