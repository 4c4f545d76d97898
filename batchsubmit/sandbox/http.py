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
from urllib.parse import parse_qs, unquote

from batchsubmit.sandbox.faults import Drawn, Faults, InjectedFault
from batchsubmit.sandbox.refusals import (
    ACCOUNT_QUOTA,
    LISTINGS,
    MEMBERSHIP_QUOTA,
    Refusal,
    invalid,
    over_quota,
    problem,
)
from batchsubmit.sandbox.service import ACCEPTED, Reply, Request, SandboxService
from batchsubmit.sandbox.validation import RequestValidator

UNKNOWN_OPERATION: Final = "unknown"
CUT: Final = "cut"
_MAY_HAVE_RETRY_AFTER: Final = frozenset({429, 503})
_LABEL: Final = re.compile(r"\{(\w+)\}")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
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
            body = json.loads((call.body or b"{}").decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
            in_path = {name: unquote(value, errors="strict") for name, value in labels.items()}
            in_query = parse_qs(call.query, keep_blank_values=True, errors="strict")
        except (ValueError, RecursionError):
            raise Refusal("SerializationException", "The URI is not UTF-8, or the body is no JSON in it.") from None
        if not isinstance(body, dict):
            raise Refusal("SerializationException", "The body is not a JSON object.")
        in_uri = {
            name: ref for name, ref in self._validator.input_shape(operation)["members"].items() if "location" in ref
        }
        if misplaced := in_uri.keys() & body.keys():
            raise invalid(*(problem(name, "Member is not known in the body") for name in sorted(misplaced)))
        types = {ref["locationName"]: self._validator.shapes[ref["shape"]]["type"] for ref in in_uri.values()}
        signed = {name: values for name, values in in_query.items() if not name.startswith("X-Amz-")}
        query = {name: _of_type(types.get(name), name, values) for name, values in signed.items()}
        return body | query | in_path


def _of_type(kind: str | None, name: str, values: list[str]) -> object:
    """Read a member of the query, where an integer comes as text."""
    if len(values) > 1:
        raise invalid(problem(name, "Member must be given once"))
    return int(values[0]) if kind == "integer" and _INTEGER.fullmatch(values[0]) else values[0]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise invalid(problem("body", "Each member must be given once"))
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
            if operation in LISTINGS:
                request |= {"region": call.region or "us-east-1"}
            self._service.throttle(operation)
        except Refusal as refusal:
            self._service.tally.count(operation, refusal.code)
            return _answer_of_refusal(refusal)
        drawn = self._faults.draw(operation, self._name(request), has_token="nextToken" in request)
        serve = partial(_answer_of_call, partial(self._service.call, operation, request))
        if not drawn.fault.is_after:
            self._faults.spend(operation, drawn)
            return self._instead(operation, request, drawn, serve)
        answer = serve()
        if answer.error_code:  # a refused call goes out as it is, and does not spend the fault
            return answer
        self._faults.spend(operation, drawn)
        return _spoiled(answer, drawn)

    def _instead(self, operation: str, request: Request, drawn: Drawn, serve: Callable[[], HttpAnswer]) -> HttpAnswer:
        """Answer with the fault if there is one, else with the service's reply."""
        outcome, answer = CUT, HttpAnswer(cut=True, body=b"")
        match drawn.fault:
            case InjectedFault.NONE:
                return serve()
            case InjectedFault.SLOW_ACCEPTANCE:
                return HttpAnswer(delay_seconds=drawn.seconds, then=serve)
            case InjectedFault.EMPTY_PAGE:
                outcome, answer = ACCEPTED, _answer_of_call(partial(self._service.list, request, empty=True))
            case InjectedFault.STALL:
                answer = replace(answer, delay_seconds=drawn.seconds)
            case fault if fault is not InjectedFault.CUT_BEFORE:
                refusal = self._injected(fault)
                outcome, answer = refusal.code, _answer_of_refusal(refusal)
        self._service.tally.count(operation, outcome)
        return answer

    def _injected(self, fault: InjectedFault) -> Refusal:
        match fault:
            case InjectedFault.QUOTA:
                return over_quota(MEMBERSHIP_QUOTA, self._service.settings.per_membership)
            case InjectedFault.QUOTA_ACCOUNT:
                return over_quota(ACCOUNT_QUOTA, self._service.settings.per_account)
        return Refusal(fault.code, fault.message)

    def _name(self, request: Request) -> str | None:
        arn = request.get("trainedModelInferenceJobArn")
        job = self._service.job(arn) if arn else None
        return job.name if job else request.get("name")


def _answer_of_call(call: Callable[[], Reply]) -> HttpAnswer:
    try:
        return HttpAnswer(body=json.dumps(call()).encode())
    except Refusal as refusal:
        return _answer_of_refusal(refusal)


def _answer_of_refusal(refusal: Refusal) -> HttpAnswer:
    body = {"message": refusal.message, **refusal.members}
    return HttpAnswer(status_code=refusal.status_code, body=json.dumps(body).encode(), error_code=refusal.code)


def _spoiled(answer: HttpAnswer, drawn: Drawn) -> HttpAnswer:
    match drawn.fault:
        case InjectedFault.LOST_AFTER:
            return HttpAnswer(cut=True, body=b"")
        case InjectedFault.RESET_AFTER:
            return HttpAnswer(cut=True, reset=True, body=b"")
        case InjectedFault.TRUNCATED:
            return replace(answer, cut=True)
        case InjectedFault.SLOW_ANSWER:
            return replace(answer, delay_seconds=drawn.seconds)
        case InjectedFault.UNREADABLE:
            return replace(answer, body=b"<html>Bad Gateway</html>")
        case InjectedFault.NO_ARN:
            return replace(answer, body=b"{}")
        case fault:
            return _answer_of_refusal(Refusal(fault.code, fault.message))
