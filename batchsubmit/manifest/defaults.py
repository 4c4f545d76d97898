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
from batchsubmit.schema.model import MapOf
from batchsubmit.schema.wording import NO_VALUES, no_value, printable, shown

HEADER_AGAIN = Fault(path="", wrong="is the header again", right="remove this line")
"""What is wrong with a record that repeats the header, as when files with headers were joined."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([\w.:/-]+)\}|[{}]")

OF_THE_RUN = frozenset({"batch", "date", "time"})

Lookup = Callable[[str], str | None]


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

    @property
    def tells_jobs_apart(self) -> bool:
        """Whether it is a name or an ARN, which must not be made of a word for "nothing"."""
        return self.path in {"name", "membershipIdentifier"} or self.path.endswith("Arn")

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

    def add_to(self, request: dict[str, Any], value: object) -> None:
        for step in self.steps[:-1]:
            if request.get(step) is None:
                request[step] = {}
            request = request[step]
        request[self.steps[-1]] = value


class Defaults:
    """Fills rows. Raises `UsageError` where a default is none of the request's members or cannot be right.

    `run` has the values of `{batch}`, `{date}` and `{time}`.
    """

    def __init__(
        self, members: Mapping[str, Any], checker: RequestChecker, run: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._run = run
        self._all = list(_flat(members, ()))
        _refuse_faults(members, self._all, checker)

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
        if not self._all:
            return []
        faults: list[Fault] = []
        # Looked up in the row as it came, and added afterwards: what a default says never depends on another default.
        lookup = _lookup_in(request, variables, self._run)
        lacking = [each for each in self._all if each.is_lacking(request)]
        values = [(each, *_value(each, lookup)) for each in lacking]
        for each, value, found in values:
            faults += found
            if not found:
                each.add_to(request, value)
        return faults


def _flat(members: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[_Default]:
    for name, value in members.items():
        steps = (*above, name)
        if isinstance(value, Mapping):
            yield from _flat(value, steps)
        else:
            yield _default(steps, value)


def _default(steps: tuple[str, ...], value: object) -> _Default:
    path, place, pieces = ".".join(steps), None, list[str]()
    parent = find_place(".".join(steps[:-1]))
    in_map = parent is not None and isinstance(parent.shape, MapOf)
    if isinstance(value, str):
        try:
            pieces = parse_template(value)
        except ValueError as exc:
            raise UsageError(f"defaults.{path}: {exc}; write {{name}} for a column, {{{{ or }}}} for a brace") from exc
        if len(pieces) == 1:
            value = pieces[0]
        else:
            place = find_place(path)
    return _Default(steps, value, pieces, place, in_map)


def _refuse_faults(members: Mapping[str, Any], defaults: Iterable[_Default], checker: RequestChecker) -> None:
    request: dict[str, Any] = {name: {} for name, value in members.items() if value == {}}
    for each in defaults:
        each.add_to(request, each.value)
    rendered = {each.path for each in defaults if each.place}  # what becomes of these is judged with the row
    if faults := [fault for fault in checker.check_part(request) if fault.path not in rendered]:
        raise UsageError("; ".join(f"defaults.{fault}" for fault in faults))


def _value(default: _Default, lookup: Lookup) -> tuple[Any, list[Fault]]:
    path, names = default.path, default.names
    if default.place is None:
        return copy.deepcopy(default.value), []
    values = {name: lookup(name) for name in names}
    faults = [_unfilled(path, name) for name, value in values.items() if not value]
    if default.tells_jobs_apart and not NO_VALUES.isdisjoint(values.values()):
        faults += [no_value(_column(name), value, path) for name, value in values.items() if value in NO_VALUES]
    if faults:
        return None, faults
    texts = [values[piece] or "" if place % 2 else piece for place, piece in enumerate(default.pieces)]
    try:
        return default.place.read("".join(texts)), []
    except JsonError as exc:
        return None, [Fault(path=path, wrong=f"its default {exc.wrong}", right=exc.right)]


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


_AS_TEXT = "if it is not meant, write the name again, and format the column as text in the spreadsheet"
_MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?)"
)
_MONTHS = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_DATE = re.compile(
    r"\d{1,4}([-./])\d{1,2}\1\d{1,4}(?: \d{1,2}:\d\d(?::\d\d)?)?"
    rf"|\d{{1,2}}[- .]{{1,2}}{_MONTH}(?:[- ]\d{{2,4}})?|{_MONTH}[- ]\d{{1,4}}",
    re.IGNORECASE | re.ASCII,
)
_SHORTENED = re.compile(r"\d[.,]\d+[eE]\+\d+", re.ASCII)


def _made_by_a_spreadsheet(name: str) -> str:
    """Say what a spreadsheet seems to have made of a name; empty where it is like a name."""
    if _DATE.fullmatch(name):
        return "is a date: a spreadsheet makes one of what looks like it (1-2, may 3)"
    if _SHORTENED.fullmatch(name):
        return "is a number as a spreadsheet shortens it, and the digits are lost"
    return "is what a spreadsheet shows in a column that is too narrow" if name.strip("#") == "" else ""


def odd_values(request: Mapping[str, Any], variables: Mapping[str, str]) -> Sequence[Fault]:
    """Find what may not be meant in a good row: words for "nothing", a name with white space or from a spreadsheet."""
    name, description = request["name"], request.get("description")
    found = [] if name == name.strip() else [_UNTRIMMED]
    if (name[0] in "0123456789#" or name[:3].lower() in _MONTHS) and (what := _made_by_a_spreadsheet(name)):
        found.append(Fault(path="name", wrong=f"{shown(name)} {what}", right=_AS_TEXT))
    if description in NO_VALUES:
        found.append(no_value("description", description))
    for above in ("environment", "tags", "var") if variables else ("environment", "tags"):
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
