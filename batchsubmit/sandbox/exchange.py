"""One call, from its reading to its answer: validation, the limit of calls, faults, the service.

It must not know a web server, and waits for nothing: what takes time is handed back as a delay.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from batchsubmit.sandbox.calls import ACCEPTED
from batchsubmit.sandbox.faults import AFTER, Drawn, Fault, Faults
from batchsubmit.sandbox.http import Answer, Call, Routes, answer_of, answer_of_refusal
from batchsubmit.sandbox.quotas import ACCOUNT_QUOTA, MEMBERSHIP_QUOTA
from batchsubmit.sandbox.refusals import Refusal, over_quota
from batchsubmit.sandbox.service import Reply, Request, SandboxService
from batchsubmit.sandbox.validation import Form

UNKNOWN_OPERATION: Final = "unknown"
CUT: Final = "cut"

_CODES: Final[Mapping[Fault, tuple[str, str]]] = {
    Fault.QUOTA_BARE: ("ServiceQuotaExceededException", "You have exceeded your service quota."),
    Fault.THROTTLED: ("ThrottlingException", "Rate exceeded"),
    Fault.TOO_MANY_REQUESTS: ("TooManyRequestsException", "Too Many Requests"),
    Fault.THROTTLING_400: ("Throttling", "Rate exceeded"),
    Fault.REQUEST_LIMIT: ("RequestLimitExceeded", "Request limit exceeded."),
    Fault.SLOW_DOWN: ("SlowDown", "Please reduce your request rate."),
    Fault.CONFLICT: ("ConflictException", "Another change of this resource is in progress."),
    Fault.VALIDATION: ("ValidationException", "The request is not valid (injected)."),
    Fault.NOT_FOUND: ("ResourceNotFoundException", "The resource was not found (injected)."),
    Fault.ACCESS_DENIED: ("AccessDeniedException", "User is not authorized to perform this operation."),
    Fault.EXPIRED_TOKEN: ("ExpiredTokenException", "The security token included in the request is expired"),
    Fault.UNRECOGNIZED_CLIENT: (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    ),
    Fault.SUBSCRIPTION_REQUIRED: (
        "SubscriptionRequiredException",
        "The AWS Access Key Id needs a subscription for the service",
    ),
    Fault.UNKNOWN_OPERATION: ("UnknownOperationException", "There is no such operation (injected)."),
    Fault.ERROR_BEFORE: ("InternalServerException", "Internal server error"),
    Fault.UNAVAILABLE: ("ServiceUnavailable", "Service is unable to handle the request."),
    Fault.EXPIRED_NEXT_TOKEN: ("ValidationException", "nextToken is expired."),
}


_SPOILED: Final[Mapping[Fault, tuple[str, str]]] = {
    Fault.ERROR_AFTER: ("InternalServerException", "Internal server error"),
    Fault.SLOW_DOWN_AFTER: ("SlowDown", "Please reduce your request rate."),
    Fault.ABORTED_AFTER: ("RequestAborted", "The request was aborted before a response was sent back."),
    Fault.TIMEOUT_AFTER: ("RequestTimeout", "The request timed out."),
    Fault.TIMEOUT_EXCEPTION_AFTER: ("RequestTimeoutException", "The request timed out."),
}
_MAY_SAY_WHEN: Final = frozenset({429, 503})


class Exchange:
    """The service with the wire before it and faults around it."""

    def __init__(self, service: SandboxService, faults: Faults) -> None:
        self._service = service
        self._faults = faults
        self._form = Form()
        self._routes = Routes(self._form)

    def answer(self, call: Call) -> Answer:
        """Answer one call; a 429 or 503 says in `Retry-After` what the plan says."""
        answer = self._answer(call)
        if answer.status_code in _MAY_SAY_WHEN:
            return replace(answer, retry_after=self._faults.plan.retry_after)
        return answer

    def _answer(self, call: Call) -> Answer:
        operation = UNKNOWN_OPERATION
        try:
            operation, request = self._routes.read(call)
            self._form.require(operation, request, call.region)
            self._service.throttle(operation)
        except Refusal as refusal:
            return self._refused(operation, refusal)
        drawn = self._faults.draw(operation, self._name(request), has_token="nextToken" in request)
        if drawn.fault in AFTER:
            return self._distorted(operation, request, drawn)
        self._faults.spend(operation, drawn)
        return self._instead(operation, request, drawn)

    def _instead(self, operation: str, request: Request, drawn: Drawn) -> Answer:
        """Answer with the fault, if there is one; the service hears of the call otherwise."""
        if refusal := self._injected_refusal(drawn.fault):
            return self._refused(operation, refusal)
        serve = partial(self._served, partial(self._service.call, operation, request))
        match drawn.fault:
            case Fault.SLOW_ACCEPTANCE:
                return Answer(delay_seconds=drawn.seconds, then=serve)
            case Fault.EMPTY_PAGE:
                self._service.tally.count(operation, ACCEPTED)
                return self._served(partial(self._service.list, request, empty=True))
            case Fault.CUT_BEFORE:
                self._service.tally.count(operation, CUT)
                return Answer(cut=True, body=b"")
            case Fault.STALL:
                self._service.tally.count(operation, CUT)
                return Answer(cut=True, body=b"", delay_seconds=drawn.seconds)
        return serve()

    def _injected_refusal(self, fault: Fault) -> Refusal | None:
        settings = self._service.settings
        match fault:
            case Fault.QUOTA:
                return over_quota(MEMBERSHIP_QUOTA, settings.per_membership)
            case Fault.QUOTA_ACCOUNT:
                return over_quota(ACCOUNT_QUOTA, settings.per_account)
        return Refusal(*_CODES[fault]) if fault in _CODES else None

    def _distorted(self, operation: str, request: Request, drawn: Drawn) -> Answer:
        """Let the service accept the call, and spoil its answer. A refusal goes out as it is."""
        answer = self._served(partial(self._service.call, operation, request))
        if answer.error_code:
            return answer
        self._faults.spend(operation, drawn)
        return _spoiled(answer, drawn)

    def _served(self, serve: Callable[[], Reply]) -> Answer:
        try:
            return answer_of(serve())
        except Refusal as refusal:
            return answer_of_refusal(refusal)

    def _refused(self, operation: str, refusal: Refusal) -> Answer:
        self._service.tally.count(operation, refusal.code)
        return answer_of_refusal(refusal)

    def _name(self, request: Request) -> str | None:
        arn = request.get("trainedModelInferenceJobArn")
        name: str | None = self._service.name_of(arn) if arn else request.get("name")
        return name


def _spoiled(answer: Answer, drawn: Drawn) -> Answer:
    if drawn.fault in _SPOILED:
        return answer_of_refusal(Refusal(*_SPOILED[drawn.fault]))
    match drawn.fault:
        case Fault.LOST_AFTER:
            return Answer(cut=True, body=b"")
        case Fault.RESET_AFTER:
            return Answer(cut=True, reset=True, body=b"")
        case Fault.TRUNCATED:
            return replace(answer, cut=True)
        case Fault.SLOW_ANSWER:
            return replace(answer, delay_seconds=drawn.seconds)
        case Fault.UNREADABLE:
            return replace(answer, body=b"<html>Bad Gateway</html>")
    return replace(answer, body=b"{}")  # NO_ARN
