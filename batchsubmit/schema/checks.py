"""Shapes compiled to functions that find faults.

A check takes any value and returns its faults, with paths relative to it; the empty tuple is the good news. It may take
its time: `structs` has the quick test, and only what that does not pass comes here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

from batchsubmit.schema.faults import (
    Fault,
    below,
    described,
    listed,
    nearest,
    printable,
    ranged,
    shown,
    spoken,
)
from batchsubmit.schema.model import Integer, ListOf, MapOf, Opaque, Shape, Structure, Text
from batchsubmit.schema.patterns import UntranslatablePatternError, matcher

_PARTS = ("prefix", "partition", "service", "region", "account", "resource")
_IN_RESOURCE = ("resource type", "membership id", "resource type in the membership", "name or id")


def arn_mend(pattern: str, value: str) -> str:
    """Name the first part that departs from the pattern; empty where none does by itself."""
    wanted, given = pattern.split(":", len(_PARTS) - 1), value.split(":", len(_PARTS) - 1)
    if len(wanted) != len(_PARTS):
        return ""
    if len(given) != len(_PARTS):
        return "an ARN has six parts between colons, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE"
    wrong = _first_wrong(_PARTS[:-1], wanted, given)
    if wrong:
        return wrong
    wanted, given = (text.split("/", len(_IN_RESOURCE) - 1) for text in (wanted[-1], given[-1]))
    if len(wanted) != len(_IN_RESOURCE):
        return ""
    if len(given) != len(_IN_RESOURCE):
        return f"its resource must be as in membership/ID/{wanted[2]}/NAME"
    return _first_wrong(_IN_RESOURCE, wanted, given)


def _first_wrong(names: Sequence[str], wanted: Sequence[str], given: Sequence[str]) -> str:
    for name, want, have in zip(names, wanted, given, strict=False):
        if not re.fullmatch(want, have, re.ASCII):
            is_word = re.fullmatch(r"[a-z-]+", want)
            return f"its {name}, {shown(have)}, must {'be' if is_word else 'match'} {want}"
    return ""


Check = Callable[[Any], tuple[Fault, ...]]

MISSING = "is missing"

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_FEW_CHOICES = 6


def compile_check(shape: Shape, name: str, *, secret: bool = False) -> Check:
    """Compile a shape; `name` is how messages call it, and a `secret` value is never quoted in one."""
    match shape:
        case Text():
            return compile_text(shape, name, secret=secret)
        case Integer():
            return _compile_integer(shape)
        case Structure():
            return compile_structure(
                shape,
                {key: compile_check(member, key, secret=secret) for key, member in shape.members.items()},
            )
        case ListOf():
            return _compile_list(shape, name, secret=secret)
        case MapOf():
            return compile_map(shape, compile_text(shape.key, "key"))
        case Opaque():
            return lambda _: ()
    assert_never(shape)


def compile_text(
    shape: Text, name: str, *, secret: bool = False, rule: Callable[[str], Fault | None] | None = None
) -> Check:
    """Compile the check of a string; `rule` is asked after the shape's own bounds."""
    judge = _Judge(shape, name, secret=secret)

    def check(value: Any) -> tuple[Fault, ...]:  # noqa: ANN401 - a row may hold anything
        if not isinstance(value, str):
            return (_mistyped(value, "text"),)
        fault = judge(value) or (rule(value) if rule else None)
        return (fault,) if fault else ()

    return check


class _Judge:
    """Finds the first fault of a string, slowly."""

    def __init__(self, shape: Text, name: str, *, secret: bool) -> None:
        self._shape = shape
        self._name = name
        self._secret = secret
        self._choices = frozenset(shape.choices)
        self._matches = pattern_test(shape)

    def __call__(self, value: str) -> Fault | None:
        if not value.isascii() and _LONE_SURROGATE.search(value):
            return self._fault(value, "holds half of a surrogate pair", "write the whole character")
        if self._choices:
            return None if value in self._choices else self._unknown(value)
        if not value and self._shape.least:
            return Fault(path="", wrong="is empty", right=f"must have {self._bounds()}")
        if not self._matches(value):
            return self._fault(value, "does not match", self._mend(value))
        if len(value) < (self._shape.least or 0) or (self._shape.most is not None and len(value) > self._shape.most):
            return self._fault(value, f"has {len(value):,} characters", f"must have {self._bounds()}")
        return None

    def _fault(self, value: str, wrong: str, right: str) -> Fault:
        subject = "the value" if self._secret else shown(value)
        return Fault(path="", wrong=f"{'the key ' if self._name == 'key' else ''}{subject} {wrong}", right=right)

    def _unknown(self, value: str) -> Fault:
        choices = self._shape.choices
        near = nearest(value, choices)
        if near:
            right = f"did you mean {near!r}?"
        elif len(choices) <= _FEW_CHOICES:
            right = f"must be {listed(choices)}"
        else:
            right = f"must be one of {len(choices)}, such as {min(choices, key=len)!r}"
        return self._fault(value, f"is not {spoken(self._name)}", right)

    def _bounds(self) -> str:
        return f"{ranged(self._shape.least, self._shape.most)} characters"

    def _mend(self, value: str) -> str:
        if value != value.strip() and self._matches(value.strip()):
            return "remove the white space around it"
        if not self._secret and value != value.lower() and self._matches(value.lower()):
            return f"write it in lower case, {shown(value.lower())}"
        pattern = str(self._shape.pattern)
        in_short = arn_mend(pattern, value) if pattern.startswith("arn:") and not self._secret else ""
        return in_short or f"must match {pattern}"


def pattern_test(shape: Text) -> Callable[[str], object]:
    """Make a function that tells whether a text matches the shape's pattern."""
    if shape.pattern is None:
        return lambda _: True
    try:
        return matcher(shape.pattern)
    except UntranslatablePatternError:
        # A later botocore may bring one. The service still checks it; to refuse every row here would help nobody.
        return lambda _: True


def _compile_integer(shape: Integer) -> Check:
    least = shape.least if shape.least is not None else -(2**63)
    most = shape.most if shape.most is not None else 2**63 - 1

    def check(value: Any) -> tuple[Fault, ...]:  # noqa: ANN401 - a row may hold anything
        if type(value) is not int:
            return (_no_integer(value, least, most),)
        if least <= value <= most:
            return ()
        return (Fault(path="", wrong=f"is {_number(value)}", right=f"must be {ranged_integer(shape)}"),)

    return check


def ranged_integer(shape: Integer) -> str:
    """Put an integer's bounds in words."""
    return ranged(shape.least, shape.most) or "of 64 bits"


def _number(value: int) -> str:
    return f"{value}" if value.bit_length() <= 64 else f"a number of {value.bit_length():,} bits"


def _no_integer(value: object, least: int, most: int) -> Fault:
    meant = _integer_meant(value)
    right = f"must be a whole number from {least} to {most}"
    if meant is not None and least <= meant <= most:
        right = f"write {meant}"
    if isinstance(value, str):
        return Fault(path="", wrong=f"{shown(value)} is not an integer", right=right)
    subject = value if isinstance(value, float) else described(value)
    return Fault(path="", wrong=f"{subject} is not an integer", right=right)


def _integer_meant(value: object) -> int | None:
    try:
        number = float(value) if isinstance(value, str | float) else None
    except ValueError:
        return None
    return int(number) if number is not None and number.is_integer() else None


def compile_structure(shape: Structure, members: Mapping[str, Check]) -> Check:
    """Compile the check of named members; a null member counts as absent."""
    required = tuple(name for name in shape.members if name in shape.required)

    def check(value: Any) -> tuple[Fault, ...]:  # noqa: ANN401 - a row may hold anything
        if not isinstance(value, Mapping):
            return (_mistyped(value, "an object"),)
        faults: tuple[Fault, ...] = ()
        for name, item in value.items():
            member = members.get(name)
            if member is None:
                faults += (_unknown_member(str(name), shape),)
            elif item is not None and (found := member(item)):
                faults += below(name, found)
        for name in required:
            if name not in value or value[name] is None:
                faults += missing(name, shape.members[name])
        return faults

    return check


def missing(name: str, shape: Shape) -> tuple[Fault, ...]:
    """Report an absent member by the leaves that it must bring, since those are what one writes."""
    return tuple(Fault(path=path, wrong=MISSING, right="is required") for path in required_leaves(shape, name))


def required_leaves(shape: Shape, path: str) -> list[str]:
    """List the paths that must be given for a required member at `path`."""
    leaves: list[str] = []
    match shape:
        case Structure():
            for name, member in shape.members.items():
                if name in shape.required:
                    leaves += required_leaves(member, f"{path}.{name}")
        case ListOf() if shape.least:
            leaves = required_leaves(shape.item, f"{path}.0")
    return leaves or [path]


def _unknown_member(name: str, shape: Structure) -> Fault:
    near = nearest(name, shape.members)
    right = f"did you mean {near!r}?" if near else f"known are {listed(sorted(shape.members))}"
    return Fault(path=printable(name), wrong="is not a member of the request", right=right)


def _compile_list(shape: ListOf, name: str, *, secret: bool) -> Check:
    item_check = compile_check(shape.item, name, secret=secret)
    least, most = shape.least or 0, shape.most

    def check(value: Any) -> tuple[Fault, ...]:  # noqa: ANN401 - a row may hold anything
        if not isinstance(value, list | tuple):
            return (_mistyped(value, "a list"),)
        faults: tuple[Fault, ...] = ()
        if len(value) < least or (most is not None and len(value) > most):
            faults = (_miscounted(len(value), least, most, "in the list"),)
        for index, item in enumerate(value):
            if found := item_check(item):
                faults += below(str(index), found)
        return faults

    return check


def compile_map(shape: MapOf, key_check: Check) -> Check:
    """Compile the check of a map; its values are the user's own and are never quoted."""
    value_check = compile_check(shape.value, "value", secret=True)
    least, most = shape.least or 0, shape.most

    def check(value: Any) -> tuple[Fault, ...]:  # noqa: ANN401 - a row may hold anything
        if not isinstance(value, Mapping):
            return (_mistyped(value, "an object"),)
        faults: tuple[Fault, ...] = ()
        if len(value) < least or (most is not None and len(value) > most):
            faults = (_miscounted(len(value), least, most, "in the map"),)
        for key, item in value.items():
            if found := key_check(key) + value_check(item):
                faults += below(str(key), found)
        return faults

    return check


def _miscounted(count: int, least: int, most: int | None, where: str) -> Fault:
    entries = "entry" if count == 1 else "entries"
    return Fault(path="", wrong=f"has {count:,} {entries}", right=f"must be {ranged(least, most)} {where}")


def _mistyped(value: object, expected: str) -> Fault:
    right = f"must be {expected}"
    if value is None:
        right += ", or be left out"
    return Fault(path="", wrong=f"is {described(value)}", right=right)
