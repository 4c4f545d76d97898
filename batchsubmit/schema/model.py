"""The shape of one request, read from the service model that botocore ships, and msgspec types made from it.

Everything a row may hold comes from here: members, types, patterns, enums and bounds. Of AWS it knows botocore's
model files and nothing else, for `botocore.session` alone would take longer to import than all of this takes to run.
The types are the quick test whether a request is good; `checks` explains what is wrong with one that is not. What one
of the two accepts the other accepts as well.
"""

import html
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, assert_never, cast

import msgspec
from botocore.loaders import Loader

from batchsubmit.schema.patterns import END, portable

TAGS = "tags"
# The rules of tags stand in the model only as prose, in the documentation of the `tags` member: "Maximum number of
# tags per resource - 50"; "Do not use aws:, AWS:, or any upper or lowercase combination of such as a prefix for
# keys"; "Tags with only the key prefix of aws do not count against your tags per resource limit". The model's own
# maximum, 200, leaves room for those.
MOST_TAGS = 50
AWS_PREFIX = "aws:"
OWN_PREFIX = "batchsubmit:"
_RESERVED_TAG_KEYS = f"[aA][wW][sS]:|{OWN_PREFIX}"
VARYING = frozenset({"name", "description", "environment"})
"""Members that mostly differ from row to row. The others of one row are those of many."""


class _Bounded(msgspec.Struct, frozen=True, kw_only=True):
    least: int | None = None
    most: int | None = None


class Text(_Bounded, frozen=True, kw_only=True):
    """A string; lengths in Unicode code points; `pattern` in Java's spelling."""

    pattern: str | None = None
    choices: tuple[str, ...] = ()


class Integer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole number between two bounds, both included."""

    least: int
    most: int


class Opaque(msgspec.Struct, frozen=True):
    """A type that this version has no rules for: any JSON value is left to the service to judge."""


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """Named members; `meanings` holds the first paragraph of each member's documentation."""

    members: "Mapping[str, Shape]"
    meanings: Mapping[str, str]
    required: frozenset[str]


class ListOf(_Bounded, frozen=True, kw_only=True):
    """A list of `item`, `least` to `most` of them."""

    item: "Shape"


class MapOf(_Bounded, frozen=True, kw_only=True):
    """A map from `key` to `value`, with `least` to `most` entries."""

    key: Text
    value: "Shape"


Shape = Text | Integer | Opaque | Structure | ListOf | MapOf


@cache
def request_shape() -> Structure:
    """Read the input of `StartTrainedModelInferenceJob`."""
    model = Loader().load_service_model("cleanroomsml", "service-2")
    name = model["operations"]["StartTrainedModelInferenceJob"]["input"]["shape"]
    return cast("Structure", _read(model["shapes"], name))


def _read(shapes: Mapping[str, Any], name: str) -> Shape:
    raw = shapes[name]
    bounds = {"least": raw.get("min"), "most": raw.get("max")}
    match raw["type"]:
        case "string":
            return Text(pattern=raw.get("pattern"), choices=tuple(raw.get("enum", ())), **bounds)
        case "integer" | "long":
            return Integer(least=raw.get("min", -(2**63)), most=raw.get("max", 2**63 - 1))
        case "structure":
            return Structure(
                members={key: _read(shapes, member["shape"]) for key, member in raw["members"].items()},
                meanings={key: _meaning(member) for key, member in raw["members"].items()},
                required=frozenset(raw.get("required", ())),
            )
        case "list":
            return ListOf(item=_read(shapes, raw["member"]["shape"]), **bounds)
        case "map":
            key = cast("Text", _read(shapes, raw["key"]["shape"]))
            return MapOf(key=key, value=_read(shapes, raw["value"]["shape"]), **bounds)
    return Opaque()


def _meaning(member: Mapping[str, Any]) -> str:
    first_paragraph = member.get("documentation", "").partition("</p>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", first_paragraph)).split())


@cache
def request_type(most_tags: int = MOST_TAGS, *, varying_only: bool = False) -> type[msgspec.Struct]:
    """Make the type of a request.

    With `varying_only` members that are not `VARYING` may be anything: they were found good before. Halves of
    surrogate pairs are not looked for: a request that has some cannot be encoded. Members are in alphabetical order,
    as `canonical` spells them.
    """
    shape = request_shape()
    special: dict[str, Any] = dict.fromkeys(shape.members.keys() - VARYING, Any) if varying_only else {}
    if not varying_only and isinstance(tags := shape.members.get(TAGS), MapOf):
        entries: Any = dict[_text(tags.key, refused=_RESERVED_TAG_KEYS), _type(tags.value, TAGS)]  # type: ignore[misc]
        special[TAGS] = _bounded(entries, tags.least, most_tags)
    return _struct(shape, "Request", special)


def _struct(shape: Structure, path: str, special: Mapping[str, Any]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, member in sorted(shape.members.items()):
        kind = special.get(name) or _type(member, f"{path}.{name}")
        kind = Annotated[kind, msgspec.Meta(description=shape.meanings[name] or None)]
        fields.append((name, kind) if name in shape.required else (name, kind | None, None))
    return msgspec.defstruct(path, fields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False)


def _type(shape: Shape, path: str) -> Any:  # noqa: ANN401 (a type, made at run time)
    match shape:
        case Text():
            return _text(shape)
        case Integer():
            return Annotated[int, msgspec.Meta(ge=shape.least, le=shape.most)]
        case Structure():
            return _struct(shape, path, {})
        case ListOf():
            return _bounded(list[_type(shape.item, path)], shape.least, shape.most)  # type: ignore[misc]
        case MapOf():
            return _bounded(dict[_text(shape.key), _type(shape.value, path)], shape.least, shape.most)  # type: ignore[misc]
        case Opaque():
            return Any
    assert_never(shape)


def _text(shape: Text, *, refused: str = "") -> Any:  # noqa: ANN401 (a type, made at run time)
    if shape.choices:
        return Literal[shape.choices]
    pattern = portable(shape.pattern)
    begin = f"^(?!{refused})" if refused else "^"
    # msgspec and JSON Schema search, whereas a model's pattern is of the whole text.
    whole = rf"{begin}(?:{pattern}){END}" if pattern else begin if refused else None
    return Annotated[str, msgspec.Meta(min_length=shape.least, max_length=shape.most, pattern=whole)]


def _bounded(entries: Any, least: int | None, most: int | None) -> Any:  # noqa: ANN401 (types, made at run time)
    return Annotated[entries, msgspec.Meta(min_length=least, max_length=most)]
