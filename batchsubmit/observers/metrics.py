"""Counts a worker's life for Prometheus: what happened, as an observer; what is now, read when someone scrapes.

Needs the extra `metrics`. The registry is this object's own, so that two workers in one process share nothing. Every
label has a bound on its values: a code or a membership beyond it is counted as `other`. What HTTP is stands elsewhere.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from batchsubmit import __version__
from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
)
from batchsubmit.core.states import State
from batchsubmit.observers.base import LaneReading, Readings

MOST_LANES = 200
"""Memberships with series of their own; the rest, those with the least to say, are summed up as `other`."""

OTHER = "other"
MOST_CODES = 40
"""The service's model has a dozen codes for our calls; whatever answers in its place may have any."""

_LEDGER_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ATTEMPT_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
_GAUGES = {
    "account_slots_used": "Slots of the account that are taken.",
    "account_slots_known": "Slots of the account, where learned or set.",
    "rate_calls_per_second": "Calls of StartTrainedModelInferenceJob a second that are allowed now, 0 for no limit.",
    "calls_under_way": "Calls and tries under way.",
    "jobs_unknown": "Jobs that are unknown now.",
    "jobs_undecided": "Unknown jobs that lookups could not decide.",
    "messages_held": "Messages received and not yet handed back.",
    "oldest_message_age_seconds": "Time since the oldest message held was sent.",
    "draining": "1 while the worker takes nothing new and ends what it began.",
}
_ATTRIBUTES = {"rate_calls_per_second": "rate_per_second", "draining": "is_draining"}
"""The readings whose names are not those of their metrics."""


class _Readings(Collector):
    """Asks for the readings at each scrape."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without reading anything: the registry asks when this is registered."""
        yield from _families(Readings())

    def collect(self) -> Iterator[Metric]:
        """Read the state once."""
        yield from _families(self._read())


def _families(now: Readings) -> Iterator[Metric]:
    for name, meaning in _GAUGES.items():
        value = getattr(now, _ATTRIBUTES.get(name, name))
        yield GaugeMetricFamily(f"batchsubmit_{name}", meaning, value=None if value is None else float(value))
    yield CounterMetricFamily("batchsubmit_queue_polls", "Answered calls of ReceiveMessage.", value=now.queue_polls)
    messages = CounterMetricFamily(
        "batchsubmit_messages", "Messages of the queue, by what happened to them.", labels=["event"]
    )
    yield _filled(messages, now.messages.items())
    failures = CounterMetricFamily("batchsubmit_queue_failures", "Calls of SQS that failed, by how.", labels=["kind"])
    yield _filled(failures, now.queue_failures.items())
    lanes = _bounded(now.lanes)
    waiting = _of_memberships("jobs_waiting", "Jobs of a membership that wait for a slot or their turn.")
    yield _filled(waiting, ((lane.membership, lane.waiting) for lane in lanes))
    used = _of_memberships("slots_used", "Slots of a membership that are taken, by others included.")
    yield _filled(used, ((lane.membership, lane.slots_used) for lane in lanes))
    known = _of_memberships("slots_known", "Slots of a membership, where learned or set.")
    yield _filled(known, ((lane.membership, lane.slots_known) for lane in lanes if lane.slots_known is not None))


def _of_memberships(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"batchsubmit_{name}", meaning, labels=["membership"])


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: Iterable[tuple[str, int]]
) -> CounterMetricFamily | GaugeMetricFamily:
    for label, value in values:
        family.add_metric([label], value)
    return family


def _bounded(lanes: tuple[LaneReading, ...]) -> tuple[LaneReading, ...]:
    """The busiest lanes as they are, and one for all the others."""
    if len(lanes) <= MOST_LANES:
        return lanes
    ranked = sorted(lanes, key=lambda lane: (-lane.slots_used, -lane.waiting, lane.membership))
    rest = ranked[MOST_LANES:]
    others = LaneReading(
        membership=OTHER,
        waiting=sum(lane.waiting for lane in rest),
        slots_used=sum(lane.slots_used for lane in rest),
    )
    return (*ranked[:MOST_LANES], others)


class Metrics:
    """An observer with a registry. `read` gives the state of the moment, for what is read at a scrape."""

    def __init__(self, read: Callable[[], Readings], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry = CollectorRegistry()
        self._monotonic = monotonic
        self._sent_at: dict[str, float] = {}
        self._codes: set[str] = set()
        registry.register(_Readings(read))
        ProcessCollector(registry=registry)
        Info("batchsubmit_build", "The running version.", registry=registry).info({"version": __version__})
        self._submitted = _counter(registry, "jobs_submitted", "Jobs that the service has taken.", "via")
        self._rejected = _counter(registry, "jobs_rejected", "Jobs that the service refused for good.", "code")
        self._failed = _counter(registry, "jobs_failed", "Jobs that ran and ended badly.", "code")
        self._finished = _counter(registry, "jobs_finished", "Jobs that ran to their end.", "status")
        self._attempts = _counter(registry, "attempts", "Calls of StartTrainedModelInferenceJob.")
        self._refused = _counter(registry, "attempts_refused", "Calls that were not accepted.", "cause", "code")
        self._unknown = _counter(registry, "attempts_unknown", "Calls whose answer was lost.")
        self._lookups = _counter(registry, "lookups", "What lookups of unknown jobs brought.", "outcome")
        self._rate_cuts = _counter(registry, "rate_cuts", "Times that throttling halved the rate.")
        self._attempt_seconds = Histogram(
            "batchsubmit_attempt_seconds",
            "From the intent in the ledger to the outcome in it: rate gate, call, ledger.",
            registry=registry,
            buckets=_ATTEMPT_BUCKETS,
        )
        self._ledger_seconds = Histogram(
            "batchsubmit_ledger_write_seconds",
            "From handing an event to the ledger until it is durable.",
            registry=registry,
            buckets=_LEDGER_BUCKETS,
        )

    def saw(self, event: JobEvent) -> None:
        """Count an event of a job."""
        match event:
            case Intent():
                self._attempts.inc()
                self._sent_at[event.job] = self._monotonic()
            case JobSubmitted():
                self._submitted.labels(event.via).inc()
                if event.via == "lookup":
                    self._lookups.labels("found").inc()
                self._end_attempt(event.job)
            case Refused():
                self._refused.labels(event.cause, self._bounded(event.code)).inc()
                self._end_attempt(event.job)
            case JobUnknown():
                self._unknown.inc()
                self._end_attempt(event.job)
            case Absent():
                self._lookups.labels("absent").inc()
            case Duplicate():
                self._lookups.labels("duplicate").inc()
            case JobRejected():
                self._rejected.labels(self._bounded(event.code)).inc()
                self._sent_at.pop(event.job, None)
            case JobFinished():
                self._end(event)

    def _end(self, event: JobFinished) -> None:
        self._finished.labels(self._bounded(event.status)).inc()
        if State.of_end(event.status) is State.FAILED:
            self._failed.labels(self._bounded(event.code or event.status)).inc()

    def _end_attempt(self, job: str) -> None:
        began = self._sent_at.pop(job, None)
        if began is not None:  # a lookup ends no call of ours
            self._attempt_seconds.observe(self._monotonic() - began)

    def rate_cut(self, per_second: float) -> None:
        """Count that the service throttled; the rate itself is read at the scrape."""
        del per_second
        self._rate_cuts.inc()

    def ledger_took(self, seconds: float) -> None:
        """Note how long a durable write took."""
        self._ledger_seconds.observe(seconds)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the scraper accepts, and that format's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _bounded(self, code: str) -> str:
        """The code itself while there are few, so that no answer can make the number of series grow without end."""
        if code in self._codes:
            return code
        if len(self._codes) >= MOST_CODES:
            return OTHER
        self._codes.add(code)
        return code


def _counter(registry: CollectorRegistry, name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"batchsubmit_{name}", meaning, labels, registry=registry)
