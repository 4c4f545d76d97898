"""The JSON Schema of one line of a JSONL manifest, for editors and for programs that write manifests."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, assert_never

from batchsubmit.schema.checker import AWS_PREFIX, MOST_TAGS, OWN_PREFIX
from batchsubmit.schema.model import Integer, ListOf, MapOf, Opaque, Shape, Structure, Text, request_shape
from batchsubmit.schema.patterns import UntranslatablePatternError, portable
from batchsubmit.schema.types import TAGS

_VARIABLES = {
    "description": "Values for place-holders of the settings' defaults; no part of the request.",
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
            return _text(shape)
        case Integer():
            return {"type": "integer", **_bounds(shape, "minimum", "maximum")}
        case Structure():
            return {
                "type": "object",
                "properties": {
                    name: _described(_schema(member), shape.meanings, name) for name, member in shape.members.items()
                },
                "required": [name for name in shape.members if name in shape.required],
                "additionalProperties": False,
            }
        case ListOf():
            return {"type": "array", "items": _schema(shape.item), **_bounds(shape, "minItems", "maxItems")}
        case MapOf():
            return {
                "type": "object",
                "propertyNames": _schema(shape.key),
                "additionalProperties": _schema(shape.value),
                **_bounds(shape, "minProperties", "maxProperties"),
            }
        case Opaque():
            return {}
    assert_never(shape)


def _text(shape: Text) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", **_bounds(shape, "minLength", "maxLength")}
    if shape.choices:
        schema["enum"] = sorted(shape.choices)
    if shape.pattern is not None:
        with suppress(UntranslatablePatternError):  # left to the service, as the checks leave it
            schema["pattern"] = f"^(?:{portable(shape.pattern)})$"
    return schema


def _bounds(shape: Text | Integer | ListOf | MapOf, least: str, most: str) -> dict[str, int]:
    bounds = {least: shape.least, most: shape.most}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _described(schema: dict[str, Any], meanings: Mapping[str, str], name: str) -> dict[str, Any]:
    return {"description": meanings[name], **schema} if meanings[name] else schema
