"""What an answer of the service means: acceptance, pages, details, and which refusal is which. Pure.

Whether an error means "not accepted" or "nobody knows" is decided here, from status, code and members alone, and for
both sides of the seam.
"""

from collections.abc import Mapping
from typing import Any

from batchsubmit.aws import THROTTLING_CODES
from batchsubmit.cleanrooms import JobDetails, JobPage, JobSummary, Resource
from batchsubmit.jobs import (
    Accepted,
    Conflicted,
    Forbidden,
    Job,
    Outcome,
    QuotaExceeded,
    Rejected,
    Throttled,
    Uncertain,
)

_CREDENTIAL_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_REQUEST_MEMBERS = frozenset(
    {
        "membershipIdentifier",
        "name",
        "trainedModelArn",
        "trainedModelVersionIdentifier",
        "configuredModelAlgorithmAssociationArn",
        "resourceConfig",
        "outputConfiguration",
        "dataSource",
        "description",
        "containerExecutionParameters",
        "environment",
        "kmsKeyArn",
        "mlModelInferencePayerAccountId",
    }
)


def read_start(job: Job, answer: Mapping[str, Any]) -> Outcome:
    """Trust an ARN only where it looks like one of this membership."""
    arn = answer.get("trainedModelInferenceJobArn")
    if isinstance(arn, str) and f":membership/{job.membership}/trained-model-inference-job/" in arn:
        return Accepted(arn)
    return Uncertain("the answer has no ARN of this membership's job")


def read_page(answer: Mapping[str, Any]) -> JobPage:
    """Read a page of List. Raises KeyError where a member is missing."""
    jobs = map(read_summary, answer["trainedModelInferenceJobs"])
    return JobPage(jobs=tuple(jobs), next_token=answer.get("nextToken") or None)


def read_summary(job: Mapping[str, Any]) -> JobSummary:
    """Read one job of such a page. Raises KeyError where a member is missing."""
    return JobSummary(
        arn=job["trainedModelInferenceJobArn"],
        name=job["name"],
        status=job["status"],
        created_at=job["createTime"],
        updated_at=job.get("updateTime"),
        trained_model=job.get("trainedModelArn", ""),
    )


def read_details(answer: Mapping[str, Any]) -> JobDetails:
    """Read an answer of Get. Raises KeyError where a member is missing."""
    return JobDetails(
        arn=answer["trainedModelInferenceJobArn"],
        status=answer["status"],
        message=answer.get("statusDetails", {}).get("message", ""),
        tags=answer.get("tags", {}),
        request={name: value for name, value in answer.items() if name in _REQUEST_MEMBERS},
        created_at=answer.get("createTime"),
        updated_at=answer.get("updateTime"),
    )


def read_resource(arn: str, answer: Mapping[str, Any]) -> Resource:
    """Read an answer about a trained model or a channel. Raises KeyError where its status is missing."""
    return Resource(arn=arn, status=answer["status"])


def read_refusal(status: int, code: str, message: str, members: Mapping[str, Any]) -> Outcome:
    """Translate an answer with an error status. Codes speak before statuses: throttling comes as 400, 429 and 503."""
    if code in THROTTLING_CODES or status == 429:
        return Throttled(code, message)
    if code == "ServiceQuotaExceededException" or status == 402:
        return QuotaExceeded(code, message, members.get("quotaName"), _as_number(members.get("quotaValue")))
    if code == "ConflictException" or status == 409:
        return Conflicted(code, message)
    if code in _CREDENTIAL_CODES or status in {401, 403, 407}:
        return Forbidden(code, message)
    if code.isdigit() or not code:
        return _without_a_code(status, message)
    if 400 <= status < 500 and status != 408:
        return Rejected(code, message)
    return Uncertain(f"{status} {code}: {message}")


def _without_a_code(status: int, message: str) -> Outcome:
    """Read an error that names no AWS error: a proxy, a load balancer, or no Clean Rooms ML at all."""
    if 300 <= status < 500 and status != 408:
        return Forbidden(str(status), f"{message or 'no message'}; is the endpoint Clean Rooms ML?")
    return Uncertain(f"{status}: {message or 'no message'}")


def _as_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
