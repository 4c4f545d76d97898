"""The sandbox over HTTP: rest-json, as Clean Rooms ML speaks it, with faults injected; and `administer`, its own calls.

`Exchange` answers a call without a web server; around it is a thin one, on loopback by default. Nothing is
authenticated, so it belongs on no public interface.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Self
from uuid import uuid4

import msgspec
from aiohttp import web

from batchsubmit.sandbox.faults import FaultPlan, Faults, InjectedFault
from batchsubmit.sandbox.refusals import ACCOUNT_QUOTA, LISTINGS, MEMBERSHIP_QUOTA, Refusal, over_quota
from batchsubmit.sandbox.service import Request, SandboxService
from batchsubmit.sandbox.validation import Call, RequestValidator

PREFIX: Final = "/_sandbox/"
LOOPBACK: Final = "127.0.0.1"
_LONGEST_LINE: Final = 64 * 1024  # an ARN of 2048 characters, encoded, beside a nextToken
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # linger on, for no time
_DRAIN_SECONDS: Final = 0.1
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
        refusal = self._injected(drawn.fault)
        return self._answer_of_refusal(refusal) if drawn.fault.is_after else self._refused(operation, refusal)

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
        settings = self._service.settings
        if fault is InjectedFault.QUOTA:
            return over_quota(MEMBERSHIP_QUOTA, settings.per_membership)
        if fault is InjectedFault.QUOTA_ACCOUNT:
            return over_quota(ACCOUNT_QUOTA, settings.per_account)
        return Refusal(fault.code, fault.message)

    def _answer_of_refusal(self, refusal: Refusal) -> HttpAnswer:
        """Put a refusal into HTTP; a 429 or 503 says in `Retry-After` what the plan says."""
        body = json.dumps({"message": refusal.message, **refusal.members}).encode()
        retry_after = self._faults.plan.retry_after if refusal.status_code in _MAY_HAVE_RETRY_AFTER else ""
        status_code, code = refusal.status_code, refusal.code
        return HttpAnswer(status_code=status_code, body=body, error_code=code, retry_after=retry_after)


class SandboxServer:
    """Serves between `__aenter__` and `__aexit__`; `url` is where."""

    def __init__(
        self, service: SandboxService, faults: Faults | None = None, *, host: str = LOOPBACK, port: int = 0
    ) -> None:
        self.service = service
        self.faults = faults or Faults()
        self.host = host
        self.port = port
        self._exchange = Exchange(service, self.faults)

    @property
    def url(self) -> str:
        """The endpoint URL, for `AWS_ENDPOINT_URL_CLEANROOMSML`."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, max_line_size=_LONGEST_LINE)
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=_DRAIN_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        body = await request.content.read()  # `request.read` stops at 1 MiB; an environment may be longer
        if path.startswith(PREFIX):
            return _response(administer(self.service, self.faults, request.method, path, body))
        signed = request.headers.get("Authorization", "")
        call = Call(method=request.method, path=path, query=query, authorization=signed, body=body)
        answer = self._exchange.answer(call)
        if answer.delay_seconds:
            await asyncio.sleep(answer.delay_seconds)
        if answer.then:
            answer = answer.then()
        return await _cut(request, answer) if answer.cut else _response(answer)


def _response(answer: HttpAnswer) -> web.Response:
    headers = {"x-amzn-requestid": str(uuid4()), "Content-Type": answer.content_type}
    if answer.error_code:
        headers["x-amzn-errortype"] = answer.error_code
    if answer.retry_after:
        headers["Retry-After"] = answer.retry_after
    return web.Response(status=answer.status_code, body=answer.body, headers=headers)


async def _cut(request: web.BaseRequest, answer: HttpAnswer) -> web.StreamResponse:
    """Break the connection off, after half of the answer if there is one."""
    response = web.StreamResponse(status=answer.status_code)
    if answer.body:
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
    transport = request.transport
    if transport is None:  # the caller has gone first
        return response
    if answer.reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.close()
    return response


def administer(service: SandboxService, faults: Faults, method: str, path: str, body: bytes) -> HttpAnswer:
    """Answer a call under `/_sandbox/`, which shows what the service has, or changes it while it runs.

    GET `jobs` (JSON lines), `stats`, `settings`; PUT `settings` and `quotas`, members of `SandboxSettings`, and
    `faults`, a whole `FaultPlan`; POST `reset`, which forgets jobs and counts. 400 where something does not fit.
    """
    name = path.removeprefix(PREFIX)
    if (method, name) == ("GET", "jobs"):
        shown = [{**job.detail(), "arn": job.arn, "account": job.account, "tags": job.tags} for job in service.jobs()]
        return HttpAnswer(content_type="application/x-ndjson", body=msgspec.json.Encoder().encode_lines(shown))
    try:
        status_code, members = 200, _carry_out(service, faults, method, name, body or b"{}")
    except LookupError:
        status_code, members = 404, {"message": f"there is no {method} {path}"}
    except ValueError as error:
        status_code, members = 400, {"message": str(error)}
    return HttpAnswer(status_code=status_code, body=msgspec.json.encode(members, order="sorted"))


def _carry_out(service: SandboxService, faults: Faults, method: str, name: str, body: bytes) -> object:
    """Do what a call asks and return what it shows. Raises LookupError where there is no such call."""
    match method, name:
        case "GET", "stats":
            return {
                "accepted": len(service.jobs()),
                "calls": service.calls,
                "faults": faults.injected,
                "unspent_faults": len(faults.unspent()),
                "statuses": service.statuses(),
                "running": +service.running,
            }
        case "POST", "reset":
            service.reset()
            faults.configure(faults.plan)
            return {}
        case "PUT", "faults":
            faults.configure(msgspec.json.decode(body, type=FaultPlan))
            return {}
        case "PUT", "settings" | "quotas":
            service.configure(service.settings.changed(msgspec.json.decode(body, type=dict[str, Any])))
        case "GET", "settings":
            pass
        case _:
            raise LookupError(name)
    return service.settings
