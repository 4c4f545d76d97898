"""What the ARNs of one request say about each other and about its membership: region, partition, membership, account.

A configured model algorithm association may belong to another member of the collaboration ("Custom ML modeling" of the
Clean Rooms User Guide). No page says so of the trained model and the channel, and none forbids it: `foreign_arns` finds
those of another membership or account, and a setting says what follows.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.loaders import Loader

from batchsubmit.schema.checks import pattern_test
from batchsubmit.schema.faults import Fault
from batchsubmit.schema.model import Shape, Structure, Text

_ARN = re.compile(r"arn:([^:]*):[^:]*:([^:]*):([^:]*):(?:membership/([^/]*)/)?")
_UUID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_MEMBERSHIP = "membershipIdentifier"
_MODEL = ("trainedModelArn",)
_CHANNEL = ("dataSource", "mlInputChannelArn")
_ASSOCIATION = ("configuredModelAlgorithmAssociationArn",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arn:
    path: str
    partition: str
    region: str
    account: str
    membership: str | None  # None: no ARN of Clean Rooms ML

    @classmethod
    def read(cls, path: tuple[str, ...], value: object) -> "_Arn | None":
        """Take an ARN apart; None where it is none."""
        found = _ARN.match(value) if isinstance(value, str) else None
        if found is None:
            return None
        partition, region, account, membership = found.groups()
        return cls(path=".".join(path), partition=partition, region=region, account=account, membership=membership)


class ArnCheck:
    """Compares region and partition of a request's ARNs with the client's; where that is not known, with each other."""

    def __init__(self, shape: Structure, region: str | None) -> None:
        self._region = region
        self._partition = partition_of(region) if region else None
        self._places = [(path, pattern_test(text)) for path, text in _arn_members(shape, ())]

    def __call__(self, request: Mapping[str, Any]) -> tuple[Fault, ...]:
        """Find what the ARNs of a request contradict; ill-formed ones are left to their own checks."""
        values = tuple(_value(request, path) for path, _ in self._places)
        return tuple(self._faults(list(self._arns(values))))

    def _arns(self, values: tuple[Any, ...]) -> Iterator[_Arn]:
        for (path, matches), value in zip(self._places, values, strict=True):
            if isinstance(value, str) and matches(value) and (arn := _Arn.read(path, value)):
                yield arn

    def _faults(self, arns: list[_Arn]) -> Iterator[Fault]:
        for arn in arns:
            if self._region and arn.region != self._region:
                right = f"must be in the client's region, {self._region}; or set AWS_REGION={arn.region}"
                yield Fault(path=arn.path, wrong=f"is in region {arn.region}", right=right)
            elif self._partition and arn.partition != self._partition:
                right = f"must be in the partition of {self._region}, {self._partition}"
                yield Fault(path=arn.path, wrong=f"is in partition {arn.partition}", right=right)
            if not self._region and arn.region != arns[0].region:
                yield _unlike(arn, "region", arn.region, arns[0].region, arns[0].path)
            if not self._partition and arn.partition != arns[0].partition:
                yield _unlike(arn, "partition", arn.partition, arns[0].partition, arns[0].path)


def _unlike(arn: _Arn, what: str, has: str, expected: str, model_path: str) -> Fault:
    return Fault(path=arn.path, wrong=f"is in {what} {has}", right=f"must be in {what} {expected}, as {model_path} is")


@cache
def partition_of(region: str) -> str | None:
    """Find the partition of a region by the patterns that botocore ships; None for a region that it does not know."""
    partitions = Loader().load_data("partitions")["partitions"]
    return next((str(each["id"]) for each in partitions if re.match(each["regionRegex"], region)), None)


def account_of_membership(request: Mapping[str, Any]) -> str:
    """The account of the request's membership, by the first ARN that is of this membership; empty where none is."""
    own = f":membership/{request.get(_MEMBERSHIP)}/"
    for path in (_MODEL, _CHANNEL, _ASSOCIATION):
        value = _value(request, path)
        if isinstance(value, str) and own in value and (arn := _Arn.read(path, value)):
            return arn.account
    return ""


def foreign_arns(request: Mapping[str, Any], account: str = "") -> Iterator[Fault]:
    """Find trained model and channel of another membership, or of another account than the membership is in.

    `account` is the membership's, where other requests tell it.
    """
    membership = str(request.get(_MEMBERSHIP))
    account = account or account_of_membership(request)
    own = f":{account}:membership/{membership}/"
    for path in (_MODEL, _CHANNEL):
        value = _value(request, path)
        if isinstance(value, str) and own not in value and _UUID.fullmatch(membership):
            yield from _foreign(path, value, membership, account)


def _foreign(path: tuple[str, ...], value: str, membership: str, account: str) -> Iterator[Fault]:
    arn = _Arn.read(path, value)
    if arn is None or not arn.membership:
        return  # has its own fault already
    wrong = f"is of another account, {arn.account!r}, than its membership is elsewhere, {account!r}"
    if arn.membership != membership:
        wrong = f"is of another membership, {arn.membership!r}"
    yield Fault(path=arn.path, wrong=wrong, right="correct the ARN, unless you mean another member's")


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
