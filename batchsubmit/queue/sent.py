"""Which jobs of a manifest are on the queue already: a file beside the manifest's ledger, so that a rerun goes on.

One line a batch, appended once SQS has it. A crash between the two sends a batch twice; its messages carry their keys,
and the worker knows them again.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batchsubmit.errors import StoppedError, UsageError


class SentJobs:
    """The keys that were sent to one queue; use `open_sent`."""

    def __init__(self, path: Path, file: BinaryIO, queue: str) -> None:
        self._path = path
        self._file = file
        self._queue = queue
        self._keys = set(_read(file, queue))

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[str]) -> None:
        """Write down that SQS has these, and wait for the disk. Raises StoppedError."""
        added = list(keys)
        line = json.dumps({"queue": self._queue, "keys": added}) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as exc:
            raise StoppedError(
                f"{self._path} cannot be written: {exc.strerror}; what was sent since is sent again by the next run, "
                "and known to the worker by its keys"
            ) from exc
        self._keys.update(added)


@contextmanager
def open_sent(path: Path, queue: str) -> Iterator[SentJobs]:
    """Open the file for one run at a time, creating it if need be. Raises UsageError."""
    try:
        file = path.open("a+b")
    except OSError as exc:
        raise UsageError(f"{path} cannot be opened: {exc.strerror}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path} is in use by another run of batchsubmit enqueue; wait for it to end") from None
        _end_torn_line(file)
        yield SentJobs(path, file, queue)


def _end_torn_line(file: BinaryIO) -> None:
    """A crash may have left half a line; it counts for nothing."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _read(file: BinaryIO, queue: str) -> Iterator[str]:
    file.seek(0)
    for line in file:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("queue") == queue:
            yield from entry["keys"]
