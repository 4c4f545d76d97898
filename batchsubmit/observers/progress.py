"""Shows people how a run goes: a live display on a terminal, a plain line at intervals elsewhere. On standard error."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from batchsubmit.core.jobs import JobEvent
from batchsubmit.errors import LedgerError
from batchsubmit.forecast import RunHistory
from batchsubmit.observers.base import Observer
from batchsubmit.observers.live import Feed, RunProgress, following, line_at
from batchsubmit.text import duration, fitted

_REFRESH_SECONDS = 0.2
_LINE_SECONDS = 30.0
_ESTIMATE_SECONDS = 5.0


Display = Callable[[Callable[[], RunProgress], Callable[[], "Pace"]], AbstractContextManager[object]]
"""Shows a run while it lasts, by what reads it at this moment, and what says how fast it goes (and blocks)."""

Pace = tuple[float, str]
"""Jobs decided a second, and when all will have ended, in words."""


def pace_in(feed: Feed) -> Callable[[], Pace]:
    """Give what says how fast a run goes, as `status --watch` does; it reads on in the ledger, and blocks."""
    histories = following(feed, RunHistory)

    def read() -> Pace:
        try:
            history = next(histories, None)  # none after an error, which the run meets as well
        except (OSError, LedgerError):
            return 0.0, ""
        now = datetime.now(UTC)
        return (history.per_second(now), history.words(now)) if history else (0.0, "")

    return read


class DecidedPace(Observer):
    """How fast a worker decides jobs, by the events that it sees."""

    def __init__(self) -> None:
        self._history = RunHistory()

    def saw(self, event: JobEvent) -> None:
        """Take in an event of a job."""
        self._history.apply(event)

    def read(self) -> Pace:
        """Jobs a second; a queue has no end to estimate."""
        return self._history.per_second(datetime.now(UTC)), ""


@contextmanager
def showing(read: Callable[[], RunProgress], pace: Callable[[], Pace], console: Console) -> Iterator[None]:
    """Show a run for as long as the context lasts."""
    began, known = time.monotonic(), (0.0, "")
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, transient=True)

    async def estimate() -> None:
        nonlocal known
        known = await asyncio.to_thread(pace)

    def parts() -> list[str]:
        per_second, eta = known
        return [*replace(read(), per_second=per_second, eta=eta).parts(), duration(int(time.monotonic() - began))]

    def draw() -> None:
        counts, width = read().counts, console.width
        bar = ProgressBar(total=max(counts.total, 1), completed=counts.done, width=min(width, 60))
        bars = [Padding(bar, 0)] if counts.total else []  # padded to a line; a queue has no total
        live.update(Group(*bars, *map(Text, fitted(parts(), width))), refresh=True)

    def print_line() -> None:
        console.print(line_at(datetime.now(UTC), parts()), highlight=False, markup=False, soft_wrap=True)

    seconds, show = (_REFRESH_SECONDS, draw) if console.is_terminal else (_LINE_SECONDS, print_line)
    with ExitStack() as stack:
        stack.enter_context(_repeating(_ESTIMATE_SECONDS, estimate))
        stack.enter_context(live if console.is_terminal else nullcontext())
        stack.enter_context(_repeating(seconds, show))
        show()
        yield


@contextmanager
def _repeating(seconds: float, show: Callable[[], Awaitable[None] | None]) -> Iterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            if waits := show():
                await waits

    task = asyncio.create_task(repeat(), name="progress")
    try:
        yield
    finally:
        task.cancel()
