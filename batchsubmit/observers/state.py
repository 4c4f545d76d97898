"""Puts a worker's readings into Prometheus' words, whenever somebody scrapes. Needs the extra `metrics`.

Nothing is remembered here, so nothing can be out of date.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from batchsubmit.observers.readings import LaneReading, Readings

MOST_LANES = 200
"""Memberships with series of their own; the rest, those with the least to say, are summed up as `other`."""

OTHER_LANES = "other"


class State(Collector):
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
    yield _now("account_slots_used", "Slots of the account that are taken.", now.account_slots_used)
    yield _now("account_slots_known", "Slots of the account, where learned or set.", now.account_slots_known)
    rate = "Calls of StartTrainedModelInferenceJob a second that are allowed now, 0 for no limit."
    yield _now("rate_calls_per_second", rate, now.rate_per_second)
    yield _now("calls_under_way", "Calls and tries under way.", now.calls_under_way)
    yield _now("jobs_unknown", "Jobs whose fate is unknown now.", now.jobs_unknown)
    yield _now("jobs_undecided", "Unknown jobs that lookups could not decide.", now.jobs_undecided)
    yield _now("messages_held", "Messages received and not yet handed back.", now.messages_held)
    age = "Time since the oldest message held was sent."
    yield _now("oldest_message_age_seconds", age, now.oldest_message_age_seconds)
    yield _now("draining", "1 while the worker takes nothing new and ends what it began.", now.is_draining)
    yield CounterMetricFamily("batchsubmit_queue_polls", "Answered calls of ReceiveMessage.", value=now.queue_polls)
    yield _counted("messages", "Messages of the queue, by what happened to them.", "event", now.messages)
    yield _counted("queue_failures", "Calls of SQS that failed, by how.", "kind", now.queue_failures)
    yield from _of_all_lanes(_bounded(now.lanes))


def _of_all_lanes(lanes: tuple[LaneReading, ...]) -> Iterator[Metric]:
    waiting = [(lane.membership, lane.waiting) for lane in lanes]
    used = [(lane.membership, lane.slots_used) for lane in lanes]
    known = [(lane.membership, lane.slots_known) for lane in lanes if lane.slots_known is not None]
    yield _by_membership("jobs_waiting", "Jobs of a membership that wait for a slot or their turn.", waiting)
    yield _by_membership("slots_used", "Slots of a membership that are taken, by others included.", used)
    yield _by_membership("slots_known", "Slots of a membership, where learned or set.", known)


def _counted(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"batchsubmit_{name}", meaning, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _now(name: str, meaning: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"batchsubmit_{name}", meaning, value=None if value is None else float(value))


def _by_membership(name: str, meaning: str, values: Iterable[tuple[str, int]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"batchsubmit_{name}", meaning, labels=["membership"])
    for membership, value in values:
        family.add_metric([membership], value)
    return family


def _bounded(lanes: tuple[LaneReading, ...]) -> tuple[LaneReading, ...]:
    """The busiest lanes as they are, and one for all the others."""
    if len(lanes) <= MOST_LANES:
        return lanes
    ranked = sorted(lanes, key=lambda lane: (-lane.slots_used, -lane.waiting, lane.membership))
    rest = ranked[MOST_LANES:]
    others = LaneReading(
        membership=OTHER_LANES,
        waiting=sum(lane.waiting for lane in rest),
        slots_used=sum(lane.slots_used for lane in rest),
    )
    return (*ranked[:MOST_LANES], others)
