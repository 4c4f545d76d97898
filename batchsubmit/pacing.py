"""How fast calls leave, and how long a refused one waits: the rate gate and the retries.

`Pace` is pure; `RateGate` is the only place that waits for it. Nothing here knows what a call is.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from asyncio_throttle.throttler import Throttler
from tenacity import AsyncRetrying, RetryCallState, retry_if_result
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.config import RetrySettings
from batchsubmit.core.job_states import BURST
from batchsubmit.core.jobs import Conflicted, NotSent, Throttled, Uncertain

_JITTER = 0.5
"""Share of a call's time by which a call is late, at most, once the service has throttled: others call as well. Without
it the calls of workers that share a limit keep step, and one of them takes every token."""

_STEP = 0.01
"""Share of its maximum that a cut rate gains in a second. Two workers then lose about 6 calls in 100 to throttling; a
rate that was halved once is back after 50 seconds."""

_BETWEEN_CUTS_SECONDS = 1.0
"""One burst of refusals is one piece of news: the answers to calls from before a cut must not cut again."""

_LEAST_PER_SECOND = 0.1


class Pace:
    """The rate that is allowed now: halved when the service throttles, raised in steps as calls succeed.

    It never falls below `least_per_second`: where calls are few, their number says nothing of what the service allows.
    A maximum of 0 is no limit; throttled calls then wait for their own retry only.
    """

    def __init__(self, max_per_second: float, *, least_per_second: float = _LEAST_PER_SECOND) -> None:
        self.max_per_second = max_per_second
        self.per_second = max_per_second
        self.answered_at = -math.inf
        self.cut_at = -math.inf
        self._least = min(least_per_second, max_per_second)

    def throttled(self, *, sent_at: float, now: float) -> bool:
        """Halve the rate, at most once a second; False where the call says nothing of the rate of now."""
        self.answered_at = now
        if not self.max_per_second or sent_at < self.cut_at + _BETWEEN_CUTS_SECONDS:
            return False
        self.per_second = max(self.per_second / 2, self._least)
        self.cut_at = now
        return True

    def succeeded(self, *, sent_at: float, now: float) -> None:
        """Raise a cut rate, for a call that left after the cut; each stands for its share of a second."""
        self.answered_at = now
        if sent_at >= self.cut_at > -math.inf:
            raised = self.per_second + _STEP * self.max_per_second / self.per_second
            self.per_second = min(self.max_per_second, raised)


class _TokenBucket(Throttler):
    """The Throttler as a token bucket, as AWS has it: BURST calls at once, and one more each time a call's time passed.

    Its log is of the calls whose tokens have not come back. The library takes a call out of it once a whole period has
    passed since that call, which lets a period's calls through at once; here the tokens come back one by one. And it
    waits for the next token, where the library looks every 10 ms.

    The service's bucket refills from when the first call of a burst arrives, which may be late: its connection is made
    first. So ours refills from the first answer on, or the call after the burst would come too early.
    """

    def __init__(self, pace: Pace, monotonic: Callable[[], float]) -> None:
        super().__init__(rate_limit=BURST)
        self._pace = pace
        self._monotonic = monotonic
        self._refilled_at = -math.inf
        self._is_answered = True

    def flush(self) -> None:
        """Give back the tokens that are due. The library calls this before it looks whether one is left."""
        now, period = self._monotonic(), 1 / self._pace.per_second
        if not self._is_answered and self._pace.answered_at > self._refilled_at:
            self._refilled_at, self._is_answered = self._pace.answered_at, True
        while self._task_logs and now >= self._refilled_at + period:
            self._task_logs.popleft()
            self._refilled_at += period
        if not self._task_logs:
            self._refilled_at, self._is_answered = now, False
        wait = self._refilled_at + period - now
        if self._pace.cut_at > -math.inf:
            wait += random.uniform(0, _JITTER) * period  # noqa: S311 - no secret
        self.retry_interval = max(wait, 0.001)


class RateGate:
    """Lets calls through one by one, at the pace that is allowed now; one caller at a time waits in the bucket."""

    def __init__(self, pace: Pace, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.pace = pace
        self.monotonic = monotonic
        self.is_closed = False
        self._not_before = -math.inf
        self._bucket = _TokenBucket(pace, monotonic)
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Timeout  # of the one whose turn it is

    @property
    def is_awaited(self) -> bool:
        """Whether calls wait for the rate now."""
        return self._turn.locked()

    async def admit(self) -> bool:
        """Wait for leave to make one call; False where the gate was closed meanwhile."""
        async with self._turn:
            if not self.is_closed:
                with suppress(TimeoutError):  # the gate was closed
                    async with asyncio.timeout(None) as self._waiting:
                        while (wait := self._not_before - self.monotonic()) > 0:  # noqa: ASYNC110 (answers prolong it)
                            await asyncio.sleep(wait)
                        if self.pace.max_per_second:
                            await self._bucket.acquire()  # type: ignore[no-untyped-call] # the library has no types
        return not self.is_closed

    def answered(self, answer: object, *, sent_at: float) -> bool:
        """Learn from an answer: throttling slows the calls down, and says when the next may leave; True where it did.

        What brought no answer says nothing.
        """
        now = self.monotonic()
        if isinstance(answer, Throttled | Uncertain):
            if answer.retry_after_seconds:
                self._not_before = max(self._not_before, now + answer.retry_after_seconds)
            return answer.is_throttling and self.pace.throttled(sent_at=sent_at, now=now)
        if not isinstance(answer, NotSent):
            self.pace.succeeded(sent_at=sent_at, now=now)
        return False

    def close(self) -> None:
        """Let nobody through any more, and wake those who wait."""
        if self._turn.locked() and not self.is_closed:
            self._waiting.reschedule(0)
        self.is_closed = True


_Result = TypeVar("_Result")
_TRIED_AGAIN = (Throttled, NotSent, Conflicted)


def retrying(
    settings: RetrySettings,
    sleep: Callable[[float], Awaitable[None]],
    *,
    on: tuple[type, ...],
    is_last: Callable[[RetryCallState], bool],
) -> AsyncRetrying:
    """Repeat a call while it brings one of these outcomes, until the last one, which is handed on as a value.

    Waits have full jitter: anything between nothing and the doubling bound.
    """
    return AsyncRetrying(
        retry=retry_if_result(lambda outcome: isinstance(outcome, on)),
        wait=full_jitter(multiplier=settings.base_seconds, max=settings.cap_seconds),
        stop=is_last,
        sleep=sleep,
        retry_error_callback=_outcome_of,
    )


def _outcome_of(state: RetryCallState) -> Any:  # noqa: ANN401 (whatever the call brought)
    return state.outcome.result() if state.outcome else None


async def retried(
    attempt: Callable[[], Awaitable[_Result]], settings: RetrySettings, *, sleep: Callable[[float], Awaitable[None]]
) -> _Result:
    """Attempt a Start or Cancel until it is decided or unknown, or has come to nothing too often.

    Throttled calls are repeated without end, because the rate gate slows down by itself; conflicts and unsent calls a
    bounded number of times each. The first call is made outside of tenacity, which takes a tenth of a call: nearly all
    need no second one.
    """
    made, tries = [await attempt()], Counter[type]()
    if not isinstance(made[0], _TRIED_AGAIN):
        return made[0]

    async def next_attempt() -> _Result:
        return made.pop() if made else await attempt()

    def is_last(state: RetryCallState) -> bool:
        kind = type(_outcome_of(state))
        tries[kind] += 1
        return kind is not Throttled and tries[kind] >= settings.max_attempts

    result: _Result = await retrying(settings, sleep, on=_TRIED_AGAIN, is_last=is_last)(next_attempt)
    return result
