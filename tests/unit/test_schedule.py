"""The yardstick: greedy schedules under nested quotas, and the fluid that a large batch is taken for."""

from random import Random

import pytest

from batchsubmit.forecast.schedule import LaneWork, Quotas, fluid_seconds, greedy_finish

ACCOUNT = "1"


def lane(*seconds: float, account: str = ACCOUNT, running: tuple[float, ...] = ()) -> LaneWork:
    """A membership's jobs."""
    return LaneWork(account=account, seconds=seconds, running=running)


@pytest.mark.parametrize(
    ("lanes", "quotas", "finish"),
    [
        ({}, Quotas(), 0.0),
        ({"a": lane(3.0, 2.0, 1.0)}, Quotas(per_membership=1, per_account=1), 6.0),
        ({"a": lane(3.0, 2.0, 1.0)}, Quotas(per_membership=2, per_account=10), 3.0),
        ({"a": lane(3.0, 2.0, 1.0)}, Quotas(per_membership=0, per_account=0), 3.0),
        ({"a": lane(1.0, 1.0), "b": lane(1.0, 1.0)}, Quotas(per_membership=2, per_account=2), 2.0),
        ({"a": lane(1.0, 1.0), "b": lane(1.0, 1.0, account="2")}, Quotas(per_membership=2, per_account=2), 1.0),
        ({"a": lane(1.0, running=(4.0, 5.0))}, Quotas(per_membership=2, per_account=10), 5.0),
        ({"a": lane(running=(4.0,))}, Quotas(), 4.0),
        ({"a": lane(9.0), "b": lane(1.0, running=(1.0, 1.0, 1.0))}, Quotas(per_membership=2, per_account=4), 9.0),
    ],
)
def test_each_free_slot_is_filled_at_once(lanes: dict[str, LaneWork], quotas: Quotas, finish: float) -> None:
    """By hand; jobs that run at the start hold slots, and it is not over before they are."""
    assert greedy_finish(lanes, quotas) == finish


def test_lanes_of_one_account_share_it_fairly() -> None:
    """A long lane does not keep a short one waiting: with two slots each has one."""
    lanes = {"long": lane(*[1.0] * 20), "short": lane(*[1.0] * 2)}
    assert greedy_finish(lanes, Quotas(per_membership=2, per_account=2)) == 11.0


@pytest.mark.parametrize("quotas", [Quotas(), Quotas(per_account=0), Quotas(per_membership=0)])
def test_the_schedule_of_many_jobs_comes_close_to_the_fluid(quotas: Quotas) -> None:
    """What is left of the difference is the end of the batch."""
    dice = Random(5)
    lanes = {str(each): lane(*(dice.uniform(1, 3) for _ in range(300 * (each + 1)))) for each in range(3)}
    fluid = fluid_seconds(lanes, quotas)
    assert fluid <= greedy_finish(lanes, quotas) <= fluid * 1.02 + 3


def test_the_fluid_is_linear_in_the_work() -> None:
    """So that a sample's may be multiplied."""
    quotas = Quotas(per_membership=3, per_account=4)
    once = {"a": lane(1.0, 2.0), "b": lane(4.0)}
    twice = {"a": lane(1.0, 2.0, 1.0, 2.0), "b": lane(4.0, 4.0)}
    assert fluid_seconds(twice, quotas) == pytest.approx(2 * fluid_seconds(once, quotas))
    assert fluid_seconds(once, Quotas(per_membership=0, per_account=0)) == 0.0
