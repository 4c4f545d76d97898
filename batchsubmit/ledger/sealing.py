"""The seal at the end of a ledger file: whether its bytes are still those that the last run left there.

A run's end says how many bytes stand before it, and their SHA-256. Where that still fits, every line was read, checked
and folded by that run, and need not be again. Anything else, a torn or later line, a changed byte, is no seal.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from batchsubmit.errors import StoppedError
from batchsubmit.jobs import RunEnded, Seal
from batchsubmit.ledger.lines import LineDamagedError, decode_line

_CHUNK_BYTES = 1 << 20
_LONGEST_END_BYTES = 1 << 20  # it has a quota for each membership


class Written:
    """All bytes of a ledger file so far, as their number and a digest that grows with them."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Take in what follows."""
        self.size += len(data)
        self._sha256.update(data)

    def seal(self, more: bytes | bytearray = b"") -> Seal:
        """Seal all bytes, and some that are still to be written."""
        digest = self._sha256.copy()
        digest.update(more)
        return Seal(bytes=self.size + len(more), sha256=digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Sealed:
    """A run's end that seals its file, and all bytes of that, itself included."""

    ended: RunEnded
    written: Written


def last_sealed(fd: int, is_stopped: Callable[[], bool]) -> Sealed | None:
    """Read a file into nothing, and give its last line where that is a run's end that seals what is before it.

    Raises StoppedError once `is_stopped`.
    """
    ended = last_end(fd)
    if ended is None or ended.seal is None:
        return None
    written = Written()
    _read(fd, written, ended.seal.bytes, is_stopped)
    if written.seal() != ended.seal:
        return None
    _read(fd, written, os.fstat(fd).st_size, is_stopped)
    return Sealed(ended, written)


def _read(fd: int, written: Written, end: int, is_stopped: Callable[[], bool]) -> None:
    while written.size < end:
        if is_stopped():
            raise StoppedError("stopped while the ledger was being checked; nothing was sent")
        chunk = os.pread(fd, min(_CHUNK_BYTES, end - written.size), written.size)
        if not chunk:
            raise OSError("the file became shorter")
        written.add(chunk)


def last_end(fd: int) -> RunEnded | None:
    """Read the last line of a file, where that is whole, sound, and a run's end."""
    size = os.fstat(fd).st_size
    tail = os.pread(fd, min(size, _LONGEST_END_BYTES), max(0, size - _LONGEST_END_BYTES))
    begin = tail.rfind(b"\n", 0, -1) + 1
    if not begin or not tail.endswith(b"\n"):
        return None
    try:
        event = decode_line(tail[begin:])
    except LineDamagedError:
        return None
    if not isinstance(event, RunEnded) or event.seal is None:
        return None
    return event if event.seal.bytes == size - len(tail) + begin else None
