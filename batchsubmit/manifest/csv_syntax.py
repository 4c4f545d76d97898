"""The syntax of CSV: records of cells, each with the line and the byte where it begins.

What the columns mean is not known here. A record that breaks the syntax is given with what is wrong with it, and
reading goes on at the line after its first, so that one stray quote does not hide the rest of the file.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, TypeAlias

from batchsubmit.manifest.file import MOST_LINE_BYTES, LineTooLongError, physical_lines, read_at
from batchsubmit.schema import Fault

_MOST_CELL_CHARACTERS = 1 << 22  # the largest map, as JSON with every character escaped, has about 2.5 million


_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;\t])"?[,;\t ]*(?:\r\n?|\n)', re.IGNORECASE)
_MOST_SEPARATOR_BYTES = 1 << 12

Flaw: TypeAlias = tuple[int, Fault]
"""What is wrong with a record's syntax, and in which cell, counted from 1."""

Record: TypeAlias = tuple[int, int, list[str], Sequence[Flaw]]
"""Line, offset, cells. Where it has flaws the cells cannot be trusted, and are what could be read."""


def flaw(cell: int, wrong: str, right: str) -> Flaw:
    """Say what is wrong in a cell, and what would be right."""
    return cell, Fault(path="", wrong=wrong, right=right)


def delimiters_of(file: BinaryIO) -> tuple[str, int, int]:
    """Give the delimiters that a file may have, and the offset and the line where its records begin.

    A first line `sep=;`, which Excel writes and reads, names the delimiter and is no record.
    """
    said = _SEPARATOR.match(read_at(file, 0, _MOST_SEPARATOR_BYTES))
    return (said[1].decode(), said.end(), 2) if said else (_DELIMITERS, 0, 1)


class _Text:
    """Lines as text for `csv.reader`, remembering where they stand; a bad byte does not end the reading."""

    def __init__(self, lines: Iterator[bytes], offset: int, line: int) -> None:
        self._lines = lines
        self.offset = offset
        self.line = line
        self.bad_bytes: list[tuple[str, str]] = []  # what the text holds in its place, and what is wrong

    def __iter__(self) -> Iterator[str]:
        for raw in self._lines:
            try:
                text = raw.removeprefix(codecs.BOM_UTF8).decode()  # joined files bring theirs along
            except UnicodeDecodeError as exc:
                text = raw.decode(errors="replace")
                self._note("\ufffd", exc.start, f", 0x{raw[exc.start]:02x}, is not UTF-8")
            if "\0" in text:
                self._note("\0", raw.index(0), " is NUL")
            self.offset += len(raw)
            self.line += 1
            yield text

    def _note(self, stands_for: str, index: int, wrong: str) -> None:
        self.bad_bytes.append((stands_for, f"byte {index + 1} of line {self.line}{wrong}"))


def read_records(file: BinaryIO, delimiter: str, offset: int, line: int = 1) -> Iterator[Record]:
    """Read from a record's first byte on. A line without text gives no or blank cells."""
    # The module's limit is one for the whole process; a larger one harms nobody.
    csv.field_size_limit(max(csv.field_size_limit(), _MOST_CELL_CHARACTERS))
    while True:
        text = _Text(physical_lines(file, offset), offset, line)
        try:
            for cells in csv.reader(text, delimiter=delimiter, strict=True):
                yield line, offset, cells, _bad_bytes(cells, text) if text.bad_bytes else ()
                offset, line = text.offset, text.line
        except csv.Error as exc:
            first_line = next(physical_lines(file, offset))
            yield line, offset, [], [_stray_quote(first_line.decode(errors="replace"), delimiter, str(exc))]
            offset += len(first_line)
            line += 1
        except LineTooLongError:
            wrong = f"the line, or one that a quoted cell goes on in, has more than {MOST_LINE_BYTES:,} bytes"
            yield line, offset, [], [flaw(1, wrong, "write one row a line")]
            return
        else:
            return


def _bad_bytes(cells: list[str], text: _Text) -> list[Flaw]:
    found, text.bad_bytes = text.bad_bytes, []
    return [
        flaw(next((n for n, cell in enumerate(cells, 1) if mark in cell), 1), wrong, "save the file as UTF-8")
        for mark, wrong in found
    ]


def _ends_of_cells(line: str, delimiter: str) -> Iterator[int]:
    well_formed = re.compile(rf'(?:"(?:[^"]|"")*"|[^"{delimiter}][^{delimiter}]*)?{delimiter}')
    end = 0
    while found := well_formed.match(line, end):
        end = found.end()
        yield end


def character_of(line: str, delimiter: str, cell: int) -> int:
    """At which character of its line a cell begins, both counted from 1; 0 where the line ends before."""
    begins = [0, *islice(_ends_of_cells(line, delimiter), cell - 1)]
    return begins[cell - 1] + 1 if len(begins) == cell else 0


def _stray_quote(first_line: str, delimiter: str, reason: str) -> Flaw:
    # Well-formed cells from the left; the one after them is where the trouble begins.
    cell = 1 + sum(1 for _ in _ends_of_cells(first_line, delimiter))
    if "limit" in reason or "unexpected end" in reason:
        return flaw(cell, "a quote opens this cell and none closes it", "close it, and double a quote within a cell")
    return flaw(cell, "a quote stands within a quoted cell", 'double it, as in "say ""hello"""')
