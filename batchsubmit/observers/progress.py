"""Shows people how a run goes: a live display on a terminal, a plain line at intervals elsewhere. On standard error."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batchsubmit.text import counted

_REFRESH_SECONDS = 0.2
_LINE_SECONDS = 30.0
_ESTIMATE_SECONDS = 5.0
_RATE_WINDOW_SECONDS = 10.0


class Watched(Protocol):
    """What a display reads of a run."""

    @property
    def to_do(self) -> int:
        """Jobs to submit when the run began."""
        ...

    def submitted(self) -> int:
        """Jobs submitted by this run."""
        ...

    def failed(self) -> int:
        """Jobs that failed in this run."""
        ...

    def unknown(self) -> int:
        """Jobs whose fate is unknown."""
        ...

    def under_way(self) -> int:
        """Jobs taken in hand: calls, and tries that wait for their turn."""
        ...

    def full_lanes(self) -> int:
        """Memberships whose jobs wait for a slot."""
        ...

    def held_by_others(self) -> str:
        """How much of which quota others seem to use while jobs wait for it, like `5 of 5`; empty where none."""
        ...

    def held(self) -> str:
        """The quotas, not of slots, that hold memberships, like `'Data access budget' of 0 in 1 membership`."""
        ...

    def running(self) -> int:
        """Submitted jobs that are being followed to their end."""
        ...

    def stopping(self) -> str:
        """Why the run is ending early; empty where it is not."""
        ...

    def expected(self) -> str:
        """When all will be done, in words; empty where that is not known. Blocks, so ask in a thread."""
        ...


class Meter:
    """Puts a run's state into words; it remembers the last ten seconds for the rate."""

    def __init__(self, run: Watched, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._monotonic = monotonic
        self._began = monotonic()
        self.expected = ""
        self._marks: deque[tuple[float, int]] = deque([(self._began, run.submitted())])

    def rate(self) -> float:
        """Submissions a second over the last ten seconds."""
        now, count = self._monotonic(), self._run.submitted()
        self._marks.append((now, count))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _RATE_WINDOW_SECONDS:
            self._marks.popleft()
        then, before = self._marks[0]
        return (count - before) / (now - then) if now > then else 0.0

    def sentence(self) -> str:
        """The whole state in one line."""
        run = self._run
        parts = [f"{run.submitted():,} of {run.to_do:,} submitted"]
        if run.failed():
            parts.append(f"{run.failed():,} failed")
        if run.unknown():
            parts.append(f"{run.unknown():,} unknown")
        if run.full_lanes():
            parts.append(f"waiting for quota in {counted(run.full_lanes(), 'membership')}")
        if run.held_by_others():
            parts.append(f"the quota looks used by others: {run.held_by_others()}")
        if run.held():
            parts.append(f"held by the quota {run.held()}")
        if run.running():
            parts.append(f"{counted(run.running(), 'job')} still running")
        parts.append(f"{self.rate():.1f}/s now")
        parts.append(f"{elapsed(self._monotonic() - self._began)} elapsed")
        if self.expected and not run.stopping():
            parts.append(self.expected)
        if run.stopping():
            parts.append(f"stopping ({run.stopping()}), {run.under_way()} under way")
        return ", ".join(parts)


def elapsed(seconds: float) -> str:
    """Hours, minutes and seconds, as a clock shows them."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


@contextmanager
def showing(run: Watched, console: Console) -> Iterator[None]:
    """Show a run for as long as the context lasts."""
    meter = Meter(run)

    async def estimate() -> None:
        meter.expected = await asyncio.to_thread(run.expected)

    with _repeating(_ESTIMATE_SECONDS, estimate):
        if console.is_terminal:
            live = Live(console=console, auto_refresh=False, redirect_stdout=False, transient=True)

            async def draw() -> None:
                live.update(_picture(run, meter), refresh=True)

            with live, _repeating(_REFRESH_SECONDS, draw):
                yield
        else:

            async def tell() -> None:
                console.print(meter.sentence(), highlight=False, soft_wrap=True)

            with _repeating(_LINE_SECONDS, tell):
                yield


def _picture(run: Watched, meter: Meter) -> Table:
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(run.to_do, 1), completed=run.submitted() + run.failed() + run.unknown(), width=40)
    grid.add_row(bar, Text(meter.sentence()))
    return grid


@contextmanager
def _repeating(seconds: float, show: Callable[[], Awaitable[None]]) -> Iterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            await show()

    task = asyncio.create_task(repeat(), name="progress")
    try:
        yield
    finally:
        task.cancel()
