"""How long a worker may take for its end, in virtual time."""

import asyncio

import pytest
from virtual_time import virtually

from batchsubmit.app.shutdown import LAST_SECONDS, ShutdownGrace
from batchsubmit.errors import StoppedError
from batchsubmit.submit.stopping import Stop, StopReason


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


def stop_after(stop: Stop, seconds: float) -> None:
    """SIGTERM comes then."""
    asyncio.get_running_loop().call_later(seconds, stop.request, StopReason.SIGNAL, "SIGTERM")


@virtually
async def test_what_ends_within_the_grace_is_awaited() -> None:
    """However long it ran before the stop."""
    stop, over = Stop(), []
    stop_after(stop, 1000)
    async with ShutdownGrace(stop, 60).for_calls(lambda: over.append(now())):
        await asyncio.sleep(1059)
    await asyncio.sleep(100)
    assert not over


@virtually
async def test_what_is_under_way_when_the_grace_is_over_is_given_up_and_the_rest_goes_on() -> None:
    """Its own clean-up runs; the task itself is not cancelled any more."""
    stop, told = Stop(), []
    stop_after(stop, 10)
    async with ShutdownGrace(stop, 60).for_calls(lambda: told.append(("over", now()))):
        try:
            await asyncio.sleep(5000)
        finally:
            told.append(("cleaned", now()))
    assert told == [("over", 70), ("cleaned", 70)]
    await asyncio.sleep(1)


@virtually
async def test_a_stop_after_the_end_of_what_was_under_way_cuts_nothing() -> None:
    """As where the queue's own trouble ended the engine."""
    stop, over = Stop(), []
    async with ShutdownGrace(stop, 1).for_calls(lambda: over.append(now())):
        pass
    stop.request(StopReason.SIGNAL, "SIGTERM")
    await asyncio.sleep(100)
    assert not over


@virtually
async def test_a_time_out_of_what_is_under_way_is_not_taken_for_the_grace_s_end() -> None:
    """It is someone's error."""
    with pytest.raises(TimeoutError):
        async with ShutdownGrace(Stop(), 1).for_calls(bool):
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
