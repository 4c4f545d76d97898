"""How soon jobs could be done at best: greedy list scheduling on the slots of nested quotas, without any delay. Pure.

It is the yardstick that the real scheduler is held against, and what makes a forecast of many jobs affordable: the
scheduler's loss against it is measured on a few simulated jobs, the yardstick itself is cheap for all of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Slots of each membership and, around those, of each account; 0 for no bound."""

    per_membership: int = 5
    per_account: int = 10

    @property
    def of_lane(self) -> float:
        """What a membership can use at most."""
        return min(self.per_membership or math.inf, self.of_account)

    @property
    def of_account(self) -> float:
        """What an account can use at most."""
        return self.per_account or math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneWork:
    """The seconds that each job of a membership will take, in order, and those that the running ones still need."""

    account: str
    seconds: Sequence[float]
    running: Sequence[float] = ()


def greedy_finish(lanes: Mapping[str, LaneWork], quotas: Quotas) -> float:
    """When the last job ends, in seconds from now, if each free slot is filled at once and lanes share fairly.

    The jobs that run already count too.
    """
    by_account: dict[str, list[LaneWork]] = {}
    for lane in lanes.values():
        by_account.setdefault(lane.account, []).append(lane)
    return max((_Account(group, quotas).finish() for group in by_account.values()), default=0.0)


class _Account:
    """The lanes of one account under way; `(held slots, turn, number)` is an offer of a lane that may start a job."""

    def __init__(self, lanes: Sequence[LaneWork], quotas: Quotas) -> None:
        self._lanes = lanes
        self._quotas = quotas
        self._held = [len(lane.running) for lane in lanes]
        self._next = [0] * len(lanes)
        self._ends = [(seconds, number) for number, lane in enumerate(lanes) for seconds in lane.running]
        heapify(self._ends)
        self._ready: list[tuple[int, int, int]] = []
        self._turn = 0
        self._latest = max((end for end, _ in self._ends), default=0.0)

    def finish(self) -> float:
        """Run all jobs; give when the last one ends."""
        for number in range(len(self._lanes)):
            self._offer(number)
        self._fill(0.0)
        while self._ends:
            now, number = heappop(self._ends)
            self._held[number] -= 1
            self._offer(number)
            self._fill(now)
        return self._latest

    def _offer(self, number: int) -> None:
        """Let a lane take part if it has work and room; an older offer of it is void once its count has changed."""
        if self._next[number] < len(self._lanes[number].seconds) and self._held[number] < self._quotas.of_lane:
            self._turn += 1
            heappush(self._ready, (self._held[number], self._turn, number))

    def _fill(self, now: float) -> None:
        while self._ready and len(self._ends) < self._quotas.of_account:
            held, _, number = heappop(self._ready)
            position = self._next[number]
            seconds = self._lanes[number].seconds
            if held != self._held[number] or position >= len(seconds):
                continue
            self._next[number] += 1
            self._held[number] += 1
            end = now + seconds[position]
            self._latest = max(self._latest, end)
            heappush(self._ends, (end, number))
            self._offer(number)


def fluid_seconds(lanes: Mapping[str, LaneWork], quotas: Quotas) -> float:
    """How long the waiting work keeps the slots busy, taken as if it could be poured: exactly linear in the work.

    So a proportional sample's value, times what it was sampled by, is that of the whole.
    """
    by_account: dict[str, list[float]] = {}
    for lane in lanes.values():
        by_account.setdefault(lane.account, []).append(sum(lane.seconds))
    return max((_pour(sorted(work), quotas) for work in by_account.values()), default=0.0)


def _pour(work: Sequence[float], quotas: Quotas) -> float:
    """Serve lanes in equal shares, each up to its own bound; the lane with the least work ends first."""
    now = done = 0.0
    for number, amount in enumerate(work):
        share = min(quotas.of_lane, quotas.of_account / (len(work) - number))
        if math.isinf(share):
            return 0.0
        now += (amount - done) / share
        done = amount
    return now
