"""What a worker shows of itself: its readings for a scrape, and what makes it live and ready.

It only looks: at engine, slots, queue and ledger, whenever someone asks.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING

from batchsubmit.config import Settings
from batchsubmit.core.ledger_state import Counts
from batchsubmit.health import Conditions, serving_probes
from batchsubmit.ledger.file import FileLedger
from batchsubmit.ledger.shared import SharedLedger
from batchsubmit.observers.base import LaneReading, Readings, RunCounts
from batchsubmit.observers.live import WorkerProgress
from batchsubmit.queue.client import LONG_POLL_SECONDS, Queue
from batchsubmit.queue.source import SqsSource
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.stopping import Stop

if TYPE_CHECKING:
    from aiohttp.web import RouteDef

    from batchsubmit.observers.metrics import Metrics

_FAILURE_COUNTS = ("throttled", "unanswered", "delete_failures", "extension_failures")
_JOB_COUNTS = ("submitted", "rejected", "unknown", "failed", "cancelled")


def make_metrics(read: Callable[[], Readings]) -> "Metrics | None":
    """Make an observer that counts for Prometheus; None where the extra `metrics` is not installed."""
    try:
        from batchsubmit.observers.metrics import Metrics  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError:
        return None
    return Metrics(read)


class WorkerStatus:
    """A worker's readings and conditions, and its metrics, one or none; source and engine come once they are open."""

    def __init__(
        self, queue: Queue, settings: Settings, *, ledger: FileLedger | SharedLedger, tally: RunCounts, stop: Stop
    ) -> None:
        made = make_metrics(self.read)
        self.metrics = [made] if made else []
        self._parts: tuple[SqsSource, Engine] | None = None
        self._queue = queue
        self._settings = settings
        self._ledger = ledger
        self._tally = tally
        self._stop = stop

    def serving(self, pages: "Sequence[RouteDef]") -> AbstractAsyncContextManager[None]:
        """Answer probes and scrapes, and show these pages."""
        metrics = self.metrics[0].exposition if self.metrics else None
        return serving_probes(self._settings.worker, live=self.live(), ready=self.ready(), metrics=metrics, pages=pages)

    def shows(self, source: SqsSource, engine: Engine) -> None:
        """Read this source and this engine from now on: the worker is ready."""
        self._parts = source, engine

    def live(self) -> Conditions:
        """What a worker must not lack, or it is restarted."""
        return {"intake": self._stalled}

    def _stalled(self) -> str:
        """Say that no call of SQS has begun for too long: receiver and heartbeat make no progress.

        A worker that drains for minutes must not be killed for it.
        """
        settings = self._settings
        most = LONG_POLL_SECONDS + settings.aws.read_timeout_seconds + settings.worker.visibility_timeout_seconds
        silent = time.monotonic() - self._queue.called_at
        is_well = self._stop.requested or silent <= most
        return "" if is_well else f"no progress for {silent:.0f} s, allowed are {most:.0f} s"

    def ready(self) -> Conditions:
        """What a worker needs to take new messages."""
        return {
            "queue": lambda: self._queue.trouble,
            "ledger": lambda: self._ledger.trouble,
            "manifests": lambda: self._parts[0].trouble() if self._parts else "",
            "worker": lambda: "draining" if self._stop.requested else "" if self._parts else "starting",
        }

    def progress(self) -> WorkerProgress:
        """What is shown at a terminal."""
        readings = self.read()
        return WorkerProgress(
            counts=Counts(**{name: getattr(self._tally, name) for name in _JOB_COUNTS}),
            slots=(readings.account_slots_used or 0, readings.account_slots_known),
            in_progress=readings.calls_under_way,
            state="draining" if self._stop.requested else self._queue.trouble or "ready",
            waiting={lane.membership: lane.waiting for lane in readings.lanes},
        )

    def read(self) -> Readings:
        """Look at everything."""
        if self._parts is None:
            return Readings(is_draining=self._stop.requested)
        source, engine = self._parts
        waiting, usage = source.waiting_by_lane(), engine.slots.usage()
        lanes = []
        for name in sorted(waiting.keys() | usage.keys()):
            used, known = usage.get(name, (0, None))
            lanes.append(LaneReading(membership=name, waiting=waiting.get(name, 0), slots_used=used, slots_known=known))
        used, known = engine.slots.account_usage()
        messages = asdict(self._queue.counters)
        return Readings(
            lanes=tuple(lanes),
            account_slots_used=used,
            account_slots_known=known,
            rate_per_second=engine.gate.pace.per_second,
            calls_under_way=engine.in_progress.jobs,
            jobs_unknown=self._tally.unknown,
            jobs_undecided=len(engine.in_progress.undecided),
            messages_held=source.held,
            oldest_message_age_seconds=source.oldest_seconds(),
            is_draining=self._stop.requested,
            queue_polls=messages.pop("polls"),
            queue_failures={name: messages.pop(name) for name in _FAILURE_COUNTS},
            messages=messages,
        )
