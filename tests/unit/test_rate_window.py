"""The rate gate in real time: never more than the rate in any one second, and nearly all of it."""

import asyncio
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from batchsubmit.pacing import Pace, RateGate

WATCHED_SECONDS = 5.3  # long enough for a second call at one in five seconds
WAITERS = 2500


async def passages(rate: float) -> list[float]:
    """When thousands of waiters pass a gate, as far as they do while it is watched."""
    gate = RateGate(Pace(rate))
    times: list[float] = []

    async def wait() -> None:
        if await gate.admit():
            times.append(time.monotonic())

    with suppress(TimeoutError):
        async with asyncio.timeout(WATCHED_SECONDS), asyncio.TaskGroup() as waiters:
            for _ in range(WAITERS):
                waiters.create_task(wait())
    return times


@pytest.fixture(scope="module")
def watched() -> dict[float, list[float]]:
    """All rates at once, so that the test takes no longer than one of them."""

    async def watch() -> dict[float, list[float]]:
        rates = (0.2, 5, 50, 500)
        return dict(zip(rates, await asyncio.gather(*map(passages, rates)), strict=True))

    return asyncio.run(watch())


@pytest.mark.parametrize("rate", [5, 50, 500])
def test_no_second_ever_has_more_calls_than_the_rate(watched: dict[float, list[float]], rate: int) -> None:
    """Wherever the second begins."""
    times = watched[rate]
    closest = min(later - earlier for earlier, later in zip(times, times[rate:], strict=False))
    assert closest > 1


@pytest.mark.parametrize("rate", [5, 50, 500])
def test_nearly_all_of_the_rate_is_reached(watched: dict[float, list[float]], rate: int) -> None:
    """At least 95 % of it while there is work."""
    times = watched[rate]
    assert len(times) > min(0.9 * rate * WATCHED_SECONDS, WAITERS - 1)
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.95 * rate


def test_calls_are_spread_evenly_not_in_volleys(watched: dict[float, list[float]]) -> None:
    """A tenth of a second has about a tenth of a second's calls."""
    times = watched[50]
    assert min(later - earlier for earlier, later in zip(times, times[10:], strict=False)) > 0.1


def test_less_than_one_call_a_second_has_its_pauses(watched: dict[float, list[float]]) -> None:
    """One at once, the next after five seconds."""
    times = watched[0.2]
    assert len(times) == 2
    for earlier, later in pairwise(times):
        assert 5 <= later - earlier <= 5 / 0.95


async def test_processor_time_does_not_grow_with_the_waiters() -> None:
    """Five thousand cost no more than five."""

    async def cost(waiters: int) -> float:
        gate = RateGate(Pace(20))
        waiting = [asyncio.create_task(gate.admit()) for _ in range(waiters)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        began = time.process_time()
        for task in waiting[1:11]:
            await task
        spent = time.process_time() - began
        gate.close()
        await asyncio.gather(*waiting)
        return spent

    few, many = await cost(11), await cost(5000)
    assert many < few + 0.05
