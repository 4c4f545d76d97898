"""A row's cells made into a nested request, by functions compiled from the header.

Most rows are texts in fixed places; the compiled functions do little else than take them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchsubmit.schema import Fault, JsonError
from batchsubmit.schema.model import Integer, ListOf, Shape, Text
from batchsubmit.schema.places import Place, find_place

Cells = Sequence[str]
Build = Callable[[Cells, list[Fault]], Any]


@dataclass(slots=True, kw_only=True)
class Branch:
    """A member: the cell that holds it whole, if there is one, and the members below it that have cells."""

    path: str
    shape: Shape
    index: int | None = None
    below: "dict[str | int, Branch]" = field(default_factory=dict)

    def add(self, place: Place, index: int, name: str) -> None:
        """Put a column's cell in its place."""
        branch = self
        for depth, step in enumerate(place.steps, 1):
            if step not in branch.below:
                path = ".".join(map(str, place.steps[:depth]))
                found = place if path == name else find_place(path)
                branch.below[step] = Branch(path=path, shape=found.shape if found else place.shape)
            branch = branch.below[step]
        branch.index = index

    def holds_json(self) -> bool:
        """Whether some cell is JSON, which may hold nulls."""
        is_json = self.index is not None and not isinstance(self.shape, Text | Integer)
        return is_json or any(branch.holds_json() for branch in self.below.values())

    def compile(self) -> Build:
        """Compile to a function from a row's cells to the member; None when they have nothing of it."""
        if not self.below:
            return _compile_cell(self)
        return _compile_list(self) if isinstance(self.shape, ListOf) else _compile_object(self)


def _compile_cell(branch: Branch) -> Build:
    place, index, path = Place((), branch.shape), branch.index, branch.path
    if index is None:  # a member without cells
        return lambda _cells, _faults: None

    def build(cells: Cells, faults: list[Fault]) -> Any:  # noqa: ANN401 - a member may be anything
        text = cells[index]
        if not text:
            return None
        try:
            return place.read(text)
        except JsonError as exc:
            faults.append(Fault(path=path, wrong=f"{exc.wrong} (character {exc.column})", right=exc.right))
            return None

    return build


def _compile_object(branch: Branch) -> Build:
    texts = [
        (str(key), child.index)
        for key, child in branch.below.items()
        if isinstance(child.shape, Text) and child.index is not None
    ]
    taken = {key for key, _ in texts}
    others = [(str(key), child.compile()) for key, child in branch.below.items() if key not in taken]

    def build_one(cells: Cells, _: list[Fault]) -> dict[str, Any] | None:
        return {only_key: text} if (text := cells[only_index]) else None

    def build_parts(cells: Cells, faults: list[Fault]) -> dict[str, Any] | None:
        parts = {key: text for key, index in texts if (text := cells[index])}
        for key, build in others:
            if (value := build(cells, faults)) is not None:
                parts[key] = value
        return parts or None

    build_all: Build = build_parts
    if len(texts) == 1 and not others:  # as most members of members are: a fifth of the reading time
        ((only_key, only_index),) = texts
        build_all = build_one
    return build_all if branch.index is None else _compile_whole(branch, build_all)


def _compile_list(branch: Branch) -> Build:
    items = [
        (branch.below[step].compile() if step in branch.below else None)
        for step in range(max(int(step) for step in branch.below) + 1)
    ]

    def build_parts(cells: Cells, faults: list[Fault]) -> list[Any] | None:
        values = [build(cells, faults) if build else None for build in items]
        while values and values[-1] is None:
            values.pop()
        return values or None

    return build_parts if branch.index is None else _compile_whole(branch, build_parts)


def _compile_whole(branch: Branch, build_parts: Build) -> Build:
    """Join what one cell holds as JSON and what other cells hold of the same member."""
    build_whole = _compile_cell(Branch(path=branch.path, shape=branch.shape, index=branch.index))

    def build(cells: Cells, faults: list[Fault]) -> Any:  # noqa: ANN401 - a member may be anything
        whole = build_whole(cells, faults)
        parts = build_parts(cells, faults)
        return _joined(whole, parts, branch.path, faults)

    return build


def _joined(whole: Any, part: Any, path: str, faults: list[Fault]) -> Any:  # noqa: ANN401 - members may be anything
    if whole is None or part is None:
        return part if whole is None else whole
    if isinstance(whole, dict) and isinstance(part, dict):
        return whole | {key: _joined(whole.get(key), part[key], f"{path}.{key}", faults) for key in part}
    if isinstance(whole, list) and isinstance(part, list):
        width = max(len(whole), len(part))
        pairs = zip(_padded(whole, width), _padded(part, width), strict=True)
        return [_joined(*pair, f"{path}.{index}", faults) for index, pair in enumerate(pairs)]
    if isinstance(part, dict | list):
        return whole  # JSON of the wrong type, which the check will say
    right = "empty this cell, or leave it out of the JSON"
    faults.append(Fault(path=path, wrong="is given twice in this row", right=right))
    return whole


def _padded(values: list[Any], width: int) -> list[Any]:
    return values + [None] * (width - len(values))
