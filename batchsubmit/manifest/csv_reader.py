"""CSV manifests, as spreadsheets and other programs really write them.

The header names the request's members by dotted path. Cells are taken exactly as they stand, white space included; an
empty one is an absent member. A structure, list or map may stand in one cell as JSON. `var.NAME` columns are the
row's variables. UTF-8 with or without a byte-order mark; LF, CRLF or CR; comma, semicolon or tab, as the header
shows. Rows without any text in their cells are skipped.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from batchsubmit.errors import UsageError
from batchsubmit.manifest.csv_columns import Header
from batchsubmit.manifest.csv_syntax import BrokenRecord, Flaw, read_records
from batchsubmit.manifest.defaults import HEADER_AGAIN, Defaults, complete
from batchsubmit.manifest.file import ManifestFile, read_at
from batchsubmit.manifest.rows import Problem, Row
from batchsubmit.schema import Fault, RequestChecker, without_nulls
from batchsubmit.schema.checks import MISSING
from batchsubmit.schema.columns import names_columns

_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;\t])"?[,;\t ]*(?:\r\n?|\n)', re.IGNORECASE)
_ONE_ROW_BYTES = 1 << 12


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the header stands, and what it says."""

    line: int
    offset: int
    delimiter: str
    names: list[str]
    header: Header | BrokenRecord


class CsvReader:
    """Reads a CSV manifest."""

    def __init__(self, spooled: ManifestFile, *, defaults: Defaults, checker: RequestChecker) -> None:
        self._spooled = spooled
        self._defaults = defaults
        self._checker = checker

    def rows(self) -> Iterator[Row]:
        """Read every row, in order; the header's problems first."""
        layout = self._layout
        header = layout.header
        if isinstance(header, BrokenRecord):
            yield self._broken_row(layout.line, layout.offset, header, None)
            return
        if header.faults:
            problems = tuple(self._problem(layout.line, number, fault) for number, fault in header.faults)
            yield Row(layout.line, layout.offset, {}, {}, problems)
            if not header.known_columns:
                return
        records = read_records(self._spooled.file, layout.delimiter, layout.offset, layout.line)
        next(records)  # the header itself
        for line, offset, record in records:
            if isinstance(record, BrokenRecord) or any(map(str.strip, record)):
                row = self._row(line, offset, record, header)
                if row.problems or not header.faults:
                    yield row

    def row_at(self, offset: int, line: int) -> Row:
        """Read one row again. Raises `UsageError` when the header cannot be read."""
        layout = self._layout
        if isinstance(layout.header, BrokenRecord):
            raise UsageError(f"{self._spooled.label}: the header cannot be read; validate the manifest")
        file = self._spooled.file
        line, offset, record = next(read_records(file, layout.delimiter, offset, line, block_bytes=_ONE_ROW_BYTES))
        return self._row(line, offset, record, layout.header)

    def request_at(self, offset: int, line: int) -> dict[str, Any] | None:
        """Read the request of one row again, without checking it; None where it cannot be read."""
        layout = self._layout
        header = layout.header
        records = read_records(self._spooled.file, layout.delimiter, offset, line, block_bytes=_ONE_ROW_BYTES)
        _, _, cells = next(records, (line, offset, None))
        if cells is None or isinstance(cells, BrokenRecord) or isinstance(header, BrokenRecord):
            return None
        cells = header.fitted(cells)
        if len(cells) != header.width:
            return None
        faults: list[Fault] = []
        request = header.build(cells, faults) or {}
        faults += self._defaults.fill(request, header.variables(cells))
        if faults:
            return None
        return without_nulls(request) if header.holds_json else request

    @property
    def has_sound_header(self) -> bool:
        """Whether every column is understood."""
        header = self._layout.header
        return isinstance(header, Header) and not header.faults

    def problem(self, row: Row, path: str, wrong: str, right: str) -> Problem:
        """Make a problem of what a caller found wrong with a row, at its member's column."""
        header = self._layout.header
        column = header.number_of(path) if isinstance(header, Header) else 1
        return self._problem(row.line, column, Fault(path=path, wrong=wrong, right=right))

    @cached_property
    def _layout(self) -> _Layout:
        """The first record with text, read with the delimiter that makes the most sense of it."""
        if said := _SEPARATOR.match(
            read_at(self._spooled.file, 0, _ONE_ROW_BYTES)
        ):  # a line for Excel, which is no row
            return self._read_header(said[1].decode(), said.end(), 2)
        layouts = [self._read_header(delimiter, 0, 1) for delimiter in _DELIMITERS]
        return max(layouts, key=_sense)

    def _read_header(self, delimiter: str, start: int, first_line: int) -> _Layout:
        for line, offset, record in read_records(self._spooled.file, delimiter, start, first_line):
            if isinstance(record, BrokenRecord):
                return _Layout(line, offset, delimiter, record.cells, record)
            if any(map(str.strip, record)):
                names = _without_empty_end(record)
                return _Layout(line, offset, delimiter, names, Header(names, self._defaults))
        flaw = Flaw(1, "has no header", "name the columns in the first line")
        return _Layout(first_line, start, delimiter, [], BrokenRecord([], (flaw,)))

    def _row(self, line: int, offset: int, cells: list[str] | BrokenRecord, header: Header) -> Row:
        if isinstance(cells, BrokenRecord):
            return self._broken_row(line, offset, cells, header)
        if cells and cells[0] in header.names and names_columns(filter(None, map(str.strip, cells))):
            return Row(line, offset, {}, {}, (self._problem(line, 1, HEADER_AGAIN),))
        ragged = None
        cells = header.fitted(cells)
        if len(cells) != header.width:
            ragged = _ragged(len(cells), header)
            cells = (cells + [""] * header.width)[: header.width]
        faults: list[Fault] = []
        request = header.build(cells, faults) or {}
        variables = header.variables(cells) if header.has_variables else {}
        wrong, spelled = complete(request, variables, self._defaults, self._checker)
        faults += wrong
        if not faults and ragged is None:
            request = without_nulls(request) if header.holds_json else request
            return Row(line, offset, request, variables, (), spelled)
        problems = [self._problem(line, *ragged)] if ragged else []
        for fault in faults:
            number = header.number_of(fault.path)
            if not (fault.wrong is MISSING and (fault.path in header.missing or (ragged and number >= ragged[0]))):
                problems.append(self._problem(line, number, fault))
        return Row(line, offset, request, variables, tuple(problems))

    def _broken_row(self, line: int, offset: int, record: BrokenRecord, header: Header | None) -> Row:
        problems = tuple(
            self._problem(
                line,
                flaw.cell,
                Fault(path=header.name_of(flaw.cell) if header else "", wrong=flaw.wrong, right=flaw.right),
            )
            for flaw in record.flaws
        )
        return Row(line, offset, {}, {}, problems)

    def _problem(self, line: int, column: int, fault: Fault) -> Problem:
        return Problem(
            label=self._spooled.label,
            line=line,
            column=column,
            path=fault.path,
            wrong=fault.wrong,
            right=fault.right,
        )


def _sense(layout: _Layout) -> tuple[int, int]:
    known = layout.header.known_columns if isinstance(layout.header, Header) else -1
    return known, len(layout.names)


def _without_empty_end(names: list[str]) -> list[str]:
    """The names up to the last one that is not blank: spreadsheets write columns that were used once."""
    return names[: max((number for number, name in enumerate(names, 1) if name.strip()), default=0)]


def _ragged(count: int, header: Header) -> tuple[int, Fault]:
    counts = f"the row has {count} cells, the header {header.width}"
    if count > header.width:
        right = "remove what is too much, or quote the cell that holds a delimiter"
        return header.width + 1, Fault(path="", wrong=counts, right=right)
    first_lacking = header.name_of(count + 1)
    right = "write a delimiter for each empty cell too"
    return count + 1, Fault(
        path=first_lacking, wrong=f"{counts}; those from {first_lacking!r} on are lacking", right=right
    )
