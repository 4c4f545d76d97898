"""What a worker's state is at the moment of a scrape, as Prometheus gauges.

Only values and their names: whoever runs the worker gives a function that reads its state, and this asks it once a
scrape. Nothing is remembered, so nothing can be out of date.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MOST_LANES = 200
"""Memberships with series of their own; the rest, those with the least to say, are summed up as `other`."""

OTHER_LANES = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReading:
    """One membership: jobs that wait, slots that are taken (ours and others'), and the quota where it is known."""

    membership: str
    waiting: int
    slots_used: int
    slots_known: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The state of a worker. A None has no series: what is not known is not shown as zero."""

    lanes: tuple[LaneReading, ...] = ()
    account_slots_used: int | None = None
    account_slots_known: int | None = None
    rate_per_second: float = 0.0
    calls_under_way: int = 0
    jobs_unknown: int = 0
    jobs_undecided: int = 0
    messages_held: int = 0
    oldest_message_age_seconds: float | None = None
    is_draining: bool = False


class Gauges(Collector):
    """Asks for the readings at each scrape and puts them into Prometheus' words."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the gauges without reading anything, as the registry wants to know them when they are registered."""
        yield from _families(Readings())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the state once."""
        yield from _families(self._read())


def _families(now: Readings) -> Iterator[GaugeMetricFamily]:
    yield _of_account("account_slots_used", "Slots of the account that are taken.", now.account_slots_used)
    yield _of_account("account_slots_known", "Slots of the account, where learned or set.", now.account_slots_known)
    rate = "Calls of StartTrainedModelInferenceJob a second that are allowed now, 0 for no limit."
    yield _of_account("rate_calls_per_second", rate, now.rate_per_second)
    yield _of_account("calls_under_way", "Calls and tries under way.", now.calls_under_way)
    yield _of_account("jobs_unknown", "Jobs whose fate is unknown now.", now.jobs_unknown)
    yield _of_account("jobs_undecided", "Unknown jobs that lookups could not decide.", now.jobs_undecided)
    yield _of_account("messages_held", "Messages received and not yet handed back.", now.messages_held)
    age = "Time since the oldest message held was sent."
    yield _of_account("oldest_message_age_seconds", age, now.oldest_message_age_seconds)
    yield _of_account("draining", "1 while the worker takes nothing new and ends what it began.", now.is_draining)
    lanes = _bounded(now.lanes)
    waiting = [(lane.membership, lane.waiting) for lane in lanes]
    used = [(lane.membership, lane.slots_used) for lane in lanes]
    known = [(lane.membership, lane.slots_known) for lane in lanes if lane.slots_known is not None]
    yield _of_lanes("jobs_waiting", "Jobs of a membership that wait for a slot or their turn.", waiting)
    yield _of_lanes("slots_used", "Slots of a membership that are taken, by others included.", used)
    yield _of_lanes("slots_known", "Slots of a membership, where learned or set.", known)


def _of_account(name: str, meaning: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"batchsubmit_{name}", meaning, value=None if value is None else float(value))


def _of_lanes(name: str, meaning: str, values: Iterable[tuple[str, int]]) -> GaugeMetricFamily:
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
