"""Request members for rows that lack them, from the `[defaults]` of the settings.

A default text may hold placeholders, `{partition}` or `{name}`, for the row's variables and its own members, and
`{batch}`, `{date}` and `{time}` for those of the run, unless the row has a variable of that name; `{{` and `}}` are
braces. Only names are looked up: a placeholder is no expression, and nothing of a manifest is ever evaluated.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchsubmit.errors import UsageError
from batchsubmit.schema import Fault, JsonError, Part, RequestChecker
from batchsubmit.schema.checks import MISSING
from batchsubmit.schema.columns import Place, find_place, names_columns
from batchsubmit.schema.model import MapOf
from batchsubmit.schema.spreadsheets import NO_VALUES, no_value

HEADER_AGAIN = Fault(path="", wrong="is the header again", right="remove this line")
"""What is wrong with a record that repeats the header, as when files with headers were joined."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([\w.:/-]+)\}|[{}]")

OF_THE_RUN = frozenset({"batch", "date", "time"})


def parse_template(text: str) -> list[str]:
    """Cut a text at its placeholders: literal texts and, at odd places, names. Raises `ValueError` on a lone brace."""
    pieces, end = [""], 0
    for token in _TOKEN.finditer(text):
        pieces[-1] += text[end : token.start()]
        end = token.end()
        if token[1]:
            pieces += [token[1], ""]
        elif token[0] in ("{{", "}}"):
            pieces[-1] += token[0][0]
        else:
            raise ValueError(f"a {token[0]!r} stands alone at character {token.start() + 1}")
    pieces[-1] += text[end:]
    return pieces


@dataclass(frozen=True, slots=True)
class _Default:
    """One default: a constant, or a text with placeholders and what becomes of it.

    In a map a null is the row's own mistake, in a structure it is an absent member.
    """

    steps: tuple[str, ...]
    value: Any
    pieces: list[str]
    place: Place | None
    in_map: bool

    @property
    def path(self) -> str:
        return ".".join(self.steps)

    @property
    def names(self) -> list[str]:
        return self.pieces[1::2] if self.place else []

    def is_lacking(self, request: Mapping[str, Any]) -> bool:
        """Whether a row lacks it; one with a value of another type on the way to it does not, as the check will say."""
        node: Any = request
        for depth, step in enumerate(self.steps, 1):
            if not isinstance(node, Mapping):
                return False
            if node.get(step) is None:
                return not (self.in_map and depth == len(self.steps) and step in node)
            node = node[step]
        return False

    def filled(self, values: Mapping[str, str | None]) -> Any:  # noqa: ANN401 (JSON)
        """Give its value in a row where its placeholders have these. Raises `JsonError`."""
        if self.place is None:
            return copy.deepcopy(self.value)
        texts = [values[piece] or "" if place % 2 else piece for place, piece in enumerate(self.pieces)]
        return self.place.read("".join(texts))

    def add_to(self, request: dict[str, Any], value: object) -> None:
        for step in self.steps[:-1]:
            if request.get(step) is None:
                request[step] = {}
            request = request[step]
        request[self.steps[-1]] = value


class Defaults:
    """Fills rows; `run` has the values of `{batch}`, `{date}` and `{time}`. Raises `UsageError` for a wrong default."""

    def __init__(
        self, members: Mapping[str, Any], checker: RequestChecker, run: Mapping[str, str] | None = None
    ) -> None:
        self._run = run or {}
        self._all = list(_flat(members, ()))
        _refuse_faults(members, self._all, checker)

    def __bool__(self) -> bool:
        return bool(self._all)

    def covers(self, path: str) -> bool:
        """Whether a row without this member gets one, whole or in part."""
        return any(f"{path}.".startswith(f"{each.path}.") for each in self._all)

    def of_run(self, run: Mapping[str, str]) -> "Defaults":
        """Give the same defaults with the values of another run."""
        others = copy.copy(self)
        others._run = run  # noqa: SLF001 (a copy of this)
        return others

    def place_holders(self) -> Iterator[tuple[str, str]]:
        """Every (path of the default, name of the placeholder)."""
        return ((each.path, name) for each in self._all for name in each.names)

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
        lacking = [each for each in self._all if each.is_lacking(request)]
        # Looked up in the row as it came, and added afterwards: what a default says never depends on another default.
        values = {name: self._look_up(name, request, variables) for each in lacking for name in each.names}
        faults: list[Fault] = []
        for each in lacking:
            unfilled = list(_unfilled(each, values))
            try:
                if not unfilled:
                    each.add_to(request, each.filled(values))
            except JsonError as exc:
                unfilled = [Fault(path=each.path, wrong=f"its default {exc.wrong}", right=exc.right)]
            faults += unfilled
        return faults

    def _look_up(self, name: str, request: Mapping[str, Any], variables: Mapping[str, str]) -> str | None:
        if variable := variables.get(name.removeprefix("var.")):
            return variable
        if name in self._run:
            return self._run[name]
        place = find_place(name)
        node: Any = request if place else None
        for step in place.steps if place else ():
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return None
        return str(node) if isinstance(node, str | int) and not isinstance(node, bool) else None


def _flat(members: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[_Default]:
    parent = find_place(".".join(above))
    in_map = parent is not None and isinstance(parent.shape, MapOf)
    for name, value in members.items():
        steps = (*above, name)
        if isinstance(value, Mapping):
            yield from _flat(value, steps)
            continue
        path = ".".join(steps)
        try:
            pieces = parse_template(value) if isinstance(value, str) else [value]
        except ValueError as exc:
            raise UsageError(f"defaults.{path}: {exc}; write {{name}} for a column, {{{{ or }}}} for a brace") from exc
        is_constant = len(pieces) == 1
        place = None if is_constant else find_place(path)
        yield _Default(steps, pieces[0] if is_constant else value, pieces, place, in_map)


def _refuse_faults(members: Mapping[str, Any], defaults: Iterable[_Default], checker: RequestChecker) -> None:
    request: dict[str, Any] = {name: {} for name, value in members.items() if value == {}}
    for each in defaults:
        each.add_to(request, each.value)
    rendered = {each.path for each in defaults if each.place}  # what becomes of these is judged with the row
    if faults := [fault for fault in checker.check_part(request) if fault.path not in rendered]:
        raise UsageError("; ".join(f"defaults.{fault}" for fault in faults))


def _unfilled(default: _Default, values: Mapping[str, str | None]) -> Iterator[Fault]:
    """Find what a default needs and the row has not, and words for "nothing" where jobs are told apart by it."""
    path = default.path
    tells_jobs_apart = path in {"name", "membershipIdentifier"} or path.endswith("Arn")
    for name in dict.fromkeys(default.names):
        if tells_jobs_apart and values[name] in NO_VALUES:
            yield no_value(_column(name), values[name], path)
        elif not values[name] and name == "batch":
            wrong, right = "its default needs {batch}, and there is none", "name it with --batch-id"
            yield Fault(path=path, wrong=wrong, right=right)
        elif not values[name]:
            wrong = f"its default needs {{{name}}}, which is empty or unknown in this row"
            yield Fault(path=path, wrong=wrong, right=f"give the row {_column(name)}, or {path} itself")


def _column(name: str) -> str:
    return name if find_place(name) else f"var.{name.removeprefix('var.')}"


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


def complete(
    request: dict[str, Any],
    variables: Mapping[str, str],
    defaults: Defaults,
    checker: RequestChecker,
    part: Part | None = None,
) -> tuple[list[Fault], bytes, Part | None]:
    """Fill a row in and check it; gives what is wrong, its canonical spelling where nothing is, and its part.

    `part` is as for `spelled`. A member that its default could not give is not reported as missing again.
    """
    if request.get("name", "name") == "name" and (request or variables) and _is_header(request, variables):
        return [HEADER_AGAIN], b"", None
    faults = defaults.fill(request, variables)
    name = request.get("name")
    if isinstance(name, str) and name in NO_VALUES:
        faults.append(no_value("name", name))
    part = part or checker.part_of(request)
    spelled = checker.spelled(request, part)
    if spelled is None:
        unfilled = {fault.path for fault in faults}
        faults += [each for each in checker.explain(request) if each.wrong is not MISSING or each.path not in unfilled]
    return faults, spelled or b"", part
