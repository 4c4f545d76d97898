"""What an answer of the service means: acceptance, pages, details, and which refusal is which. Pure.

Whether an error means "not accepted" or "nobody knows" is decided here, from status, code and members alone, and for
both sides of the seam.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from batchsubmit.aws import THROTTLING_CODES
from batchsubmit.cleanrooms.api import JobDetails, JobPage, JobSummary, Resource
from batchsubmit.core import jobs
from batchsubmit.schema.model import request_shape

# All codes are without the `Exception` that some services add.
TRANSIENT_CODES = frozenset({"PriorRequestNotComplete", "RequestAborted", "RequestTimeout"})
"""botocore's own list (botocore.retries.standard), and what AWS's common errors say of a call cut off midway: it may
have been accepted."""
_DENIAL_CODES = frozenset({"AccessDenied", "NotAuthorized"})
_CALLER_CODE = re.compile(
    "AuthFailure|ExpiredToken|IncompleteSignature|InvalidAccessKeyId|InvalidClientTokenId|InvalidSignature|InvalidToken"
    "|MissingAuthenticationToken|NotSignedUp|OptInRequired|RequestExpired|RequestInTheFuture|RequestTimeTooSkewed"
    "|SignatureDoesNotMatch|SubscriptionRequired|TokenRefreshRequired|UnrecognizedClient"
)
_WRONG_ENDPOINT_CODE = re.compile(
    "InvalidAction|MalformedHttpRequest|MalformedQueryString|MissingAction|Serialization|UnknownOperation"
    "|UnsupportedOperation|UnsupportedProtocol"
)
_SLOT_QUOTA = re.compile(r"inference[ _-]job|inferencejobs|L-0F77DDDB|L-249F4B83", re.IGNORECASE)
"""AWS's names are "Pending/in-progress custom model inference jobs per membership" and "... per account"."""

MOST_RETRY_AFTER_SECONDS = 60.0
"""`Retry-After` is followed up to here; more would let one odd answer hold a run up for hours."""
_LONGEST_DETAILS = 500

_MOST_QUOTA = 1e9
"""No account may run as many jobs: a higher value is none."""


def read_start(job: jobs.Job, answer: Mapping[str, Any]) -> jobs.Result:
    """Trust an ARN only where it looks like one of this membership."""
    arn = answer.get("trainedModelInferenceJobArn")
    if isinstance(arn, str) and f":membership/{job.membership}/trained-model-inference-job/" in arn:
        return jobs.Accepted(arn)
    return jobs.Uncertain("the answer has no ARN of this membership's job")


def read_page(answer: Mapping[str, Any]) -> JobPage:
    """Read a page of List. Raises KeyError where a member is missing."""
    found = map(read_summary, answer["trainedModelInferenceJobs"])
    return JobPage(jobs=tuple(found), next_token=answer.get("nextToken") or None)


def read_summary(job: Mapping[str, Any]) -> JobSummary:
    """Read one job of such a page. Raises KeyError where a member is missing."""
    return JobSummary(
        arn=_text(job, "trainedModelInferenceJobArn"),
        name=_text(job, "name"),
        status=_text(job, "status"),
        created_at=_aware(job["createTime"]),
        updated_at=_moment(job, "updateTime"),
        trained_model=job.get("trainedModelArn", ""),
    )


def read_details(answer: Mapping[str, Any]) -> JobDetails:
    """Read an answer of Get. Raises KeyError where a member is missing."""
    said = answer.get("statusDetails", {})
    return JobDetails(
        arn=_text(answer, "trainedModelInferenceJobArn"),
        status=_text(answer, "status"),
        code=said.get("statusCode", ""),
        message=said.get("message", ""),
        logs="; ".join(filter(None, (_unpublished(answer, "logs"), _unpublished(answer, "metrics")))),
        tags=answer.get("tags", {}),
        request={name: answer[name] for name in request_shape().members if name in answer and name != "tags"},
        created_at=_moment(answer, "createTime"),
        updated_at=_moment(answer, "updateTime"),
    )


def _text(answer: Mapping[str, Any], name: str) -> str:
    """Take a member. Raises KeyError where it is missing, TypeError where it is no text."""
    if not isinstance(answer[name], str):
        raise TypeError(f"{name} is no text")
    return str(answer[name])


def _aware(moment: datetime) -> datetime:
    """Take a time of the service; one without a zone is UTC, as all its times are. Raises TypeError."""
    if not isinstance(moment, datetime):
        raise TypeError("a time is no time")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(answer: Mapping[str, Any], name: str) -> datetime | None:
    return None if answer.get(name) is None else _aware(answer[name])


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
        status=_text(answer, "status"),
        message=": ".join(filter(None, (said.get("statusCode"), said.get("message")))),
        kept_until=None if days is None else _aware(answer["createTime"]) + timedelta(days=days),
        budgets={each["resourceArn"]: each["aggregateRemainingBudget"] for each in budgets},
    )


def read_refusal(
    status: int, code: str, message: str, members: Mapping[str, Any], *, retry_after_seconds: float = 0.0
) -> jobs.Result:
    """Translate an answer with an error status: the one place where it is decided what an answer means.

    What may follow acceptance comes first, then codes before statuses, since throttling comes as 400 and as 429.
    """
    is_throttling = code in THROTTLING_CODES or status == 429
    is_error = 300 <= status < 500 and status != 408
    if code.removesuffix("Exception") in TRANSIENT_CODES or not is_error:
        reason = f"{status}{'' if _is_no_code(code) else f' {code}'}: {message or 'no message'}"
        return jobs.Uncertain(reason, retry_after_seconds, is_throttling)
    if is_throttling:
        return jobs.Throttled(code, message, retry_after_seconds)
    if code == "ServiceQuotaExceededException" or status == 402:
        return _over_quota(code, message, members)
    if code == "ConflictException" or status == 409:
        return jobs.Conflicted(code, message)
    return _of_caller_or_row(status, code, message)


def _of_caller_or_row(status: int, code: str, message: str) -> jobs.Result:
    """Tell what stops every job from what is about this one."""
    word = code.removesuffix("Exception")
    is_elsewhere = status < 400 or (status in {404, 405} and word != "ResourceNotFound")
    if is_elsewhere or _is_no_code(code) or _WRONG_ENDPOINT_CODE.fullmatch(word):
        words = f"{message or 'no message'}; is the endpoint Clean Rooms ML?"
        return jobs.Forbidden(code or str(status), words, jobs.RefusalCause.WRONG_ENDPOINT)
    if _CALLER_CODE.fullmatch(word) or status in {401, 407}:
        return jobs.Forbidden(code, message)
    return jobs.Denied(code, message) if word in _DENIAL_CODES or status == 403 else jobs.InvalidRequest(code, message)


def _is_no_code(code: str) -> bool:
    """Whether an error names no AWS error (botocore gives the status): a proxy, a load balancer, or another service."""
    return code.isdigit() or not code


def _over_quota(code: str, message: str, members: Mapping[str, Any]) -> jobs.Result:
    """Tell slots from any other quota: where the service names none, it is taken for slots."""
    name, value = members.get("quotaName"), as_number(members.get("quotaValue"))
    if isinstance(name, str) and name and not _SLOT_QUOTA.search(name):
        return jobs.OtherQuotaExceeded(code, message, name, value)
    return jobs.QuotaExceeded(code, message, name if isinstance(name, str) and name else None, value)


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """Read the seconds to wait from `Retry-After`, a number or a date; 0 where it is absent or unreadable."""
    said = headers.get("retry-after", "").strip()
    try:
        is_number = said.isascii() and said.isdigit()
        seconds = float(said) if is_number else (parsedate_to_datetime(said) - now).total_seconds()
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), MOST_RETRY_AFTER_SECONDS)


def as_number(value: object) -> float | None:
    """Take a quota's value; NaN, one that is beyond all bounds, or below none, is not known."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= _MOST_QUOTA else None
