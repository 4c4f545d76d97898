"""The manifest's columns, one for each leaf of the request, and the JSON Schema of one line of a JSONL manifest."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, chain
from typing import Any, assert_never

from batchsubmit.schema.checks import AWS_PREFIX, MOST_TAGS, OWN_PREFIX, ranged_integer, required_leaves
from batchsubmit.schema.json_text import read_json
from batchsubmit.schema.model import TAGS, Integer, ListOf, MapOf, Opaque, Shape, Structure, Text, request_shape
from batchsubmit.schema.patterns import UntranslatablePatternError, portable
from batchsubmit.schema.wording import ranged
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


@lru_cache(maxsize=1024)
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


def names_columns(texts: Iterable[str]) -> bool:
    """Whether these are a header: a record of data in which each text is the name of a column."""
    return all(text.startswith("var.") or find_place(text) for text in texts)


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
    shape = request_shape()
    schema = _schema(shape)
    if isinstance(tags := shape.members.get(TAGS), MapOf):
        schema["properties"][TAGS] |= _tag_rules(tags)
    schema["properties"]["var"] = _VARIABLES
    schema["patternProperties"] = {r"^var\.": {"type": "string"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One inference job of a batchsubmit manifest (JSONL)",
        **schema,
    }


def _tag_rules(tags: MapOf) -> dict[str, Any]:
    aws = "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in AWS_PREFIX)
    return {
        "maxProperties": MOST_TAGS,
        "propertyNames": {**_schema(tags.key), "not": {"pattern": f"^(?:{aws}|{OWN_PREFIX})"}},
    }


def _schema(shape: Shape) -> dict[str, Any]:
    match shape:
        case Text():
            return _text_schema(shape)
        case Integer():
            return {"type": "integer", **_schema_bounds(shape, "minimum", "maximum")}
        case Structure():
            return {
                "type": "object",
                "properties": {
                    name: _with_meaning(_schema(member), shape.meanings, name) for name, member in shape.members.items()
                },
                "required": [name for name in shape.members if name in shape.required],
                "additionalProperties": False,
            }
        case ListOf():
            return {"type": "array", "items": _schema(shape.item), **_schema_bounds(shape, "minItems", "maxItems")}
        case MapOf():
            return {
                "type": "object",
                "propertyNames": _schema(shape.key),
                "additionalProperties": _schema(shape.value),
                **_schema_bounds(shape, "minProperties", "maxProperties"),
            }
        case Opaque():
            return {}
    assert_never(shape)


def _text_schema(shape: Text) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", **_schema_bounds(shape, "minLength", "maxLength")}
    if shape.choices:
        schema["enum"] = sorted(shape.choices)
    if shape.pattern is not None:
        with suppress(UntranslatablePatternError):  # left to the service, as the checks leave it
            schema["pattern"] = f"^(?:{portable(shape.pattern)})$"
    return schema


def _schema_bounds(shape: Text | Integer | ListOf | MapOf, least: str, most: str) -> dict[str, int]:
    bounds = {least: shape.least, most: shape.most}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _with_meaning(schema: dict[str, Any], meanings: Mapping[str, str], name: str) -> dict[str, Any]:
    return {"description": meanings[name], **schema} if meanings[name] else schema
