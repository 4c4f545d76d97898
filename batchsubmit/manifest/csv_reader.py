"""CSV manifests, as spreadsheets and other programs really write them.

The header names the request's members by dotted path. Cells are taken exactly as they stand, white space included; an
empty one is an absent member. A structure, list or map may stand in one cell as JSON. `var.NAME` columns are the
row's variables. UTF-8 with or without a byte-order mark; LF, CRLF or CR; comma, semicolon or tab, as the header
shows. Rows without any text in their cells are skipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import accumulate, zip_longest
from operator import attrgetter, itemgetter
from typing import Any

from batchsubmit.manifest.csv_syntax import Record, character_of, delimiters_of, flaw, read_records
from batchsubmit.manifest.defaults import HEADER_AGAIN, OF_THE_RUN, Defaults, complete
from batchsubmit.manifest.file import physical_lines
from batchsubmit.manifest.rows import Reader, Row
from batchsubmit.schema import Fault, JsonError, Part, Problem, without_nulls
from batchsubmit.schema.checks import MISSING
from batchsubmit.schema.columns import Place, columns, find_place, names_columns, nearest_name
from batchsubmit.schema.faults import shown_path
from batchsubmit.schema.model import VARYING, Integer, Text
from batchsubmit.text import quoted

_VARIABLE_PREFIX = "var."
_REMEMBERED_PARTS = 1024


class CsvReader(Reader):
    """Reads a CSV manifest."""

    def rows(self) -> Iterator[Row]:
        """Read every row, in order."""
        header = self._header
        if header.faults:
            problems = tuple(self.problem(header.line, fault, column=number) for number, fault in header.faults)
            yield Row(header.line, header.offset, {}, {}, problems, is_header=True)
            if header.known_columns < 1:
                return
        records = read_records(self._spooled.file, header.delimiter, header.offset, header.line)
        next(records)  # the header itself
        for record in records:
            cells = record[2]
            if record[3] or (cells and (cells[0].strip() or any(map(str.strip, cells)))):
                row = self._row(record, header)
                if row.problems or not header.faults:
                    yield row

    def request_at(self, offset: int) -> dict[str, Any]:
        """Read the request of one row again."""
        header = self._header
        _, _, cells, flaws = next(read_records(self._spooled.file, header.delimiter, offset), (0, offset, [], ()))
        if not cells or flaws or header.known_columns < 1:
            return {}
        cells = header.fitted(cells)
        request, _ = header.build(cells, [])
        self._defaults.fill(request, header.variables(cells))
        return without_nulls(request)

    def problem(self, line: int, fault: Fault, offset: int | None = None, column: int | None = None) -> Problem:
        """Make a problem of what is wrong with a row."""
        number, character = column or self._header.number_of(fault.path), 0
        if offset is not None:
            text = next(physical_lines(self._spooled.file, offset), b"")
            character = character_of(text.decode(errors="replace"), self._header.delimiter, number)
        return Problem.of(fault, label=self._spooled.label, line=line, column=number, character=character)

    @cached_property
    def _header(self) -> "_Header":
        """The first record with text, read with the delimiter that makes the most sense of it."""
        delimiters, start, line = delimiters_of(self._spooled.file)
        headers = [self._read_header(delimiter, start, line) for delimiter in delimiters]
        return max(headers, key=lambda header: (header.known_columns, header.width))

    def _read_header(self, delimiter: str, start: int, first_line: int) -> "_Header":
        for record in read_records(self._spooled.file, delimiter, start, first_line):
            if record[3] or any(map(str.strip, record[2])):
                return _Header(record, delimiter, self._defaults)
        nothing = flaw(1, "has no header", "name the columns in the first line")
        return _Header((first_line, start, [], [nothing]), delimiter, self._defaults)

    def _row(self, record: Record, header: "_Header") -> Row:
        line, offset, given, flaws = record
        if flaws or (given[0] in header.names and names_columns(filter(None, map(str.strip, given)))):
            named = [(replace(fault, path=header.name_of(cell)), None, cell) for cell, fault in flaws]
            problems = tuple(self.problem(line, *each) for each in named or [(HEADER_AGAIN, None, 1)])
            return Row(line, offset, {}, {}, problems)
        cells = given if len(given) == header.width else header.fitted(given)
        faults: list[Fault] = []
        request, part = header.build(cells, faults)
        variables = header.variables(cells)
        wrong, spelled, part = complete(request, variables, self._defaults, self._checker, part)
        ragged = None if cells is given else header.ragged(given)
        if not (faults or wrong or ragged):
            request = without_nulls(request) if header.has_json else request
            return Row(line, offset, request, variables, (), spelled, part)
        found = [self.problem(line, ragged[1], offset, ragged[0])] if ragged else []
        for fault in faults + wrong:
            number = header.number_of(fault.path)
            if not (fault.wrong is MISSING and (fault.path in header.missing or (ragged and number >= ragged[0]))):
                found.append(self.problem(line, fault, offset, number))
        found.sort(key=attrgetter("column"))
        return Row(line, offset, request, variables, tuple(found))


class _Header:
    """The columns of one manifest. `faults` are the header's own, each with its column's number."""

    def __init__(self, record: Record, delimiter: str, defaults: Defaults) -> None:
        self.line, self.offset, cells, flaws = record
        self.delimiter = delimiter
        # Without the columns at the end that have no name: spreadsheets write those that were used once.
        self.width = max((number for number, name in enumerate(cells, 1) if name.strip()), default=0)
        self.names = frozenset(cells[: self.width])
        self.faults = list(flaws)
        self._printable = [shown_path(name) for name in cells[: self.width]]
        self._numbers: dict[str, int] = {}
        self._paths: dict[str, int] = {}  # the same as the paths of faults spell them
        self._above: dict[str, int] = {}  # the first column of each structure, list or map
        self._variables: list[tuple[int, str]] = []
        self._members: list[tuple[Place, int]] = []
        self.missing: Sequence[str] = ()  # the members that every request has, and no row
        for index, name in enumerate(() if flaws else cells[: self.width]):
            self._add(index, name)
        self.known_columns = -1 if flaws else len(self._numbers)
        self.has_json = any(not isinstance(place.shape, Text | Integer) for place, _ in self._members)
        self._compile(is_shared=not defaults)
        if not flaws:
            required = (column.name for column in columns() if column.required)
            self.missing = [path for path in required if not (self._covers(path) or defaults.covers(path))]
            self.faults += ((1, fault) for fault in self._lacking(defaults))

    def _add(self, index: int, raw_name: str) -> None:
        # White space around a name is a slip; within the key of a tag it may be meant, and is kept.
        name = raw_name.lstrip() if find_place(raw_name.lstrip()) else raw_name.strip()
        if name in self._numbers:
            self._fault(index, "is a column twice", f"remove one; the first is number {self._numbers[name]}")
            return
        if place := find_place(name):
            self._members.append((place, index))
            for above in accumulate(map(str, place.steps[:-1]), "{}.{}".format):
                self._above.setdefault(above, index + 1)
            self._paths.setdefault(".".join(shown_path(str(step)) for step in place.steps), index + 1)
        elif name.startswith(_VARIABLE_PREFIX) and name != _VARIABLE_PREFIX:
            self._variables.append((index, name.removeprefix(_VARIABLE_PREFIX)))
        else:
            self._fault(index, *_unknown(name))
            return
        self._numbers[name] = index + 1
        self._paths.setdefault(shown_path(name), index + 1)

    def _compile(self, *, is_shared: bool) -> None:
        """Lay out once which cell goes where: texts that vary at once, all others as a part that rows share.

        `is_shared` is false where defaults may add something else to each row's part.
        """
        members = sorted(self._members, key=lambda member: len(member[0].steps))  # JSON before what else is said of it
        wholes = {place.steps for place, _ in members if not isinstance(place.shape, Text)}
        self._texts = [
            (first if rest else "", str(place.steps[-1]), index)
            for place, index in members
            for first, *rest in [place.steps]
            if first in VARYING and not wholes & {(first,), place.steps}
        ]
        columns = [index for _, index in members if index not in {text[2] for text in self._texts}]
        self._pick = itemgetter(*columns, columns[-1]) if columns else lambda _: ()
        self._shared = [place for place, index in members if index in columns]
        self._is_shared = is_shared
        self._part = lru_cache(_REMEMBERED_PARTS)(self._read_part) if is_shared else self._read_part

    def build(self, cells: Sequence[str], faults: list[Fault]) -> tuple[dict[str, Any], Part | None]:
        """Make the request of a row's cells; an empty cell is none."""
        members, wrong, part = self._part(self._pick(cells))
        faults += wrong
        request = {**members}
        for above, name, index in self._texts:
            if text := cells[index]:
                (request.setdefault(above, {}) if above else request)[name] = text
        return request, part

    def _read_part(self, cells: Sequence[str]) -> tuple[dict[str, Any], list[Fault], Part | None]:
        members: dict[str, Any] = {}
        faults: list[Fault] = []
        for place, text in zip(self._shared, cells, strict=False):
            try:
                _put(members, place.steps, place.read(text) if text else None, faults)
            except JsonError as exc:
                path = ".".join(map(str, place.steps))
                faults.append(Fault(path=path, wrong=f"{exc.wrong} (character {exc.column})", right=exc.right))
        return members, faults, Part() if self._is_shared else None

    def number_of(self, path: str) -> int:
        """The number of the column that a fault's path belongs to; 1 when it has none."""
        own = path
        while own and own not in self._paths:
            own = own.rpartition(".")[0]
        return self._paths.get(own) or self._above.get(path, 1)

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
            wrong = f"{counts}; those from {quoted(first)} on are lacking"
            return count + 1, Fault(path=first, wrong=wrong, right="write a delimiter for each empty cell too")
        if any(map(str.strip, cells[self.width :])):
            right = "remove what is too much, or quote the cell that holds a delimiter"
            return self.width + 1, Fault(path="", wrong=counts, right=right)
        return None

    def variables(self, cells: Sequence[str]) -> dict[str, str]:
        """The row's variables; an empty cell is none."""
        return {name: cells[index] for index, name in self._variables if cells[index]}

    def _covers(self, path: str) -> bool:
        return not self._numbers.keys().isdisjoint(accumulate(path.split("."), "{}.{}".format))

    def _lacking(self, defaults: Defaults) -> Iterator[Fault]:
        for path in self.missing:
            yield Fault(path=path, wrong="the header has no such column", right="is required, here or by a default")
        variables = {name for _, name in self._variables}
        for path, name in defaults.place_holders():
            # Where the rows may give the member themselves, only those that do not need the placeholder.
            known = name in OF_THE_RUN or name.removeprefix("var.") in variables or find_place(name)
            if path not in self._numbers and not known:
                wrong = f"its default needs {{{name}}}, and the header has no column var.{name.removeprefix('var.')}"
                yield Fault(path=path, wrong=wrong, right=f"add that column, or {path} itself")

    def _fault(self, index: int, wrong: str, right: str) -> None:
        self.faults.append((index + 1, Fault(path=self._printable[index], wrong=wrong, right=right)))


def _unknown(name: str) -> tuple[str, str]:
    if not name:
        return "the column has no name", "name it, or remove it"
    near = nearest_name(name)
    right = f"did you mean {near!r}?" if near else f"name it var.{shown_path(name)} if it is a variable, or remove it"
    return "is not a column", right


def _put(members: dict[str, Any], steps: Sequence[str | int], value: Any, faults: list[Fault]) -> None:  # noqa: ANN401 - members may be anything
    """Add a member, or what one cell says of its parts beside another."""
    if value is None:
        return
    first = str(steps[0])
    for step in steps[:0:-1]:
        value = {step: value} if isinstance(step, str) else [None] * step + [value]
    members[first] = _joined(members.get(first), value, first, faults)


def _joined(first: Any, more: Any, path: str, faults: list[Fault]) -> Any:  # noqa: ANN401 - members may be anything
    """Bring together what two cells say of a member, the second of them its parts."""
    if first is None or more is None:
        return more if first is None else first
    if isinstance(first, dict) and isinstance(more, dict):
        return first | {key: _joined(first.get(key), more[key], f"{path}.{key}", faults) for key in more}
    if isinstance(first, list) and isinstance(more, list):
        pairs = enumerate(zip_longest(first, more))
        return [_joined(*pair, f"{path}.{index}", faults) for index, pair in pairs]
    if not isinstance(more, dict | list):
        right = "empty this cell, or leave it out of the JSON"
        faults.append(Fault(path=shown_path(path), wrong="is given twice in this row", right=right))
    return first  # where it is JSON of the wrong type, the check will say so
