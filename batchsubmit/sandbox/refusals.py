"""The operations of the sandbox, and its refusals: the codes of Clean Rooms ML and of AWS, with their HTTP status.

It must not know what is refused, or why.
"""

from collections.abc import Mapping
from typing import Final

START: Final = "StartTrainedModelInferenceJob"
GET: Final = "GetTrainedModelInferenceJob"
LIST: Final = "ListTrainedModelInferenceJobs"
CANCEL: Final = "CancelTrainedModelInferenceJob"
GET_MODEL: Final = "GetTrainedModel"
GET_CHANNEL: Final = "GetMLInputChannel"
TAG: Final = "TagResource"
UNTAG: Final = "UntagResource"
LIST_TAGS: Final = "ListTagsForResource"
LIST_MODELS: Final = "ListTrainedModels"
LIST_CHANNELS: Final = "ListMLInputChannels"
LIST_ALGORITHMS: Final = "ListConfiguredModelAlgorithmAssociations"
LIST_MEMBERSHIPS: Final = "ListMemberships"
"""Of AWS Clean Rooms itself, another service."""

LISTINGS: Final = (LIST_MODELS, LIST_CHANNELS, LIST_ALGORITHMS, LIST_MEMBERSHIPS)
OPERATIONS: Final = (START, GET, LIST, CANCEL, GET_MODEL, GET_CHANNEL, TAG, UNTAG, LIST_TAGS, *LISTINGS[:3])
"""Those of Clean Rooms ML."""

STATUS_CODES: Final[Mapping[str, int]] = {
    "AccessDeniedException": 403,
    "ConflictException": 409,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "RequestAborted": 400,
    "RequestLimitExceeded": 503,
    "RequestTimeout": 400,
    "RequestTimeoutException": 400,
    "ResourceNotFoundException": 404,
    "SerializationException": 400,
    "ServiceQuotaExceededException": 402,
    "ServiceUnavailable": 503,
    "SlowDown": 503,
    "SubscriptionRequiredException": 403,
    "Throttling": 400,
    "ThrottlingException": 429,
    "TooManyRequestsException": 429,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}


class Refusal(Exception):  # noqa: N818 - an answer of the service, not a fault of this program
    """The service refuses a call: its error code, its message and the further members of its error shape."""

    def __init__(self, code: str, message: str, members: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.members: Mapping[str, object] = members or {}
        self.status_code = STATUS_CODES[code]

    def body(self) -> dict[str, object]:
        """Return the JSON object that stands in the answer."""
        return {"message": self.message, **self.members}


MEMBERSHIP_QUOTA: Final = "Pending/in-progress custom model inference jobs per membership"  # L-0F77DDDB
ACCOUNT_QUOTA: Final = "Pending/in-progress custom model inference jobs per account"  # L-249F4B83


def over_quota(name: str, value: int) -> Refusal:
    """Return the refusal of a job for which there is no slot."""
    message = f"You have exceeded your service quota: {name} ({value})."
    return Refusal("ServiceQuotaExceededException", message, {"quotaName": name, "quotaValue": float(value)})


def bare_quota() -> Refusal:
    """Return the same without saying which quota and how many slots it has."""
    return Refusal("ServiceQuotaExceededException", "You have exceeded your service quota.")


def denied(resource: str) -> Refusal:
    """Return the refusal of a call that the caller may not make on a resource."""
    action = "cleanrooms-ml:StartTrainedModelInferenceJob"
    who = "arn:aws:sts::111122223333:assumed-role/sandbox/session"
    message = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    return Refusal("AccessDeniedException", message)


def invalid(*problems: str) -> Refusal:
    """Return the refusal of a request that breaks its constraints, in the words AWS puts around them."""
    detected = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
    return Refusal("ValidationException", f"{detected} detected: {'; '.join(problems)}")


def problem(where: str, constraint: str) -> str:
    """Return one problem of a request in AWS's words. The value itself is left out: it may be private."""
    return f"Value at '{where}' failed to satisfy constraint: {constraint}"
