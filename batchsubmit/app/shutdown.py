"""How long a worker that was asked to end may take for it: a container is killed some time after its SIGTERM.

What is cut off here is in order all the same: a call that is given up leaves an open intent, which its next owner looks
up. Nothing here knows queue, ledger or engine.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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

    def __repr__(self) -> str:
        return f"<Grace {self.seconds:g} s, {self._stop!r}>"

    @asynccontextmanager
    async def for_what_is_under_way(self, on_over: Callable[[], None]) -> AsyncIterator[None]:
        """Cancel what is inside when the grace is over; `on_over` is told right before."""
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)
        timers: list[asyncio.TimerHandle] = []
        is_inside = True
        context = copy_context()  # a signal's own has neither run nor worker for the log

        def give_up() -> None:
            on_over()
            limit.reschedule(loop.time())

        def begin() -> None:
            if is_inside:
                timers.append(loop.call_later(self.seconds, give_up, context=context))

        try:
            async with limit:
                self._on_stop(begin)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            is_inside = False
            for timer in timers:
                timer.cancel()

    @asynccontextmanager
    async def for_everything(self) -> AsyncIterator[None]:
        """Cut everything off some seconds after the grace; each clean-up that waits then is cut off in its turn.

        Raises StoppedError where that was necessary.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        timers: list[asyncio.TimerHandle] = []
        cuts = 0

        def cut() -> None:
            nonlocal cuts
            cuts += 1
            if task is not None:
                task.cancel()
            timers.append(loop.call_later(_CUT_AGAIN_SECONDS, cut))

        self._on_stop(lambda: timers.append(loop.call_later(self.seconds + LAST_SECONDS, cut)))
        try:
            yield
        except asyncio.CancelledError:
            if not cuts or task is None:
                raise
            for _ in range(cuts):
                task.uncancel()
            raise StoppedError(
                f"the grace of {self.seconds:g} s was over, and {LAST_SECONDS:g} s more were not enough to hand back "
                "and write down everything: messages in hand show again after their visibility timeout, and what was "
                "under way is looked up by whoever takes it over"
            ) from None
        finally:
            for timer in timers:
                timer.cancel()

    def _on_stop(self, begin: Callable[[], None]) -> None:
        if self._stop.requested:
            begin()
        else:
            self._stop.on_request(begin)
