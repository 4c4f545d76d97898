"""What an answer of the service means: acceptance, pages, details, and which refusal is which. Pure.

Whether an error means "not accepted" or "nobody knows" is decided here, from status, code and members alone, and for
both sides of the seam.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

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

THROTTLING_CODES = frozenset(
    {
        # botocore's own list (botocore.retries.standard), and the spelling that other AWS services use.
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
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
_LONGEST_DETAILS = 500

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
    said = answer.get("statusDetails", {})
    return JobDetails(
        arn=answer["trainedModelInferenceJobArn"],
        status=answer["status"],
        code=said.get("statusCode", ""),
        message=said.get("message", ""),
        logs="; ".join(filter(None, (_unpublished(answer, "logs"), _unpublished(answer, "metrics")))),
        tags=answer.get("tags", {}),
        request={name: value for name, value in answer.items() if name in _REQUEST_MEMBERS},
        created_at=answer.get("createTime"),
        updated_at=answer.get("updateTime"),
    )


def _unpublished(answer: Mapping[str, Any], kind: str) -> str:
    """Say that a job's logs or metrics did not reach CloudWatch, and why; empty where they did, or nothing is said."""
    status = answer.get(f"{kind}Status", "PUBLISH_SUCCEEDED")
    if status == "PUBLISH_SUCCEEDED":
        return ""
    return f"{kind} {status}: {answer.get(f'{kind}StatusDetails', '')}".rstrip(": ")[:_LONGEST_DETAILS]


def read_resource(arn: str, answer: Mapping[str, Any]) -> Resource:
    """Read an answer about a trained model or a channel. Raises KeyError where its status is missing.

    That a channel's retentionInDays count from its createTime is an assumption; no page says so.
    """
    said, days = answer.get("statusDetails", {}), answer.get("retentionInDays")
    budgets = answer.get("privacyBudgets", {}).get("accessBudgets", ())
    return Resource(
        arn=arn,
        status=answer["status"],
        message=": ".join(filter(None, (said.get("statusCode"), said.get("message")))),
        kept_until=None if days is None else answer["createTime"] + timedelta(days=days),
        budgets={each["resourceArn"]: each["aggregateRemainingBudget"] for each in budgets},
    )


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
