"""How long jobs run, learned."""

import pytest

from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.jobs import JobClass

SMALL, LARGE, OTHER = JobClass("one", "small"), JobClass("one", "large"), JobClass("two", "small")


def test_nothing_is_known_at_first() -> None:
    """No guess is made."""
    assert RunTimes().expected(SMALL) is None


def test_a_class_is_judged_by_its_own_times_once_there_are_enough() -> None:
    """Before that by its model's, before that by all."""
    times = RunTimes()
    times.add(OTHER, 10.0)
    assert times.ended(times.known_class(SMALL)) == [10.0]
    for _ in range(3):
        times.add(LARGE, 1000.0)
    assert times.ended(times.known_class(SMALL)) == [1000.0] * 3
    for _ in range(3):
        times.add(SMALL, 100.0)
    assert times.expected(SMALL) == (100.0, 100.0)


def test_only_the_latest_times_are_kept() -> None:
    """Models and data change."""
    times = RunTimes()
    for seconds in (1.0,) * 300 + (9.0,) * 300:
        times.add(SMALL, seconds)
    assert set(times.ended(times.known_class(SMALL))) == {9.0}


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_times_of_nothing_do_not_break_it(seconds: float) -> None:
    """Two clocks may differ."""
    times = RunTimes()
    times.add(SMALL, seconds)
    assert times.expected(SMALL) == (0.001, 0.001)


def test_the_middle_and_the_earliest_of_many_are_expected() -> None:
    """One of twenty has ended, then half of them, in whatever order they came; one that hung changes nothing."""
    times = RunTimes()
    for seconds in [*range(100, 0, -1), 1e6]:
        times.add(SMALL, float(seconds))
    assert times.expected(SMALL) == (6.0, 51.0)
