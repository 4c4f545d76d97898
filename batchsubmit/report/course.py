"""The course of a batch over time: jobs running against the quota, and acceptances per interval. Pure.

Unix seconds in, series out. What has no end in the ledger counts as running until the ledger's last event.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from batchsubmit.report.timeline import History, LearnedQuota
from batchsubmit.report.units import time_step

_POINTS = 160
_MOST_BARS = 48


@dataclass(slots=True)
class Lane:
    """When the jobs of one membership took and gave back their slots."""

    accepted: "array[float]" = field(default_factory=lambda: array("d"))
    finished: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Course:
    """Collects job by job; `lanes` is by membership, in the order of their first acceptance."""

    lanes: dict[str, Lane] = field(default_factory=dict)

    def add(self, history: History) -> None:
        """Take in one job."""
        if history.accepted_at is None:
            return
        lane = self.lanes.setdefault(history.state.membership, Lane())
        lane.accepted.append(history.accepted_at)
        if history.finished_at is not None:
            lane.finished.append(max(history.finished_at, history.accepted_at))

    @property
    def tells_ends(self) -> bool:
        """Whether any job was seen to end; without --wait none is."""
        return any(lane.finished for lane in self.lanes.values())

    def acceptances(self) -> "array[float]":
        """All times of acceptance, sorted."""
        return array("d", sorted(at for lane in self.lanes.values() for at in lane.accepted))


@dataclass(frozen=True, slots=True)
class Bar:
    """How many jobs were accepted from `begin` up to `end`."""

    begin: float
    end: float
    count: int


def bars(moments: Sequence[float], begin: float, end: float) -> list[Bar]:
    """Count sorted moments by round intervals, empty ones included."""
    step = time_step(max(end - begin, 1), _MOST_BARS)
    edges = range(int(begin // step) * step, int(end // step) * step + step + 1, step)
    places = [bisect_left(moments, edge) for edge in edges]
    return [
        Bar(float(edges[index]), float(edges[index + 1]), places[index + 1] - places[index])
        for index in range(len(edges) - 1)
    ]


def grid(begin: float, end: float) -> list[float]:
    """The moments between which running jobs are averaged."""
    step = max(end - begin, 1.0) / _POINTS
    return [begin + step * index for index in range(_POINTS + 1)]


def mean_running(lane: Lane, edges: Sequence[float]) -> list[float]:
    """How many jobs of a lane ran, on average, between each two edges."""
    slot_seconds = list(_slot_seconds(lane, edges))
    return [
        (after - before) / (edges[index + 1] - edges[index])
        for index, (before, after) in enumerate(pairwise(slot_seconds))
    ]


def used_slot_seconds(lanes: Mapping[str, Lane], begin: float, end: float) -> float:
    """For how long slots were held between two moments, summed over all slots."""
    pairs = (tuple(_slot_seconds(lane, (begin, end))) for lane in lanes.values())
    return sum(after - before for before, after in pairs)


def _slot_seconds(lane: Lane, moments: Sequence[float]) -> Iterator[float]:
    """For how long slots were held until each of these moments, in order."""
    starts, ends = sorted(lane.accepted), sorted(lane.finished)
    started = ended = 0
    sum_started = sum_ended = 0.0
    for moment in moments:
        while started < len(starts) and starts[started] <= moment:
            sum_started += starts[started]
            started += 1
        while ended < len(ends) and ends[ended] <= moment:
            sum_ended += ends[ended]
            ended += 1
        yield (moment * started - sum_started) - (moment * ended - sum_ended)


def peak_running(lanes: Mapping[str, Lane]) -> int:
    """The most jobs that ran at once, all lanes together."""
    starts = sorted(at for lane in lanes.values() for at in lane.accepted)
    ends = sorted(at for lane in lanes.values() for at in lane.finished)
    peak = ended = 0
    for started, at in enumerate(starts, start=1):
        while ended < len(ends) and ends[ended] <= at:
            ended += 1
        peak = max(peak, started - ended)
    return peak


def quota_steps(quotas: Sequence[LearnedQuota], memberships: Sequence[str]) -> list[tuple[float, int]]:
    """From when on at most how many jobs could run at once, as far as the ledger has learned it.

    The account's quota, or the memberships' together where those are all known and fewer.
    """
    known: dict[str, int] = {}
    steps: list[tuple[float, int]] = []
    for quota in sorted(quotas, key=lambda each: each.at):
        known[quota.membership] = quota.limit
        bounds = [known[""]] if "" in known else []
        if memberships and all(membership in known for membership in memberships):
            bounds.append(sum(known[membership] for membership in memberships))
        if bounds and steps and steps[-1][0] == quota.at:
            del steps[-1]  # several quotas learned at one moment are one step
        if bounds and (not steps or steps[-1][1] != min(bounds)):
            steps.append((quota.at, min(bounds)))
    return steps
