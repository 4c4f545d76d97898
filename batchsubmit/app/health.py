"""How a worker shows its health: metrics if they are installed, and the small HTTP side if it is wanted.

It knows neither queue nor engine: whoever runs them says what to read and which conditions count.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batchsubmit.config import WorkerSettings
from batchsubmit.observers.readings import Readings
from batchsubmit.probes import Conditions

if TYPE_CHECKING:
    from batchsubmit.health.server import ProbeServer
    from batchsubmit.observers.metrics import Metrics


def make_metrics(read: Callable[[], Readings]) -> "Metrics | None":
    """Make an observer that counts for Prometheus; None where the extra `metrics` is not installed."""
    try:
        from batchsubmit.observers.metrics import Metrics  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError:
        return None
    return Metrics(read)


@asynccontextmanager
async def serving_probes(
    settings: WorkerSettings, *, live: Conditions, ready: Conditions, metrics: "Metrics | None"
) -> "AsyncIterator[ProbeServer | None]":
    """Serve probes and metrics where the settings say, for as long as the context lasts; nothing with port 0.

    Raises UsageError where the port is taken.
    """
    if not settings.metrics_port:
        yield None
        return
    from batchsubmit.health.server import ProbeServer  # noqa: PLC0415 (aiohttp.web takes a tenth of a second)

    exposition = metrics.exposition if metrics else None
    async with ProbeServer(
        live=live, ready=ready, metrics=exposition, host=settings.metrics_host, port=settings.metrics_port
    ) as server:
        yield server
