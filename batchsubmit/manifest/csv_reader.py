"""CSV manifests, as spreadsheets and other programs really write them.

The header names the request's members by dotted path. Cells are taken exactly as they stand, white space included; an
empty one is an absent member. A structure, list or map may stand in one cell as JSON. `var.NAME` columns are the
row's variables. UTF-8 with or without a byte-order mark; LF, CRLF or CR; comma, semicolon or tab, as the header
shows. Rows without any text in their cells are skipped.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

from batchsubmit.manifest.csv_syntax import BrokenRecord, Flaw, character_of, read_records
from batchsubmit.manifest.defaults import HEADER_AGAIN, OF_THE_RUN, Defaults, complete
from batchsubmit.manifest.file import ManifestFile, physical_lines, read_at
from batchsubmit.manifest.rows import Row
from batchsubmit.schema import Fault, JsonError, Problem, RequestChecker, read_json, without_nulls
from batchsubmit.schema.checks import MISSING
from batchsubmit.schema.columns import Place, find_place, names_columns, nearest_name, read_integer, required_paths
from batchsubmit.schema.model import Integer, ListOf, Shape, Text, request_shape
from batchsubmit.schema.wording import printable
from batchsubmit.text import quoted

_DELIMITERS = ",;\t"
_SEPARATOR = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;\t])"?[,;\t ]*(?:\r\n?|\n)', re.IGNORECASE)
_ONE_ROW_BYTES = 1 << 12
_VARIABLE_PREFIX = "var."

_Build = Callable[[Sequence[str], list[Fault]], Any]
"""From a row's cells to a member of the request; None when they have nothing of it."""


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
            yield self._broken_row(layout.line, layout.offset, header)
            return
        if header.faults:
            problems = tuple(self._problem(layout.line, number, fault) for number, fault in header.faults)
            yield Row(layout.line, layout.offset, {}, {}, problems)
            if not header.known_columns:
                return
        records = read_records(self._spooled.file, layout.delimiter, layout.offset, layout.line)
        next(records)  # the header itself
        for line, offset, cells in records:
            if isinstance(cells, BrokenRecord):
                yield self._broken_row(line, offset, cells)
            elif cells and (cells[0].strip() or any(map(str.strip, cells))):
                row = self._row(line, offset, cells, header)
                if row.problems or not header.faults:
                    yield row

    def request_at(self, offset: int, line: int) -> dict[str, Any]:
        """Read the request of one row again, without checking it; empty where it cannot be read."""
        layout = self._layout
        header = layout.header
        records = read_records(self._spooled.file, layout.delimiter, offset, line, block_bytes=_ONE_ROW_BYTES)
        _, _, cells = next(records, (line, offset, None))
        if cells is None or isinstance(cells, BrokenRecord) or isinstance(header, BrokenRecord):
            return {}
        cells, faults = header.fitted(cells), list[Fault]()
        request = header.build(cells, faults) or {}
        self._defaults.fill(request, header.variables(cells))
        return without_nulls(request)

    @property
    def has_sound_header(self) -> bool:
        """Whether every column is understood."""
        header = self._layout.header
        return isinstance(header, _Header) and not header.faults

    def problem(self, line: int, fault: Fault, offset: int | None = None) -> Problem:
        """Make a problem of what is wrong with a row (at `offset`), at its member's column."""
        header = self._layout.header
        return self._problem(line, header.number_of(fault.path) if isinstance(header, _Header) else 1, fault, offset)

    @cached_property
    def _layout(self) -> "_Layout":
        """The first record with text, read with the delimiter that makes the most sense of it."""
        # A line for Excel is no row.
        if said := _SEPARATOR.match(read_at(self._spooled.file, 0, _ONE_ROW_BYTES)):
            return self._read_header(said[1].decode(), said.end(), 2)
        layouts = [self._read_header(delimiter, 0, 1) for delimiter in _DELIMITERS]
        return max(layouts, key=_sense)

    def _read_header(self, delimiter: str, start: int, first_line: int) -> "_Layout":
        for line, offset, record in read_records(self._spooled.file, delimiter, start, first_line):
            if isinstance(record, BrokenRecord):
                return _Layout(line, offset, delimiter, len(record.cells), record)
            if any(map(str.strip, record)):
                # Without the columns at the end that have no name: spreadsheets write those that were used once.
                named = max(number for number, name in enumerate(record, 1) if name.strip())
                return _Layout(line, offset, delimiter, named, _Header(record[:named], self._defaults))
        flaw = Flaw(1, "has no header", "name the columns in the first line")
        return _Layout(first_line, start, delimiter, 0, BrokenRecord([], (flaw,)))

    def _row(self, line: int, offset: int, given: list[str], header: "_Header") -> Row:
        if given[0] in header.names and names_columns(filter(None, map(str.strip, given))):
            return Row(line, offset, {}, {}, (self._problem(line, 1, HEADER_AGAIN),))
        cells = given if len(given) == header.width else header.fitted(given)
        faults: list[Fault] = []
        request = header.build(cells, faults) or {}
        variables = header.variables(cells) if header.has_variables else {}
        wrong, spelled = complete(request, variables, self._defaults, self._checker)
        if not (faults or wrong) and cells is given:
            request = without_nulls(request) if header.holds_json else request
            return Row(line, offset, request, variables, (), spelled)
        problems = [self._problem(line, *ragged, offset)] if (ragged := header.ragged(given)) else []
        for fault in faults + wrong:
            number = header.number_of(fault.path)
            if not (fault.wrong is MISSING and (fault.path in header.missing or (ragged and number >= ragged[0]))):
                problems.append(self._problem(line, number, fault, offset))
        request = request if problems or not header.holds_json else without_nulls(request)
        return Row(line, offset, request, variables, tuple(problems), b"" if problems else spelled)

    def _broken_row(self, line: int, offset: int, record: BrokenRecord) -> Row:
        header = self._layout.header
        problems = []
        for flaw in record.flaws:
            name = header.name_of(flaw.cell) if isinstance(header, _Header) else ""
            problems.append(self._problem(line, flaw.cell, Fault(path=name, wrong=flaw.wrong, right=flaw.right)))
        return Row(line, offset, {}, {}, tuple(problems))

    def _problem(self, line: int, column: int, fault: Fault, offset: int | None = None) -> Problem:
        character = 0
        if offset is not None:
            text = next(physical_lines(self._spooled.file, offset, block_bytes=_ONE_ROW_BYTES), b"")
            character = character_of(text.decode(errors="replace"), self._layout.delimiter, column)
        return Problem.of(fault, label=self._spooled.label, line=line, column=column, character=character)


class _Header:
    """The columns of one manifest. `faults` are the header's own, each with its column's number."""

    def __init__(self, names: Sequence[str], defaults: Defaults) -> None:
        self.width = len(names)
        self.names = frozenset(names)
        self.faults: list[tuple[int, Fault]] = []
        self._printable = [printable(name) for name in names]
        self._numbers: dict[str, int] = {}
        self._paths: dict[str, int] = {}  # the same as the paths of faults spell them
        self._above: dict[str, int] = {}  # the first column of each structure, list or map
        self._variables: list[tuple[int, str]] = []
        tree = _Branch(request_shape())
        for index, raw_name in enumerate(names):
            # White space around a name is a slip; within the key of a tag it may be meant, and is kept.
            name = raw_name.lstrip() if find_place(raw_name.lstrip()) else raw_name.strip()
            if name in self._numbers:
                self._fault(index, "is a column twice", f"remove one; the first is number {self._numbers[name]}")
                continue
            if place := find_place(name):
                self._add(tree, place, index)
            elif name.startswith(_VARIABLE_PREFIX) and name != _VARIABLE_PREFIX:
                self._variables.append((index, name.removeprefix(_VARIABLE_PREFIX)))
            else:
                self._fault(index, *_unknown(name))
                continue
            self._numbers[name] = index + 1
            self._paths.setdefault(printable(name), index + 1)
        self.known_columns = len(self._numbers)
        self.build = _compiled(tree, "")
        self.has_variables = bool(self._variables)
        self.holds_json = _holds_json(tree)
        self.missing = frozenset(path for path in required_paths() if not self._covers(path, defaults))
        self.faults += ((1, fault) for fault in self._lacking(defaults))

    def _add(self, tree: "_Branch", place: Place, index: int) -> None:
        for depth, step in enumerate(place.steps, 1):
            path = ".".join(map(str, place.steps[:depth]))
            if step not in tree.below:
                found = find_place(path)
                tree.below[step] = _Branch(found.shape if found else place.shape)
            self._above.setdefault(path, index + 1)
            tree = tree.below[step]
        tree.index = index
        self._paths.setdefault(".".join(printable(str(step)) for step in place.steps), index + 1)

    def number_of(self, path: str) -> int:
        """The number of the column that a fault's path belongs to; 1 when it has none."""
        above = path
        while above:
            if above in self._paths:
                return self._paths[above]
            above = above.rpartition(".")[0]
        return self._above.get(path, 1)

    def name_of(self, number: int) -> str:
        """The name of a column by its number, fit for a message."""
        return self._printable[number - 1] if number <= self.width else ""

    def fitted(self, cells: list[str]) -> list[str]:
        """The cells in the number of the columns."""
        return (cells + [""] * self.width)[: self.width]

    def ragged(self, cells: Sequence[str]) -> tuple[int, Fault] | None:
        """The number of the first cell that is lacking or has text beyond the last column, and what is wrong then."""
        count, counts = len(cells), f"the row has {len(cells)} cells, the header {self.width}"
        if count < self.width:
            first = self.name_of(count + 1)
            wrong, right = (
                f"{counts}; those from {quoted(first)} on are lacking",
                "write a delimiter for each empty cell too",
            )
            return count + 1, Fault(path=first, wrong=wrong, right=right)
        if any(map(str.strip, cells[self.width :])):
            right = "remove what is too much, or quote the cell that holds a delimiter"
            return self.width + 1, Fault(path="", wrong=counts, right=right)
        return None

    def variables(self, cells: Sequence[str]) -> dict[str, str]:
        """The row's variables; an empty cell is none."""
        return {name: cells[index] for index, name in self._variables if cells[index]}

    def _covers(self, path: str, defaults: Defaults) -> bool:
        steps = path.split(".")
        above = {".".join(steps[:depth]) for depth in range(1, len(steps) + 1)}
        return not above.isdisjoint(self._numbers) or defaults.covers(path)

    def _lacking(self, defaults: Defaults) -> Iterator[Fault]:
        for path in required_paths():
            if path in self.missing:
                yield Fault(path=path, wrong="the header has no such column", right="is required, here or by a default")
        variables = {name for _, name in self._variables}
        for path, name in defaults.place_holders():
            # Where the rows may give the member themselves, only those that do not need the place-holder.
            known = name in OF_THE_RUN or name.removeprefix("var.") in variables or find_place(name)
            if path not in self._numbers and not known:
                wrong = f"its default needs {{{name}}}, and the header has no column var.{name.removeprefix('var.')}"
                yield Fault(path=path, wrong=wrong, right=f"add that column, or {path} itself")

    def _fault(self, index: int, wrong: str, right: str) -> None:
        self.faults.append((index + 1, Fault(path=self._printable[index], wrong=wrong, right=right)))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the header stands, and what it says."""

    line: int
    offset: int
    delimiter: str
    width: int
    header: _Header | BrokenRecord


def _sense(layout: _Layout) -> tuple[int, int]:
    return layout.header.known_columns if isinstance(layout.header, _Header) else -1, layout.width


def _unknown(name: str) -> tuple[str, str]:
    if not name:
        return "the column has no name", "name it, or remove it"
    near = nearest_name(name)
    right = f"did you mean {near!r}?" if near else f"name it var.{printable(name)} if it is a variable, or remove it"
    return "is not a column", right


@dataclass(slots=True)
class _Branch:
    """A member: the cell that holds it whole, if there is one, and the members below it that have cells."""

    shape: Shape
    index: int | None = None
    below: "dict[str | int, _Branch]" = field(default_factory=dict)


def _holds_json(branch: _Branch) -> bool:
    """Whether some cell is JSON, which may hold nulls."""
    is_json = branch.index is not None and not isinstance(branch.shape, Text | Integer)
    return is_json or any(map(_holds_json, branch.below.values()))


def _compiled(branch: _Branch, path: str) -> _Build:
    if not branch.below:
        return _cell(branch, path)
    part = _list(branch, path) if isinstance(branch.shape, ListOf) else _object(branch, path)
    if branch.index is None:
        return part
    whole = _cell(branch, path)
    return lambda cells, faults: _joined(whole(cells, faults), part(cells, faults), path, faults)


def _cell(branch: _Branch, path: str) -> _Build:
    index = branch.index
    if index is None:  # a member without cells
        return lambda _cells, _faults: None
    match branch.shape:
        case Text():
            return lambda cells, _: cells[index] or None
        case Integer():
            return lambda cells, _: read_integer(cells[index]) if cells[index] else None
    return lambda cells, faults: _read_json(path, cells[index], faults) if cells[index] else None


def _object(branch: _Branch, path: str) -> _Build:
    texts, others = list[tuple[str, int]](), list[tuple[str, _Build]]()
    for key, child in branch.below.items():
        if isinstance(child.shape, Text) and child.index is not None:
            texts.append((str(key), child.index))
        else:
            others.append((str(key), _compiled(child, f"{path}.{key}".lstrip("."))))

    def build(cells: Sequence[str], faults: list[Fault]) -> dict[str, Any] | None:
        members: dict[str, Any] = {}
        for key, index in texts:
            if text := cells[index]:
                members[key] = text
        for key, read in others:
            if (value := read(cells, faults)) is not None:
                members[key] = value
        return members or None

    return build


def _list(branch: _Branch, path: str) -> _Build:
    nothing = _Branch(branch.shape)
    steps = range(max(int(step) for step in branch.below) + 1)
    items = [_compiled(branch.below.get(step, nothing), f"{path}.{step}") for step in steps]

    def build(cells: Sequence[str], faults: list[Fault]) -> list[Any] | None:
        values = [item(cells, faults) for item in items]
        while values and values[-1] is None:
            values.pop()
        return values or None

    return build


def _read_json(path: str, text: str, faults: list[Fault]) -> Any:  # noqa: ANN401 - that is what JSON is
    try:
        return read_json(text)
    except JsonError as exc:
        faults.append(Fault(path=path, wrong=f"{exc.wrong} (character {exc.column})", right=exc.right))
        return None


def _joined(whole: Any, part: Any, path: str, faults: list[Fault]) -> Any:  # noqa: ANN401 - members may be anything
    if whole is None or part is None:
        return part if whole is None else whole
    if isinstance(whole, dict) and isinstance(part, dict):
        return whole | {key: _joined(whole.get(key), part[key], f"{path}.{key}", faults) for key in part}
    if isinstance(whole, list) and isinstance(part, list):
        pairs = enumerate(zip_longest(whole, part))
        return [_joined(*pair, f"{path}.{index}", faults) for index, pair in pairs]
    if not isinstance(part, dict | list):
        right = "empty this cell, or leave it out of the JSON"
        faults.append(Fault(path=printable(path), wrong="is given twice in this row", right=right))
    return whole  # where it is JSON of the wrong type, the check will say so
