"""Who holds a ledger file, asked from outside without getting in a run's way. Knows the lock, not what is recorded."""

import fcntl
from pathlib import Path

from batchsubmit.core.ledger_state import Book


def holding_run(path: Path, book: Book) -> str:
    """Name the run that has the ledger and writes to it; empty where none does. `book` was just read from the file.

    The lock is asked for only where the last run has no end, and shared, so that it is given back before a run that
    starts at the same moment is likely to meet it. Raises OSError.
    """
    if not book.runs or book.last_end is not None:
        return ""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            run = book.runs[-1]
            return f"run {run.run} ({run.holder}, since {run.at})"
    return ""
