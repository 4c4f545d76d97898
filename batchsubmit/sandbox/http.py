"""From an HTTP request to its answer: rest-json, as Clean Rooms ML speaks it, with faults injected.

It must not know a web server, nor what the operations do. It waits for nothing: an answer says how long to delay it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from batchsubmit.sandbox.faults import Faults, InjectedFault
from batchsubmit.sandbox.refusals import ACCOUNT_QUOTA, LISTINGS, MEMBERSHIP_QUOTA, Refusal, over_quota
from batchsubmit.sandbox.service import Request, SandboxService
from batchsubmit.sandbox.validation import Call, RequestValidator

UNKNOWN_OPERATION: Final = "unknown"
CUT: Final = "cut"
_MAY_HAVE_RETRY_AFTER: Final = frozenset({429, 503})
_BREAKS: Final[Mapping[InjectedFault, Mapping[str, Any]]] = {
    InjectedFault.CUT_BEFORE: {"cut": True, "body": b""},
    InjectedFault.STALL: {"cut": True, "body": b""},
    InjectedFault.LOST_AFTER: {"cut": True, "body": b""},
    InjectedFault.RESET_AFTER: {"cut": True, "reset": True, "body": b""},
    InjectedFault.TRUNCATED: {"cut": True},
    InjectedFault.SLOW_ANSWER: {},
    InjectedFault.UNREADABLE: {"body": b"<html>Bad Gateway</html>"},
    InjectedFault.NO_ARN: {"body": b"{}"},
}
"""What these faults make of an answer."""
_DELAYED: Final = frozenset({InjectedFault.STALL, InjectedFault.SLOW_ANSWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What goes back after `delay_seconds`: an HTTP answer, a cut connection, or what `then` brings."""

    status_code: int = 200
    content_type: str = "application/json"
    body: bytes = b"{}"
    error_code: str | None = None
    cut: bool = False
    """Cut the connection: before the first byte, or in the middle of `body` if it is not empty."""
    reset: bool = False
    """Cut it by a TCP reset."""
    retry_after: str = ""
    delay_seconds: float = 0.0
    then: "Callable[[], HttpAnswer] | None" = None


class Exchange:
    """Answers HTTP requests: validation, the limit of calls, faults, the service. Waits for nothing."""

    def __init__(self, service: SandboxService, faults: Faults) -> None:
        self._service = service
        self._faults = faults
        self._validator = RequestValidator()

    def answer(self, call: Call) -> HttpAnswer:
        """Answer one call."""
        operation = UNKNOWN_OPERATION
        try:
            operation, request = self._validator.read(call)
            self._validator.require(operation, request, call.region)
            self._service.throttle(operation)
        except Refusal as refusal:
            return self._refused(operation, refusal)
        if operation in LISTINGS:
            request |= {"region": call.region or "us-east-1"}
        return self._meet_faults(operation, request)

    def _meet_faults(self, operation: str, request: dict[str, Any]) -> HttpAnswer:
        job = self._service.job(request.get("trainedModelInferenceJobArn", ""))
        name = job.name if job else request.get("name")
        drawn = self._faults.draw(operation, name, has_token="nextToken" in request)
        serve, served = partial(self._serve, operation, request), HttpAnswer()
        if drawn.fault.is_after:
            served = serve()
            if served.error_code:  # a refused call goes out as it is, and does not spend the fault
                return served
        self._faults.spend(operation, drawn)
        match drawn.fault:
            case InjectedFault.NONE:
                return serve()
            case InjectedFault.SLOW_ACCEPTANCE:
                return HttpAnswer(delay_seconds=drawn.seconds, then=serve)
            case InjectedFault.EMPTY_PAGE:
                return self._serve(operation, request | {"maxResults": 0})
            case fault if fault in _BREAKS:
                if not fault.is_after:
                    self._service.calls[operation][CUT] += 1
                seconds = drawn.seconds if fault in _DELAYED else 0.0
                return replace(served, delay_seconds=seconds, **_BREAKS[fault])
            case fault if fault.is_after:
                return self._answer_of_refusal(Refusal(fault.code, fault.message))
        return self._refused(operation, self._injected(drawn.fault))

    def _serve(self, operation: str, request: Request) -> HttpAnswer:
        try:
            return HttpAnswer(body=json.dumps(self._service.call(operation, request)).encode())
        except Refusal as refusal:
            return self._answer_of_refusal(refusal)

    def _refused(self, operation: str, refusal: Refusal) -> HttpAnswer:
        """Refuse a call that the service never sees."""
        self._service.calls[operation][refusal.code] += 1
        return self._answer_of_refusal(refusal)

    def _injected(self, fault: InjectedFault) -> Refusal:
        match fault:
            case InjectedFault.QUOTA:
                return over_quota(MEMBERSHIP_QUOTA, self._service.settings.per_membership)
            case InjectedFault.QUOTA_ACCOUNT:
                return over_quota(ACCOUNT_QUOTA, self._service.settings.per_account)
        return Refusal(fault.code, fault.message)

    def _answer_of_refusal(self, refusal: Refusal) -> HttpAnswer:
        """Put a refusal into HTTP; a 429 or 503 says in `Retry-After` what the plan says."""
        body = json.dumps({"message": refusal.message, **refusal.members}).encode()
        retry_after = self._faults.plan.retry_after if refusal.status_code in _MAY_HAVE_RETRY_AFTER else ""
        status_code, code = refusal.status_code, refusal.code
        return HttpAnswer(status_code=status_code, body=body, error_code=code, retry_after=retry_after)
