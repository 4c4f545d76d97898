"""From an HTTP request to an operation and its members, and back: rest-json, as Clean Rooms ML speaks it.

It must not know a web server, nor what the operations do. Paths are matched as they came, still
percent-encoded: an ARN is one segment, its slashes as %2F.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote

from batchsubmit.sandbox.refusals import Refusal, invalid, problem
from batchsubmit.sandbox.validation import Form

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
class Answer:
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
    then: "Callable[[], Answer] | None" = None


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

    def __init__(self, form: Form) -> None:
        self._routes = [_route(form, operation) for operation in form.operations]

    def read(self, call: Call) -> tuple[str, dict[str, Any]]:
        """Return a call's operation and members, unchecked; raises `Refusal` where it cannot be read."""
        for route in self._routes:
            labels = route.path.fullmatch(call.path)
            if labels and route.method == call.method:
                return route.operation, _members(route, labels.groupdict(), call)
        raise Refusal("UnknownOperationException", f"There is no {call.method} {call.path}.")


def answer_of(reply: Mapping[str, Any]) -> Answer:
    """Return the answer to a call that worked."""
    return Answer(body=_json(reply))


def answer_of_refusal(refusal: Refusal) -> Answer:
    """Return the answer to a call that did not."""
    return Answer(status_code=refusal.status_code, body=_json(refusal.body()), error_code=refusal.code)


def parsed(body: bytes) -> object:
    """Read a JSON body more strictly than `json` does; raises `Refusal`."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal("SerializationException", "The body is not a JSON object in UTF-8.") from None


def _route(form: Form, operation: str) -> _Route:
    http = form.operations[operation]["http"]
    members = form.input_members(operation)
    queried = {
        ref["locationName"]: form.shapes[ref["shape"]]["type"]
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
    body = parsed(call.body) if call.body else {}
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
