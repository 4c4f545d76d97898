"""The manifest's columns, one for each leaf of the request, and the JSON Schema of one line of a JSONL manifest."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain
from typing import Any

import msgspec

from batchsubmit.schema import model
from batchsubmit.schema.faults import ranged
from batchsubmit.schema.json_text import read_json
from batchsubmit.text import nearest


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
    return tuple(leaves(model.request_shape(), ""))


def leaves(shape: model.Shape, path: str, *, required: bool = True, meaning: str = "") -> Iterator[Column]:
    """List the columns of a member at `path`."""
    match shape:
        case model.Structure():
            for name, member in shape.members.items():
                yield from leaves(
                    member,
                    f"{path}.{name}" if path else name,
                    required=required and name in shape.required,
                    meaning=shape.meanings[name] or meaning,
                )
        case model.ListOf():
            yield from leaves(shape.item, f"{path}.0", required=required and bool(shape.least), meaning=meaning)
        case model.MapOf():
            most = model.MOST_TAGS if path == model.TAGS else shape.most
            bounds = f"key {_bounds(shape.key)}; value {_bounds(shape.value)}; {ranged(None, most)} keys".rstrip("; ")
            yield Column(name=f"{path}.KEY", required=False, type=_type(shape.value), bounds=bounds, meaning=meaning)
        case _:
            yield Column(name=path, required=required, type=_type(shape), bounds=_bounds(shape), meaning=meaning)


def _type(shape: model.Shape) -> str:
    return {model.Text: "text", model.Integer: "integer"}.get(type(shape), "JSON")


def _bounds(shape: model.Shape) -> str:
    match shape:
        case model.Text(choices=(_, *_)):
            return f"one of {', '.join(sorted(shape.choices))}"
        case model.Text():
            length = ranged(shape.least, shape.most)
            parts = (length and f"{length} characters", shape.pattern and f"matching {shape.pattern}")
            return ", ".join(filter(None, parts))
        case model.Integer():
            return ranged(shape.least, shape.most)
    return "any JSON value" if isinstance(shape, model.Opaque) else ""


_INDEX = re.compile(r"0|[1-9][0-9]{0,3}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Place:
    """A member of the request: the keys and list indexes that lead to it, and its shape."""

    steps: tuple[str | int, ...]
    shape: model.Shape

    def read(self, text: str) -> Any:  # noqa: ANN401 - a member may be anything
        """Turn the text of a cell into the member's value: a whole structure is JSON. Raises `JsonError`."""
        match self.shape:
            case model.Text():
                return text
            case model.Integer():  # what looks like none stays text, so that the check can say what was meant
                return int(text) if _INTEGER.fullmatch(text) else text
        return read_json(text)


def find_place(name: str) -> Place | None:
    """Resolve a dotted name; None when the request has no such member."""
    shape: model.Shape = model.request_shape()
    steps: list[str | int] = []
    rest, dot = name, ""
    while rest:
        if isinstance(shape, model.MapOf):  # all that follows is the key, dots included
            return Place((*steps, rest), shape.value)
        step, dot, rest = rest.partition(".")
        if isinstance(shape, model.Structure) and step in shape.members:
            steps.append(step)
            shape = shape.members[step]
        elif isinstance(shape, model.ListOf) and _INDEX.fullmatch(step) and int(step) < (shape.most or 1000):
            steps.append(int(step))
            shape = shape.item
        else:
            return None
    return Place(tuple(steps), shape) if steps and not dot else None


def names_columns(texts: Iterable[str]) -> bool:
    """Whether these are a header: a record of data in which each text is the name of a column."""
    return all(text.startswith("var.") or find_place(text) for text in texts)


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
    """The columns, and the structures, lists and maps around them."""
    above = (accumulate(column.name.split("."), "{}.{}".format) for column in columns())
    return tuple(dict.fromkeys(chain.from_iterable(above)))


_VARIABLES = {
    "description": "Values for placeholders of the settings' defaults; no part of the request.",
    "type": "object",
    "additionalProperties": {"type": "string"},
}


def json_schema() -> dict[str, Any]:
    """Make the JSON Schema (draft 2020-12) of a line; patterns are ECMA-262 with the `u` flag."""
    schema = msgspec.json.schema(model.request_type())
    request = schema["$defs"]["Request"]
    request["properties"]["var"] = _VARIABLES
    request["patternProperties"] = {r"^var\.": {"type": "string"}}
    title = "One inference job of a batchsubmit manifest (JSONL)"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
