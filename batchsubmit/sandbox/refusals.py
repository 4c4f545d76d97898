"""The operations of the sandbox, and its refusals: the codes of Clean Rooms ML and of AWS, with their HTTP status.

It must not know what is refused, or why.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """What the sandbox serves."""

    START = "StartTrainedModelInferenceJob"
    GET = "GetTrainedModelInferenceJob"
    LIST = "ListTrainedModelInferenceJobs"
    CANCEL = "CancelTrainedModelInferenceJob"
    GET_MODEL = "GetTrainedModel"
    GET_CHANNEL = "GetMLInputChannel"
    LIST_MODELS = "ListTrainedModels"
    LIST_CHANNELS = "ListMLInputChannels"
    LIST_ALGORITHMS = "ListConfiguredModelAlgorithmAssociations"
    LIST_MEMBERSHIPS = "ListMemberships"  # of AWS Clean Rooms itself, another service


LISTINGS = (Operation.LIST_MODELS, Operation.LIST_CHANNELS, Operation.LIST_ALGORITHMS, Operation.LIST_MEMBERSHIPS)
"""What shows the things that are there, none of which can be made here."""

_CODES: Final = {
    400: "RequestAborted RequestTimeout RequestTimeoutException SerializationException Throttling ValidationException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException ExpiredTokenException SubscriptionRequiredException UnrecognizedClientException",
    404: "ResourceNotFoundException UnknownOperationException",
    409: "ConflictException",
    429: "ThrottlingException TooManyRequestsException",
    500: "InternalServerException",
    503: "RequestLimitExceeded ServiceUnavailable SlowDown",
}
STATUS_CODES: Final = {code: status for status, codes in _CODES.items() for code in codes.split()}


class Refusal(Exception):  # noqa: N818 - an answer of the service, not a fault of this program
    """The service refuses a call: its error code, its message and the further members of its error shape."""

    def __init__(self, code: str, message: str, members: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.members: Mapping[str, object] = members or {}
        self.status_code = STATUS_CODES[code]


MEMBERSHIP_QUOTA: Final = "Pending/in-progress custom model inference jobs per membership"  # L-0F77DDDB
ACCOUNT_QUOTA: Final = "Pending/in-progress custom model inference jobs per account"  # L-249F4B83


def over_quota(name: str, value: int, *, named: bool = True) -> Refusal:
    """Return the refusal of a job for which there is no slot; unless `named`, without the quota's name and value."""
    message = f"You have exceeded your service quota{f': {name} ({value})' if named else ''}."
    members = {"quotaName": name, "quotaValue": float(value)} if named else {}
    return Refusal("ServiceQuotaExceededException", message, members)


def invalid(*problems: str) -> Refusal:
    """Return the refusal of a request that breaks its constraints, in the words AWS puts around them."""
    detected = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
    return Refusal("ValidationException", f"{detected} detected: {'; '.join(problems)}")


def problem(where: str, constraint: str) -> str:
    """Return one problem of a request in AWS's words. The value itself is left out: it may be private."""
    return f"Value at '{where}' failed to satisfy constraint: {constraint}"
