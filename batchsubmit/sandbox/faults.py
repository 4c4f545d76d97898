"""Faults to be injected: which there are, and which meets the next call. It must not know HTTP or jobs.

A script is a list of faults that are used up, one a matching call; a call that no entry matches is left to
the probabilities. Invalid calls meet no fault, and a fault *after* acceptance is spent only on a call that
was accepted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Final, Self

import msgspec

from batchsubmit.sandbox.refusals import LIST, LIST_MEMBERSHIPS, OPERATIONS, START

ANY_OPERATION: Final = "*"
_ROUNDING: Final = 1e-9


class InjectedFault(StrEnum):
    """What can go wrong. Those of `AFTER` happen to a call that took effect, the others instead of it."""

    NONE = "none"  # let the call pass: in a script, to reach the one behind it
    QUOTA = "quota"  # 402 with the quota per membership, though there may be slots
    QUOTA_ACCOUNT = "quota_account"  # 402 with the quota per account
    QUOTA_BARE = "quota_bare"  # 402 without quotaName and quotaValue
    THROTTLED = "throttled"  # 429 ThrottlingException, the modelled one
    TOO_MANY_REQUESTS = "too_many_requests"  # 429 TooManyRequestsException
    THROTTLING_400 = "throttling_400"  # 400 Throttling
    REQUEST_LIMIT = "request_limit"  # 503 RequestLimitExceeded
    SLOW_DOWN = "slow_down"  # 503 SlowDown
    CONFLICT = "conflict"  # 409 ConflictException
    VALIDATION = "validation"  # 400 ValidationException
    NOT_FOUND = "not_found"  # 404 ResourceNotFoundException
    ACCESS_DENIED = "access_denied"  # 403 AccessDeniedException
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 (403 ExpiredTokenException)
    UNRECOGNIZED_CLIENT = "unrecognized_client"  # 403 UnrecognizedClientException
    SUBSCRIPTION_REQUIRED = "subscription_required"  # 403 SubscriptionRequiredException
    UNKNOWN_OPERATION = "unknown_operation"  # 404 UnknownOperationException
    ERROR_BEFORE = "error_before"  # 500, and the call took no effect
    UNAVAILABLE = "unavailable"  # 503 ServiceUnavailable, and the call took no effect
    CUT_BEFORE = "cut_before"  # the connection is cut, and the call took no effect
    STALL = "stall"  # the connection is cut after some seconds, and the call took no effect
    SLOW_ACCEPTANCE = "slow_acceptance"  # the call takes effect after some seconds, even if the caller has gone
    EMPTY_PAGE = "empty_page"  # List: an empty page with a token to go on with
    # List: 400 ValidationException for a call with a nextToken; others pass, and do not spend it
    EXPIRED_NEXT_TOKEN = "expired_next_token"  # noqa: S105
    ERROR_AFTER = "error_after"  # 500, but the call took effect
    SLOW_DOWN_AFTER = "slow_down_after"  # 503 SlowDown, but the call took effect
    ABORTED_AFTER = "aborted_after"  # 400 RequestAborted, but the call took effect
    TIMEOUT_AFTER = "timeout_after"  # 400 RequestTimeout, but the call took effect
    TIMEOUT_EXCEPTION_AFTER = "timeout_exception_after"  # 400 RequestTimeoutException, but the call took effect
    LOST_AFTER = "lost_after"  # the connection is cut without an answer, but the call took effect
    # The same, by a TCP reset instead of an orderly end: aiobotocore then says it could not connect.
    RESET_AFTER = "reset_after"
    TRUNCATED = "truncated"  # the connection is cut in the middle of the answer; the call took effect
    SLOW_ANSWER = "slow_answer"  # the call takes effect at once and is answered after some seconds
    UNREADABLE = "unreadable"  # 200 with a body that is not JSON; the call took effect
    NO_ARN = "no_arn"  # 200 with an empty object; the call took effect


AFTER: Final = frozenset(
    {
        InjectedFault.ERROR_AFTER,
        InjectedFault.SLOW_DOWN_AFTER,
        InjectedFault.ABORTED_AFTER,
        InjectedFault.TIMEOUT_AFTER,
        InjectedFault.TIMEOUT_EXCEPTION_AFTER,
        InjectedFault.LOST_AFTER,
        InjectedFault.RESET_AFTER,
        InjectedFault.TRUNCATED,
        InjectedFault.SLOW_ANSWER,
        InjectedFault.UNREADABLE,
        InjectedFault.NO_ARN,
    }
)

REFUSALS: Final[Mapping[InjectedFault, tuple[str, str]]] = {
    InjectedFault.QUOTA_BARE: ("ServiceQuotaExceededException", "You have exceeded your service quota."),
    InjectedFault.THROTTLED: ("ThrottlingException", "Rate exceeded"),
    InjectedFault.TOO_MANY_REQUESTS: ("TooManyRequestsException", "Too Many Requests"),
    InjectedFault.THROTTLING_400: ("Throttling", "Rate exceeded"),
    InjectedFault.REQUEST_LIMIT: ("RequestLimitExceeded", "Request limit exceeded."),
    InjectedFault.SLOW_DOWN: ("SlowDown", "Please reduce your request rate."),
    InjectedFault.CONFLICT: ("ConflictException", "Another change of this resource is in progress."),
    InjectedFault.VALIDATION: ("ValidationException", "The request is not valid (injected)."),
    InjectedFault.NOT_FOUND: ("ResourceNotFoundException", "The resource was not found (injected)."),
    InjectedFault.ACCESS_DENIED: ("AccessDeniedException", "User is not authorized to perform this operation."),
    InjectedFault.EXPIRED_TOKEN: ("ExpiredTokenException", "The security token included in the request is expired"),
    InjectedFault.UNRECOGNIZED_CLIENT: ("UnrecognizedClientException", "The security token is invalid."),
    InjectedFault.SUBSCRIPTION_REQUIRED: ("SubscriptionRequiredException", "The access key needs a subscription."),
    InjectedFault.UNKNOWN_OPERATION: ("UnknownOperationException", "There is no such operation (injected)."),
    InjectedFault.ERROR_BEFORE: ("InternalServerException", "Internal server error"),
    InjectedFault.UNAVAILABLE: ("ServiceUnavailable", "Service is unable to handle the request."),
    InjectedFault.EXPIRED_NEXT_TOKEN: ("ValidationException", "nextToken is expired."),
    InjectedFault.ERROR_AFTER: ("InternalServerException", "Internal server error"),
    InjectedFault.SLOW_DOWN_AFTER: ("SlowDown", "Please reduce your request rate."),
    InjectedFault.ABORTED_AFTER: ("RequestAborted", "The request was aborted before a response was sent back."),
    InjectedFault.TIMEOUT_AFTER: ("RequestTimeout", "The request timed out."),
    InjectedFault.TIMEOUT_EXCEPTION_AFTER: ("RequestTimeoutException", "The request timed out."),
}
"""Code and message of the faults that are refusals."""


class ScriptedFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault for the next `times` calls of one operation (`*` for any), or of one job's name only."""

    fault: InjectedFault
    operation: str = START
    name: str | None = None
    times: int = 1
    seconds: float | None = None
    """How long a slow one takes; the plan's `slow_seconds` if not said."""

    def __post_init__(self) -> None:
        """Refuse an entry that no call would ever match."""
        _require_operation(self.operation)
        if self.times < 1:
            raise ValueError(f"times must be at least 1, not {self.times}")
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"seconds must not be negative, not {self.seconds}")


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong: `probabilities` by operation (`*` for any) and fault, and a script."""

    probabilities: Mapping[str, Mapping[InjectedFault, float]] = {}
    script: tuple[ScriptedFault, ...] = ()
    slow_seconds: float = 5.0
    retry_after: str = ""
    """What every 429 and 503 carries as `Retry-After`; no such header where empty."""
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse probabilities that mean nothing."""
        if not self.slow_seconds >= 0:
            raise ValueError(f"slow_seconds must not be negative, not {self.slow_seconds}")
        for operation, shares in self.probabilities.items():
            _require_operation(operation)
            if not all(share >= 0 for share in shares.values()) or not sum(shares.values()) <= 1 + _ROUNDING:
                raise ValueError(f"the probabilities of {operation} must be at least 0 and at most 1 together")

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> Self:
        """Read a plan from a JSON object with this class's members. Raises ValueError that says what does not fit."""
        try:
            return msgspec.convert(plan, cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"not a plan of faults: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The fault that meets a call; `Faults.spend` counts it and uses it up."""

    fault: InjectedFault
    seconds: float
    entry: int | None = None


class Faults:
    """A plan being carried out: what of the script is left, and what was injected."""

    def __init__(self, plan: FaultPlan | None = None) -> None:
        self.configure(plan or FaultPlan())

    def configure(self, plan: FaultPlan) -> None:
        """Begin a new plan, and count from zero."""
        self.plan = plan
        self.injected: Counter[tuple[str, str]] = Counter()
        self._left = [entry.times for entry in plan.script]
        self._random = Random(plan.seed)  # noqa: S311 - faults, not secrets

    def draw(self, operation: str, name: str | None, *, has_token: bool = False) -> Drawn:
        """Return what meets a call of an operation; `name` is the job's, where it is known."""
        for position, entry in enumerate(self.plan.script):
            if self._left[position] and _matches(entry, operation, name, has_token=has_token):
                seconds = self.plan.slow_seconds if entry.seconds is None else entry.seconds
                return Drawn(fault=entry.fault, seconds=seconds, entry=position)
        fault = self._draw_by_chance(operation)
        fits = _fits(fault, operation, has_token=has_token)
        return Drawn(fault=fault if fits else InjectedFault.NONE, seconds=self.plan.slow_seconds)

    def spend(self, operation: str, drawn: Drawn) -> None:
        """Use a fault up, and count it."""
        if drawn.entry is not None:
            self._left[drawn.entry] -= 1
        if drawn.fault is not InjectedFault.NONE:
            self.injected[operation, drawn.fault.value] += 1

    def unspent(self) -> list[ScriptedFault]:
        """Return the entries of the script that are not used up."""
        return [entry for entry, left in zip(self.plan.script, self._left, strict=True) if left]

    def _draw_by_chance(self, operation: str) -> InjectedFault:
        shares = self.plan.probabilities.get(operation, self.plan.probabilities.get(ANY_OPERATION))
        if not shares:
            return InjectedFault.NONE
        drawn = self._random.random()
        for fault, share in shares.items():
            drawn -= share
            if drawn < 0:
                return fault
        return InjectedFault.NONE


def _matches(entry: ScriptedFault, operation: str, name: str | None, *, has_token: bool) -> bool:
    return (
        entry.operation in (operation, ANY_OPERATION)
        and entry.name in (None, name)
        and _fits(entry.fault, operation, has_token=has_token)
    )


def _fits(fault: InjectedFault, operation: str, *, has_token: bool) -> bool:
    match fault:
        case InjectedFault.EMPTY_PAGE:
            return operation == LIST
        case InjectedFault.EXPIRED_NEXT_TOKEN:
            return operation == LIST and has_token
    return True


def _require_operation(operation: str) -> None:
    if operation not in (*OPERATIONS, LIST_MEMBERSHIPS, ANY_OPERATION):
        raise ValueError(f"unknown operation {operation!r}; known are {', '.join(OPERATIONS)} and {ANY_OPERATION}")
