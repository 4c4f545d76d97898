"""Reads a whole ledger file, event by event, and folds it into a book. It takes no lock and changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from batchsubmit.core.jobs import Event
from batchsubmit.core.ledger_state import Book
from batchsubmit.errors import LedgerError
from batchsubmit.ledger.codec import LineDamagedError, decode_line


def read_book(path: Path) -> Book:
    """Fold all whole lines of a ledger.

    Raises LedgerError with the number of the first damaged line.
    """
    with path.open("rb") as file:
        book = Book()
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
