"""Where in a request a dotted name points: `resourceConfig.instanceType`, `tags.KEY`, `dataSource`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from batchsubmit.schema.checks import required_leaves
from batchsubmit.schema.faults import nearest
from batchsubmit.schema.json_text import read_json
from batchsubmit.schema.model import Integer, ListOf, MapOf, Shape, Structure, Text, request_shape

_INDEX = re.compile(r"0|[1-9][0-9]{0,3}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Place:
    """A member of the request: the keys and list indexes that lead to it, and its shape."""

    steps: tuple[str | int, ...]
    shape: Shape

    def read(self, text: str) -> Any:  # noqa: ANN401 - a member may be anything
        """Turn the text of a cell into the member's value: a whole structure is JSON. Raises `JsonError`."""
        match self.shape:
            case Text():
                return text
            case Integer():
                return read_integer(text)
        return read_json(text)


def read_integer(text: str) -> int | str:
    """Read a whole number; what looks like none stays text, so that the check can say what was meant."""
    return int(text) if _INTEGER.fullmatch(text) else text


def find_place(name: str) -> Place | None:
    """Resolve a dotted name; None when the request has no such member."""
    shape: Shape = request_shape()
    steps: list[str | int] = []
    rest, dot = name, ""
    while rest:
        if isinstance(shape, MapOf):  # all that follows is the key, dots included
            return Place((*steps, rest), shape.value)
        step, dot, rest = rest.partition(".")
        if isinstance(shape, Structure) and step in shape.members:
            steps.append(step)
            shape = shape.members[step]
        elif isinstance(shape, ListOf) and _INDEX.fullmatch(step) and int(step) < (shape.most or 1000):
            steps.append(int(step))
            shape = shape.item
        else:
            return None
    return Place(tuple(steps), shape) if steps and not dot else None


@cache
def required_paths() -> tuple[str, ...]:
    """List the leaves that every request has."""
    shape = request_shape()
    return tuple(
        leaf
        for name, member in shape.members.items()
        if name in shape.required
        for leaf in required_leaves(member, name)
    )


def nearest_name(name: str) -> str | None:
    """Guess which dotted name was meant: a misspelling, another case, or the last part alone."""
    names = _names()
    last_parts = {known.rpartition(".")[2].casefold(): known for known in names}
    folded = name.strip().casefold()
    if (known := last_parts.get(folded.rpartition(".")[2])) and known.casefold() != folded:
        return known
    return nearest(name, names)


@cache
def _names() -> tuple[str, ...]:
    return tuple(_walk(request_shape(), ""))


def _walk(shape: Shape, path: str) -> Iterator[str]:
    if path:
        yield path
    match shape:
        case Structure():
            for name, member in shape.members.items():
                yield from _walk(member, f"{path}.{name}" if path else name)
        case ListOf():
            yield from _walk(shape.item, f"{path}.0")
        case MapOf():
            yield f"{path}.KEY"
