"""A CSV manifest read block by block: the quick way where it knows the lines, the careful way where it does not."""

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from batchsubmit.sources.csvquick import Block, QuickWay, whole_lines
from batchsubmit.sources.csvrecords import BrokenRecord, read_line, read_records
from batchsubmit.sources.rows import GoodRows, Row
from batchsubmit.sources.spool import read_at

_BLOCK_BYTES = 1 << 16  # more does not fit a processor's cache, and takes a quarter longer

Careful = Callable[[int, int, list[str] | BrokenRecord], Row | None]
"""Makes a row of a record at (line, offset); None where it has no text."""


class BulkReading:
    """One reading of a manifest, from the record at a line and offset to the end."""

    def __init__(
        self, file: BinaryIO, delimiter: str, start: tuple[int, int], *, quick: QuickWay, careful: Careful
    ) -> None:
        self._file = file
        self._delimiter = delimiter
        self._line, self._offset = start
        self._quick = quick
        self._careful = careful
        self._is_over = False

    def __iter__(self) -> Iterator[Row | GoodRows]:
        while not self._is_over:
            data = read_at(self._file, self._offset, _BLOCK_BYTES)
            data = data[: data.rfind(b"\n") + 1]
            block = whole_lines(data, self._offset, self._line) if data else None
            pieces = self._quick.read(block) if block else None
            until = self._offset + max(len(data), 1)
            if block is None or pieces is None:
                yield from self._read_carefully(until)
            else:
                yield from self._read_quickly(block, pieces, until)

    def _read_quickly(self, block: Block, pieces: Sequence[GoodRows | int], until: int) -> Iterator[Row | GoodRows]:
        for piece in pieces:
            if isinstance(piece, GoodRows):
                yield piece
                continue
            line, offset, text = block.first_line + piece, block.offsets[piece], block.lines[piece]
            record = read_line(text, self._delimiter)
            if record is None:
                self._line, self._offset = line, offset
                yield from self._read_carefully(until)
                return
            row = self._careful(line, offset, record)
            if row is not None:
                yield row
        self._line += len(block.lines)
        self._offset = until

    def _read_carefully(self, until: int) -> Iterator[Row]:
        """Read the records that begin before an offset."""
        for line, offset, record in read_records(self._file, self._delimiter, self._offset, self._line):
            if offset >= until:
                self._line, self._offset = line, offset
                return
            row = self._careful(line, offset, record)
            if row is not None:
                yield row
        self._is_over = True
