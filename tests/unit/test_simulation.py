"""The simulation: the real engine in virtual time, repeatable, with the quotas kept and the account in order."""

import time

import pytest
from simulation import SimulatedJob, Workload, simulate, usable_slots
from simulation.loop import StuckError, TroubledError, VirtualLoop, virtual_loop
from strategies import arn

from batchsubmit.config import Settings

SETTINGS = Settings()
HALF_AN_HOUR = 1800.0


def membership(number: int) -> str:
    """One of many memberships."""
    return f"{number:08d}-1111-4111-8111-111111111111"


def jobs(count: int, *, lanes: int = 1, seconds: float = HALF_AN_HOUR) -> list[SimulatedJob]:
    """So many jobs, dealt out to the memberships."""
    homes = [membership(number) for number in range(lanes)]
    models = [arn("trained-model", "one", membership=home) for home in homes]
    return [SimulatedJob(homes[each % lanes], models[each % lanes], seconds) for each in range(count)]


def test_a_simulated_run_takes_as_long_as_its_jobs_need_on_the_slots_there_are() -> None:
    """Twenty jobs of half an hour on five slots: four rounds, and little more."""
    result = simulate(Workload(jobs=jobs(20)), SETTINGS)
    assert 4 * HALF_AN_HOUR <= result.makespan_seconds < 4 * HALF_AN_HOUR * 1.08
    assert 3 * HALF_AN_HOUR <= result.sent_seconds < result.makespan_seconds
    assert 0.9 < result.slot_use <= 1
    assert result.calls["StartTrainedModelInferenceJob"] == 20 + result.refused_starts


def test_the_same_seed_gives_the_same_run_and_the_next_one_another_list() -> None:
    """Nothing depends on the machine's clock; the seed decides in which order List shows jobs."""
    work = Workload(jobs=jobs(40, lanes=3), per_account=10)
    first = simulate(work, SETTINGS, seed=7)
    assert simulate(work, SETTINGS, seed=7) == first
    assert simulate(work, SETTINGS, seed=8).makespan_seconds == pytest.approx(first.makespan_seconds, rel=0.05)


def test_jobs_that_run_already_hold_their_slots() -> None:
    """Five others for an hour, and the one membership is full for an hour."""
    free = simulate(Workload(jobs=jobs(5)), SETTINGS)
    held = simulate(Workload(jobs=jobs(5), running=jobs(5, seconds=3600.0)), SETTINGS)
    assert free.makespan_seconds < HALF_AN_HOUR + 60
    # Where no running time is known yet, a job is looked at whenever it has grown older by some hundredths.
    assert 3600 + HALF_AN_HOUR <= held.makespan_seconds < 1.05 * 3600 + HALF_AN_HOUR


def test_a_rate_bounds_the_calls_in_virtual_time_too() -> None:
    """Three calls at once and 97 at one a second take 97 virtual seconds, and next to none of ours."""
    slow = Settings.model_validate({"rate": {"max_per_second": 1.0}})
    began = time.monotonic()
    result = simulate(Workload(jobs=jobs(100, seconds=1.0), per_membership=0, per_account=0), slow)
    assert 97 <= result.sent_seconds < 99
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("per_membership", "per_account", "slots"), [(5, 10, 10), (5, 0, 15), (0, 10, 10), (2, 10, 6), (0, 0, 0)]
)
def test_usable_slots_are_what_both_quotas_leave(per_membership: int, per_account: int, slots: int) -> None:
    """Three memberships of one account."""
    work = Workload(jobs=jobs(3, lanes=3), per_membership=per_membership, per_account=per_account)
    assert usable_slots(work) == slots


def test_a_loop_on_which_everybody_waits_for_ever_says_so() -> None:
    """Without timers nothing can happen any more."""
    with virtual_loop() as loop, pytest.raises(StuckError):
        loop.run_until_complete(loop.create_future())


def test_trouble_that_nobody_awaited_is_an_error() -> None:
    """A simulation whose tasks died is no result."""

    def failing() -> None:
        raise ValueError

    def run(loop: VirtualLoop) -> None:
        loop.call_later(1, failing)
        loop.run_until_complete(_after(loop, 2))

    with pytest.raises(TroubledError), virtual_loop() as loop:
        run(loop)


async def _after(loop: VirtualLoop, seconds: float) -> None:
    done = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done
