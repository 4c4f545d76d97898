"""How long a worker may take to end after it was asked to: its grace, and the end of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from batchsubmit.config import WorkerSettings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.log import get_logger
from batchsubmit.submit.stopping import Stop

LAST_SECONDS = 10.0
"""After the grace: to hand messages back, to write down what is known and to free the jobs. Then comes the end."""

_CUT_AGAIN_SECONDS = 0.5


class ShutdownGrace:
    """How long a worker may take to end: a container is killed some time after its SIGTERM.

    It begins when the run is asked to stop, for whatever reason. A call that is cut off leaves an open intent, and the
    worker that takes the job next looks it up; `cut_short` says how many there were.
    """

    def __init__(self, stop: Stop, seconds: float) -> None:
        self.cut_short = ""
        self._seconds = seconds
        self._stop = stop

    @asynccontextmanager
    async def for_calls(self, under_way: Callable[[], int]) -> AsyncIterator[None]:
        """Cancel the calls inside when the grace is over; `under_way` counts them."""
        limit = asyncio.timeout(None)

        async def give_up() -> None:
            calls = under_way()
            get_logger().warning("worker.grace_over", grace_seconds=self._seconds, calls_under_way=calls)
            self.cut_short = (
                f"; the grace of {self._seconds:g} s was over, and the calls in progress ({calls}) were given up: "
                "the worker that takes their jobs next looks them up"
            )
            limit.reschedule(0)

        try:
            async with limit:
                with self._stop.acting_after(self._seconds, give_up):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise

    @asynccontextmanager
    async def for_everything(self) -> AsyncIterator[None]:
        """Cut everything off some seconds after the grace; each clean-up that waits then is cut off in its turn.

        Raises StoppedError where that was necessary.
        """
        task, cuts = asyncio.current_task(), 0
        assert task is not None  # noqa: S101 (an async context manager runs in a task)

        async def cut_off() -> None:
            nonlocal cuts
            while True:
                cuts += 1
                task.cancel()
                await asyncio.sleep(_CUT_AGAIN_SECONDS)

        try:
            with self._stop.acting_after(self._seconds + LAST_SECONDS, cut_off):
                yield
        except asyncio.CancelledError:
            if not cuts:
                raise
            for _ in range(cuts):
                task.uncancel()
            raise StoppedError(
                f"the grace of {self._seconds:g} s was over, and {LAST_SECONDS:g} s more were not enough to hand back "
                "and write down everything: messages that were held show again after their visibility timeout, and "
                "the jobs of calls in progress are looked up by the worker that takes them next"
            ) from None


def require_grace(worker: WorkerSettings) -> None:
    """Raise UsageError where the grace does not last for a long poll, which is never cut off."""
    if worker.grace_seconds < worker.wait_seconds:
        raise UsageError(
            f"worker.grace_seconds is {worker.grace_seconds:g}, and a long poll, which is never cut off, takes "
            f"worker.wait_seconds, {worker.wait_seconds}: set the first to more"
        )
