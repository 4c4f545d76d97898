"""Lanes that a quota holds, and denials that may be the caller's; times are turned by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, job_named
from strategies import MEMBERSHIP

from batchsubmit.core.jobs import Denied, OtherQuotaExceeded
from batchsubmit.submit.job_run import Denials, Holds, other_quota_words

SPENT = OtherQuotaExceeded("ServiceQuotaExceededException", "", "Data access budget", 0)


@pytest.fixture
def holds() -> Holds:
    """No lane is held; waits from 30 to 100 seconds."""
    return Holds(first_seconds=30, most_seconds=100)


def refused(holds: Holds, now: float) -> float | None:
    """Be refused; gives the seconds until the next try."""
    holds.refused(MEMBERSHIP, SPENT, now)
    wake_at = holds.wake_at([MEMBERSHIP], now)
    return None if wake_at is None else wake_at - now


def try_again(holds: Holds, now: float) -> float | None:
    """Call once more in the held lane, and be refused."""
    assert holds.may_call(MEMBERSHIP, now)
    holds.called(MEMBERSHIP)
    assert not holds.may_call(MEMBERSHIP, now + 1000)
    return refused(holds, now)


def test_a_held_lane_is_tried_by_one_call_at_growing_intervals(holds: Holds) -> None:
    """The wait doubles up to its bound; other lanes are not held."""
    assert refused(holds, 0) == 30
    assert not holds.may_call(MEMBERSHIP, 29)
    assert holds.may_call(OTHER_MEMBERSHIP, 29)
    assert holds.wake_at([MEMBERSHIP], 0) == 30
    assert holds.wake_at([OTHER_MEMBERSHIP], 0) is None
    assert try_again(holds, 30) == 60
    assert try_again(holds, 90) == 100
    assert try_again(holds, 190) == 100
    assert holds.words == {MEMBERSHIP: "'Data access budget' of 0"}


def test_late_answers_of_calls_before_the_hold_change_nothing(holds: Holds) -> None:
    """Many may be under way when the first is refused."""
    holds.refused(MEMBERSHIP, SPENT, 0)
    holds.refused(MEMBERSHIP, SPENT, 1)
    assert holds.wake_at([MEMBERSHIP], 1) == 30
    holds.passed(MEMBERSHIP)
    assert not holds.may_call(MEMBERSHIP, 29)


def test_a_try_with_another_outcome_ends_the_hold_and_forgets_it(holds: Holds) -> None:
    """It was accepted, or slots were full; the next hold begins with the first wait."""
    holds.refused(MEMBERSHIP, SPENT, 0)
    try_again(holds, 30)
    holds.called(MEMBERSHIP)
    holds.passed(MEMBERSHIP)
    assert not holds.words
    assert holds.may_call(MEMBERSHIP, 91)
    assert refused(holds, 92) == 30


def test_a_quota_without_a_value_is_named_without_one() -> None:
    """Nothing is made up."""
    assert other_quota_words(OtherQuotaExceeded("", "", "Data access budget")) == "'Data access budget'"


@pytest.mark.parametrize(
    ("kinds", "count", "stops", "is_everything"),
    [
        ([(MEMBERSHIP, "one")], 1, False, False),
        ([(MEMBERSHIP, "one")], 4, False, False),
        ([(MEMBERSHIP, "one")], 5, False, True),
        ([(MEMBERSHIP, "one")], 20, True, True),
        ([(MEMBERSHIP, "one"), (MEMBERSHIP, "two")], 2, False, True),
        ([(MEMBERSHIP, "one"), (OTHER_MEMBERSHIP, "one")], 4, False, True),
        ([(MEMBERSHIP, "one"), (MEMBERSHIP, "two")], 5, True, True),
    ],
)
def test_denials_of_several_lanes_or_models_are_sooner_about_the_caller(
    kinds: list[tuple[str, str]], count: int, stops: bool, is_everything: bool
) -> None:
    """Behind many rows of one model, others may stand."""
    denials, refusal = Denials(), Denied("AccessDeniedException", "no")
    jobs = [
        job_named(str(number), membership=kinds[number % len(kinds)][0], model=kinds[number % len(kinds)][1])
        for number in range(count)
    ]
    deliveries: list[Any] = [SimpleNamespace(job=job) for job in jobs]
    for delivery in deliveries:
        denials.kept.append((delivery, refusal))
    assert (denials.stops_run, denials.is_everything) == (stops, is_everything)
    assert denials.take() == [(delivery, refusal) for delivery in deliveries]
    assert (denials.stops_run, denials.is_everything, denials.take()) == (False, False, [])
