"""When a batch will be done, with an interval that holds the truth four times in five.

Many futures are imagined: each draws a belief about the jobs (see `prior`), then the jobs' times, then schedules them
as well as can be (see `schedule`). What the real scheduler loses against that is measured by running it, with the
sandbox's state machine, in virtual time (see `simulation`), on all jobs or a proportional sample.

What cannot be known is not in the interval: that tonight's data is larger than any before, that others take slots.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from batchsubmit.forecast.prior import Expectations, Times
from batchsubmit.forecast.schedule import LaneWork, Quotas, fluid_seconds, greedy_finish
from batchsubmit.simulation import Simulated, SimulatedJob, Workload

_COVERAGE = (0.1, 0.5, 0.9)
_ROUNDS_SIMULATED = 6
"""A sample has this many jobs for each slot, or its beginning and its end would be most of it."""
_MOST_SIMULATED = 1_200
_MOST_SCHEDULED = 2_000
_DRIFT_SIGMA = 0.03
"""No two batches are quite alike, however many jobs were seen: the mean of one differs by some hundredths."""
_ROUNDS_SCHEDULED = 20


@dataclass(frozen=True, slots=True)
class RunningAhead:
    """A job that runs now: what it runs, and since how many seconds."""

    trained_model: str
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneAhead:
    """A membership's part of a batch: so many jobs, a sample of their trained models, and the jobs that run now."""

    account: str
    count: int
    trained_models: Sequence[str]
    running: Sequence[RunningAhead] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is spent: futures imagined, futures simulated, jobs in each of those."""

    futures: int = 200
    simulations: int = 3
    jobs: int = 240


THOROUGH = Effort()
QUICK = Effort(futures=100, simulations=1, jobs=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Seconds until the last job has ended, those that run now among them: the median, and four times in five."""

    low_seconds: float
    seconds: float
    high_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """What a forecast asks: expectations of the jobs, and the scheduler in virtual time, by workload and seed."""

    expectations: Expectations
    simulate: Callable[[Workload, int], Simulated]
    call_seconds: float = 0.1

    def finish(
        self, lanes: Mapping[str, LaneAhead], quotas: Quotas, *, effort: Effort = THOROUGH, seed: int = 0
    ) -> Finish:
        """Forecast a batch. The same values give the same forecast."""
        dice = Random(seed)  # noqa: S311 (futures, not secrets)
        if not any(lane.count or lane.running for lane in lanes.values()):
            return Finish(low_seconds=0.0, seconds=0.0, high_seconds=0.0)
        slots = _usable_slots(lanes, quotas)
        size = min(max(effort.jobs, _ROUNDS_SIMULATED * slots), _MOST_SIMULATED)
        losses = [self._loss(lanes, quotas, size, dice) for _ in range(effort.simulations)]
        most = max(_MOST_SCHEDULED, _ROUNDS_SCHEDULED * slots)
        futures = sorted(
            self._ideal(lanes, quotas, most, dice) * dice.choice(losses) * dice.lognormvariate(0.0, _DRIFT_SIGMA)
            for _ in range(effort.futures)
        )
        low, median, high = (_quantile(futures, share) for share in _COVERAGE)
        return Finish(low_seconds=low, seconds=median, high_seconds=high)

    def _loss(self, lanes: Mapping[str, LaneAhead], quotas: Quotas, size: int, dice: Random) -> float:
        """How much longer the real scheduler takes than the best one, on one imagined sample."""
        sample = self._imagine(lanes, size, dice)
        best = greedy_finish(sample, quotas)
        work = _workload(lanes, sample, quotas, self.call_seconds)
        simulated = self.simulate(work, dice.getrandbits(32))
        ends = max(simulated.makespan_seconds, max((each.seconds for each in work.running), default=0.0))
        return ends / best if best else 1.0

    def _ideal(self, lanes: Mapping[str, LaneAhead], quotas: Quotas, most: int, dice: Random) -> float:
        """When an imagined batch would be done at best.

        Of a very large one a sample is scheduled: its own beginning and end count once, and the steady work between
        them, which is linear in the number of jobs, as often as is missing.
        """
        sample = self._imagine(lanes, most, dice)
        total = sum(lane.count for lane in lanes.values())
        drawn = sum(len(lane.seconds) for lane in sample.values())
        missing = total / drawn - 1 if drawn else 0.0
        steady = fluid_seconds(sample, quotas) if missing else 0.0
        return greedy_finish(sample, quotas) + missing * steady

    def _imagine(self, lanes: Mapping[str, LaneAhead], most: int, dice: Random) -> dict[str, LaneWork]:
        """Draw a belief, and by it the times of all jobs or of `most`, each lane in proportion."""
        times = self.expectations.believed(dice)
        total = sum(lane.count for lane in lanes.values())
        share = min(1.0, most / total) if total else 0.0
        return {
            membership: LaneWork(
                account=lane.account,
                seconds=_drawn(lane, math.ceil(lane.count * share), times, dice),
                running=[times(each.trained_model).draw_rest(each.age_seconds) for each in lane.running],
            )
            for membership, lane in lanes.items()
        }


def _drawn(lane: LaneAhead, count: int, times: Callable[[str], Times], dice: Random) -> list[float]:
    """Draw the times of a lane's jobs, its models mixed as in its sample."""
    kinds = set(lane.trained_models)
    if len(kinds) == 1:
        return times(next(iter(kinds))).draw(count)
    return [times(dice.choice(lane.trained_models)).draw(1)[0] for _ in range(count)]


def _workload(
    lanes: Mapping[str, LaneAhead], sample: Mapping[str, LaneWork], quotas: Quotas, call_seconds: float
) -> Workload:
    """Put an imagined sample as work for the simulation, rows of all memberships in turn."""
    models = {membership: _model_in(membership, lane) for membership, lane in lanes.items()}
    turns = [
        (position, SimulatedJob(membership, models[membership], seconds))
        for membership, lane in sample.items()
        for position, seconds in enumerate(lane.seconds)
    ]
    turns.sort(key=lambda turn: turn[0])
    running = [
        SimulatedJob(membership, models[membership], seconds)
        for membership, lane in sample.items()
        for seconds in lane.running
    ]
    return Workload(
        jobs=[job for _, job in turns],
        running=running,
        per_membership=quotas.per_membership,
        per_account=quotas.per_account,
        call_seconds=call_seconds,
    )


def _model_in(membership: str, lane: LaneAhead) -> str:
    """A trained model's ARN of this membership and account; which one it is does not matter to the sandbox."""
    scope = f"arn:aws:cleanrooms-ml:us-east-1:{lane.account}:membership/{membership}"
    return f"{scope}/trained-model/simulated"


def _usable_slots(lanes: Mapping[str, LaneAhead], quotas: Quotas) -> int:
    """Slots that the quotas leave these lanes; without any quota, as many as there are jobs."""
    by_account: dict[str, float] = {}
    for lane in lanes.values():
        by_account[lane.account] = by_account.get(lane.account, 0.0) + min(quotas.of_lane, lane.count)
    return int(sum(min(slots, quotas.of_account) for slots in by_account.values()))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest values, as their ranks have it."""
    place = share * (len(ordered) - 1)
    lower = int(place)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (place - lower)
