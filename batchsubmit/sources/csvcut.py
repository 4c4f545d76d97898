"""Lines cut around the cells that vary from row to row: the cells as columns, the rest of each line as a key.

Nothing is known here of what the cells mean, but for what each must pass to be taken.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from batchsubmit.schema.arns import is_arn
from batchsubmit.schema.model import Text
from batchsubmit.schema.patterns import UntranslatablePatternError, portable
from batchsubmit.schema.places import Place, find_place
from batchsubmit.sources.csvheader import Header
from batchsubmit.sources.csvrecords import read_line
from batchsubmit.sources.defaults import Defaults

Key = tuple[str, ...]

_PLAIN = r"[ !#-\[\]-~]"  # what stands in CSV and in JSON as it is
_MOST_CHARACTERS = 4096
_COMPARED_BETWEEN_ROWS = {("membershipIdentifier",), ("trainedModelArn",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Varying:
    """A column whose cells may be cut out. `passes` is true for a cell that is plain and good by itself.

    `place` is its member, None for a variable. Of an ARN, what precedes the last slash stays part of the key: other
    members may have to agree with it.
    """

    passes: Callable[[str], object]
    place: Place | None
    is_arn: bool = False


def varying_columns(header: Header, defaults: Defaults) -> list[Varying | None]:
    """Say for each column how its cells may be cut out; None where they may not."""
    needed = {name.removeprefix("var.") for _, name in defaults.place_holders()}
    needed_places = {place.steps for place in map(find_place, needed) if place}
    columns: list[Varying | None] = []
    for number, place in enumerate(header.places):
        if place is None:
            is_needed = header.variable(number) in needed
            columns.append(None if is_needed else Varying(passes=re.compile(r'[^"]*').fullmatch, place=None))
        else:
            columns.append(None if place.steps in needed_places else _member(place))
    return columns


def _member(place: Place) -> Varying | None:
    shape = place.shape
    if not isinstance(shape, Text) or shape.choices or place.steps in _COMPARED_BETWEEN_ROWS:
        return None
    try:
        pattern = portable(shape.pattern) if shape.pattern is not None else r"[\s\S]*"
    except UntranslatablePatternError:
        return None
    most = min(_MOST_CHARACTERS, shape.most if shape.most is not None else _MOST_CHARACTERS)
    bounds = rf"(?={_PLAIN}{{{max(1, shape.least or 0)},{most}}}\Z)"
    slash = r"(?=[^/]*/)" if is_arn(shape) else ""
    return Varying(passes=re.compile(f"{bounds}{slash}(?:{pattern})").fullmatch, place=place, is_arn=is_arn(shape))


@dataclass(frozen=True, slots=True)
class Cells:
    """Lines that were cut: a key for each line, and each varying column's cells."""

    keys: Sequence[Key]
    columns: Sequence[Sequence[str]]


class Cut:
    """Where lines are cut: cell by cell before and behind the longest run of columns that do not vary.

    That run is left in one piece, which is most of a line, and is neither split nor joined nor hashed by cell. As it
    is the only piece that may hold quotes, a run with a column of `quoted` is preferred.
    """

    def __init__(self, varying: Mapping[int, Varying], quoted: Collection[int], width: int, delimiter: str) -> None:
        self.varying = varying
        self._width = width
        self._delimiter = delimiter
        bounds = [-1, *sorted(varying), width]
        runs = [range(before + 1, after) for before, after in pairwise(bounds)]
        run = max(runs, key=lambda run: (any(number in run for number in quoted), len(run)))
        self._left, self._right = run.start, width - run.stop
        self._steady = [number for number in range(self._left + 1 + self._right) if self._cell(number) not in varying]

    def _cell(self, piece: int) -> int:
        """The column that a piece holds; of the long run, some column of it."""
        return piece if piece <= self._left else piece - (self._left + 1 + self._right) + self._width

    def __call__(self, lines: Sequence[str]) -> Cells | None:
        """Cut lines; None where one of them has too few cells for that."""
        delimiter, rest = self._delimiter, lines
        pieces: list[Sequence[str]] = []
        try:
            if self._left:
                pieces += zip(*[line.split(delimiter, self._left) for line in lines], strict=True)
                rest = pieces.pop()
            if self._right:
                pieces += zip(*[line.rsplit(delimiter, self._right) for line in rest], strict=True)
            else:
                pieces.append(rest)
        except ValueError:
            return None
        if len(pieces) != self._left + 1 + self._right:
            return None
        by_column = {self._cell(number): piece for number, piece in enumerate(pieces)}
        columns = [by_column[number] for number in self.varying]
        scopes = [
            [cell.rpartition("/")[0] for cell in by_column[number]]
            for number, how in self.varying.items()
            if how.is_arn
        ]
        return Cells(list(zip(*[pieces[number] for number in self._steady], *scopes, strict=True)), columns)

    def is_clean(self, line: str, row: Sequence[str]) -> bool:
        """Whether a line's pieces are, letter for letter, what a CSV reader makes of it, and so of all lines alike.

        No quote may stand outside the long run, and none may reach out of it.
        """
        head = line.split(self._delimiter, self._left)
        tail = head[-1].rsplit(self._delimiter, self._right)
        outside = [*head[:-1], *tail[1:]]
        if len(outside) != self._left + self._right or any('"' in cell for cell in outside):
            return False
        within = read_line(tail[0], self._delimiter) if tail[0] else [""]
        return within is not None and [*head[:-1], *within, *tail[1:]] == list(row)
