"""What a worker shows of itself: its readings for a scrape, and what makes it live and ready.

It only looks: at engine, slots, queue and ledger, whenever someone asks.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from batchsubmit.core.ledger_state import Counts
from batchsubmit.health import Conditions
from batchsubmit.observers.base import LaneReading, Readings, RunCounts
from batchsubmit.observers.live import WorkerProgress
from batchsubmit.queue.client import Queue
from batchsubmit.queue.source import SqsSource
from batchsubmit.slots import Slots
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.stopping import Stop

if TYPE_CHECKING:
    from batchsubmit.observers.metrics import Metrics


def make_metrics(read: Callable[[], Readings]) -> "Metrics | None":
    """Make an observer that counts for Prometheus; None where the extra `metrics` is not installed."""
    try:
        from batchsubmit.observers.metrics import Metrics  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError:
        return None
    return Metrics(read)


class WorkerStatus:
    """A worker's readings and conditions; source and engine come once they are engine."""

    def __init__(self, queue: Queue, *, tally: RunCounts, stop: Stop, within_seconds: float) -> None:
        self._parts: tuple[SqsSource, Engine] | None = None
        self._queue = queue
        self._tally = tally
        self._stop = stop
        self._within_seconds = within_seconds

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
        silent = time.monotonic() - self._queue.called_at
        if self._stop.requested or silent <= self._within_seconds:
            return ""
        return f"no progress for {silent:.0f} s, allowed are {self._within_seconds:.0f} s"

    def ready(self, ledger_trouble: Callable[[], str]) -> Conditions:
        """What a worker needs to take new messages."""
        return {
            "queue": lambda: self._queue.trouble,
            "ledger": ledger_trouble,
            "manifests": lambda: self._parts[0].trouble() if self._parts else "",
            "worker": lambda: "draining" if self._stop.requested else "" if self._parts else "starting",
        }

    def progress(self) -> WorkerProgress:
        """What is shown at a terminal."""
        readings, tally = self.read(), self._tally
        counts = {name: getattr(tally, name) for name in ("submitted", "rejected", "unknown", "failed", "cancelled")}
        return WorkerProgress(
            counts=Counts(**counts),
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
        used, known = engine.slots.account_usage()
        messages = asdict(self._queue.counters)
        return Readings(
            lanes=_lanes(source, engine.slots),
            account_slots_used=used,
            account_slots_known=known,
            rate_per_second=engine.gate.pace.per_second,
            calls_under_way=engine.under_way,
            jobs_unknown=self._tally.unknown,
            jobs_undecided=len(engine.undecided),
            messages_held=source.held,
            oldest_message_age_seconds=source.oldest_seconds(),
            is_draining=self._stop.requested,
            queue_polls=messages.pop("polls"),
            queue_failures={name: messages.pop(name) for name in _FAILURE_COUNTS},
            messages=messages,
        )


_FAILURE_COUNTS = ("throttled", "unanswered", "delete_failures", "extension_failures")


def _lanes(source: SqsSource, slots: Slots) -> tuple[LaneReading, ...]:
    waiting, usage = source.waiting_by_lane(), slots.usage()
    return tuple(
        LaneReading(membership=each, waiting=waiting.get(each, 0), slots_used=used, slots_known=known)
        for each in sorted(waiting.keys() | usage.keys())
        for used, known in (usage.get(each, (0, None)),)
    )
