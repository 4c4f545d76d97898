"""What AWS checks between the members of a Start request, and the service model does not state.

No page of AWS says that an ARN must be of the row's membership or account, and an algorithm association may be of
another member ("Custom ML modeling" of the User Guide): so none is refused for that. That ARNs must be of the region
and partition that the call goes to is an assumption. It must not know shapes: a request comes here when each of its
members is well-formed.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.loaders import Loader

from batchsubmit.sandbox.refusals import problem
from batchsubmit.sandbox.tags import tag_problems


def start_problems(request: Mapping[str, Any], region: str | None) -> list[str]:
    """Return the contradictions in a request; `region` is the one the call was signed for, if it was."""
    arns = _arns(request)
    return [
        *_partition_problems(arns | _kms_arn(request), region),
        *_region_problems(arns | _kms_arn(request), region),
        *tag_problems(request.get("tags") or {}),
    ]


def _arns(request: Mapping[str, Any]) -> dict[str, str]:
    arns = {
        "trainedModelArn": request["trainedModelArn"],
        "configuredModelAlgorithmAssociationArn": request.get("configuredModelAlgorithmAssociationArn"),
        "dataSource.mlInputChannelArn": request["dataSource"]["mlInputChannelArn"],
    }
    return {where: arn for where, arn in arns.items() if arn is not None}


def _kms_arn(request: Mapping[str, Any]) -> dict[str, str]:
    return {"kmsKeyArn": request["kmsKeyArn"]} if request.get("kmsKeyArn") is not None else {}


def _partition_problems(arns: Mapping[str, str], signed_for: str | None) -> list[str]:
    partition = (signed_for and _partition_of(signed_for)) or arns["trainedModelArn"].split(":")[1]
    return [
        problem(where, f"Partition in the ARN must be {partition}")
        for where, arn in arns.items()
        if arn.split(":")[1] != partition
    ]


@cache
def _partition_of(region: str) -> str | None:
    """Find a region's partition among those that botocore ships."""
    partitions = Loader().load_data("partitions")["partitions"]
    return next((each["id"] for each in partitions if re.match(each["regionRegex"], region)), None)


def _region_problems(arns: Mapping[str, str], signed_for: str | None) -> list[str]:
    region = signed_for or arns["trainedModelArn"].split(":")[3]
    return [
        problem(where, f"Region in the ARN must be {region}")
        for where, arn in arns.items()
        if arn.split(":")[3] != region
    ]
