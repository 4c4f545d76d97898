"""The forecast: its interval holds the truth as often as it says, and large batches are scaled honestly."""

import math
from random import Random
from statistics import median

import pytest
from strategies import arn

from batchsubmit.config import Settings
from batchsubmit.forecast.futures import Effort, LaneAhead, Oracle, RunningAhead
from batchsubmit.forecast.history import Observation
from batchsubmit.forecast.prior import Expectations, Fixed
from batchsubmit.forecast.schedule import LaneWork, Quotas, greedy_finish
from batchsubmit.simulation import Simulated, SimulatedJob, Workload, simulate

HOMES = tuple(f"{number:08d}-1111-4111-8111-111111111111" for number in range(2))
MODEL = "model"
SETTINGS = Settings.model_validate({"slots": {"min_poll_seconds": 30, "max_poll_seconds": 900}})
"""Rarer looks than by default, so that a simulation is quick."""


def really(work: Workload, seed: int) -> Simulated:
    """The real scheduler in virtual time."""
    return simulate(work, SETTINGS, seed=seed)


def at_best(work: Workload, seed: int) -> Simulated:
    """A scheduler without fault."""
    lanes: dict[str, list[float]] = {}
    running: dict[str, list[float]] = {}
    for job in work.jobs:
        lanes.setdefault(job.membership, []).append(job.seconds)
    for job in work.running:
        running.setdefault(job.membership, []).append(job.seconds)
    every = {
        home: LaneWork(account="1", seconds=lanes.get(home, ()), running=running.get(home, ()))
        for home in {*lanes, *running}
    }
    finish = greedy_finish(every, Quotas(per_membership=work.per_membership, per_account=work.per_account))
    return Simulated(makespan_seconds=finish, sent_seconds=0, calls={}, refused_starts=0, slot_use=1)


def lanes_of(count: int, running: tuple[RunningAhead, ...] = ()) -> dict[str, LaneAhead]:
    """So many jobs in two memberships."""
    return {home: LaneAhead(account="1", count=count // 2, trained_models=[MODEL], running=running) for home in HOMES}


def drawn(dice: Random, count: int) -> list[float]:
    """Log-normal times of half an hour."""
    return [dice.lognormvariate(math.log(1800), 0.35) for _ in range(count)]


def learned(dice: Random, count: int) -> Expectations:
    """What so many earlier jobs teach."""
    known = Expectations.learned({MODEL: [Observation(each) for each in drawn(dice, count)]})
    assert known is not None
    return known


def test_the_truth_lies_in_the_interval_as_often_as_it_says() -> None:
    """Twenty batches by the real scheduler in virtual time, each foretold from the batch before."""
    inside, errors = 0, []
    for seed in range(20):
        dice = Random(100 + seed)
        oracle = Oracle(expectations=learned(dice, 100), simulate=really)
        effort = Effort(futures=100, simulations=1, jobs=40)
        finish = oracle.finish(lanes_of(50), Quotas(), effort=effort, seed=seed)
        jobs = [
            SimulatedJob(home, arn("trained-model", membership=home), seconds)
            for seconds, home in zip(drawn(dice, 50), HOMES * 25, strict=True)
        ]
        actual = really(Workload(jobs=jobs), seed).makespan_seconds
        inside += finish.low_seconds <= actual <= finish.high_seconds
        errors.append(abs(finish.seconds - actual) / actual)
    assert inside >= 14
    assert median(errors) < 0.1


@pytest.mark.parametrize("history", [5, 30, 200])
def test_the_interval_is_honest_however_many_jobs_were_seen(history: int) -> None:
    """Over many batches between two thirds and nine tenths, whatever the doubt; too wide would be as wrong."""
    inside = 0
    for seed in range(100):
        dice = Random(9_000 + seed)
        oracle = Oracle(expectations=learned(dice, history), simulate=at_best)
        finish = oracle.finish(lanes_of(60), Quotas(), effort=Effort(futures=60, simulations=1), seed=seed)
        truth = {home: LaneWork(account="1", seconds=drawn(dice, 30)) for home in HOMES}
        inside += finish.low_seconds <= greedy_finish(truth, Quotas()) <= finish.high_seconds
    assert 65 <= inside <= 92


def test_a_large_batch_takes_as_long_as_its_sample_says() -> None:
    """A million jobs of a minute on ten slots: 100,000 minutes, and the end of the batch counts once."""
    oracle = Oracle(expectations=Expectations(Fixed(60.0)), simulate=at_best)
    finish = oracle.finish(lanes_of(1_000_000), Quotas())
    assert finish.seconds == pytest.approx(6_000_000, rel=0.02)


def test_jobs_that_run_now_delay_the_rest() -> None:
    """Ten running jobs of an hour, just begun, hold all slots."""
    oracle = Oracle(expectations=Expectations(Fixed(3600.0)), simulate=at_best)
    free = oracle.finish(lanes_of(10), Quotas())
    held = oracle.finish(lanes_of(10, running=(RunningAhead(MODEL, 0.0),) * 5), Quotas())
    assert free.seconds == pytest.approx(3600, rel=0.05)
    assert held.seconds == pytest.approx(7200, rel=0.05)


def test_a_batch_of_which_only_running_jobs_are_left_ends_with_them() -> None:
    """Nothing is to do, but it is not done."""
    oracle = Oracle(expectations=Expectations(Fixed(3600.0)), simulate=at_best)
    finish = oracle.finish(lanes_of(0, running=(RunningAhead(MODEL, 600.0),)), Quotas())
    assert finish.seconds == pytest.approx(3000, rel=0.05)


def test_nothing_to_do_is_done_now_and_the_same_question_has_the_same_answer() -> None:
    """No dice where there is nothing to throw them for."""
    oracle = Oracle(expectations=learned(Random(1), 30), simulate=at_best)
    assert oracle.finish({}, Quotas()).seconds == 0
    assert oracle.finish(lanes_of(20), Quotas()) == oracle.finish(lanes_of(20), Quotas())
