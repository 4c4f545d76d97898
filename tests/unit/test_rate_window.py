"""The rate gate in virtual time: never more than the rate in any one second, and nearly all of it.

What reaches the wire in real time is measured by `tests/bench/rate.py`.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace

import pytest
from asyncio_throttle import throttler
from simulation.loop import virtual_loop

from batchsubmit.pacing import Pace, RateGate

WATCHED_SECONDS = 20.3
WAITERS = 12_000


async def passages(rate: float) -> list[float]:
    """When thousands of waiters pass a gate, as far as they do while it is watched."""
    loop = asyncio.get_running_loop()
    gate = RateGate(Pace(rate), monotonic=loop.time)
    times: list[float] = []

    async def wait() -> None:
        if await gate.admit():
            times.append(loop.time())

    with suppress(TimeoutError):
        async with asyncio.timeout(WATCHED_SECONDS), asyncio.TaskGroup() as waiters:
            for _ in range(WAITERS):
                waiters.create_task(wait())
    return times


@pytest.fixture(scope="module")
def watched() -> Iterator[dict[float, list[float]]]:
    """What passes at each rate, the Throttler's own clock included in the virtual time."""
    with pytest.MonkeyPatch.context() as patch:

        def watch(rate: float) -> list[float]:
            with virtual_loop() as loop:
                patch.setattr(throttler, "time", SimpleNamespace(monotonic=loop.time))
                return loop.run_until_complete(passages(rate))

        yield {rate: watch(rate) for rate in (0.2, 5, 50, 500)}


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
    assert len(times) == 4
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
