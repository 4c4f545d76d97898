"""From an HTTP request to its answer: rest-json, as Clean Rooms ML speaks it, with faults injected.

It must not know a web server, nor what the operations do. It waits for nothing: an answer says how long to delay it.
Paths are matched as they came, still percent-encoded: an ARN is one segment, its slashes as %2F.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote

from batchsubmit.sandbox.faults import Faults, InjectedFault
from batchsubmit.sandbox.refusals import ACCOUNT_QUOTA, LISTINGS, MEMBERSHIP_QUOTA, Refusal, over_quota
from batchsubmit.sandbox.service import Request, SandboxService
from batchsubmit.sandbox.validation import RequestValidator

UNKNOWN_OPERATION: Final = "unknown"
CUT: Final = "cut"
_MAY_HAVE_RETRY_AFTER: Final = frozenset({429, 503})
_LABEL: Final = re.compile(r"\{(\w+)\}")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
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
_CREDENTIAL_REGION: Final = re.compile(r"Credential=[^/,\s]+/[0-9]{8}/([^/,\s]+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request. `path` is raw; `query` is what stands behind its question mark."""

    method: str
    path: str
    query: str = ""
    authorization: str = ""
    body: bytes = b""

    @property
    def region(self) -> str | None:
        """The region the call was signed for, if it was signed."""
        found = _CREDENTIAL_REGION.search(self.authorization)
        return found[1] if found else None


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


class Routes:
    """The paths of the operations and the members in them, from the service model."""

    def __init__(self, validator: RequestValidator) -> None:
        self._validator = validator
        self._paths = {
            (operation, shape["http"]["method"]): re.compile(_LABEL.sub(r"(?P<\1>[^/]+)", shape["http"]["requestUri"]))
            for operation, shape in validator.operations.items()
        }

    def read(self, call: Call) -> tuple[str, dict[str, Any]]:
        """Return a call's operation and members, unchecked; raises `Refusal` where it cannot be read."""
        for (operation, method), path in self._paths.items():
            labels = path.fullmatch(call.path)
            if labels and method == call.method:
                return operation, self._members(operation, labels.groupdict(), call)
        raise Refusal("UnknownOperationException", f"There is no {call.method} {call.path}.")

    def _members(self, operation: str, labels: Mapping[str, str], call: Call) -> dict[str, Any]:
        try:
            body = json.loads((call.body or b"{}").decode(), parse_constant=_no_constant)
            in_path = {name: unquote(value, errors="strict") for name, value in labels.items()}
            in_query = parse_qsl(call.query, keep_blank_values=True, errors="strict")
        except (ValueError, RecursionError):
            raise Refusal("SerializationException", "The URI is not UTF-8, or the body is no JSON in it.") from None
        if not isinstance(body, dict):
            raise Refusal("SerializationException", "The body is not a JSON object.")
        members = body | dict(in_query) | in_path
        kinds = self._validator.kinds_in_uri(operation)
        for name, value in in_query:
            if name.startswith("X-Amz-"):  # a part of the signature
                del members[name]
            elif kinds.get(name) == "integer" and _INTEGER.fullmatch(value):
                members[name] = int(value)
        return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


class Exchange:
    """Answers HTTP requests: validation, the limit of calls, faults, the service. Waits for nothing."""

    def __init__(self, service: SandboxService, faults: Faults) -> None:
        self._service = service
        self._faults = faults
        self._validator = RequestValidator()
        self._routes = Routes(self._validator)

    def answer(self, call: Call) -> HttpAnswer:
        """Answer one call; a 429 or 503 says in `Retry-After` what the plan says."""
        answer = self._answer(call)
        if answer.status_code in _MAY_HAVE_RETRY_AFTER:
            return replace(answer, retry_after=self._faults.plan.retry_after)
        return answer

    def _answer(self, call: Call) -> HttpAnswer:
        operation = UNKNOWN_OPERATION
        try:
            operation, request = self._routes.read(call)
            self._validator.require(operation, request, call.region)
            self._service.throttle(operation)
        except Refusal as refusal:
            return self._refused(operation, refusal)
        if operation in LISTINGS:
            request |= {"region": call.region or "us-east-1"}
        return self._meet_faults(operation, request)

    def _meet_faults(self, operation: str, request: dict[str, Any]) -> HttpAnswer:
        drawn = self._faults.draw(operation, self._name(request), has_token="nextToken" in request)
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
                return _answer_of_refusal(Refusal(fault.code, fault.message))
        return self._refused(operation, self._injected(drawn.fault))

    def _serve(self, operation: str, request: Request) -> HttpAnswer:
        try:
            return HttpAnswer(body=json.dumps(self._service.call(operation, request)).encode())
        except Refusal as refusal:
            return _answer_of_refusal(refusal)

    def _refused(self, operation: str, refusal: Refusal) -> HttpAnswer:
        """Refuse a call that the service never sees."""
        self._service.calls[operation][refusal.code] += 1
        return _answer_of_refusal(refusal)

    def _injected(self, fault: InjectedFault) -> Refusal:
        match fault:
            case InjectedFault.QUOTA:
                return over_quota(MEMBERSHIP_QUOTA, self._service.settings.per_membership)
            case InjectedFault.QUOTA_ACCOUNT:
                return over_quota(ACCOUNT_QUOTA, self._service.settings.per_account)
        return Refusal(fault.code, fault.message)

    def _name(self, request: Request) -> str | None:
        job = self._service.job(request.get("trainedModelInferenceJobArn", ""))
        return job.name if job else request.get("name")


def _answer_of_refusal(refusal: Refusal) -> HttpAnswer:
    body = {"message": refusal.message, **refusal.members}
    return HttpAnswer(status_code=refusal.status_code, body=json.dumps(body).encode(), error_code=refusal.code)
