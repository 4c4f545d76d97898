"""What the ARNs of one request say about each other: region, account, partition and membership."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchsubmit.schema.checks import pattern_test
from batchsubmit.schema.faults import Fault
from batchsubmit.schema.model import Shape, Structure, Text

_ARN = re.compile(r"arn:([^:]*):[^:]*:([^:]*):([^:]*):(?:membership/([^/]*)/)?")
_MEMBERSHIP = "membershipIdentifier"
_REMEMBERED_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arn:
    path: str
    partition: str
    region: str
    account: str
    membership: str | None  # None: no ARN of Clean Rooms ML, so only its region is ours to judge


class ArnCheck:
    """Compares the ARNs of a request with its membership, with each other and with the client's region."""

    def __init__(self, shape: Structure, region: str | None) -> None:
        self._region = region
        self._places = [(path, pattern_test(text)) for path, text in _arn_members(shape, ())]
        membership = shape.members.get(_MEMBERSHIP)
        self._is_membership = pattern_test(membership) if isinstance(membership, Text) else bool
        self._good: set[tuple[Any, ...]] = set()

    def __call__(self, request: Mapping[str, Any]) -> tuple[Fault, ...]:
        """Find what the ARNs of a request contradict; ill-formed ones are left to their own checks."""
        values = (request.get(_MEMBERSHIP), *[_value(request, path) for path, _ in self._places])
        try:
            if values in self._good:
                return ()
        except TypeError:  # a list or an object where a text belongs: a fault of that member, found elsewhere
            return ()
        faults = tuple(self._faults(values[0], list(self._arns(values[1:]))))
        if not faults:
            if len(self._good) >= _REMEMBERED_ROWS:
                self._good.clear()
            self._good.add(values)
        return faults

    def _arns(self, values: tuple[Any, ...]) -> Iterator[_Arn]:
        for (path, matches), value in zip(self._places, values, strict=True):
            # An ill-formed one has its own fault already.
            if isinstance(value, str) and matches(value) and (found := _ARN.match(value)):
                partition, region, account, membership = found.groups()
                yield _Arn(
                    path=".".join(path),
                    partition=partition,
                    region=region,
                    account=account,
                    membership=membership,
                )

    def _faults(self, membership: object, arns: list[_Arn]) -> Iterator[Fault]:
        ours = [arn for arn in arns if arn.membership]
        for arn in ours:
            if isinstance(membership, str) and self._is_membership(membership) and arn.membership != membership:
                wrong = f"is of membership {arn.membership}"
                yield Fault(path=arn.path, wrong=wrong, right=f"must be of the row's membership, {membership}")
        for arn in ours[1:]:
            if arn.account != ours[0].account:
                yield _unlike(arn, "account", arn.account, ours[0].account, ours[0].path)
            if arn.partition != ours[0].partition:
                yield _unlike(arn, "partition", arn.partition, ours[0].partition, ours[0].path)
        yield from self._misplaced(ours, arns)

    def _misplaced(self, ours: list[_Arn], arns: list[_Arn]) -> Iterator[Fault]:
        for arn in arns:
            if self._region:
                if arn.region != self._region:
                    right = f"must be in the client's region, {self._region}; or set AWS_REGION={arn.region}"
                    yield Fault(path=arn.path, wrong=f"is in region {arn.region}", right=right)
            elif ours and arn.region != ours[0].region:
                yield _unlike(arn, "region", arn.region, ours[0].region, ours[0].path)


def _unlike(arn: _Arn, what: str, has: str, expected: str, model_path: str) -> Fault:
    return Fault(path=arn.path, wrong=f"is in {what} {has}", right=f"must be in {what} {expected}, as {model_path} is")


def is_arn(shape: Text) -> bool:
    """Whether a text is an ARN, of which other members' ARNs must agree with what precedes the last slash."""
    return (shape.pattern or "").startswith("arn:")


def _arn_members(shape: Shape, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Text]]:
    match shape:
        case Text() if is_arn(shape):
            yield path, shape
        case Structure():
            for name, member in shape.members.items():
                yield from _arn_members(member, (*path, name))


def _value(request: Mapping[str, Any], path: tuple[str, ...]) -> object:
    value: object = request.get(path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value
