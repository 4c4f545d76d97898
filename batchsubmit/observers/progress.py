"""Shows people how a run goes: `submit` and a worker their own, `status --watch` one beside it, by its ledger.

A terminal gets a display that is kept up to date, others a line at intervals. A watcher knows what the ledger knows: a
job counts as running from its acceptance until a `finished` event, but no more of them than the quotas allow.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from batchsubmit.core.job_states import Phase, State, end_words, has_failed
from batchsubmit.core.jobs import Event, JobEvent, JobFinished, JobRejected, RunEnded, RunStarted
from batchsubmit.core.ledger_state import Counts, LedgerState, decides, slots_known
from batchsubmit.errors import LedgerError
from batchsubmit.forecast import RunHistory
from batchsubmit.observers.base import Observer
from batchsubmit.text import counted, duration, fitted, printable, rate, share

_REFRESH_SECONDS = 0.2
_LINE_SECONDS = 30.0
_ESTIMATE_SECONDS = 5.0
_FAILURES_KEPT = 5
BAD = ("failed", "rejected", "cancelled", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A run at one moment, as `submit` and `status --watch` show it.

    `per_second` is how fast jobs are decided, `eta` when all will have ended, `in_progress` the calls, and tries that
    wait for their turn; `why` says what keeps jobs from being sent, `stopping` why the run ends early; each is empty
    where there is nothing to say.
    """

    counts: Counts
    slots: tuple[int, int | None] = (0, None)
    per_second: float = 0.0
    eta: str = ""
    in_progress: int = 0
    why: tuple[str, ...] = ()
    stopping: str = ""

    def parts(self) -> list[str]:
        """Say it in short texts, the first ones first where there is no room for all."""
        counts, (used, known) = self.counts, self.slots
        return [
            share(counts.done, counts.total),
            f"{counts.done:,} of {counts.total:,} done",
            f"{counts.submitted:,} submitted",
            *([f"{used:,} of {known:,} slots used"] if used and known is not None else ()),
            *([f"{counts.running:,} running"] if counts.running and known is None else ()),
            *([rate(self.per_second)] if self.per_second else ()),
            *([self.eta] if self.eta and not self.stopping else ()),
            *self.bad(),
            *([f"{counts.not_checked:,} end not checked"] if counts.not_checked else ()),
            *map(printable, self.why),
            *([f"stopping ({self.stopping}), {self.in_progress} in progress"] if self.stopping else ()),
        ]

    def bad(self) -> list[str]:
        """What did not go well."""
        return [f"{number:,} {name}" for name in BAD if (number := getattr(self.counts, name))]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProgress(RunProgress):
    """A worker at one moment: it has no total. `state` is ready or why not; `waiting` are jobs, by membership."""

    state: str
    waiting: Mapping[str, int]

    def parts(self) -> list[str]:
        """Say it in short texts."""
        used, known = self.slots
        lanes = sum(map(bool, self.waiting.values()))
        where = f" in {counted(lanes, 'membership')}" if lanes else ""
        return [
            printable(self.state),
            f"{sum(self.waiting.values()):,} waiting{where}",
            f"{self.in_progress:,} in progress",
            *([f"{used:,} of {known:,} slots used"] if used and known is not None else ()),
            f"{self.counts.submitted:,} submitted",
            *([rate(self.per_second)] if self.per_second else ()),
            *self.bad(),
        ]


class Feed(Protocol):
    """The events of a ledger as they come, wherever it is kept."""

    beginnings: int
    """How often it was read from the start; what was read before the last time counts no more."""

    def poll(self) -> Iterator[Event]:
        """Give the events that came since the last poll, in their order."""


_History = TypeVar("_History", bound=RunHistory)


def following(feed: Feed, start: Callable[[], _History]) -> Iterator[_History]:
    """Give the fold of a feed's events without end, read on each time; it begins again where the feed does."""
    state, beginnings = start(), feed.beginnings
    while True:
        for event in feed.poll():
            if feed.beginnings != beginnings:
                state, beginnings = start(), feed.beginnings
            state.apply(event)
        yield state


Display = Callable[[Callable[[], RunProgress], Callable[[], "Speed"]], AbstractContextManager[object]]
"""Shows a run while it lasts, by what reads it at this moment, and what says how fast it goes (and blocks)."""

Speed = tuple[float, str]
"""Jobs decided a second, and when all will have ended, in words."""


def pace_in(feed: Feed) -> Callable[[], Speed]:
    """Give what says how fast a run goes, as `status --watch` does; it reads on in the ledger, and blocks."""
    histories = following(feed, RunHistory)

    def read() -> Speed:
        try:
            history = next(histories, None)  # none after an error, which the run meets as well
        except (OSError, LedgerError):
            return 0.0, ""
        now = datetime.now(UTC)
        return (history.per_second(now), history.words(now)) if history else (0.0, "")

    return read


class DecidedPace(RunHistory, Observer):
    """How fast a worker decides jobs, by the events that it sees."""

    saw = RunHistory.apply

    def read(self) -> Speed:
        """Jobs a second; a queue has no end to estimate."""
        return self.per_second(datetime.now(UTC)), ""


@contextmanager
def showing(read: Callable[[], RunProgress], pace: Callable[[], Speed], console: Console) -> Iterator[None]:
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
    screen = live if console.is_terminal else nullcontext()
    with _repeating(_ESTIMATE_SECONDS, estimate), screen, _repeating(seconds, show):
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


def line_at(now: datetime, parts: Iterable[str]) -> str:
    """The whole state in one line, under its time."""
    return f"{now.astimezone():%Y-%m-%d %H:%M:%S%z} {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """One membership. `limit` is the quota of its slots, where it is known; `left` are its jobs that wait."""

    membership: str
    left: int
    limit: int | None
    counts: Counts


class LiveRun(RunHistory):
    """The fold of a ledger, with the counts that a person who watches a run looks for, and the last failures."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger_state = LedgerState()
        self.failures: deque[str] = deque(maxlen=_FAILURES_KEPT)
        self.failure_count = 0
        self._states: dict[str, Counter[State]] = {}
        self._left = Counter[str]()

    @property
    def is_over(self) -> bool:
        """Whether no run is under way, as far as the ledger says: a killed run writes no end."""
        return self.ledger_state.open_run is None

    @property
    def counts(self) -> Counts:
        """Where all jobs stand; one that is in a call just now is pending, and not yet unknown."""
        counts, calling = self.ledger_state.work.counts(self._states), self._calling().total()
        return msgspec.structs.replace(counts, pending=counts.pending + calling, unknown=counts.unknown - calling)

    def _calling(self) -> Counter[str]:
        """Jobs in a call just now, by membership."""
        undecided = self.ledger_state.undecided()
        return Counter(state.membership for state in undecided if state.phase is Phase.INTENT)

    def apply(self, event: Event) -> None:
        """Take in one event."""
        super().apply(event)
        if isinstance(event, RunStarted | RunEnded):
            self.ledger_state.apply(event)
        else:
            self._count(event)
        if isinstance(event, RunStarted):
            self._left = Counter({name: states[State.UNKNOWN] for name, states in self._states.items()})
            for share in event.work:
                self._left[share.membership] += share.jobs

    def _count(self, event: JobEvent) -> None:
        states = self._states.setdefault(event.membership, Counter())
        if before := self.ledger_state.get(event.job):
            states[State.of(before)] -= 1
        self.ledger_state.apply(event)
        if after := self.ledger_state.get(event.job):
            states[State.of(after)] += 1
        self._left[event.membership] -= decides(event)
        if isinstance(event, JobRejected | JobFinished) and after is not None and has_failed(after):
            self.failure_count += 1
            where = f"{event.at[11:19]} {event.name} in membership {event.membership}"
            self.failures.append(printable(f"{State.of(after)}: {where}: {end_words(after)}"))

    def lanes(self) -> list[LaneCounts]:
        """Every membership, those with most work left first: what is left of all is what is pending."""
        limits, calling = self.ledger_state.work.limits(self._states), self._calling()
        lanes = []
        for name, states in ({name: Counter[State]() for name in self._left} | self._states).items():
            left = max(self._left[name] - states[State.UNKNOWN] + calling[name], 0)
            lanes.append(LaneCounts(name, left, limits.get(name), Counts.of({name: states}, quotas=limits)))
        return sorted(lanes, key=lambda lane: (-lane.left, -lane.counts.running, lane.membership))

    def read(self, now: datetime) -> RunProgress:
        """Read the run at this moment."""
        counts, limits = self.counts, self.ledger_state.work.limits(self._states)
        return RunProgress(
            counts=counts,
            slots=(counts.running, slots_known(limits, self._left.keys() | self._states.keys())),
            per_second=self.per_second(now),
            eta=self.words(now),
        )
