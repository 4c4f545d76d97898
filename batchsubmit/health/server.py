"""A worker's small HTTP side: `/livez`, `/readyz` and `/metrics` on one port, on loopback unless told otherwise.

It runs on the worker's own event loop on purpose: a loop that no longer turns answers no probe. Nothing is
authenticated and nothing can be changed through it.
"""

from collections.abc import Callable, Mapping
from typing import Self, TypeAlias

from aiohttp import web

from batchsubmit.errors import UsageError

Condition: TypeAlias = Callable[[], str]
"""Says in a few words why it is not met, or nothing where it is. It must not wait: it is asked in a probe."""

Conditions: TypeAlias = Mapping[str, Condition]


def unmet(conditions: Conditions) -> dict[str, str]:
    """What is lacking, by name."""
    reasons = ((name, condition()) for name, condition in conditions.items())
    return {name: reason for name, reason in reasons if reason}


Exposition: TypeAlias = Callable[[str], tuple[bytes, str]]
"""Metrics for an Accept header, and their content type (`observers.metrics.Metrics.exposition`)."""

_NO_METRICS = "metrics need the extra: pip install 'batchsubmit[metrics]'\n"
_LEAVE_SECONDS = 0.5
"""Time for a scrape that is under way when the worker ends."""


class ProbeServer:
    """Serves between `__aenter__` and `__aexit__`; `url` is where. Port 0 is any free one."""

    def __init__(
        self,
        *,
        live: Conditions,
        ready: Conditions,
        metrics: Exposition | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._live = live
        self._ready = ready
        self._metrics = metrics
        self.host = host
        self.port = port

    @property
    def url(self) -> str:
        """The base of its addresses."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/livez", self._answer_livez)
        application.router.add_get("/readyz", self._answer_readyz)
        application.router.add_get("/metrics", self._answer_metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LEAVE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as exc:
            await self._runner.cleanup()
            raise UsageError(
                f"nothing can listen on {self.url} ({exc.strerror}); set another worker.metrics_port, or 0 for none"
            ) from exc
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer_livez(self, _: web.Request) -> web.Response:
        return _verdict(self._live)

    async def _answer_readyz(self, _: web.Request) -> web.Response:
        return _verdict(self._ready)

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        if self._metrics is None:
            return web.Response(status=501, text=_NO_METRICS)
        body, content_type = self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _verdict(conditions: Conditions) -> web.Response:
    lacking = unmet(conditions)
    answer = {name: lacking.get(name, "ok") for name in conditions}
    return web.json_response(answer, status=503 if lacking else 200)
