"""Virtual time: an event loop whose waits take none, and its time as the program's clock.

When nothing is ready, the time jumps to the next timer. Everything runs in one thread and in one order, so what draws
its numbers from a seed ends the same way each time. Nothing on such a loop may use threads or real sockets.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")

EPOCH = datetime(2026, 11, 23, tzinfo=UTC)
"""When every virtual loop begins, as its clock tells it."""


class StuckError(Exception):
    """Nothing is ready and no timer runs: whoever waits now waits for ever."""


class TroubledError(Exception):
    """The loop was told of trouble that nobody awaited, a lost exception for instance."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time` is a number that jumps."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._steps: int | None = None
        self.troubles: list[dict[str, Any]] = []
        super().__init__(_JumpingSelector(self))
        self.set_exception_handler(lambda _loop, context: self.troubles.append(context))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._seconds

    def run_steps(self, count: int) -> None:
        """Run so many turns of the loop, or fewer where nothing is left to run."""
        self._steps = count
        try:
            self.run_forever()
        finally:
            self._steps = None

    def next_turn(self, timeout: float | None) -> None:
        """Called once a turn, with the seconds to the next timer: 0 where something is ready, None without a timer."""
        if self._steps is not None:
            self._steps -= 1
            if self._steps <= 0 or timeout is None:
                self.stop()
        elif timeout is None:
            raise StuckError
        self._seconds += timeout or 0.0


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits, and never asks the system, which has nothing to tell: it tells the loop to jump instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.next_turn(timeout)
        return []


class VirtualClock:
    """The loop's time as the program's clock. Only the wall clock can be set, by `offset_seconds`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_seconds = 0.0

    def now(self) -> datetime:
        """The wall clock, right or wrong."""
        return EPOCH + timedelta(seconds=self._loop.time() + self.offset_seconds)

    def monotonic(self) -> float:
        """Seconds that never step."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(seconds)

    def service_time(self) -> float:
        """The true time in Unix seconds, as the service has it."""
        return EPOCH.timestamp() + self._loop.time()


@contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    """Lend a loop; at the end what still runs on it is cancelled. Raises TroubledError where it heard of trouble."""
    loop = VirtualLoop()
    try:
        yield loop
        end_all(loop)
        if loop.troubles:
            raise TroubledError(loop.troubles)
    finally:
        loop.close()


def end_all(loop: VirtualLoop) -> None:
    """Cancel every task of the loop and see it end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def virtually(test: Callable[_Arguments, Coroutine[Any, Any, _Result]]) -> Callable[_Arguments, _Result]:
    """Run an async test on a loop in virtual time."""

    @wraps(test)
    def run(*given: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with virtual_loop() as loop:
            return loop.run_until_complete(test(*given, **named))

    return run


def running_loop() -> VirtualLoop:
    """The loop that the caller runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
