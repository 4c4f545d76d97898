"""How long a worker may take for its end, in virtual time."""

import asyncio

import pytest
from virtual_time import virtually

from batchsubmit.app.grace import LAST_SECONDS, ShutdownGrace
from batchsubmit.errors import StoppedError
from batchsubmit.submit.stopping import Stop, StopReason


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


def graceful(seconds: float) -> tuple[Stop, ShutdownGrace]:
    """A worker's stop and its grace."""
    stop = Stop()
    return stop, ShutdownGrace(stop, seconds)


def stop_after(stop: Stop, seconds: float) -> None:
    """SIGTERM comes then."""
    asyncio.get_running_loop().call_later(seconds, stop.request, StopReason.SIGNAL, "SIGTERM")


@virtually
async def test_what_ends_within_the_grace_is_awaited() -> None:
    """However long it ran before the stop."""
    stop, grace = graceful(60)
    stop_after(stop, 1000)
    async with grace.for_calls(lambda: 3):
        await asyncio.sleep(1059)
    await asyncio.sleep(100)
    assert not grace.cut_short


@virtually
async def test_what_is_under_way_when_the_grace_is_over_is_given_up_and_the_rest_goes_on() -> None:
    """Its own clean-up runs; the task itself is not cancelled any more."""
    stop, grace = graceful(60)
    stop_after(stop, 10)
    cleaned = []
    async with grace.for_calls(lambda: 3):
        try:
            await asyncio.sleep(5000)
        finally:
            cleaned.append((now(), grace.cut_short))
    assert cleaned == [(70, grace.cut_short)]
    assert "the calls in progress (3) were given up" in grace.cut_short
    await asyncio.sleep(1)


@virtually
async def test_a_stop_after_the_end_of_what_was_under_way_cuts_nothing() -> None:
    """As where the queue's own trouble ended the engine."""
    stop, grace = graceful(1)
    async with grace.for_calls(lambda: 3):
        pass
    stop.request(StopReason.SIGNAL, "SIGTERM")
    await asyncio.sleep(100)
    assert not grace.cut_short


@virtually
async def test_a_time_out_of_what_is_under_way_is_not_taken_for_the_grace_s_end() -> None:
    """It is someone's error."""
    with pytest.raises(TimeoutError):
        async with ShutdownGrace(Stop(), 1).for_calls(int):
            raise TimeoutError


@virtually
async def test_the_end_comes_although_one_clean_up_after_the_other_hangs() -> None:
    """Some seconds after the grace, however many must be cut off; a stop may have come before."""
    stop, hung = Stop(), []
    stop.request(StopReason.SIGNAL, "SIGTERM")

    async def hang(levels: int) -> None:
        try:
            await asyncio.sleep(5000)
        finally:
            hung.append(now())
            if levels:
                await hang(levels - 1)

    with pytest.raises(StoppedError, match="grace of 60 s was over"):
        async with ShutdownGrace(stop, 60).for_everything():
            await hang(3)
    assert len(hung) == 4
    assert hung[0] == 60 + LAST_SECONDS
    assert now() < 60 + LAST_SECONDS + 3
    await asyncio.sleep(10)


@virtually
async def test_an_end_in_time_is_left_alone() -> None:
    """No cut comes after it."""
    stop = Stop()
    stop.request(StopReason.SIGNAL, "SIGTERM")
    async with ShutdownGrace(stop, 60).for_everything():
        await asyncio.sleep(60)
    await asyncio.sleep(60)


@virtually
async def test_a_second_signal_is_not_taken_for_the_grace_s_end() -> None:
    """It ends everything at once, as a cancellation."""

    async def end_at_once() -> None:
        async with ShutdownGrace(Stop(), 60).for_everything():
            await asyncio.sleep(1000)

    task = asyncio.create_task(end_at_once())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
