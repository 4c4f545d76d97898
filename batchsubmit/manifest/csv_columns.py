"""A CSV manifest's header: what each column is, and how a row's cells become a request."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from batchsubmit.manifest.defaults import OF_THE_RUN, Defaults
from batchsubmit.schema import Fault, JsonError, read_json
from batchsubmit.schema.columns import Place, find_place, nearest_name, read_integer, required_paths
from batchsubmit.schema.faults import printable
from batchsubmit.schema.model import Integer, ListOf, Shape, Text, request_shape

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


_VARIABLE_PREFIX = "var."


class Header:
    """The columns of one manifest. `faults` are the header's own, each with its column's number."""

    def __init__(self, names: Sequence[str], defaults: Defaults) -> None:
        self.width = len(names)
        self.faults: list[tuple[int, Fault]] = []
        self._numbers: dict[str, int] = {}
        self._names = [printable(name) for name in names]
        self.names = frozenset(names)
        self._variables: list[tuple[int, str]] = []
        tree = Branch(path="", shape=request_shape())
        for index, raw_name in enumerate(names):
            name = _clean(raw_name)
            if name in self._numbers:
                self._fault(index, "is a column twice", f"remove one; the first is number {self._numbers[name]}")
                continue
            if place := find_place(name):
                tree.add(place, index, name)
            elif name.startswith(_VARIABLE_PREFIX) and name != _VARIABLE_PREFIX:
                self._variables.append((index, name.removeprefix(_VARIABLE_PREFIX)))
            else:
                self._fault(index, *_unknown(name))
                continue
            self._numbers[name] = index + 1
        self.build = tree.compile()
        """Builds the request from a row as wide as the header; None when all its cells are empty."""
        self.has_variables = bool(self._variables)
        self.holds_json = tree.holds_json()
        self.missing = frozenset(path for path in required_paths() if not self._covers(path, defaults))
        self.faults += ((1, fault) for fault in self._lacking(defaults))

    @property
    def known_columns(self) -> int:
        """How many of the columns are known."""
        return len(self._numbers)

    def number_of(self, path: str) -> int:
        """The number of the column that a fault's path belongs to; 1 when it has none."""
        above = path
        while above:
            if above in self._numbers:
                return self._numbers[above]
            above = above.rpartition(".")[0]
        return next((number for name, number in self._numbers.items() if name.startswith(f"{path}.")), 1)

    def name_of(self, number: int) -> str:
        """The name of a column by its number, fit for a message."""
        return self._names[number - 1] if number <= self.width else ""

    def fitted(self, cells: list[str]) -> list[str]:
        """The cells, without those beyond the last column where nothing is in them."""
        if len(cells) <= self.width or any(map(str.strip, cells[self.width :])):
            return cells
        return cells[: self.width]

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
                yield Fault(
                    path=path,
                    wrong="the header has no such column",
                    right="is required, here or by a default",
                )
        variables = {name for _, name in self._variables}
        for path, name in defaults.place_holders():
            # Where the rows may give the member themselves, only those that do not need the place-holder.
            known = name in OF_THE_RUN or name.removeprefix("var.") in variables or find_place(name)
            if path not in self._numbers and not known:
                wrong = f"its default needs {{{name}}}, and the header has no column var.{name.removeprefix('var.')}"
                yield Fault(path=path, wrong=wrong, right=f"add that column, or {path} itself")

    def _fault(self, index: int, wrong: str, right: str) -> None:
        self.faults.append((index + 1, Fault(path=self._names[index], wrong=wrong, right=right)))


def _clean(name: str) -> str:
    # White space around a name is a slip; within the key of a tag it may be meant, and is kept.
    name = name.lstrip()
    return name if find_place(name) else name.rstrip()


def _unknown(name: str) -> tuple[str, str]:
    if not name:
        return "the column has no name", "name it, or remove it"
    near = nearest_name(name)
    right = f"did you mean {near!r}?" if near else f"name it var.{printable(name)} if it is a variable, or remove it"
    return "is not a column", right
