"""A CSV manifest's header: what each column is, and how a row's cells become a request."""

from collections.abc import Iterator, Sequence
from typing import Any

from batchsubmit.manifest.defaults import OF_THE_RUN, Defaults
from batchsubmit.schema import Fault
from batchsubmit.schema.faults import printable
from batchsubmit.schema.model import request_shape
from batchsubmit.schema.places import find_place, nearest_name, required_paths
from batchsubmit.sources.csvtree import Branch

_VARIABLE_PREFIX = "var."


class Header:
    """The columns of one manifest. `faults` are the header's own, each with its column's number."""

    def __init__(self, names: Sequence[str], defaults: Defaults) -> None:
        self.width = len(names)
        self.faults: list[tuple[int, Fault]] = []
        self._numbers: dict[str, int] = {}
        self._names = [printable(name) for name in names]
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
        self._build = tree.compile()
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

    def variables(self, cells: Sequence[str]) -> dict[str, str]:
        """The row's variables; an empty cell is none."""
        return {name: cells[index] for index, name in self._variables if cells[index]} if self._variables else {}

    def request(self, cells: Sequence[str]) -> tuple[dict[str, Any], list[Fault]]:
        """Build the request from a row as wide as the header."""
        faults: list[Fault] = []
        return self._build(cells, faults) or {}, faults

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
