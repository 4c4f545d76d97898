"""A row's cells made into a nested request, by a function that is written and compiled for the header.

Most rows are texts in fixed places, and the function does little else than take them: it is three times as fast as
functions that call each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from batchsubmit.schema import Fault, JsonError, read_json
from batchsubmit.schema.model import Integer, ListOf, Shape, Text
from batchsubmit.schema.places import Place, find_place, read_integer

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
        return _Code().compile(self)


class _Code:
    """A function in the making. Of the header it holds nothing but keys and paths, as literals."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, Any] = {"joined": _joined, "trimmed": _trimmed}

    def compile(self, branch: Branch) -> Build:
        value = self._value(branch)
        body = "".join(f"    {line}\n" for line in [*self._lines, f"return {value}"])
        exec(f"def build(cells, faults):\n{body}", self._names)  # noqa: S102 (the code is our own; see above)
        build: Build = self._names["build"]
        return build

    def _value(self, branch: Branch) -> str:
        """Write what a member's value needs; gives the expression of it."""
        if not branch.below:
            return self._cell(branch)
        write = self._list if isinstance(branch.shape, ListOf) else self._object
        if branch.index is None:
            return write(branch)
        whole = self._keep(self._cell(branch))
        return f"joined({whole}, {write(branch)}, {branch.path!r}, faults)"

    def _cell(self, branch: Branch) -> str:
        if branch.index is None:  # a member without cells
            return "None"
        text = f"cells[{branch.index}]"
        if isinstance(branch.shape, Text):
            return f"({text} or None)"
        read = f"read{len(self._names)}"
        if isinstance(branch.shape, Integer):
            self._names[read] = read_integer
            return f"({read}({text}) if {text} else None)"
        self._names[read] = partial(_read_json, branch.path)
        return f"({read}({text}, faults) if {text} else None)"

    def _object(self, branch: Branch) -> str:
        members = self._keep("{}")
        for key, child in branch.below.items():
            value = self._value(child)
            self._lines.append(f"if (value := {value}) is not None: {members}[{str(key)!r}] = value")
        return f"({members} or None)"

    def _list(self, branch: Branch) -> str:
        steps = range(max(int(step) for step in branch.below) + 1)
        items = [self._value(branch.below[step]) if step in branch.below else "None" for step in steps]
        return f"trimmed([{', '.join(items)}])"

    def _keep(self, value: str) -> str:
        """Write a value into a variable; gives its name."""
        name = f"value{len(self._lines)}"
        self._lines.append(f"{name} = {value}")
        return name


def _read_json(path: str, text: str, faults: list[Fault]) -> Any:  # noqa: ANN401 - that is what JSON is
    try:
        return read_json(text)
    except JsonError as exc:
        faults.append(Fault(path=path, wrong=f"{exc.wrong} (character {exc.column})", right=exc.right))
        return None


def _trimmed(values: list[Any]) -> list[Any] | None:
    while values and values[-1] is None:
        values.pop()
    return values or None


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
