"""Virtual time: it jumps, it tells of trouble, and the engine runs in it."""

import time

import pytest
from conftest import job_named
from memory_ledger import SlowLedger
from virtual_time import StuckError, TroubledError, VirtualClock, VirtualLoop, running_loop, virtual_loop, virtually
from world import World


@virtually
async def test_a_rate_bounds_the_calls_in_virtual_time_too() -> None:
    """Three calls at once and 97 at one a second take 97 virtual seconds, and next to none of ours."""
    clock, began = VirtualClock(running_loop()), time.monotonic()
    world = World(clock, ledger=SlowLedger(), settings={"rate": {"max_per_second": 1.0}})
    await world.run(job_named(f"job-{number}") for number in range(100))
    assert len(world.names) == 100
    assert 97 <= clock.monotonic() < 99
    assert time.monotonic() - began < 20


def test_a_loop_on_which_everybody_waits_for_ever_says_so() -> None:
    """Without timers nothing can happen any more."""
    with virtual_loop() as loop, pytest.raises(StuckError):
        loop.run_until_complete(loop.create_future())


def test_trouble_that_nobody_awaited_is_an_error() -> None:
    """A run whose tasks died is no result."""

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
