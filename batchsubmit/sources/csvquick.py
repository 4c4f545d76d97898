"""The quick way through a CSV manifest whose rows differ in a few cells only, as nearly all do.

To read, check and spell a row for itself takes 22 µs, most of it for what is the same in every row. Here each line is
cut around the cells that vary, and all that remains of it is looked up, as text, among the **moulds**: lines that were
read and checked the careful way once. Of a line with a known mould only the cells that vary are checked, each by one
regular expression, and set into the mould's canonical request. Blocks are worked on column by column, since a `map`
over a column takes a third of a loop over rows.

Why that comes to the same: a cell is taken only where it is plain (nothing that CSV quotes or JSON escapes) and passes
its member's own pattern and bounds; a member whose value others must agree with has no such cell, or, as an ARN, shows
them the part that they look at. Everything else is letter for letter what the careful way has passed. What fits no
mould is left to that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from batchsubmit.schema import RequestChecker, canonical, without_nulls
from batchsubmit.schema.arns import foreign_arns
from batchsubmit.sources.csvcut import Cells, Cut, Key, Varying, varying_columns
from batchsubmit.sources.csvheader import Header
from batchsubmit.sources.csvrecords import read_line
from batchsubmit.sources.defaults import Defaults, complete
from batchsubmit.sources.rows import GoodRows, Mould

_SAMPLE_LINES = 256
_SELDOM = 16  # a column with fewer values than a sixteenth of its rows does not vary
_MOST_MOULDS = 4096
_MOST_LEARNED_AT_ONCE = 128
_HOLE = "\ue000"  # of the private use area: it stands in no JSON escape and in no sensible manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whole lines of a manifest, and where they stand."""

    lines: Sequence[str]
    offsets: Sequence[int]
    first_line: int


def whole_lines(data: bytes, offset: int, first_line: int) -> Block | None:
    """Cut bytes that end where a line ends into lines; None where that is not as plain as it should be."""
    returns = data.count(b"\r")
    if b"\0" in data or (returns and not returns == data.count(b"\r\n") == data.count(b"\n")):
        return None
    try:
        lines = data.decode().split("\r\n" if returns else "\n")
    except UnicodeDecodeError:
        return None
    offsets = list(accumulate(map(len, data.splitlines(keepends=True)), initial=offset))
    return Block(lines=lines[:-1], offsets=offsets[:-1], first_line=first_line)


class QuickWay:
    """Reads blocks of one manifest, and learns its moulds from them."""

    def __init__(self, header: Header, delimiter: str, defaults: Defaults, checker: RequestChecker) -> None:
        self._header = header
        self._delimiter = delimiter
        self._defaults = defaults
        self._checker = checker
        self._varying = varying_columns(header, defaults)
        self._cut: Cut | None = None
        self._moulds: dict[Key, Mould | None] = {}

    def read(self, block: Block) -> list[GoodRows | int] | None:
        """Give the good rows of a block and, in between, the indexes of lines that are to be read the careful way.

        None where all of them are.
        """
        for is_second_try in (False, True):
            if is_second_try:
                self._cut = self._choose_cut(block.lines[:_SAMPLE_LINES])
                self._moulds.clear()
            cells = self._cut(block.lines) if self._cut else None
            if self._cut and cells:
                moulds = self._moulds_of(self._cut, cells, block)
                if 2 * moulds.count(None) <= len(moulds):
                    return list(_pieces(block, cells, moulds, self._cut))
        return None

    def _moulds_of(self, cut: Cut, cells: Cells, block: Block) -> list[Mould | None]:
        """Look up the moulds of a block's lines, after learning those that are new."""
        moulds = list(map(self._moulds.get, cells.keys))
        if None not in moulds:
            return moulds
        new = {key: number for number, key in enumerate(cells.keys) if key not in self._moulds}
        for key, number in list(new.items())[:_MOST_LEARNED_AT_ONCE]:
            if len(self._moulds) < _MOST_MOULDS:
                self._moulds[key] = self._mould(cut, block.lines[number])
        return list(map(self._moulds.get, cells.keys))

    def _choose_cut(self, lines: Sequence[str]) -> Cut | None:
        """Find out which cells vary; None where they cannot be cut out, or names are not among them."""
        sample = [row for row in map(self._parsed, lines) if row is not None]
        columns = [set(column) for column in zip(*sample, strict=True)]
        varying = {
            number: self._varying[number]
            for number, cells in enumerate(columns)
            if len(cells) > max(2, len(sample) // _SELDOM)
        }
        sound = {number: how for number, how in varying.items() if how is not None}
        has_names = any(map(_is_name, sound.values()))
        if not has_names or len(sound) < len(varying) or len(sound) == len(columns):
            return None
        quoted = [
            number
            for number, cells in enumerate(columns)
            if any('"' in cell or self._delimiter in cell for cell in cells)
        ]
        return Cut(sound, quoted, self._header.width, self._delimiter)

    def _parsed(self, line: str) -> list[str] | None:
        """Read one line as a record; None where it is none, or not as wide as the header."""
        cells = read_line(line, self._delimiter)
        return cells if cells and len(cells) == self._header.width else None

    def _mould(self, cut: Cut, line: str) -> Mould | None:
        """Read a line the careful way and make a mould of it; None where it is not good."""
        row = self._parsed(line)
        if row is None or not cut.is_clean(line, row):
            return None
        request, faults = self._header.request(row)
        variables = self._header.variables(row)
        if faults or complete(request, variables, self._defaults, self._checker) or any(foreign_arns(request)):
            return None
        spelled = self._hollow(cut, row)
        if spelled is None:
            return None
        model, membership = request["trainedModelArn"], request["membershipIdentifier"]
        region, account = model.split(":")[3:5]
        return Mould(membership=membership, model=model, region=region, account=account, canonical=spelled)

    def _hollow(self, cut: Cut, row: Sequence[str]) -> tuple[str, ...] | None:
        """Spell a good row's request and cut it where the cells that vary stand."""
        holes = {number: f"{_HOLE}{number}{_HOLE}" for number in _in_canonical_order(cut)}
        request, _ = self._header.request([holes.get(number, cell) for number, cell in enumerate(row)])
        self._defaults.fill(request, self._header.variables(row))
        spelled, *cells_and_pieces = canonical(without_nulls(request)).decode().split(_HOLE)
        if cells_and_pieces[::2] != [str(number) for number in holes]:  # a hole is lost, or the row has this character
            return None
        return spelled, *cells_and_pieces[1::2]


def _pieces(block: Block, cells: Cells, moulds: Sequence[Mould | None], cut: Cut) -> Iterator[GoodRows | int]:
    """Part the lines into runs of good rows and single lines for the careful way."""
    careful = {number for number, mould in enumerate(moulds) if mould is None} if None in moulds else set()
    for how, column in zip(cut.varying.values(), cells.columns, strict=True):
        if not all(map(how.passes, column)):
            careful.update(number for number, cell in enumerate(column) if not how.passes(cell))
    begin = 0
    for number in (*sorted(careful), len(moulds)):
        if begin < number:
            run = slice(begin, number)
            columns = dict(zip(cut.varying, [column[run] for column in cells.columns], strict=True))
            yield _cast(block, run, [mould for mould in moulds[run] if mould], columns, cut)
        if number < len(moulds):
            yield number
        begin = number + 1


def _cast(
    block: Block, run: slice, moulds: Sequence[Mould], columns: Mapping[int, Sequence[str]], cut: Cut
) -> GoodRows:
    """Set cells into the moulds' canonical requests."""
    order = _in_canonical_order(cut)
    texts = list(zip(*[mould.canonical for mould in moulds], strict=True))  # column by column, as the cells are
    for place, number in reversed(list(enumerate(order, 1))):
        texts.insert(place, tuple(columns[number]))
    return GoodRows(
        first_line=block.first_line + run.start,
        offsets=block.offsets[run],
        moulds=moulds,
        names=next(columns[number] for number in order if _is_name(cut.varying[number])),
        canonicals=list(map(str.encode, map("".join, zip(*texts, strict=True)))),
    )


def _in_canonical_order(cut: Cut) -> list[int]:
    """The columns that vary and are members, as sorted keys have them. No two of them are in one list."""
    members = [(how.place.steps, number) for number, how in cut.varying.items() if how.place]
    return [number for _, number in sorted(members, key=lambda member: [str(step) for step in member[0]])]


def _is_name(how: Varying) -> bool:
    return how.place is not None and how.place.steps == ("name",)
