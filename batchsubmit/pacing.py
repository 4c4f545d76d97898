"""How fast calls leave, and how long a refused one waits: the rate gate and the retry policies.

`Pace` is pure; `RateGate` is the only place that waits for it. Nothing here knows what a call is.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from asyncio_throttle.throttler import Throttler
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, stop_never
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.config import RetrySettings
from batchsubmit.jobs import Conflicted, NotSent, Throttled

_EVENNESS = 0.975
"""The gate aims at 97.5 % of the rate: timers fire late by up to a millisecond and calls reach the wire unevenly, and
the bound (never more than the rate in any one second) must hold there, not only here."""

_WARM_UP_SECONDS = 0.04
"""The first call reaches the wire late, because the client, its connection and our own code are made ready by it. The
calls after it wait for that long in addition, or the window that begins with it would hold one too many."""

_CATCH_UP_SECONDS = 0.015
"""A timer that fires late is made up for by the next calls, but only as far as this: more would be a burst."""

_BETWEEN_CUTS_SECONDS = 1.0
"""One burst of refusals is one piece of news: the answers to calls from before a cut must not cut again."""

_LEAST_PER_SECOND = 0.1
_ASSUMED_CEILING = 100.0
"""Calls a second up to which a rate that was found by throttling is raised, where none was set. The steps follow from
it: ten a second each second, which is quick after a stray refusal and bearable at a real limit of ten."""

_FORGIVEN_AFTER_SECONDS = 30.0
"""Where no rate was set, one that was found by throttling is dropped after this long without another."""


class Pace:
    """The rate that is allowed now: halved when the service throttles, raised in steps as calls succeed.

    It never falls below `least_per_second`: where calls are few, their number says nothing of what the service allows.
    """

    def __init__(self, max_per_second: float, *, least_per_second: float = _LEAST_PER_SECOND) -> None:
        self.max_per_second = max_per_second
        self._least = least_per_second
        self.per_second = max_per_second
        self._ceiling = max_per_second
        self._cut_at = -math.inf
        self._recent: deque[float] = deque()

    @property
    def is_limited(self) -> bool:
        """Whether calls have to wait for one another at all."""
        return self.per_second > 0

    def throttled(self, *, sent_at: float, now: float) -> bool:
        """Halve the rate, at most once a second; False where the call says nothing of the rate of now."""
        if sent_at < self._cut_at + _BETWEEN_CUTS_SECONDS:
            return False
        if not self.is_limited:
            self.per_second = self._measured(now)
            self._ceiling = max(self.per_second, _ASSUMED_CEILING)
        self.per_second = max(self.per_second / 2, min(self._least, self._ceiling))
        self._cut_at = now
        return True

    def succeeded(self, *, sent_at: float, now: float) -> None:
        """Raise a cut rate by a tenth of its ceiling with each second's worth of successes."""
        if not self.max_per_second:
            self._recent.append(now)
            self._forget_older_than(now - 1)
        if not self.is_limited or sent_at < self._cut_at:
            return
        self.per_second = min(self._ceiling, self.per_second + self._ceiling / 10 / max(self.per_second, 1))
        if not self.max_per_second and now - self._cut_at > _FORGIVEN_AFTER_SECONDS:
            self.per_second = 0

    def _measured(self, now: float) -> float:
        """Count the calls of the last second, where no rate was set and one must be found."""
        self._forget_older_than(now - 1)
        return max(float(len(self._recent)), 1.0)

    def _forget_older_than(self, moment: float) -> None:
        while self._recent and self._recent[0] < moment:
            self._recent.popleft()


class RateGate:
    """Lets calls through one by one, evenly, at the pace that is allowed now.

    asyncio-throttle's Throttler polls for each of its waiters and lets a period's calls through at once. So one
    caller at a time waits in it, after waiting for its own due time: the pace is even, the cost does not grow with the
    number of callers, and the Throttler is what guarantees the bound over a second (for a rate below one a second:
    over that call's own period).
    """

    def __init__(
        self, pace: Pace, *, monotonic: Callable[[], float] = time.monotonic, throttler: Throttler | None = None
    ) -> None:
        self.pace = pace
        self._monotonic = monotonic
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()
        self._due = -math.inf
        self._throttler = throttler or Throttler(rate_limit=1)

    async def admit(self) -> bool:
        """Wait for leave to make one call; False where the gate was closed meanwhile."""
        if not self.pace.is_limited:
            return not self._closed.is_set()
        async with self._turn:
            await self._wait_until_due()
            if self._closed.is_set():
                return False
            if self.pace.is_limited:
                self._set_bound()
                await self._throttler.acquire()  # type: ignore[no-untyped-call] # the library has no types
            return True

    async def _wait_until_due(self) -> None:
        if self._closed.is_set() or not self.pace.is_limited:
            return
        if self._due == -math.inf:
            self._due = self._monotonic() + 1 / (self.pace.per_second * _EVENNESS) + _WARM_UP_SECONDS
            return
        self._due = max(self._due, self._monotonic() - _CATCH_UP_SECONDS)
        wait = self._due - self._monotonic()
        if wait > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._closed.wait()
        if self.pace.is_limited:  # not where a rate that throttling had found was dropped during the wait
            self._due += 1 / (self.pace.per_second * _EVENNESS)

    def _set_bound(self) -> None:
        """Tell the Throttler the rate of this moment: whole calls in the shortest period that holds them."""
        rate = self.pace.per_second
        calls = max(1, math.floor(rate))
        self._throttler.rate_limit = calls
        self._throttler.period = calls / rate

    def close(self) -> None:
        """Let nobody through any more, and wake those who wait."""
        self._closed.set()


class AtOnce:
    """Bounds the calls under way: `async with` is one. Closed, it holds nobody up, and the gate lets nobody through."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._waiting = 0
        self._is_closed = False

    async def __aenter__(self) -> None:
        if self._is_closed:
            return
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._free.release()

    def close(self) -> None:
        """Let all pass, now and later: whoever waits here would wait for calls that may take long to end."""
        self._is_closed = True
        for _ in range(self._waiting):
            self._free.release()


_Result = TypeVar("_Result")


class RetryPolicies:
    """Which outcomes are tried again, how often and after how long: one tenacity policy a class of reaction.

    Waits have full jitter: anything between nothing and the doubling bound. Throttled calls are repeated without end,
    because the rate gate slows down by itself; conflicts and unsent calls a bounded number of times.
    """

    def __init__(self, settings: RetrySettings, *, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._settings = settings
        self._sleep = sleep
        bounded = stop_after_attempt(settings.max_attempts)
        self._layers = (
            self._policy(Throttled, stop_never),
            self._policy(NotSent, bounded),
            self._policy(Conflicted, bounded),
        )

    def _policy(self, outcome: type, stop: Callable[[RetryCallState], bool]) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_result(lambda result: isinstance(result, outcome)),
            wait=full_jitter(multiplier=self._settings.base_seconds, max=self._settings.cap_seconds),
            stop=stop,
            sleep=self._sleep,
            retry_error_callback=_last_result,
        )

    async def run(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Call `attempt` until its result is none of those to be tried again, or its policy's bound is reached.

        The first call is made before any policy is asked: nearly all need no second one, and three layers of tenacity
        around a call take as long as the call itself.
        """
        first = await attempt()
        if not _is_tried_again(first):
            return first
        layered = _resumed(first, attempt)
        for policy in self._layers:
            layered = _around(policy, layered)
        return await layered()


def _around(policy: AsyncRetrying, attempt: Callable[[], Awaitable[_Result]]) -> Callable[[], Awaitable[_Result]]:
    """Each layer counts its own class of outcome, so a conflict never spends an unsent call's tries."""

    async def retried() -> _Result:
        result: _Result = await policy(attempt)
        return result

    return retried


def _is_tried_again(result: object) -> bool:
    return isinstance(result, Throttled | NotSent | Conflicted)


def _resumed(first: _Result, attempt: Callable[[], Awaitable[_Result]]) -> Callable[[], Awaitable[_Result]]:
    """Attempts of which the first was made already."""
    made = [first]

    async def resumed() -> _Result:
        return made.pop() if made else await attempt()

    return resumed


def _last_result(state: RetryCallState) -> object:
    """Hand the last outcome on where the bound is reached: an outcome is a value here, never an exception."""
    return state.outcome.result() if state.outcome else None
