"""When a look pays, and whether it is a List or a few Gets."""

import pytest

from batchsubmit.slots.durations import Durations, JobClass
from batchsubmit.slots.looks import Look, Terms, plan_look
from batchsubmit.slots.roster import RunningJob

KIND = JobClass("model", "ml.m5.large")


def running(*ages: float, now: float = 0.0) -> list[RunningJob]:
    """Jobs that have run for so long and were just seen."""
    return [
        RunningJob(arn=f"arn-{n}", key=f"key-{n}", kind=KIND, began_at=now - age, seen_at=now)
        for n, age in enumerate(ages)
    ]


def learned(*seconds: float) -> Durations:
    """What these ended jobs taught."""
    durations = Durations()
    for each in seconds:
        durations.learn(KIND, each)
    return durations


def terms(*, least: float = 1, most: float = 1500, wanted: bool = True) -> Terms:
    """Looked at just now."""
    return Terms(looked_at=0.0, least_seconds=least, most_seconds=most, slots_are_wanted=wanted)


def test_looks_are_sparse_early_in_a_job_s_life_and_close_near_its_end() -> None:
    """By what is known of how long jobs take."""
    durations = learned(*[1750, 1800, 1850] * 10)
    early, _ = plan_look("m", running(60), durations, pages=1, now=0, terms=terms())
    late, _ = plan_look("m", running(1780), durations, pages=1, now=0, terms=terms())
    assert early > 10 * late
    assert 1 <= late < 120


def test_unlearned_jobs_are_looked_at_by_their_age() -> None:
    """Twice as old: twice as rarely."""
    young, _ = plan_look("m", running(100), Durations(), pages=1, now=0, terms=terms())
    old, _ = plan_look("m", running(1000), Durations(), pages=1, now=0, terms=terms())
    assert 3 * young < old < 20 * young


@pytest.mark.parametrize("age", [0.0, 1800.0, 100_000.0])
def test_the_bounds_are_kept(age: float) -> None:
    """Never closer than the least, never rarer than the most."""
    durations = learned(*[1800] * 50)
    for least, most in ((50, 60), (1, 1500), (60, 1)):
        at, _ = plan_look("m", running(age), durations, pages=1, now=0, terms=terms(least=least, most=most))
        assert least <= at <= max(most, least)


def test_looks_that_free_no_slot_are_rarer() -> None:
    """They only serve to write down what has ended."""
    wanted, _ = plan_look("m", running(600), Durations(), pages=1, now=0, terms=terms())
    idle, _ = plan_look("m", running(600), Durations(), pages=1, now=0, terms=terms(wanted=False))
    assert idle > 2 * wanted


def test_one_list_is_cheaper_than_many_gets_and_few_gets_than_a_long_list() -> None:
    """Whichever costs less for what it shows."""
    _, many = plan_look("m", running(*[600.0] * 5), Durations(), pages=1, now=0, terms=terms())
    assert many == Look("m")
    assert many.is_whole
    _, few = plan_look("m", running(600), Durations(), pages=30, now=0, terms=terms())
    assert few == Look("m", ("arn-0",))
    assert not few.is_whole


def test_a_get_asks_only_for_those_that_may_have_ended() -> None:
    """And for those that would be due very soon."""
    durations = learned(*[1750, 1800, 1850] * 10)
    _, look = plan_look("m", running(1795, 1796, 10), durations, pages=50, now=0, terms=terms())
    assert look.arns == ("arn-0", "arn-1")
