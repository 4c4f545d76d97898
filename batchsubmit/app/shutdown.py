"""How long a worker that was asked to end may take for it: a container is killed some time after its SIGTERM.

What is cut off here is safe all the same: a call that is given up leaves an open intent, which the worker that takes
the job next looks up. Nothing here knows queue, ledger or engine.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context

from batchsubmit.errors import StoppedError
from batchsubmit.submit.stopping import Stop

LAST_SECONDS = 10.0
"""After the grace: to hand messages back, to write down what is known and to free the jobs. Then comes the end."""

_CUT_AGAIN_SECONDS = 0.5


class ShutdownGrace:
    """Begins when the run is asked to stop, for whatever reason."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self.seconds = seconds
        self._stop = stop

    @asynccontextmanager
    async def for_calls(self, on_over: Callable[[], None]) -> AsyncIterator[None]:
        """Cancel the calls inside when the grace is over; `on_over` is called right before."""
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)

        def give_up() -> None:
            on_over()
            limit.reschedule(loop.time())

        try:
            async with limit:
                with self._after_stop(self.seconds, give_up):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise

    @asynccontextmanager
    async def for_everything(self) -> AsyncIterator[None]:
        """Cut everything off some seconds after the grace; each clean-up that waits then is cut off in its turn.

        Raises StoppedError where that was necessary.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 (an async context manager runs in a task)
        cuts: list[asyncio.TimerHandle] = []

        def cut() -> None:
            task.cancel()
            cuts.append(loop.call_later(_CUT_AGAIN_SECONDS, cut))

        try:
            with self._after_stop(self.seconds + LAST_SECONDS, cut):
                yield
        except asyncio.CancelledError:
            if not cuts:
                raise
            for _ in cuts:
                task.uncancel()
            raise StoppedError(
                f"the grace of {self.seconds:g} s was over, and {LAST_SECONDS:g} s more were not enough to hand back "
                "and write down everything: messages that were held show again after their visibility timeout, and "
                "the jobs of calls in progress are looked up by the worker that takes them next"
            ) from None
        finally:
            if cuts:
                cuts[-1].cancel()

    @contextmanager
    def _after_stop(self, seconds: float, call: Callable[[], None]) -> Iterator[None]:
        """Call so many seconds after the stop, unless the block has ended by then."""
        loop, context = asyncio.get_running_loop(), copy_context()  # a signal's own has neither run nor worker
        timers: list[asyncio.TimerHandle] = []
        is_inside = True

        def begin() -> None:
            if is_inside:
                timers.append(loop.call_later(seconds, call, context=context))

        if self._stop.requested:
            begin()
        else:
            self._stop.on_request(begin)
        try:
            yield
        finally:
            is_inside = False
            for timer in timers:
                timer.cancel()
