"""Faults to be injected: which there are, and which meets the next call. It must not know HTTP or jobs.

A script is a list of faults that are used up, one a matching call; a call that no entry matches is left to
the probabilities. Invalid calls meet no fault, and a fault *after* acceptance is spent only on a call that
was accepted.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Annotated, Final, Self

import msgspec

from batchsubmit.sandbox.refusals import Operation
from batchsubmit.sandbox.settings import Amount

ANY_OPERATION: Final = "*"
_ROUNDING: Final = 1e-9


class InjectedFault(StrEnum):
    """What can go wrong. From `ERROR_AFTER` on, the call took effect; the faults before it happen instead of the call.

    A fault with a code and a message is a refusal, sent with the HTTP status of its code.
    """

    _value_: str
    code: str
    message: str

    NONE = "none"  # let the call pass: in a script, to reach the one behind it
    QUOTA = "quota"  # 402 with the quota per membership, though there may be slots
    QUOTA_ACCOUNT = "quota_account"  # 402 with the quota per account
    QUOTA_BARE = "quota_bare", "ServiceQuotaExceededException", "You have exceeded your service quota."
    THROTTLED = "throttled", "ThrottlingException", "Rate exceeded"
    TOO_MANY_REQUESTS = "too_many_requests", "TooManyRequestsException", "Too Many Requests"
    THROTTLING_400 = "throttling_400", "Throttling", "Rate exceeded"
    REQUEST_LIMIT = "request_limit", "RequestLimitExceeded", "Request limit exceeded."
    SLOW_DOWN = "slow_down", "SlowDown", "Please reduce your request rate."
    CONFLICT = "conflict", "ConflictException", "Another change of this resource is in progress."
    VALIDATION = "validation", "ValidationException", "The request is not valid (injected)."
    NOT_FOUND = "not_found", "ResourceNotFoundException", "The resource was not found (injected)."
    ACCESS_DENIED = "access_denied", "AccessDeniedException", "User is not authorized to perform this operation."
    EXPIRED_TOKEN = "expired_token", "ExpiredTokenException", "The security token included in the request is expired"
    UNRECOGNIZED_CLIENT = "unrecognized_client", "UnrecognizedClientException", "The security token is invalid."
    SUBSCRIPTION_REQUIRED = "subscription_required", "SubscriptionRequiredException", "The key needs a subscription."
    UNKNOWN_OPERATION = "unknown_operation", "UnknownOperationException", "There is no such operation (injected)."
    ERROR_BEFORE = "error_before", "InternalServerException", "Internal server error"
    UNAVAILABLE = "unavailable", "ServiceUnavailable", "Service is unable to handle the request."
    CUT_BEFORE = "cut_before"  # the connection is cut
    STALL = "stall"  # the connection is cut after some seconds
    SLOW_ACCEPTANCE = "slow_acceptance"  # the call takes effect after some seconds, even if the caller has gone
    EMPTY_PAGE = "empty_page"  # List: an empty page with a token to go on with
    # List: only for a call with a nextToken; others pass, and do not spend it
    EXPIRED_NEXT_TOKEN = "expired_next_token", "ValidationException", "nextToken is expired."
    ERROR_AFTER = "error_after", "InternalServerException", "Internal server error"
    SLOW_DOWN_AFTER = "slow_down_after", "SlowDown", "Please reduce your request rate."
    ABORTED_AFTER = "aborted_after", "RequestAborted", "The request was aborted before a response was sent back."
    TIMEOUT_AFTER = "timeout_after", "RequestTimeout", "The request timed out."
    TIMEOUT_EXCEPTION_AFTER = "timeout_exception_after", "RequestTimeoutException", "The request timed out."
    LOST_AFTER = "lost_after"  # the connection is cut without an answer
    RESET_AFTER = "reset_after"  # the same by a TCP reset: aiobotocore then says it could not connect
    TRUNCATED = "truncated"  # the connection is cut in the middle of the answer
    SLOW_ANSWER = "slow_answer"  # the call takes effect at once and is answered after some seconds
    UNREADABLE = "unreadable"  # 200 with a body that is not JSON
    NO_ARN = "no_arn"  # 200 with an empty object

    def __new__(cls, value: str, code: str = "", message: str = "") -> Self:
        """Keep the code and the message beside the value."""
        fault = str.__new__(cls, value)
        fault._value_, fault.code, fault.message = value, code, message
        return fault

    @property
    def is_after(self) -> bool:
        """Whether the call took effect before this went wrong."""
        faults = list(InjectedFault)
        return faults.index(self) >= faults.index(InjectedFault.ERROR_AFTER)


class ScriptedFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault for the next `times` calls of one operation (`*` for any), or of one job's name only."""

    fault: InjectedFault
    operation: str = Operation.START
    name: str | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    seconds: Amount | None = None
    """How long a slow one takes; the plan's `slow_seconds` if not said."""

    def __post_init__(self) -> None:
        """Refuse an entry that no call would ever match."""
        _require_operation(self.operation)


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong: `probabilities` by operation (`*` for any) and fault, and a script."""

    probabilities: Mapping[str, Mapping[InjectedFault, Amount]] = {}
    script: tuple[ScriptedFault, ...] = ()
    slow_seconds: Amount = 5.0
    retry_after: str = ""
    """What every 429 and 503 carries as `Retry-After`; no such header where empty."""
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse probabilities that mean nothing."""
        for operation, shares in self.probabilities.items():
            _require_operation(operation)
            if sum(shares.values()) > 1 + _ROUNDING:
                raise ValueError(f"the probabilities of {operation} are more than 1 together")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan from a JSON file. Raises ValueError that says what is wrong with it."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ValueError(f"the faults file {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"the faults file {path}: not a plan of faults: {error}") from error


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
        self.injected: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Faults by operation."""
        self._left = [entry.times for entry in plan.script]
        self._random = Random(plan.seed)  # noqa: S311 - faults, not secrets

    def draw(self, operation: str, name: str | None, *, has_token: bool = False) -> Drawn:
        """Return what meets a call of an operation; `name` is the job's, where it is known."""
        kept = set() if operation == Operation.LIST else {InjectedFault.EMPTY_PAGE}
        if operation != Operation.LIST or not has_token:
            kept.add(InjectedFault.EXPIRED_NEXT_TOKEN)
        for position, entry in enumerate(self.plan.script):
            matches = entry.operation in (operation, ANY_OPERATION) and entry.name in (None, name)
            if self._left[position] and matches and entry.fault not in kept:
                seconds = self.plan.slow_seconds if entry.seconds is None else entry.seconds
                return Drawn(fault=entry.fault, seconds=seconds, entry=position)
        shares = self.plan.probabilities.get(operation, self.plan.probabilities.get(ANY_OPERATION, {}))
        chances = [*shares.values(), max(1 - sum(shares.values()), 0.0)]
        (fault,) = self._random.choices([*shares, InjectedFault.NONE], chances)
        return Drawn(fault=InjectedFault.NONE if fault in kept else fault, seconds=self.plan.slow_seconds)

    def spend(self, operation: str, drawn: Drawn) -> None:
        """Use a fault up, and count it."""
        if drawn.entry is not None:
            self._left[drawn.entry] -= 1
        if drawn.fault is not InjectedFault.NONE:
            self.injected[operation][drawn.fault.value] += 1

    def unspent(self) -> list[ScriptedFault]:
        """Return the entries of the script that are not used up."""
        return [entry for entry, left in zip(self.plan.script, self._left, strict=True) if left]


def _require_operation(operation: str) -> None:
    if operation not in (*Operation, ANY_OPERATION):
        raise ValueError(f"unknown operation {operation!r}; known are {', '.join(Operation)} and {ANY_OPERATION}")
