"""Request members for rows that lack them, from the `[defaults]` of the settings.

A default text may hold placeholders, `{partition}` or `{name}`, for the row's variables and its own members, and
`{batch}`, `{date}` and `{time}` for those of the run, unless the row has a variable of that name; `{{` and `}}` are
braces. Only names are looked up: a placeholder is no expression, and nothing of a manifest is ever evaluated.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from batchsubmit.errors import UsageError
from batchsubmit.schema import Fault, JsonError, RequestChecker
from batchsubmit.schema.checks import MISSING
from batchsubmit.schema.columns import Place, find_place, names_columns
from batchsubmit.schema.faults import NO_VALUES, no_value, printable
from batchsubmit.schema.model import MapOf

HEADER_AGAIN = Fault(path="", wrong="is the header again", right="remove this line")
"""What is wrong with a record that repeats the header, as when files with headers were joined."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([\w.:/-]+)\}|[{}]")

OF_THE_RUN = frozenset({"batch", "date", "time"})

Lookup = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders: literal pieces and, between them, the names."""

    pieces: tuple[str, ...]
    names: tuple[str, ...]

    def render(self, values: Iterable[str | None]) -> str:
        """Put a value in the place of each name."""
        pairs = zip(self.pieces, [*(value or "" for value in values), ""], strict=True)
        return "".join(piece for pair in pairs for piece in pair)


def parse_template(text: str) -> Template:
    """Compile a text with placeholders. Raises `ValueError` on a lone brace."""
    pieces = [""]
    names: list[str] = []
    end = 0
    for token in _TOKEN.finditer(text):
        pieces[-1] += text[end : token.start()]
        end = token.end()
        if token[1]:
            names.append(token[1])
            pieces.append("")
        elif token[0] in ("{{", "}}"):
            pieces[-1] += token[0][0]
        else:
            raise ValueError(f"a {token[0]!r} stands alone at character {token.start() + 1}")
    pieces[-1] += text[end:]
    return Template(tuple(pieces), tuple(names))


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One default: a constant, or a template and what its text becomes."""

    path: str
    value: Any
    template: Template | None
    place: Place | None

    @property
    def tells_jobs_apart(self) -> bool:
        """Whether it is a name or an ARN, which must not be made of a word for "nothing"."""
        return self.path in {"name", "membershipIdentifier"} or self.path.endswith("Arn")


@dataclass(frozen=True, slots=True)
class _Branch:
    """Defaults below one member. In a map a null is the row's own mistake, in a structure it is an absent member."""

    is_map: bool
    children: "dict[str, _Leaf | _Branch]"


class Defaults:
    """Fills rows. Raises `UsageError` where a default is none of the request's members or cannot be right.

    `run` has the values of `{batch}`, `{date}` and `{time}`.
    """

    def __init__(
        self, members: Mapping[str, Any], checker: RequestChecker, run: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._run = run
        self._root = _Branch(is_map=False, children=_compiled(members, ()))
        self._leaves = {leaf.path: leaf for leaf in _leaves(self._root)}
        _refuse_faults(self._root, self._leaves, checker)

    def covers(self, path: str) -> bool:
        """Whether a row without this member gets one, whole or in part."""
        return any(f"{path}.".startswith(f"{known}.") for known in self._leaves)

    def of_run(self, run: Mapping[str, str]) -> "Defaults":
        """Give the same defaults with the values of another run."""
        others = copy.copy(self)
        others._run = run  # noqa: SLF001 (a copy of this)
        return others

    def place_holders(self) -> Iterator[tuple[str, str]]:
        """Every (path of the default, name of the placeholder)."""
        for path, leaf in self._leaves.items():
            for name in leaf.template.names if leaf.template else ():
                yield path, name

    def refuse_moment(self) -> None:
        """Raise UsageError where a default depends on date or time: a message would be another job on another day."""
        for path, name in self.place_holders():
            if name in {"date", "time"}:
                raise UsageError(
                    f"defaults.{path}: a worker cannot fill in {{{name}}}: a message that came again another day "
                    f"would be another job, and be paid twice. Fill it in where the jobs are enqueued, by "
                    f"batchsubmit enqueue with other settings, or write {{batch}} or {{var.{name}}}"
                )

    def fill(self, request: dict[str, Any], variables: Mapping[str, str]) -> list[Fault]:
        """Add what the row lacks; gives a fault for each placeholder that the row cannot fill."""
        if not self._root.children:
            return []
        faults: list[Fault] = []
        # Looked up in the row as it came, and added afterwards: what a default says never depends on another default.
        additions = list(_additions(self._root, request, _lookup_in(request, variables, self._run), faults))
        for node, key, value in additions:
            node[key] = value
        return faults


def _compiled(members: Mapping[str, Any], above: tuple[str, ...]) -> "dict[str, _Leaf | _Branch]":
    compiled: dict[str, _Leaf | _Branch] = {}
    for name, value in members.items():
        path = ".".join((*above, name))
        if isinstance(value, Mapping):
            place = find_place(path)
            is_map = place is not None and isinstance(place.shape, MapOf)
            compiled[name] = _Branch(is_map=is_map, children=_compiled(value, (*above, name)))
        else:
            compiled[name] = _leaf(path, value)
    return compiled


def _leaf(path: str, value: object) -> _Leaf:
    if not isinstance(value, str):
        return _Leaf(path, value, None, None)
    try:
        template = parse_template(value)
    except ValueError as exc:
        raise UsageError(f"defaults.{path}: {exc}; write {{name}} for a column, {{{{ or }}}} for a brace") from exc
    if not template.names:
        return _Leaf(path, template.pieces[0], None, None)
    return _Leaf(path, value, template, find_place(path))


def _leaves(branch: _Branch) -> Iterator[_Leaf]:
    for child in branch.children.values():
        if isinstance(child, _Branch):
            yield from _leaves(child)
        else:
            yield child


def _refuse_faults(root: _Branch, leaves: Mapping[str, _Leaf], checker: RequestChecker) -> None:
    faults = [
        fault
        for fault in checker.check_part(_plain(root))
        # What a template becomes is judged with the row.
        if not ((leaf := leaves.get(fault.path)) and leaf.place)
    ]
    if faults:
        raise UsageError("; ".join(f"defaults.{fault}" for fault in faults))


def _plain(branch: _Branch) -> dict[str, Any]:
    return {
        name: _plain(child) if isinstance(child, _Branch) else child.value for name, child in branch.children.items()
    }


def _additions(
    branch: _Branch, node: dict[str, Any], lookup: Lookup, faults: list[Fault]
) -> Iterator[tuple[dict[str, Any], str, Any]]:
    for name, child in branch.children.items():
        present = name in node if branch.is_map else node.get(name) is not None
        if isinstance(child, _Branch):
            below = node[name] if present else {}
            if not isinstance(below, dict):
                continue  # of the wrong type, which the check will say
            additions = list(_additions(child, below, lookup, faults))
            yield from additions
            if additions and not present:
                yield node, name, below
        elif not present:
            value, found = _value(child, lookup)
            faults += found
            if not found:
                yield node, name, value


def _value(leaf: _Leaf, lookup: Lookup) -> tuple[Any, list[Fault]]:
    if leaf.template is None or leaf.place is None:
        return copy.deepcopy(leaf.value), []
    values = {name: lookup(name) for name in leaf.template.names}
    faults = [_unfilled(leaf.path, name) for name, value in values.items() if not value]
    if leaf.tells_jobs_apart and not NO_VALUES.isdisjoint(values.values()):
        faults += [no_value(_column(name), value, leaf.path) for name, value in values.items() if value in NO_VALUES]
    if faults:
        return None, faults
    try:
        return leaf.place.read(leaf.template.render(values[name] for name in leaf.template.names)), []
    except JsonError as exc:
        return None, [Fault(path=leaf.path, wrong=f"its default {exc.wrong}", right=exc.right)]


def _unfilled(path: str, name: str) -> Fault:
    if name == "batch":
        return Fault(path=path, wrong="its default needs {batch}, and there is none", right="name it with --batch-id")
    return Fault(
        path=path,
        wrong=f"its default needs {{{name}}}, which is empty or unknown in this row",
        right=f"give the row {_column(name)}, or {path} itself",
    )


def _column(name: str) -> str:
    return name if find_place(name) else f"var.{name.removeprefix('var.')}"


def _lookup_in(request: Mapping[str, Any], variables: Mapping[str, str], run: Mapping[str, str]) -> Lookup:
    def lookup(name: str) -> str | None:
        variable = variables.get(name.removeprefix("var."))
        if variable:
            return variable
        if name in run:
            return run[name]
        place = find_place(name)
        node: Any = request if place else None
        for step in place.steps if place else ():
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return None
        return str(node) if isinstance(node, str | int) and not isinstance(node, bool) else None

    return lookup


_UNTRIMMED = Fault(
    path="name",
    wrong="has white space at its ends",
    right="remove it where it is not meant: with it, the job is another one",
)


def _is_header(request: Mapping[str, Any], variables: Mapping[str, str]) -> bool:
    """Whether a record is a header: each of its texts is a column's name, or that of the member it stands for."""
    return names_columns(
        text for name, text in _texts({**request, **variables}, "") if text not in {name, f"var.{name}"}
    )


def _texts(value: object, name: str) -> Iterator[tuple[str, str]]:
    """Every text of a record, with the name of the member that it stands for."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)
    elif value is not None:
        yield name, str(value)


def odd_values(request: Mapping[str, Any], variables: Mapping[str, str]) -> Sequence[Fault]:
    """Find what may not be meant in a good row: words for "nothing", white space at the ends of its name."""
    name, description = request["name"], request.get("description")
    found = [] if name == name.strip() else [_UNTRIMMED]
    if description in NO_VALUES:
        found.append(no_value("description", description))
    for above in ("environment", "tags", "var"):
        values = request.get(above) if above != "var" else variables
        if values and not NO_VALUES.isdisjoint(values.values()):
            odd = ((key, value) for key, value in values.items() if value in NO_VALUES)
            found += (no_value(printable(f"{above}.{key}"), value) for key, value in odd)
    return found


def complete(
    request: dict[str, Any], variables: Mapping[str, str], defaults: Defaults, checker: RequestChecker
) -> tuple[list[Fault], bytes]:
    """Fill a row in and check it; gives what is wrong, or its canonical spelling.

    A member that its default could not give is not reported as missing again.
    """
    if request.get("name", "name") == "name" and (request or variables) and _is_header(request, variables):
        return [HEADER_AGAIN], b""
    faults = defaults.fill(request, variables)
    name = request.get("name")
    if isinstance(name, str) and name in NO_VALUES:
        faults.append(no_value("name", name))
    spelled = checker.spelled(request)
    if spelled is None:
        unfilled = {fault.path for fault in faults}
        faults += [each for each in checker.explain(request) if each.wrong is not MISSING or each.path not in unfilled]
    return faults, spelled or b""
