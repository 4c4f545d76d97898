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

from batchsubmit.sandbox.faults import AFTER, REFUSALS, Drawn, Faults, InjectedFault
from batchsubmit.sandbox.refusals import (
    ACCOUNT_QUOTA,
    LIST_MEMBERSHIPS,
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
    body: bytes = b"{}"
    error_code: str | None = None
    cut: bool = False
    """Cut the connection: before the first byte, or in the middle of `body` if it is not empty."""
    reset: bool = False
    """Cut it by a TCP reset."""
    retry_after: str = ""
    delay_seconds: float = 0.0
    then: "Callable[[], HttpAnswer] | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    operation: str
    method: str
    path: re.Pattern[str]
    query_types: Mapping[str, str]
    elsewhere: frozenset[str]
    """Members that come in the URI, and are unknown in a body."""


class Routes:
    """The paths of the operations, from the service model."""

    def __init__(self, *validators: RequestValidator) -> None:
        self._routes = [_route(each, operation) for each in validators for operation in each.operations]

    def read(self, call: Call) -> tuple[str, dict[str, Any]]:
        """Return a call's operation and members, unchecked; raises `Refusal` where it cannot be read."""
        for route in self._routes:
            labels = route.path.fullmatch(call.path)
            if labels and route.method == call.method:
                return route.operation, _members(route, labels.groupdict(), call)
        raise Refusal("UnknownOperationException", f"There is no {call.method} {call.path}.")


def _parsed(body: bytes) -> object:
    """Read a JSON body more strictly than `json` does; raises `Refusal`."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal("SerializationException", "The body is not a JSON object in UTF-8.") from None


def _route(validator: RequestValidator, operation: str) -> _Route:
    http = validator.operations[operation]["http"]
    members = validator.input_members(operation)
    queried = {
        ref["locationName"]: validator.shapes[ref["shape"]]["type"]
        for ref in members.values()
        if ref.get("location") == "querystring"
    }
    return _Route(
        operation=operation,
        method=http["method"],
        path=re.compile(_LABEL.sub(r"(?P<\1>[^/]+)", http["requestUri"])),
        query_types=queried,
        elsewhere=frozenset(name for name, ref in members.items() if "location" in ref),
    )


def _members(route: _Route, labels: Mapping[str, str], call: Call) -> dict[str, Any]:
    body = _parsed(call.body) if call.body else {}
    if not isinstance(body, dict):
        raise Refusal("SerializationException", "The body is not a JSON object.")
    if misplaced := route.elsewhere & body.keys():
        raise invalid(*(problem(name, "Member is not known in the body") for name in sorted(misplaced)))
    try:
        in_path = {name: unquote(value, errors="strict") for name, value in labels.items()}
        in_query = parse_qsl(call.query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Refusal("SerializationException", "The URI is not UTF-8.") from None
    return body | in_path | _query_members(route, in_query)


def _query_members(route: _Route, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        match route.query_types.get(name):
            case None if name.startswith("X-Amz-"):  # a signature in the query
                continue
            case None:
                raise invalid(problem(name, "Member is not known"))
            case "list":
                members.setdefault(name, []).append(value)
            case _ if name in members:
                raise invalid(problem(name, "Member must be given once"))
            case "integer" if _INTEGER.fullmatch(value):
                members[name] = int(value)
            case _:
                members[name] = value
    return members


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise invalid(problem(max(names, key=names.count), "Member must be given once"))
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


class Exchange:
    """Answers HTTP requests: validation, the limit of calls, faults, the service. Waits for nothing."""

    def __init__(self, service: SandboxService, faults: Faults) -> None:
        self._service = service
        self._faults = faults
        ml, rooms = RequestValidator(), RequestValidator("cleanrooms", [LIST_MEMBERSHIPS])
        self._validators = {**dict.fromkeys(ml.operations, ml), LIST_MEMBERSHIPS: rooms}
        self._routes = Routes(ml, rooms)

    def answer(self, call: Call) -> HttpAnswer:
        """HttpAnswer one call; a 429 or 503 says in `Retry-After` what the plan says."""
        answer = self._answer(call)
        if answer.status_code in _MAY_HAVE_RETRY_AFTER:
            return replace(answer, retry_after=self._faults.plan.retry_after)
        return answer

    def _answer(self, call: Call) -> HttpAnswer:
        operation = UNKNOWN_OPERATION
        try:
            operation, request = self._routes.read(call)
            self._validators[operation].require(operation, request, call.region)
            if operation in LISTINGS:
                request |= {"region": call.region or "us-east-1"}
            self._service.throttle(operation)
        except Refusal as refusal:
            return self._refused(operation, refusal)
        drawn = self._faults.draw(operation, self._name(request), has_token="nextToken" in request)
        if drawn.fault in AFTER:
            return self._distorted(operation, request, drawn)
        self._faults.spend(operation, drawn)
        return self._instead(operation, request, drawn)

    def _instead(self, operation: str, request: Request, drawn: Drawn) -> HttpAnswer:
        """HttpAnswer with the fault if there is one, else with the service's reply."""
        if refusal := self._injected_refusal(drawn.fault):
            return self._refused(operation, refusal)
        serve = partial(_answer_of_call, partial(self._service.call, operation, request))
        match drawn.fault:
            case InjectedFault.SLOW_ACCEPTANCE:
                return HttpAnswer(delay_seconds=drawn.seconds, then=serve)
            case InjectedFault.EMPTY_PAGE:
                self._service.tally.count(operation, ACCEPTED)
                return _answer_of_call(partial(self._service.list, request, empty=True))
            case InjectedFault.CUT_BEFORE:
                self._service.tally.count(operation, CUT)
                return HttpAnswer(cut=True, body=b"")
            case InjectedFault.STALL:
                self._service.tally.count(operation, CUT)
                return HttpAnswer(cut=True, body=b"", delay_seconds=drawn.seconds)
        return serve()

    def _injected_refusal(self, fault: InjectedFault) -> Refusal | None:
        match fault:
            case InjectedFault.QUOTA:
                return over_quota(MEMBERSHIP_QUOTA, self._service.settings.per_membership)
            case InjectedFault.QUOTA_ACCOUNT:
                return over_quota(ACCOUNT_QUOTA, self._service.settings.per_account)
        return Refusal(*REFUSALS[fault]) if fault in REFUSALS else None

    def _distorted(self, operation: str, request: Request, drawn: Drawn) -> HttpAnswer:
        """Let the service accept the call, and spoil its answer. A refusal goes out as it is."""
        answer = _answer_of_call(partial(self._service.call, operation, request))
        if answer.error_code:
            return answer
        self._faults.spend(operation, drawn)
        return _spoiled(answer, drawn)

    def _refused(self, operation: str, refusal: Refusal) -> HttpAnswer:
        self._service.tally.count(operation, refusal.code)
        return _answer_of_refusal(refusal)

    def _name(self, request: Request) -> str | None:
        arn = request.get("trainedModelInferenceJobArn")
        name: str | None = self._service.name_of(arn) if arn else request.get("name")
        return name


def _answer_of_call(call: Callable[[], Reply]) -> HttpAnswer:
    try:
        return HttpAnswer(body=_json(call()))
    except Refusal as refusal:
        return _answer_of_refusal(refusal)


def _answer_of_refusal(refusal: Refusal) -> HttpAnswer:
    return HttpAnswer(status_code=refusal.status_code, body=_json(refusal.body()), error_code=refusal.code)


def _spoiled(answer: HttpAnswer, drawn: Drawn) -> HttpAnswer:
    if drawn.fault in REFUSALS:
        return _answer_of_refusal(Refusal(*REFUSALS[drawn.fault]))
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
    return replace(answer, body=b"{}")  # NO_ARN
