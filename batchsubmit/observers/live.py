"""A ledger's run as it goes on: the fold of its events as they come, and how `status --watch` shows it.

It knows what the ledger knows: a job counts as running from its acceptance until a `finished` event, which only a run
that follows its jobs (`--wait`) writes. A terminal gets a table that is kept up to date, others a line at intervals.
"""

import os
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from batchsubmit.core.jobs import Event, Finished, JobEvent, JobRejected, RunEnded, RunStarted, Submitted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import Fate, JobState, Phase, end_words, is_good_end
from batchsubmit.forecast import RunHistory
from batchsubmit.text import counted, duration, printable

_RATE_WINDOW = timedelta(minutes=10)
_LEAST_WINDOW = timedelta(seconds=10)
_FAILURES_KEPT = 5
_LANES_SHOWN = 20

ACCOUNT = "account"
"""The key of an account's limit beside those of memberships; an account's number may follow."""


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """One membership. `limit` is the quota of its slots, where it is known; `calling` are jobs in a call just now."""

    membership: str
    submitted: int
    running: int
    failed: int
    unknown: int
    calling: int
    limit: int | None


class Feed(Protocol):
    """The events of a ledger as they come, wherever it is kept."""

    @property
    def beginnings(self) -> int:
        """How often it was read from the start; what was read before the last time counts no more."""
        ...

    def poll(self) -> Iterator[Event]:
        """Give the events that came since the last poll, in their order."""
        ...


class Fold(Protocol):
    """What takes in events one by one."""

    def apply(self, event: Event, /) -> None:
        """Take in one event."""
        ...


_Folded = TypeVar("_Folded", bound=Fold)


def following(feed: Feed, start: Callable[[], _Folded]) -> Iterator[_Folded]:
    """Give the fold of a feed's events without end, read on each time; it begins again where the feed does."""
    state, beginnings = start(), feed.beginnings
    while True:
        for event in feed.poll():
            if feed.beginnings != beginnings:
                state, beginnings = start(), feed.beginnings
            state.apply(event)
        yield state


class LiveRun:
    """The fold of a ledger, with the counts and rates that a person who watches a run looks for.

    `failures` are the last ones, a line each.
    """

    def __init__(self) -> None:
        self.ledger_state = LedgerState()
        self.progress = RunHistory()
        self.failures: deque[str] = deque(maxlen=_FAILURES_KEPT)
        self.failure_count = 0
        self.limits: dict[str, int] = {}
        self._counts: dict[str, Counter[Fate | Phase]] = {}
        self._decided_at: deque[datetime] = deque()
        self._decided = 0

    @property
    def run(self) -> RunStarted | None:
        """The last run that began."""
        return self.ledger_state.runs[-1] if self.ledger_state.runs else None

    @property
    def is_over(self) -> bool:
        """Whether no run is under way, as far as the ledger says: a killed run writes no end."""
        return self.ledger_state.open_run is None

    @property
    def left(self) -> int:
        """Jobs that the run has still to decide."""
        return max(0, self.run.to_do - self._decided) if self.run else 0

    def apply(self, event: Event) -> None:
        """Take in one event. A kind that this version does not know may still tell a quota."""
        learned = dict(getattr(event, "quotas", None) or {})
        if hasattr(event, "limit") and hasattr(event, "membership"):
            learned[event.membership or ACCOUNT] = event.limit
        self.limits.update((membership, int(limit)) for membership, limit in learned.items())
        self.progress.apply(event)
        if isinstance(event, RunStarted):
            self._decided = 0
            self._decided_at.clear()
        if isinstance(event, RunStarted | RunEnded):
            self.ledger_state.apply(event)
        elif hasattr(event, "job"):
            self._count(event)

    def _count(self, event: JobEvent) -> None:
        counts = self._counts.setdefault(event.membership, Counter())
        if before := self.ledger_state.get(event.job):
            counts[_count_of(before)] -= 1
        self.ledger_state.apply(event)
        if after := self.ledger_state.get(event.job):
            counts[_count_of(after)] += 1
        if isinstance(event, Submitted | JobRejected):
            self._decided += 1
            self._decided_at.append(datetime.fromisoformat(event.at))
        if isinstance(event, JobRejected):
            self._failed(event, f"{event.code}: {event.message}")
        elif isinstance(event, Finished) and not is_good_end(event.status):
            self._failed(event, end_words(event))

    def _failed(self, event: JobEvent, why: str) -> None:
        self.failure_count += 1
        line = f"failed: {event.at[11:19]} {event.name} in membership {event.membership}: {why}"
        self.failures.append(printable(line))

    def lanes(self) -> Iterator[LaneCounts]:
        """Every membership, in the order of its first event."""
        for membership, counts in self._counts.items():
            yield LaneCounts(
                membership=membership,
                submitted=counts[Fate.ACCEPTED] + counts[Fate.WELL] + counts[Fate.BAD],
                running=counts[Fate.ACCEPTED],
                failed=counts[Fate.FAILED] + counts[Fate.BAD],
                unknown=counts[Fate.UNKNOWN],
                calling=counts[Phase.INTENT],
                limit=self.limits.get(membership),
            )

    def per_second(self, now: datetime) -> float:
        """Jobs decided a second in the last ten minutes, or since the run began."""
        while self._decided_at and now - self._decided_at[0] > _RATE_WINDOW:
            self._decided_at.popleft()
        if not (self._decided_at and self.run):
            return 0.0
        since = max(datetime.fromisoformat(self.run.at), now - _RATE_WINDOW)
        return len(self._decided_at) / max(now - since, _LEAST_WINDOW).total_seconds()


def _count_of(state: JobState) -> Fate | Phase:
    """Where a job counts. A call is no problem while a run is active, and looked up first after a killed one."""
    return Phase.INTENT if state.phase is Phase.INTENT else Fate.of(state)


def watch(feed: Feed, console: Console, *, interval_seconds: float, refresh_seconds: float) -> LiveRun:
    """Show a run until it ends or dies; give the last state. Raises what the feed raises.

    A terminal is kept up to date every `refresh_seconds`.
    """
    states = following(feed, LiveRun)
    if console.is_terminal:
        with Screen(console=console, auto_refresh=False, transient=True) as screen:
            return _until_over(
                states, refresh_seconds, lambda live: screen.update(picture(live, datetime.now(UTC)), refresh=True)
            )
    shown = 0

    def print_lines(live: LiveRun) -> None:
        nonlocal shown
        new = min(live.failure_count - shown, len(live.failures))
        shown = live.failure_count
        for line in (*list(live.failures)[len(live.failures) - new :], sentence(live, datetime.now(UTC))):
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return _until_over(states, interval_seconds, print_lines)


def _until_over(states: Iterator[LiveRun], seconds: float, show: Callable[[LiveRun], None]) -> LiveRun:
    """Read on at intervals, for as long as a run is active; give the last state."""
    while not (live := next(states)).is_over:
        show(live)
        if live.run is not None and has_died(live.run):
            return next(states)  # it may have written its end since, and have ended normally
        time.sleep(seconds)
    return live


def has_died(run: RunStarted) -> bool:
    """Whether the process that had the ledger is gone; one on another machine is believed to live."""
    holder = re.fullmatch(r"process (\d+) on (.+)", run.holder)
    if holder is None or holder[2] != socket.gethostname():
        return False
    try:
        os.kill(int(holder[1]), 0)  # signal 0 is none: it only asks whether there is such a process
    except ProcessLookupError:
        return True
    except OSError:
        pass  # there is one, of another user
    return False


def sentence(live: LiveRun, now: datetime) -> str:
    """The whole state in one line."""
    lanes = list(live.lanes())
    words = {"failed": "failed", "unknown": "unknown", "calling": "in a call", "running": "running"}
    counts = {word: sum(getattr(lane, name) for lane in lanes) for name, word in words.items()}
    per_second = live.per_second(now)
    parts = [
        f"{sum(lane.submitted for lane in lanes):,} submitted",
        f"{live.left:,} left",
        *(f"{count:,} {word}" for word, count in counts.items() if count),
        f"{per_second:.1f}/s" if per_second >= 1 else f"{per_second * 60:.1f}/min",
        live.progress.words(now, left=live.left),
    ]
    return ", ".join(filter(None, parts))


def picture(live: LiveRun, now: datetime) -> RenderableType:
    """The state as a table of memberships, between the sentence and the last failures."""
    run = live.run
    began = f"  run {run.run}, {duration(int((now - datetime.fromisoformat(run.at)).total_seconds()))}" if run else ""
    table = Table("membership", box=None, pad_edge=False)
    for heading in ("slots", "submitted", "failed", "unknown"):
        table.add_column(heading, justify="right")
    lanes = sorted(live.lanes(), key=lambda lane: (-lane.running, lane.membership))
    for lane in lanes[:_LANES_SHOWN]:
        numbers = (f"{count:,}" for count in (lane.submitted, lane.failed, lane.unknown))
        table.add_row(Text(printable(lane.membership)), slots(lane), *numbers)
    parts: list[RenderableType] = [Text(sentence(live, now) + began), table]
    if len(lanes) > _LANES_SHOWN:
        parts.append(Text(f"... and {counted(len(lanes) - _LANES_SHOWN, 'more membership')}"))
    running = sum(lane.running for lane in lanes)
    for name, limit in live.limits.items():
        if name.split(" ")[0] == ACCOUNT:
            parts.append(Text(f"{printable(name)}: {counted(limit, 'slot')}, {running:,} running"))
    return Group(*parts, *(Text(line, style="red") for line in live.failures))


def slots(lane: LaneCounts) -> str:
    """Slots used and known; without `finished` events the ledger does not know which are still used."""
    limit = "?" if lane.limit is None else f"{lane.limit:,}"
    used = "?" if lane.limit is not None and lane.running > lane.limit else f"{lane.running:,}"
    return f"{used}/{limit}"
