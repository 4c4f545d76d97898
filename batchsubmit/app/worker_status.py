"""What a worker shows of itself: its readings for a scrape, and what makes it live and ready.

It only looks: at engine, slots, queue and ledger, whenever somebody asks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from batchsubmit.observers.counts import Tally
from batchsubmit.observers.readings import LaneReading, Readings
from batchsubmit.pacing import RateGate
from batchsubmit.probes import Conditions
from batchsubmit.probes.vitals import Contact, Pulse
from batchsubmit.queue.client import Queue
from batchsubmit.queue.source import SqsSource
from batchsubmit.slots import Slots
from batchsubmit.sources.sqs.counters import QueueCounters
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.stopping import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """The parts of a worker at work."""

    source: SqsSource
    engine: Engine
    slots: Slots
    gate: RateGate


class Vigil:
    """A worker's readings and conditions; `station` comes when the engine stands."""

    def __init__(
        self, *, queue: Queue, counters: QueueCounters, tally: Tally, stop: Stop, within_seconds: float
    ) -> None:
        self.station: Station | None = None
        self._counters = counters
        self._tally = tally
        self._stop = stop
        self._pulse = Pulse(within_seconds)
        self._contact = Contact()
        queue.on_call = self._pulse.beat
        queue.on_answer = self._heard
        stop.on_request(self._pulse.rest)

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
            "worker": lambda: "draining" if self._stop.requested else "" if self.station else "starting",
        }

    def read(self) -> Readings:
        """Look at everything."""
        station, queue = self.station, self._counters
        if station is None:
            return Readings(is_draining=self._stop.requested)
        used, known = station.slots.account_usage()
        return Readings(
            lanes=_lanes(station),
            account_slots_used=used,
            account_slots_known=known,
            rate_per_second=station.gate.pace.per_second,
            calls_under_way=station.engine.under_way,
            jobs_unknown=self._tally.unknown,
            jobs_undecided=len(station.engine.undecided),
            messages_held=station.source.held,
            oldest_message_age_seconds=station.source.oldest_seconds() if station.source.held else None,
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


def _lanes(station: Station) -> tuple[LaneReading, ...]:
    waiting, usage = station.source.waiting_by_lane(), station.slots.usage()
    return tuple(
        LaneReading(membership=each, waiting=waiting.get(each, 0), slots_used=used, slots_known=known)
        for each in sorted(waiting.keys() | usage.keys())
        for used, known in (usage.get(each, (0, None)),)
    )
