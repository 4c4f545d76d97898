"""Counts a worker's life for Prometheus: what happened, as an observer; what is now, read when someone scrapes.

Needs the extra `metrics`. The registry is this object's own, so that two workers in one process share nothing. Every
label has a bound on its values: a code or a membership beyond it is counted as `other`. What HTTP is stands elsewhere.
"""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from batchsubmit import __version__
from batchsubmit.core import jobs
from batchsubmit.core.job_states import State
from batchsubmit.observers.base import Observer, Readings

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
_LABELLED = {
    "messages": (CounterMetricFamily, "event", "Messages of the queue, by what happened to them."),
    "queue_failures": (CounterMetricFamily, "kind", "Calls of SQS that failed, by how."),
    "jobs_waiting": (GaugeMetricFamily, "membership", "Jobs of a membership that wait for a slot or their turn."),
    "slots_used": (GaugeMetricFamily, "membership", "Slots of a membership that are taken, by others included."),
    "slots_known": (GaugeMetricFamily, "membership", "Slots of a membership, where learned or set."),
}
_COUNTERS: dict[str, tuple[type[jobs.JobEvent] | None, str, tuple[str, ...]]] = {
    "jobs_submitted": (jobs.JobSubmitted, "Jobs that the service has taken.", ("via",)),
    "jobs_rejected": (jobs.JobRejected, "Jobs that the service refused for good.", ("code",)),
    "jobs_failed": (None, "Jobs that ran and ended badly.", ("code",)),
    "jobs_finished": (jobs.JobFinished, "Jobs that ran to their end.", ("status",)),
    "attempts": (jobs.Intent, "Calls of StartTrainedModelInferenceJob.", ()),
    "attempts_refused": (jobs.Refused, "Calls that were not accepted.", ("cause", "code")),
    "attempts_unknown": (jobs.JobUnknown, "Calls whose answer was lost.", ()),
    "lookups": (None, "What lookups of unknown jobs brought.", ("outcome",)),
    "rate_cuts": (None, "Times that throttling halved the rate.", ()),
}
"""Each with its labels; those of an event are members of it."""
_OF_EVENTS = {kind: (name, labels) for name, (kind, _, labels) in _COUNTERS.items() if kind}
_LOOKUPS: dict[type[jobs.JobEvent], str] = {jobs.Absent: "absent", jobs.Duplicate: "duplicate"}


class Metrics(Collector, Observer):
    """An observer with a registry, and in it itself: `read` gives the state of the moment, once at each scrape."""

    def __init__(self, read: Callable[[], Readings], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry = CollectorRegistry()
        self._monotonic = monotonic
        self._sent_at: dict[str, float] = {}
        self._codes: set[str] = set()
        self._read = read
        registry.register(self)
        ProcessCollector(registry=registry)
        Info("batchsubmit_build", "The running version.", registry=registry).info({"version": __version__})
        self._counters = {
            name: Counter(f"batchsubmit_{name}", meaning, labels, registry=registry)
            for name, (_, meaning, labels) in _COUNTERS.items()
        }
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

    def collect(self) -> Iterator[Metric]:
        """Read the state once."""
        now = self._read()
        for name, meaning in _GAUGES.items():
            value = getattr(now, name)
            yield GaugeMetricFamily(f"batchsubmit_{name}", meaning, value=None if value is None else float(value))
        yield CounterMetricFamily("batchsubmit_queue_polls", "Answered calls of ReceiveMessage.", value=now.queue_polls)
        for name, (kind, label, meaning) in _LABELLED.items():
            family = kind(f"batchsubmit_{name}", meaning, labels=[label])
            for each, value in getattr(now, name).items():
                family.add_metric([each], value)
            yield family

    def saw(self, event: jobs.JobEvent) -> None:
        """Count an event of a job."""
        if type(event) in _OF_EVENTS:
            name, labels = _OF_EVENTS[type(event)]
            self._count(name, *(getattr(event, label) for label in labels))
        is_found = isinstance(event, jobs.JobSubmitted) and event.via == "lookup"
        if outcome := "found" if is_found else _LOOKUPS.get(type(event)):
            self._count("lookups", outcome)
        if isinstance(event, jobs.JobFinished) and State.of_end(event.status) is State.FAILED:
            self._count("jobs_failed", event.code or event.status)
        if isinstance(event, jobs.Intent):
            self._sent_at[event.job] = self._monotonic()
        elif (began := self._sent_at.pop(event.job, None)) is not None:  # a lookup ends no call of ours
            self._attempt_seconds.observe(self._monotonic() - began)

    def _count(self, name: str, *values: str) -> None:
        labels = _COUNTERS[name][2]
        bounded = [self._bounded(*each) for each in zip(labels, values, strict=True)]
        (self._counters[name].labels(*bounded) if bounded else self._counters[name]).inc()

    def rate_cut(self, per_second: float) -> None:
        """Count that the service throttled; the rate itself is read at the scrape."""
        del per_second
        self._count("rate_cuts")

    def ledger_took(self, seconds: float) -> None:
        """Note how long a durable write took."""
        self._ledger_seconds.observe(seconds)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that the scraper accepts, and that format's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _bounded(self, label: str, value: str) -> str:
        """Of codes the first ones only, so that no answer can make the number of series grow without end."""
        if label not in {"code", "status"}:
            return value
        if len(self._codes) < MOST_CODES:
            self._codes.add(value)
        return value if value in self._codes else OTHER
