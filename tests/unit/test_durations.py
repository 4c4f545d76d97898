"""How long jobs run, learned."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.slots import Durations, JobClass, LogNormal, Unlearned, fit

SMALL, LARGE, OTHER = JobClass("one", "small"), JobClass("one", "large"), JobClass("two", "small")


def test_nothing_is_known_at_first() -> None:
    """Any age is as good as another."""
    model = Durations().of(SMALL)
    assert isinstance(model, Unlearned)
    assert model.hazard(10) == pytest.approx(10 * model.hazard(100))


def test_a_class_is_judged_by_its_own_times_once_there_are_enough() -> None:
    """Before that by its model's, before that by all."""
    durations = Durations()
    durations.learn(OTHER, 10.0)
    assert durations.times(SMALL) == [10.0]
    for _ in range(3):
        durations.learn(LARGE, 1000.0)
    assert durations.times(SMALL) == [1000.0] * 3
    for _ in range(3):
        durations.learn(SMALL, 100.0)
    assert durations.times(SMALL) == [100.0] * 3
    model = durations.of(SMALL)
    assert isinstance(model, LogNormal)
    assert math.exp(model.mu) == pytest.approx(100)


def test_only_the_latest_times_are_kept() -> None:
    """Models and data change."""
    durations = Durations()
    for seconds in (1.0,) * 300 + (9.0,) * 200:
        durations.learn(SMALL, seconds)
    assert set(durations.times(SMALL)) == {9.0}


def test_times_of_nothing_do_not_break_it() -> None:
    """Two clocks may differ."""
    durations = Durations()
    durations.learn(SMALL, -5.0)
    assert math.isfinite(durations.of(SMALL).hazard(1.0))


def test_three_equal_times_do_not_prove_that_all_are_equal() -> None:
    """Three hundred nearly do."""
    assert fit([60.0] * 3).sigma > 0.2
    assert fit([60.0] * 300).sigma < 0.1


def test_a_fit_finds_what_the_times_were_drawn_from() -> None:
    """Within what two hundred of them can tell."""
    draw = random.Random(1)
    model = fit([draw.lognormvariate(math.log(1800), 0.5) for _ in range(200)])
    assert model.mu == pytest.approx(math.log(1800), abs=0.1)
    assert model.sigma == pytest.approx(0.5, abs=0.08)
    assert model.mean_seconds == pytest.approx(1800 * math.exp(0.125), rel=0.12)


@given(mu=st.floats(-3, 14), sigma=st.floats(0.02, 3), age=st.floats(0, 1e7))
def test_a_hazard_is_a_rate_whatever_the_age(mu: float, sigma: float, age: float) -> None:
    """Finite and not negative, far out in the tail too."""
    hazard = LogNormal(mu, sigma).hazard(age)
    assert 0 <= hazard < math.inf


def test_the_tail_goes_on_without_a_step() -> None:
    """Where the survival becomes too small a number, its asymptote takes over."""
    model = LogNormal(math.log(1800), 0.1)
    edge = 1800 * math.exp(0.6)
    assert model.hazard(edge * 1.0001) == pytest.approx(model.hazard(edge * 0.9999), rel=0.05)
