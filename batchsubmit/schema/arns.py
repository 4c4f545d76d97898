"""What the ARNs of one request say about each other and about its membership: region, partition, membership, account.

A configured model algorithm association may belong to another member of the collaboration ("Custom ML modeling" of the
Clean Rooms User Guide). No page says so of the trained model and the channel, and none forbids it: `foreign_arns` finds
those of another membership or account, and a setting says what follows.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from botocore.loaders import Loader

from batchsubmit.schema.faults import Fault
from batchsubmit.schema.spreadsheets import NO_VALUES, no_value

_ARN = re.compile(r"arn:([a-z-]+):[^:]*:([a-z0-9-]+):([0-9]{12}):(?:membership/([^/]*)/)?(.*)", re.DOTALL)
_UUID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_MEMBERSHIP = "membershipIdentifier"
_MODEL = ("trainedModelArn",)
_CHANNEL = ("dataSource", "mlInputChannelArn")
_ASSOCIATION = ("configuredModelAlgorithmAssociationArn",)
_KINDS = {
    _MODEL: "trained-model/",
    _ASSOCIATION: "configured-model-algorithm-association/",
    _CHANNEL: "ml-input-channel/",
    ("kmsKeyArn",): "key/",
}
"""How the resource of each ARN of a request begins."""


class Arn(NamedTuple):
    """An ARN taken apart; `membership` is None where it is none of Clean Rooms ML, `resource` is what follows."""

    partition: str = ""
    region: str = ""
    account: str = ""
    membership: str | None = None
    resource: str = ""


@lru_cache(maxsize=4096)
def parse_arn(value: str) -> Arn:
    """Take an ARN apart; all its parts are empty where it is none."""
    found = _ARN.fullmatch(value)
    return Arn(*found.groups()) if found else Arn()


def region_in(arn: str) -> str:
    """The region in an ARN; empty where it has none."""
    return parse_arn(arn).region


def arn_faults(request: Mapping[str, Any], client_region: str | None) -> Iterator[Fault]:
    """Compare region and partition of a request's ARNs with the client's; where that is not known, with each other.

    A name at an ARN's end that is a word for no value is a fault too. Ill-formed ARNs are left to their own checks.
    """
    client_partition = partition_of(client_region) if client_region else None
    first: tuple[str, Arn] | None = None
    for path, kind in _KINDS.items():
        arn = parse_arn(text_at(request, *path))
        if not arn.resource.startswith(kind):
            continue
        name, at = arn.resource.rpartition("/")[2], ".".join(path)
        if name in NO_VALUES:
            yield no_value(at, name)
        like, model = first = first or (at, arn)
        region, partition = client_region or model.region, client_partition or model.partition
        if arn.region != region:
            right = f"must be in region {region}, as {like} is"
            if client_region:
                right = f"must be in the client's region, {region}; or set AWS_REGION={arn.region}"
            yield Fault(path=at, wrong=f"is in region {arn.region}", right=right)
        if arn.partition != partition and not (client_partition and arn.region != region):
            whose = f"partition {partition}, as {like} is"
            if client_partition:
                whose = f"the partition of {region}, {partition}"
            yield Fault(path=at, wrong=f"is in partition {arn.partition}", right=f"must be in {whose}")


@cache
def partition_of(region: str) -> str | None:
    """Find the partition of a region by the patterns that botocore ships; None for a region that it does not know."""
    partitions = Loader().load_data("partitions")["partitions"]
    return next((str(each["id"]) for each in partitions if re.match(each["regionRegex"], region)), None)


def account_of_membership(request: Mapping[str, Any]) -> str:
    """The account of the request's membership, by the first ARN that is of this membership; empty where none is."""
    own = f":membership/{request.get(_MEMBERSHIP)}/"
    for path in (_MODEL, _CHANNEL, _ASSOCIATION):
        value = text_at(request, *path)
        if own in value and any(arn := parse_arn(value)):
            return arn.account
    return ""


FOREIGN = "is of another"
"""How what is said of such an ARN begins."""


def foreign_arns(request: Mapping[str, Any], account: str = "") -> Iterator[Fault]:
    """Find trained model and channel of another membership or account; `account` is the membership's, if known."""
    membership = str(request.get(_MEMBERSHIP))
    account = account or account_of_membership(request)
    for path in (_MODEL, _CHANNEL) if _UUID.fullmatch(membership) else ():
        arn = parse_arn(text_at(request, *path))
        if not arn.membership or (arn.membership, arn.account) == (membership, account):
            continue  # where it is no such ARN, it has its own fault already
        wrong = f"{FOREIGN} account, {arn.account!r}, than its membership is elsewhere, {account!r}"
        if arn.membership != membership:
            wrong = f"{FOREIGN} membership, {arn.membership!r}"
        yield Fault(path=".".join(path), wrong=wrong, right="correct the ARN, unless you mean another member's")


def text_at(request: Mapping[str, Any], *path: str) -> str:
    """The text of a member; empty where it is absent or something else."""
    value: object = request
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""
