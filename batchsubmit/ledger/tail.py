"""Follows a ledger that somebody else writes: reads on from where it stopped, takes no lock, and disturbs nobody.

A last line without its newline is still being written, or torn by a crash: it is left for the next look.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from batchsubmit.core.jobs import Event
from batchsubmit.errors import LedgerError
from batchsubmit.ledger.codec import LineDamagedError, decode_line


class Tail:
    """The feed (see `report.live`) of a ledger file."""

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
