"""What is known of running times, and the doubt about it."""

import math
from collections.abc import Callable
from random import Random
from statistics import mean, pstdev

import pytest

from batchsubmit.forecast.history import Observation
from batchsubmit.forecast.prior import Expectations, Fixed, Guessed, Knowledge, Observed


def means(knowledge: Knowledge, beliefs: int = 300) -> list[float]:
    """The mean job of each of many beliefs."""
    dice = Random(3)
    return [mean(knowledge.believed(dice).draw(400)) for _ in range(beliefs)]


def seen(count: int, *, sigma: float = 0.5) -> list[Observation]:
    """So many jobs of a hundred seconds, log-normal."""
    dice = Random(count)
    return [Observation(dice.lognormvariate(math.log(100), sigma)) for _ in range(count)]


def test_the_fewer_jobs_were_seen_the_more_beliefs_differ() -> None:
    """The doubt is the standard error of what was seen, never less than that of a few."""
    few, some, many = (pstdev(means(Observed(seen(count)))) for count in (3, 30, 300))
    assert few > 1.5 * some > 2 * many > 0


def test_equal_times_of_a_few_jobs_do_not_prove_that_all_are_equal() -> None:
    """Three jobs of a minute leave a doubt."""
    believed = means(Observed([Observation(60.0)] * 3))
    assert pstdev(believed) > 5


def test_jobs_cut_short_make_the_expectation_longer() -> None:
    """Half of the jobs still ran when somebody looked last: their times are longer than what was seen of them."""
    ends = [Observation(float(seconds)) for seconds in range(1, 51)]
    cut = [Observation(25.0, ended=False)] * 50
    assert mean(means(Observed(ends + cut))) > mean(means(Observed(ends))) + 5


def test_jobs_cut_short_alone_are_no_knowledge() -> None:
    """Nothing has ended, so nothing is known."""
    assert Expectations.learned({"m": [Observation(25.0, ended=False)]}) is None
    assert Expectations.learned({}) is None


@pytest.mark.parametrize("make", [lambda: Observed(seen(5)), lambda: Observed(seen(100)), lambda: Guessed(100.0)])
def test_what_a_running_job_still_needs_depends_on_its_age(make: Callable[[], Knowledge]) -> None:
    """A young one needs about a whole job, an old one a little more, and none ends in the past."""
    times = make().believed(Random(1))
    young, old = (mean(times.draw_rest(age) for _ in range(300)) for age in (0.0, 10_000.0))
    assert 50 < young < 250
    assert 0 < old < 2_500
    assert all(times.draw_rest(120.0) >= 0 for _ in range(50))


def test_a_word_on_the_mean_is_taken_with_a_doubt() -> None:
    """About a sixth."""
    believed = means(Guessed(1800.0))
    assert mean(believed) == pytest.approx(1800, rel=0.05)
    assert 0.1 < pstdev(believed) / 1800 < 0.2


def test_fixed_times_have_none() -> None:
    """The sandbox's."""
    times = Fixed(2.0).believed(Random(1))
    assert times.draw(3) == [2.0] * 3
    assert (times.draw_rest(0.5), times.draw_rest(9.0)) == (1.5, 0.0)


def test_a_model_is_judged_by_its_own_jobs_and_an_unknown_one_by_all() -> None:
    """From three of its own on."""
    known = Expectations.learned({"slow": [Observation(1000.0)] * 30, "rare": [Observation(1.0)] * 2})
    assert known is not None
    times = known.believed(Random(1))
    assert times("slow").draw(5) == [1000.0] * 5
    assert mean(times("new").draw(500)) > 500
    assert mean(times("rare").draw(500)) > 500
