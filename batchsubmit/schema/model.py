"""The shape of one request, read from the service model that botocore ships.

Everything a row may hold comes from here: members, types, patterns, enums and bounds. Of AWS it knows botocore's
model files and nothing else, for `botocore.session` alone would take longer to import than all of this takes to run.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.loaders import Loader

OPERATION = "StartTrainedModelInferenceJob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string; lengths in Unicode code points; `pattern` in Java's spelling."""

    pattern: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """A whole number between two bounds, both included."""

    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """A type that this version has no rules for: any JSON value is left to the service to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Named members; `meanings` holds the first paragraph of each member's documentation."""

    members: "Mapping[str, Shape]"
    meanings: Mapping[str, str]
    required: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list of `item`, `least` to `most` of them."""

    item: "Shape"
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """A map from `key` to `value`, with `least` to `most` entries."""

    key: Text
    value: "Shape"
    least: int | None = None
    most: int | None = None


Shape = Text | Integer | Opaque | Structure | ListOf | MapOf


@cache
def request_shape() -> Structure:
    """Read the input of `StartTrainedModelInferenceJob`."""
    model = Loader().load_service_model("cleanroomsml", "service-2")
    shape = _read(model["shapes"], model["operations"][OPERATION]["input"]["shape"])
    if not isinstance(shape, Structure):  # pragma: no cover - would be another service
        raise TypeError(f"the input of {OPERATION} is not a structure")
    return shape


def _read(shapes: Mapping[str, Any], name: str) -> Shape:
    raw = shapes[name]
    bounds = {"least": raw.get("min"), "most": raw.get("max")}
    match raw["type"]:
        case "string":
            return Text(pattern=raw.get("pattern"), choices=tuple(raw.get("enum", ())), **bounds)
        case "integer" | "long":
            return Integer(**bounds)
        case "structure":
            return Structure(
                members={key: _read(shapes, member["shape"]) for key, member in raw["members"].items()},
                meanings={key: _meaning(member) for key, member in raw["members"].items()},
                required=frozenset(raw.get("required", ())),
            )
        case "list":
            return ListOf(item=_read(shapes, raw["member"]["shape"]), **bounds)
        case "map":
            key = _read(shapes, raw["key"]["shape"])
            if isinstance(key, Text):
                return MapOf(key=key, value=_read(shapes, raw["value"]["shape"]), **bounds)
    return Opaque()


def _meaning(member: Mapping[str, Any]) -> str:
    first_paragraph = member.get("documentation", "").partition("</p>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", first_paragraph)).split())
