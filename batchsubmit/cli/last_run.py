"""How the last run of a ledger file stands, in words: under way, died, or ended with something left.

Without it a person sees forty jobs, and not that sixty more were never begun. Reads no ledger.
"""

from typing import TYPE_CHECKING

from batchsubmit.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchsubmit.core.jobs import RunStarted
    from batchsubmit.core.ledger_state import Book


def last_run_words(book: "Book") -> "Iterator[str]":
    """Say what a person should know of the last run; nothing where it has ended with nothing left."""
    if not book.runs:
        return
    run, end = book.runs[-1], book.last_end
    if end is None:
        to_do = f", {run.to_do:,} of its {run.rows:,} rows to do when it began" if run.rows else ""
        if has_died(run):
            yield f"the last run has died ({printable(run.holder)}){to_do}: run the same command again to go on"
        else:
            yield f"the last run is under way ({printable(run.holder)}){to_do}"
    elif left := end.counts.get("left", 0):
        why = f" ({printable(end.reason)})" if end.reason else ""
        rows = end.counts.get("rows", 0)
        yield f"the last run ended{why} with {left:,} of its {rows:,} rows left: run the same command again to go on"


def has_died(run: "RunStarted") -> bool:
    """Whether the process that had the ledger is gone; one on another machine is believed to live."""
    import os  # noqa: PLC0415 (help is fast without)
    import re  # noqa: PLC0415
    import socket  # noqa: PLC0415

    holder = re.fullmatch(r"process (\d+) on (.+)", run.holder)
    if holder is None or holder[2] != socket.gethostname():
        return False
    try:
        os.kill(int(holder[1]), 0)  # signal 0 is none: it only asks whether there is such a process
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
