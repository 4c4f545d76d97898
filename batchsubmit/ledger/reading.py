"""The one way in which commands read a ledger, wherever it is: location in, events out, in order for each job.

Nothing is locked: a ledger is read also while runs write to it.
"""

from collections.abc import Iterator
from pathlib import Path

from batchsubmit.book import Book
from batchsubmit.errors import UsageError
from batchsubmit.jobs import Event
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.storage import read_events


def read_ledger(location: Location, *, region: str | None = None) -> Iterator[Event]:
    """Yield the events of a file in the order of its lines, or of a table job by job. `region` is a table's.

    Raises UsageError where it cannot be read, LedgerError where it is damaged, StoppedError where DynamoDB
    does not tell.
    """
    if not isinstance(location, Path):
        from batchsubmit.ledger.scan import read_table  # noqa: PLC0415 (botocore takes a fifth of a second)

        yield from read_table(location.table, region)
        return
    try:
        with location.open("rb") as file:
            for event, _ in read_events(file, location):
                yield event
    except OSError as exc:
        raise UsageError(f"the ledger {location} cannot be read: {exc.strerror}") from exc


def fold_ledger(location: Location, *, region: str | None = None) -> Book:
    """Where all jobs of a ledger stand. Raises as `read_ledger` does."""
    book = Book()
    for event in read_ledger(location, region=region):
        book.apply(event)
    return book
