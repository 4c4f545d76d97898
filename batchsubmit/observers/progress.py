"""Shows people how a run goes: a live display on a terminal, a plain line at intervals elsewhere. On standard error."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batchsubmit.errors import LedgerError
from batchsubmit.forecast import RunHistory
from batchsubmit.observers.live import Feed, following
from batchsubmit.text import counted, duration, printable

_REFRESH_SECONDS = 0.2
_LINE_SECONDS = 30.0
_ESTIMATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A run at one moment, as a display shows it.

    `failed` counts jobs that failed on the way to the service or on it; `in_progress` the calls, and tries that wait
    for their turn; `full_lanes` the memberships whose jobs wait for a slot; `running` submitted jobs that are followed
    to their end. `held_by_others` is how much of which quota others seem to use while jobs wait for it, like `5 of 5`;
    `held` names the quotas, not of slots, that hold memberships, like `'Data access budget' of 0 in 1 membership`;
    `stopping` says why the run ends early; each is empty where there is nothing to say.
    """

    to_do: int
    submitted: int = 0
    failed: int = 0
    unknown: int = 0
    in_progress: int = 0
    full_lanes: int = 0
    held_by_others: str = ""
    held: str = ""
    running: int = 0
    stopping: str = ""


Display = Callable[[Callable[[], RunProgress], Callable[[], str]], AbstractContextManager[object]]
"""Shows a run while it lasts, by what reads it at this moment, and what says when all will be done (and blocks)."""


def expected_finish(feed: Feed) -> Callable[[], str]:
    """Give what says when all will be done, in the words of `status --watch`; it reads on in the ledger, and blocks."""
    histories = following(feed, RunHistory)

    def words() -> str:
        try:
            history = next(histories, None)  # none after an error, which the run meets as well
        except (OSError, LedgerError):
            return ""
        return history.words(datetime.now(UTC)) if history else ""

    return words


def sentence(now: RunProgress, elapsed_seconds: float, expected: str) -> str:
    """The whole state in one line."""
    parts = (
        (True, f"{now.submitted:,} of {now.to_do:,} submitted"),
        (now.failed, f"{now.failed:,} failed"),
        (now.unknown, f"{now.unknown:,} unknown"),
        (now.full_lanes, f"waiting for quota in {counted(now.full_lanes, 'membership')}"),
        (now.held_by_others, f"the quota looks used by others: {now.held_by_others}"),
        (now.held, f"held by the quota {now.held}"),
        (now.running, f"{counted(now.running, 'job')} still running"),
        (True, f"{duration(int(elapsed_seconds))} elapsed"),
        (not now.stopping and expected, expected),
        (now.stopping, f"stopping ({now.stopping}), {now.in_progress} in progress"),
    )
    return printable(", ".join(words for is_said, words in parts if is_said))


@contextmanager
def showing(read: Callable[[], RunProgress], expected: Callable[[], str], console: Console) -> Iterator[None]:
    """Show a run for as long as the context lasts."""
    began, estimated = time.monotonic(), ""
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, transient=True)

    async def estimate() -> None:
        nonlocal estimated
        estimated = await asyncio.to_thread(expected)

    async def draw() -> None:
        now, grid = read(), Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(now.to_do, 1), completed=now.submitted + now.failed + now.unknown, width=40)
        grid.add_row(bar, Text(sentence(now, time.monotonic() - began, estimated)))
        live.update(grid, refresh=True)

    async def print_line() -> None:
        line = sentence(read(), time.monotonic() - began, estimated)
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    with ExitStack() as stack:
        stack.enter_context(_repeating(_ESTIMATE_SECONDS, estimate))
        if console.is_terminal:
            stack.enter_context(live)
            stack.enter_context(_repeating(_REFRESH_SECONDS, draw))
        else:
            stack.enter_context(_repeating(_LINE_SECONDS, print_line))
        yield


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
