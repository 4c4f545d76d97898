"""How the rate gives way and comes back, and how long which outcome waits."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from batchsubmit.config import RetrySettings
from batchsubmit.core.job_states import BURST
from batchsubmit.core.jobs import (
    Accepted,
    Conflicted,
    InvalidRequest,
    NotSent,
    QuotaExceeded,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.pacing import Pace, RateGate, retried

THROTTLED = Throttled("ThrottlingException", "")
CONFLICTED = Conflicted("ConflictException", "")
NOT_SENT = NotSent("EndpointConnection", "")
ACCEPTED = Accepted("arn")


def test_throttling_halves_the_rate_once_for_the_calls_of_one_moment() -> None:
    """Calls that left before the cut say nothing of the new rate."""
    pace = Pace(8)
    assert pace.throttled(sent_at=1, now=2)
    assert not pace.throttled(sent_at=1.5, now=2.1)
    assert pace.per_second == 4
    assert pace.throttled(sent_at=5, now=6)
    assert pace.per_second == 2


def test_the_rate_never_falls_to_nothing() -> None:
    """However long the service throttles; nor does a cut raise a rate that was low already."""
    pace, slow = Pace(8), Pace(0.05)
    for second in range(0, 1000, 10):
        pace.throttled(sent_at=second, now=second)
        slow.throttled(sent_at=second, now=second)
    assert pace.per_second == pytest.approx(0.1)
    assert 0 < slow.per_second <= 0.05


@pytest.mark.parametrize("rate", [0.5, 1, 100])
def test_successes_bring_a_halved_rate_back_within_a_minute_and_never_above_its_maximum(rate: float) -> None:
    """In steps of one hundredth of the maximum a second."""
    pace = Pace(rate)
    pace.throttled(sent_at=0, now=0)
    now, rates = 0.0, []
    while pace.per_second < rate and now < 100:
        now += 1 / pace.per_second
        pace.succeeded(sent_at=now, now=now)
        rates.append(pace.per_second)
    assert rates == sorted(rates)
    assert now == pytest.approx(50, rel=0.05)
    pace.succeeded(sent_at=now, now=now)
    assert pace.per_second == rate


def test_a_success_of_a_call_from_before_the_cut_raises_nothing() -> None:
    """It was answered at the old rate."""
    pace = Pace(8)
    pace.throttled(sent_at=5, now=5)
    pace.succeeded(sent_at=4, now=6)
    assert pace.per_second == 4


def test_without_a_maximum_nothing_is_cut() -> None:
    """Throttled calls wait for their own retry."""
    pace = Pace(0)
    assert not pace.throttled(sent_at=1, now=1)
    pace.succeeded(sent_at=2, now=2)
    assert pace.per_second == 0


async def test_a_gate_without_a_rate_lets_everybody_through() -> None:
    """At once, until it is closed."""
    gate = RateGate(Pace(0))
    assert all(await asyncio.gather(*(gate.admit() for _ in range(1000))))
    gate.close()
    assert not await gate.admit()


async def test_closing_the_gate_sends_home_all_who_wait() -> None:
    """At once, even at one call in a hundred seconds."""
    gate = RateGate(Pace(0.01))
    waiters = [asyncio.create_task(gate.admit()) for _ in range(100)]
    assert not gate.is_awaited
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    assert gate.is_awaited
    gate.close()
    gate.close()
    admitted = await asyncio.wait_for(asyncio.gather(*waiters), 5)
    assert sum(admitted) <= BURST
    assert not await gate.admit()


async def test_a_waiter_that_is_cancelled_takes_nothing_with_it() -> None:
    """Those behind it are served."""
    gate = RateGate(Pace(50))
    waiters = [asyncio.create_task(gate.admit()) for _ in range(6)]
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    waiters[2].cancel()
    waiters[3].cancel()
    rest = [*waiters[:2], *waiters[4:]]
    assert await asyncio.wait_for(asyncio.gather(*rest), 5) == [True] * 4
    await asyncio.gather(*waiters, return_exceptions=True)


class Attempts:
    """Gives these outcomes, one a call, and the last one for ever."""

    def __init__(self, *outcomes: Result) -> None:
        self.outcomes = outcomes
        self.count = 0

    async def __call__(self) -> Result:
        """Make one."""
        self.count += 1
        return self.outcomes[min(self.count, len(self.outcomes)) - 1]


Again = Callable[[Attempts], Awaitable[Result]]
"""What makes attempts until one is the last."""


@pytest.fixture
def slept() -> list[float]:
    """The waits between attempts."""
    return []


@pytest.fixture
def again(slept: list[float]) -> Again:
    """At most four attempts, waits from 1 to 8 seconds, none of them real."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    settings = RetrySettings(max_attempts=4, base_seconds=1, cap_seconds=8)
    return partial(retried, settings=settings, sleep=sleep)


@pytest.mark.parametrize("outcome", [ACCEPTED, QuotaExceeded("c", ""), InvalidRequest("c", ""), Uncertain("r")])
async def test_what_is_decided_or_unknown_is_never_tried_again(
    again: Again, slept: list[float], outcome: Result
) -> None:
    """Least of all what may have been accepted."""
    attempts = Attempts(outcome, ACCEPTED)
    assert await again(attempts) == outcome
    assert attempts.count == 1
    assert slept == []


async def test_throttling_is_retried_without_end(again: Again, slept: list[float]) -> None:
    """The rate gives way instead."""
    attempts = Attempts(*[THROTTLED] * 100, ACCEPTED)
    assert await again(attempts) == ACCEPTED
    assert attempts.count == 101
    assert len(slept) == 100


@pytest.mark.parametrize("outcome", [CONFLICTED, NOT_SENT])
async def test_conflicts_and_unsent_calls_are_retried_a_bounded_number_of_times(again: Again, outcome: Result) -> None:
    """Then the last outcome is handed on as a value."""
    attempts = Attempts(outcome)
    assert await again(attempts) == outcome
    assert attempts.count == 4


async def test_each_class_of_outcome_spends_its_own_attempts(again: Again) -> None:
    """Three of each are no reason to give up."""
    outcomes = [CONFLICTED, NOT_SENT, THROTTLED] * 3
    attempts = Attempts(*outcomes, ACCEPTED)
    assert await again(attempts) == ACCEPTED
    assert attempts.count == 10


async def test_waits_have_full_jitter_under_a_doubling_bound(again: Again, slept: list[float]) -> None:
    """Anything from nothing to 1, 2, 4, 8, 8 ... seconds."""
    for _ in range(200):
        await again(Attempts(*[THROTTLED] * 6, ACCEPTED))
    for number, bound in enumerate([1, 2, 4, 8, 8, 8]):
        waits = slept[number::6]
        assert max(waits) <= bound
        assert max(waits) > 0.8 * bound
        assert min(waits) < 0.2 * bound
