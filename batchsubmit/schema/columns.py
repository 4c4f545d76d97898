"""The manifest's columns: one for each leaf of the request."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from batchsubmit.schema.checker import MOST_TAGS
from batchsubmit.schema.checks import ranged_integer
from batchsubmit.schema.faults import ranged
from batchsubmit.schema.model import Integer, ListOf, MapOf, Opaque, Shape, Structure, Text, request_shape
from batchsubmit.schema.types import TAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; `KEY` in a name stands for any key, `bounds` says what cells may hold."""

    name: str
    required: bool
    type: str
    bounds: str
    meaning: str


@cache
def columns() -> tuple[Column, ...]:
    """List the columns of a manifest, in the model's order."""
    return tuple(_leaves(request_shape(), "", required=True, meaning=""))


def _leaves(shape: Shape, path: str, *, required: bool, meaning: str) -> Iterator[Column]:
    match shape:
        case Structure():
            for name, member in shape.members.items():
                yield from _leaves(
                    member,
                    f"{path}.{name}" if path else name,
                    required=required and name in shape.required,
                    meaning=shape.meanings[name] or meaning,
                )
        case ListOf():
            yield from _leaves(shape.item, f"{path}.0", required=required and bool(shape.least), meaning=meaning)
        case MapOf():
            most = MOST_TAGS if path == TAGS else shape.most
            bounds = f"key {_bounds(shape.key)}; value {_bounds(shape.value)}; {ranged(None, most)} keys".rstrip("; ")
            yield Column(name=f"{path}.KEY", required=False, type=_type(shape.value), bounds=bounds, meaning=meaning)
        case _:
            yield Column(name=path, required=required, type=_type(shape), bounds=_bounds(shape), meaning=meaning)


def _type(shape: Shape) -> str:
    match shape:
        case Text():
            return "text"
        case Integer():
            return "integer"
    return "JSON"


def _bounds(shape: Shape) -> str:
    match shape:
        case Text(choices=(_, *_)):
            return f"one of {', '.join(sorted(shape.choices))}"
        case Text():
            length = ranged(shape.least, shape.most)
            return ", ".join(
                part
                for part in (length and f"{length} characters", shape.pattern and f"matching {shape.pattern}")
                if part
            )
        case Integer():
            return ranged_integer(shape)
        case Opaque():
            return "any JSON value"
    return ""
