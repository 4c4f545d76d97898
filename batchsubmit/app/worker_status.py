"""What a worker shows of itself: its readings for a scrape, and what makes it live and ready.

It only looks: at engine, slots, queue and ledger, whenever somebody asks.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batchsubmit.config import WorkerSettings
from batchsubmit.health.server import Conditions
from batchsubmit.observers.base import LaneReading, Readings, RunCounts
from batchsubmit.queue.client import Queue, QueueCounters
from batchsubmit.queue.source import SqsSource
from batchsubmit.slots import Slots
from batchsubmit.submit.build import BuiltEngine
from batchsubmit.submit.stopping import Stop

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


class Pulse:
    """A loop that must come round: it beats at each turn, and is stalled when it has not for too long.

    A loop that has ended in good order rests: it is not missed while the worker drains.
    """

    def __init__(self, within_seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._within_seconds = within_seconds
        self._monotonic = monotonic
        self._beat_at = monotonic()
        self._rests = False

    def beat(self) -> None:
        """Come round."""
        self._beat_at = self._monotonic()

    def rest(self) -> None:
        """Be missed no more."""
        self._rests = True

    def trouble(self) -> str:
        """Say that the loop is stalled, if it is."""
        silent = self._monotonic() - self._beat_at
        if self._rests or silent <= self._within_seconds:
            return ""
        return f"no progress for {silent:.0f} s, allowed are {self._within_seconds:.0f} s"


class Contact:
    """A service that must be reached: unknown at first, then as the last call on it went."""

    def __init__(self) -> None:
        self._trouble = "not reached yet"

    def made(self) -> None:
        """A call was answered."""
        self._trouble = ""

    def lost(self, reason: str) -> None:
        """A call failed, for this reason."""
        self._trouble = reason or "lost"

    def trouble(self) -> str:
        """Say what the last call lacked, if anything."""
        return self._trouble


class WorkerStatus:
    """A worker's readings and conditions; source and engine come once they are built."""

    def __init__(
        self, *, queue: Queue, counters: QueueCounters, tally: RunCounts, stop: Stop, within_seconds: float
    ) -> None:
        self._source: SqsSource | None = None
        self._built: BuiltEngine | None = None
        self._counters = counters
        self._tally = tally
        self._stop = stop
        self._pulse = Pulse(within_seconds)
        self._contact = Contact()
        queue.on_call = self._pulse.beat
        queue.on_answer = self._heard
        stop.on_request(self._pulse.rest)

    def shows(self, source: SqsSource, built: BuiltEngine) -> None:
        """Read this source and this engine from now on: the worker is ready."""
        self._source, self._built = source, built

    def _heard(self, trouble: str) -> None:
        if trouble:
            self._contact.lost(trouble)
        else:
            self._contact.made()

    def live(self) -> Conditions:
        """What a worker must not lack, or it is started anew."""
        return {"intake": self._pulse.trouble}

    def ready(self, ledger_trouble: Callable[[], str]) -> Conditions:
        """What a worker needs to take new messages."""
        return {
            "queue": self._contact.trouble,
            "ledger": ledger_trouble,
            "manifests": lambda: self._source.trouble() if self._source else "",
            "worker": lambda: "draining" if self._stop.requested else "" if self._built else "starting",
        }

    def read(self) -> Readings:
        """Look at everything."""
        source, built, queue = self._source, self._built, self._counters
        if source is None or built is None:
            return Readings(is_draining=self._stop.requested)
        used, known = built.slots.account_usage()
        return Readings(
            lanes=_lanes(source, built.slots),
            account_slots_used=used,
            account_slots_known=known,
            rate_per_second=built.gate.pace.per_second,
            calls_under_way=built.engine.under_way,
            jobs_unknown=self._tally.unknown,
            jobs_undecided=len(built.engine.undecided),
            messages_held=source.held,
            oldest_message_age_seconds=source.oldest_seconds() if source.held else None,
            is_draining=self._stop.requested,
            queue_polls=queue.polls,
            messages={name: getattr(queue, name) for name in _MESSAGE_COUNTS},
            queue_failures={name: getattr(queue, name) for name in _FAILURE_COUNTS},
        )


_MESSAGE_COUNTS = (
    "received",
    "redelivered",
    "copies",
    "recognised",
    "poisoned",
    "moved",
    "extended",
    "lost",
    "handed_back",
    "renewed",
    "undecided",
    "over_quota",
    "deleted",
)
_FAILURE_COUNTS = ("throttled", "unanswered", "delete_failures", "extension_failures")


def _lanes(source: SqsSource, slots: Slots) -> tuple[LaneReading, ...]:
    waiting, usage = source.waiting_by_lane(), slots.usage()
    return tuple(
        LaneReading(membership=each, waiting=waiting.get(each, 0), slots_used=used, slots_known=known)
        for each in sorted(waiting.keys() | usage.keys())
        for used, known in (usage.get(each, (0, None)),)
    )
