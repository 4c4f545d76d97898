"""A worker's health over HTTP: `/livez`, `/readyz` and `/metrics` on one port, and the check of it by another process.

It runs on the worker's own event loop on purpose: a loop that no longer turns answers no probe. Nothing is
authenticated, but for the token in the report page's address, and nothing can be changed through it.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import TypeAlias

from aiohttp import web

from batchsubmit.config import Settings, WorkerSettings
from batchsubmit.errors import UsageError

Conditions: TypeAlias = Mapping[str, Callable[[], str]]
"""By name, what says in a few words why it is not met, or nothing where it is. It must not wait: a probe asks it."""

_LEAVE_SECONDS = 0.5
"""Time for what is being answered at the end: a scrape, or the events of an open page."""


@asynccontextmanager
async def serving_probes(
    settings: WorkerSettings,
    *,
    live: Conditions,
    ready: Conditions,
    metrics: Callable[[str], tuple[bytes, str]] | None,
    pages: Sequence[web.RouteDef] = (),
) -> AsyncIterator[None]:
    """Serve for as long as the context lasts; nothing with port 0. Raises UsageError where the port is taken.

    `metrics` gives them for an Accept header, with their content type.
    """
    if not settings.metrics_port:
        yield
        return
    application = web.Application()
    application.router.add_get("/livez", partial(_verdict, live))
    application.router.add_get("/readyz", partial(_verdict, ready))
    application.router.add_get("/metrics", partial(_expose, metrics))
    application.router.add_routes(pages)
    advice = "set another worker.metrics_port, or 0 for none"
    async with listening(application, settings.metrics_host, settings.metrics_port, advice):
        yield


@asynccontextmanager
async def listening(application: web.Application, host: str, port: int, advice: str) -> AsyncIterator[str]:
    """Serve an application; give its base URL. Raises UsageError, with the advice, where the port is taken."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LEAVE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        await runner.cleanup()
        raise UsageError(f"nothing can listen on {base_url(host, port)} ({exc.strerror}); {advice}") from exc
    try:
        yield base_url(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def base_url(host: str, port: int) -> str:
    """An address without a path."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _verdict(conditions: Conditions, _: web.Request) -> web.Response:
    lacking = {name: condition() for name, condition in conditions.items()}
    answer = {name: words or "ok" for name, words in lacking.items()}
    return web.json_response(answer, status=503 if any(lacking.values()) else 200)


async def _expose(metrics: Callable[[str], tuple[bytes, str]] | None, request: web.Request) -> web.Response:
    if metrics is None:
        return web.Response(status=501, text="metrics need the extra: pip install 'batchsubmit[metrics]'\n")
    body, content_type = metrics(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


def stalled(settings: Settings, silent_seconds: float) -> str:
    """Say that no call of SQS has begun for too long: receiver and heartbeat make no progress."""
    worker = settings.worker
    most = worker.wait_seconds + settings.aws.read_timeout_seconds + worker.visibility_timeout_seconds
    return "" if silent_seconds <= most else f"no progress for {silent_seconds:.0f} s, allowed are {most:.0f} s"


def ask_probe(settings: WorkerSettings, probe: str, patience_seconds: float = 3.0) -> tuple[bool, str]:
    """Ask a probe of this machine's worker: whether it is well, and its words; one without an answer in time is not.

    Plain `http.client`: a proxy in the environment is not asked for what is on this machine.
    """
    if not settings.metrics_port:
        return False, "worker.metrics_port is 0: the worker has no probes to ask"
    local = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 (asked, not bound)
    host = local.get(settings.metrics_host, settings.metrics_host)
    connection = HTTPConnection(host, settings.metrics_port, timeout=patience_seconds)
    try:
        connection.request("GET", f"/{probe}", headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status == 200, response.read().decode(errors="replace").strip()
    except (OSError, HTTPException) as exc:
        url = base_url(host, settings.metrics_port)
        return False, f"{url}/{probe} does not answer: {str(exc) or type(exc).__name__}"
    finally:
        connection.close()
