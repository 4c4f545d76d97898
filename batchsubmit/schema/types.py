"""The request as a msgspec type, made from the service model: the quick test whether a request is good.

`checks` explains what is wrong with one that is not. What one of the two accepts the other accepts as well.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, assert_never

import msgspec

from batchsubmit.schema.model import Integer, ListOf, MapOf, Opaque, Shape, Structure, Text, request_shape
from batchsubmit.schema.patterns import UntranslatablePatternError, portable

TAGS = "tags"
_ANYTHING = {None, "", r"[\S\s]*", r"[\s\S]*"}


@cache
def request_type(most_tags: int, reserved_tag_keys: str) -> type[msgspec.Struct]:
    """Make the type of a request; no key of a tag may begin as the pattern `reserved_tag_keys` does.

    The texts that `recurring_texts` names may be any text, and halves of surrogate pairs are not looked for: a request
    that has some cannot be encoded. Members are in alphabetical order, as `canonical` spells them.
    """
    shape = request_shape()
    special: dict[str, Any] = {}
    if isinstance(tags := shape.members.get(TAGS), MapOf):
        entries: Any = dict[_text(tags.key, refused=reserved_tag_keys), _type(tags.value, TAGS)]  # type: ignore[misc]
        special[TAGS] = _bounded(entries, tags.least, most_tags)
    return _struct(shape, "", recurring_texts(), special)


@cache
def recurring_texts() -> Mapping[str, Text]:
    """Texts that are the same in many rows, by their dotted paths: their patterns would take most of the time."""
    return dict(_recurring(request_shape(), ""))


def _recurring(shape: Structure, above: str) -> Iterator[tuple[str, Text]]:
    for name, member in shape.members.items():
        match member:
            case Text(pattern=str() as pattern) if pattern.startswith("arn:") or name == "membershipIdentifier":
                yield f"{above}{name}", member
            case Structure() if name in shape.required:
                yield from _recurring(member, f"{above}{name}.")


def _struct(shape: Structure, above: str, any_texts: Collection[str], special: dict[str, Any]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, member in sorted(shape.members.items()):
        kind = special.get(name) or _type(member, f"{above}{name}", any_texts)
        fields.append((name, kind) if name in shape.required else (name, kind | None, None))
    return msgspec.defstruct(
        above or "Request", fields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
    )


def _type(shape: Shape, path: str, any_texts: Collection[str] = ()) -> Any:  # noqa: ANN401 (a type, made at run time)
    match shape:
        case Text():
            return str if path in any_texts else _text(shape)
        case Integer():
            least = shape.least if shape.least is not None else -(2**63)
            most = shape.most if shape.most is not None else 2**63 - 1
            return Annotated[int, msgspec.Meta(ge=least, le=most)]
        case Structure():
            return _struct(shape, f"{path}.", any_texts, {})
        case ListOf():
            return _bounded(list[_type(shape.item, f"{path}.0")], shape.least, shape.most)  # type: ignore[misc]
        case MapOf():
            entries: Any = dict[_text(shape.key), _type(shape.value, path)]  # type: ignore[misc]
            return _bounded(entries, shape.least, shape.most)
        case Opaque():
            return Any
    assert_never(shape)


def _text(shape: Text, *, refused: str = "") -> Any:  # noqa: ANN401 (a type, made at run time)
    if shape.choices:
        return Literal[shape.choices]
    try:
        pattern = portable(shape.pattern) if shape.pattern not in _ANYTHING else ""
    except UntranslatablePatternError:
        pattern = ""
    begin = rf"\A(?!{refused})" if refused else r"\A"
    # msgspec searches, whereas a model's pattern is of the whole text.
    whole = rf"{begin}(?:{pattern})\Z" if pattern else begin if refused else None
    return Annotated[str, msgspec.Meta(min_length=shape.least, max_length=shape.most, pattern=whole)]


def _bounded(entries: Any, least: int | None, most: int | None) -> Any:  # noqa: ANN401 (types, made at run time)
    return Annotated[entries, msgspec.Meta(min_length=least, max_length=most)]
