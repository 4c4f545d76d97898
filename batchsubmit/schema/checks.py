"""The check of a whole request: the model's rules, the rules of tags, and what the ARNs say.

A good request is found by the types of `model`. Only one that does not pass comes to the checks that explain, which
walk its shape and may take their time. The faults of a value have paths relative to it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from batchsubmit.schema import model
from batchsubmit.schema.arns import arn_faults
from batchsubmit.schema.columns import leaves
from batchsubmit.schema.faults import Fault, below, described, listed, ranged, shown, shown_path, spoken
from batchsubmit.schema.patterns import matcher
from batchsubmit.schema.spreadsheets import account_damage
from batchsubmit.text import counted, nearest

MISSING = "is missing"

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_FEW_CHOICES = 6
_REMEMBERED_PARTS = 1024
_ACCOUNT_PATTERN = "[0-9]{12}"
_ARN_PARTS = ("prefix", "partition", "service", "region", "account", "resource")
_RESOURCE_PARTS = ("resource type", "membership id", "resource type in the membership", "name or id")

_encode = msgspec.json.Encoder(order="deterministic").encode


class Part:
    """What many requests share: all members but those that are `VARYING`. They are checked and spelled once."""

    __slots__ = ("spelled",)

    def __init__(self) -> None:
        self.spelled: dict[str, msgspec.Raw] = {}  # by member, empty until they were found good


class RequestChecker:
    """Finds every fault of a request. That there is none is tested quickly, by the types of `model`.

    `region` is the client's, when known. `own_tag`: the job will also carry our own tag, which takes one of the 50.
    """

    def __init__(self, *, region: str | None = None, own_tag: bool = True) -> None:
        self._own_tag = own_tag
        self._region = region
        self._whole = model.request_type(model.MOST_TAGS - own_tag)
        self._varying = model.request_type(model.MOST_TAGS - own_tag, varying_only=True)
        self._parts = lru_cache(_REMEMBERED_PARTS)(lambda _: Part())

    def part_of(self, request: Mapping[str, Any]) -> Part:
        """Find what a request shares with earlier ones."""
        try:
            return self._parts(repr([member for member in request.items() if member[0] not in model.VARYING]))
        except RecursionError:  # no good request
            return Part()

    def spelled(self, request: Mapping[str, Any], part: Part | None = None) -> bytes | None:
        """Spell a good request, without its nulls; None where something is wrong. `part` is its own (`part_of`)."""
        known = part.spelled if part else {}
        try:
            typed = msgspec.convert({**request, **known} if known else request, self._varying if known else self._whole)
            spelled = _encode(typed)
        except (msgspec.ValidationError, UnicodeEncodeError):  # the latter where a text holds half a character
            return None
        if not known:
            if any(arn_faults(request, self._region)):
                return None
            if part:
                part.spelled = {
                    name: msgspec.Raw(_encode(getattr(typed, name)))
                    for name, value in request.items()
                    if name not in model.VARYING and value is not None
                }
        return spelled

    def explain(self, request: Mapping[str, Any]) -> list[Fault]:
        """Every fault of the request, which takes longer; an empty list means that it is valid."""
        return [*self._faults(request), *arn_faults(request, self._region)]

    def check_part(self, part: Mapping[str, Any]) -> list[Fault]:
        """Find the faults of some members of a request, whatever else it still lacks."""
        return [fault for fault in self._faults(part) if fault.wrong is not MISSING]

    def _faults(self, request: Mapping[str, Any]) -> list[Fault]:
        faults = list(_faults(model.request_shape(), request, ""))
        tags = request.get(model.TAGS)
        return [*faults, *below(model.TAGS, self._tag_faults(tags))] if isinstance(tags, Mapping) else faults

    def _tag_faults(self, tags: Mapping[str, Any]) -> Iterator[Fault]:
        count = 0
        for key in map(str, tags):
            prefix = key[: len(model.AWS_PREFIX)] if key.lower().startswith(model.AWS_PREFIX) else model.OWN_PREFIX
            count += prefix is model.OWN_PREFIX
            if key.startswith(prefix):
                whose = "batchsubmit's own" if prefix is model.OWN_PREFIX else "reserved for AWS"
                wrong = f"the prefix {prefix!r} is {whose}"
                yield Fault(path=shown_path(key), wrong=wrong, right="choose another key")
        most = model.MOST_TAGS - self._own_tag
        if count > most:
            why = ", for batchsubmit adds one to find its jobs again" if self._own_tag else ""
            yield Fault(path="", wrong=f"has {count:,} tags", right=f"at most {most} are possible{why}")


_EXPECTED: Mapping[type, tuple[Any, str]] = {
    model.Text: (str, "text"),
    model.Structure: (Mapping, "an object"),
    model.ListOf: (list | tuple, "a list"),
    model.MapOf: (Mapping, "an object"),
}


def _faults(shape: model.Shape, value: Any, name: str, *, secret: bool = False) -> Iterator[Fault]:  # noqa: ANN401 (JSON)
    """Find the faults of a value; `name` is how messages call it, and a `secret` value is never quoted in one."""
    kind, expected = _EXPECTED.get(type(shape), (object, ""))
    if not isinstance(value, kind):
        right = f"must be {expected}" + (", or be left out" if value is None else "")
        yield Fault(path="", wrong=f"is {described(value)}", right=right)
        return
    match shape:
        case model.Text():
            yield from _text_faults(shape, value, name, secret=secret)
        case model.Integer():
            yield from _integer_faults(shape, value)
        case model.Structure():
            yield from _structure_faults(shape, value, secret=secret)
        case model.ListOf():
            yield from _count_faults(shape, len(value), "in the list")
            for index, item in enumerate(value):
                yield from below(str(index), _faults(shape.item, item, name, secret=secret))
        case model.MapOf():
            yield from _count_faults(shape, len(value), "in the map")
            for key, item in value.items():
                yield from below(str(key), _faults(shape.key, key, "key"))
                yield from below(str(key), _faults(shape.value, item, "value", secret=True))  # the user's own


def _structure_faults(shape: model.Structure, value: Mapping[str, Any], *, secret: bool) -> Iterator[Fault]:
    """Check named members; a null member counts as absent."""
    for name, item in value.items():
        member = shape.members.get(name)
        if member is None:
            near = nearest(str(name), shape.members)
            right = f"did you mean {near!r}?" if near else f"known are {listed(sorted(shape.members))}"
            yield Fault(path=shown_path(str(name)), wrong="is not a member of the request", right=right)
        elif item is not None:
            yield from below(name, _faults(member, item, name, secret=secret))
    for name, member in shape.members.items():
        if name in shape.required and value.get(name) is None:
            # The leaves that it must bring, since those are what one writes.
            paths = [leaf.name for leaf in leaves(member, name) if leaf.required] or [name]
            yield from (Fault(path=path, wrong=MISSING, right="is required") for path in paths)


def _count_faults(shape: model.ListOf | model.MapOf, count: int, where: str) -> Iterator[Fault]:
    if count < (shape.least or 0) or (shape.most is not None and count > shape.most):
        right = f"must be {ranged(shape.least or 0, shape.most)} {where}"
        yield Fault(path="", wrong=f"has {counted(count, 'entry', 'entries')}", right=right)


def _text_faults(shape: model.Text, value: str, name: str, *, secret: bool) -> Iterator[Fault]:
    """Find the first fault of a text."""
    if not value.isascii() and _LONE_SURROGATE.search(value):
        wrong, right = "holds half of a surrogate pair", "write the whole character"
    elif shape.choices:
        if value in shape.choices:
            return
        wrong, right = f"is not {spoken(name)}", _choice_hint(shape.choices, value)
    elif not value and shape.least:
        yield Fault(path="", wrong="is empty", right=f"must have {_characters(shape)}")
        return
    elif shape.pattern == _ACCOUNT_PATTERN and (damage := account_damage(value)):
        wrong, right = damage
    elif not matcher(shape.pattern)(value):
        wrong, right = "does not match", _pattern_hint(str(shape.pattern), value, secret=secret)
    elif len(value) < (shape.least or 0) or (shape.most is not None and len(value) > shape.most):
        wrong, right = f"has {len(value):,} characters", f"must have {_characters(shape)}"
    else:
        return
    subject = "the value" if secret else shown(value)
    yield Fault(path="", wrong=f"{'the key ' if name == 'key' else ''}{subject} {wrong}", right=right)


def _characters(shape: model.Text) -> str:
    return f"{ranged(shape.least, shape.most)} characters"


def _choice_hint(choices: Sequence[str], value: str) -> str:
    if near := nearest(value, choices):
        return f"did you mean {near!r}?"
    if len(choices) <= _FEW_CHOICES:
        return f"must be {listed(choices)}"
    return f"must be one of {len(choices)}, such as {min(choices, key=len)!r}"


def _pattern_hint(pattern: str, value: str, *, secret: bool) -> str:
    """Say what would make a text match its pattern."""
    matches = matcher(pattern)
    if value != value.strip() and matches(value.strip()):
        return "remove the white space around it"
    if not secret and value != value.lower() and matches(value.lower()):
        return f"write it in lower case, {shown(value.lower())}"
    in_short = _arn_hint(pattern, value) if pattern.startswith("arn:") and not secret else ""
    return in_short or f"must match {pattern}"


def _arn_hint(pattern: str, value: str) -> str:
    """Name the first part of an ARN that departs from the pattern; empty where none does by itself."""
    wanted, given = pattern.split(":", len(_ARN_PARTS) - 1), value.split(":", len(_ARN_PARTS) - 1)
    if len(wanted) != len(_ARN_PARTS):
        return ""
    if len(given) != len(_ARN_PARTS):
        return "an ARN has six parts between colons, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE"
    if wrong := _first_wrong(_ARN_PARTS[:-1], wanted, given):
        return wrong
    wanted, given = (text.split("/", len(_RESOURCE_PARTS) - 1) for text in (wanted[-1], given[-1]))
    if len(wanted) != len(_RESOURCE_PARTS):
        return ""
    if len(given) != len(_RESOURCE_PARTS):
        return f"its resource must be as in membership/ID/{wanted[2]}/NAME"
    return _first_wrong(_RESOURCE_PARTS, wanted, given)


def _first_wrong(names: Sequence[str], wanted: Sequence[str], given: Sequence[str]) -> str:
    for name, want, have in zip(names, wanted, given, strict=False):
        if not re.fullmatch(want, have, re.ASCII):
            if name == "account" and (damage := account_damage(have)):
                return f"its account, {shown(have)}, {damage[0]}; {damage[1]}"
            is_word = re.fullmatch(r"[a-z-]+", want)
            return f"its {name}, {shown(have)}, must {'be' if is_word else 'match'} {want}"
    return ""


def _integer_faults(shape: model.Integer, value: object) -> Iterator[Fault]:
    least, most = shape.least, shape.most
    if type(value) is not int:
        meant = _integer_meant(value)
        right = f"must be a whole number from {least} to {most}"
        right = f"write {meant}" if meant is not None and least <= meant <= most else right
        subject = shown(value) if isinstance(value, str) else value if isinstance(value, float) else described(value)
        yield Fault(path="", wrong=f"{subject} is not an integer", right=right)
    elif not least <= value <= most:
        number = f"{value}" if value.bit_length() <= 64 else f"a number of {value.bit_length():,} bits"
        yield Fault(path="", wrong=f"is {number}", right=f"must be {ranged(least, most)}")


def _integer_meant(value: object) -> int | None:
    try:
        number = float(value) if isinstance(value, str | float) else None
    except ValueError:
        return None
    return int(number) if number is not None and number.is_integer() else None
