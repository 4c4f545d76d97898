"""The sandbox over HTTP: a thin web server around `http`, on loopback by default, with calls of its own (`administer`).

Nothing is authenticated, so it belongs on no public interface.
"""

import asyncio
import socket
import struct
from typing import Any, Final, Self
from uuid import uuid4

import msgspec
from aiohttp import web

from batchsubmit.sandbox.faults import FaultPlan, Faults
from batchsubmit.sandbox.http import Exchange, HttpAnswer
from batchsubmit.sandbox.service import SandboxService
from batchsubmit.sandbox.validation import Call

PREFIX: Final = "/_sandbox/"
LOOPBACK: Final = "127.0.0.1"
_LONGEST_LINE: Final = 64 * 1024  # an ARN of 2048 characters, encoded, beside a nextToken
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # linger on, for no time
_DRAIN_SECONDS: Final = 0.1


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
        call = Call(
            method=request.method,
            path=path,
            query=query,
            authorization=request.headers.get("Authorization", ""),
            body=body,
        )
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
