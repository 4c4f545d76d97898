"""A ledger's run as it goes on: the fold of its events as they come, and how `status --watch` shows it.

It knows what the ledger knows: a job counts as running from its acceptance until a `finished` event, which only a run
that follows its jobs (`--wait`) writes. A terminal gets a table that is kept up to date, others a line at intervals.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from batchsubmit.core.jobs import Event, Finished, JobEvent, JobRejected, RunEnded, RunStarted, Submitted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState, Phase, end_words, has_failed, is_good_end
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


@dataclass(frozen=True, slots=True)
class Failure:
    """One job that failed, on the way to the service or on it, and why."""

    at: str
    membership: str
    name: str
    why: str


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


class Follower(Generic[_Folded]):
    """A fold of a feed's events, which begins again where the feed does."""

    def __init__(self, feed: Feed, start: Callable[[], _Folded]) -> None:
        self._feed = feed
        self._start = start
        self._beginnings = feed.beginnings
        self.state = start()

    def update(self) -> _Folded:
        """Take in what came since; give the state. Raises what the feed raises."""
        for event in self._feed.poll():
            if self._feed.beginnings != self._beginnings:
                self.state, self._beginnings = self._start(), self._feed.beginnings
            self.state.apply(event)
        return self.state


class LiveRun:
    """The fold of a ledger, with the counts and rates that a person who watches a run looks for."""

    def __init__(self) -> None:
        self.ledger_state = LedgerState()
        self.progress = RunHistory()
        self.failures: deque[Failure] = deque(maxlen=_FAILURES_KEPT)
        self.failure_count = 0
        self.limits: dict[str, int] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lanes: dict[str, None] = {}
        self._decided_at: deque[datetime] = deque()
        self._decided = 0

    @property
    def run(self) -> RunStarted | None:
        """The last run that began."""
        return self.ledger_state.runs[-1] if self.ledger_state.runs else None

    @property
    def is_over(self) -> bool:
        """Whether no run is under way, as far as the ledger says: a killed run writes no end."""
        return self.run is None or self.ledger_state.last_end is not None

    @property
    def left(self) -> int:
        """Jobs that the run has still to decide."""
        return max(0, self.run.to_do - self._decided) if self.run else 0

    def apply(self, event: Event) -> None:
        """Take in one event. A kind that this version does not know may still tell a quota."""
        self._learn(event)
        self.progress.apply(event)
        if isinstance(event, RunStarted):
            self._decided = 0
            self._decided_at.clear()
        if isinstance(event, RunStarted | RunEnded):
            self.ledger_state.apply(event)
        elif hasattr(event, "job"):
            self._count(event)

    def _learn(self, event: Event) -> None:
        learned = dict(getattr(event, "quotas", None) or {})
        if hasattr(event, "limit") and hasattr(event, "membership"):
            learned[event.membership or ACCOUNT] = event.limit
        self.limits.update((membership, int(limit)) for membership, limit in learned.items())

    def _count(self, event: JobEvent) -> None:
        self._lanes.setdefault(event.membership)
        if before := self.ledger_state.get(event.job):
            self._counts[before.membership, _count_of(before)] -= 1
        self.ledger_state.apply(event)
        if after := self.ledger_state.get(event.job):
            self._counts[after.membership, _count_of(after)] += 1
        if isinstance(event, Submitted | JobRejected):
            self._decided += 1
            self._decided_at.append(datetime.fromisoformat(event.at))
        if isinstance(event, JobRejected):
            self._failed(event, f"{event.code}: {event.message}")
        elif isinstance(event, Finished) and not is_good_end(event.status):
            self._failed(event, end_words(event))

    def _failed(self, event: JobEvent, why: str) -> None:
        self.failure_count += 1
        self.failures.append(Failure(event.at, event.membership, event.name, why))

    def account_limits(self) -> dict[str, int]:
        """The limits of accounts that are known, by their names."""
        return {name: limit for name, limit in self.limits.items() if name.split(" ")[0] == ACCOUNT}

    def lanes(self) -> Iterator[LaneCounts]:
        """Every membership, in the order of its first event."""
        for membership in self._lanes:
            words = ("running", "well", "badly", "failed", "unknown", "calling")
            running, well, badly, failed, unknown, calling = (self._counts[membership, word] for word in words)
            yield LaneCounts(
                membership=membership,
                submitted=running + well + badly,
                running=running,
                failed=failed + badly,
                unknown=unknown,
                calling=calling,
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


def _count_of(state: JobState) -> str:
    """The count that a job belongs to."""
    match state.phase:
        case Phase.FINISHED:
            return "badly" if has_failed(state) else "well"
        case Phase.SUBMITTED:
            return "running"
        case Phase.INTENT:
            return "calling"  # no problem while a run is active, and after a killed one the next run looks it up first
        case Phase.FAILED | Phase.UNKNOWN:
            return str(state.phase)
        case _:
            return "waiting"


def watch(
    feed: Feed,
    console: Console,
    *,
    interval_seconds: float,
    refresh_seconds: float,
    has_died: Callable[[LiveRun], bool],
) -> LiveRun:
    """Show a run until it ends or dies; give the last state. Raises what the feed raises.

    A terminal is kept up to date every `refresh_seconds`.
    """
    follower = Follower(feed, LiveRun)
    if console.is_terminal:
        with Screen(console=console, auto_refresh=False, transient=True) as screen:
            for state in _until_over(follower, has_died, refresh_seconds):
                screen.update(picture(state, datetime.now(UTC)), refresh=True)
    else:
        shown = 0
        for state in _until_over(follower, has_died, interval_seconds):
            is_new = min(state.failure_count - shown, len(state.failures))
            for failure in list(state.failures)[len(state.failures) - is_new :]:
                _print(console, f"failed: {words(failure)}")
            shown = state.failure_count
            _print(console, sentence(state, datetime.now(UTC)))
    return follower.state


def _until_over(follower: Follower[LiveRun], has_died: Callable[[LiveRun], bool], seconds: float) -> Iterator[LiveRun]:
    """Read on at intervals, for as long as a run is active."""
    while not (state := follower.update()).is_over:
        yield state
        if has_died(state):
            follower.update()  # it may have written its end since, and have ended normally
            return
        time.sleep(seconds)


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def sentence(live: LiveRun, now: datetime) -> str:
    """The whole state in one line."""
    lanes = list(live.lanes())
    counts = {
        "failed": sum(lane.failed for lane in lanes),
        "unknown": sum(lane.unknown for lane in lanes),
        "in a call": sum(lane.calling for lane in lanes),
        "running": sum(lane.running for lane in lanes),
    }
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
    table = Table(box=None, pad_edge=False)
    table.add_column("membership")
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
    for name, limit in live.account_limits().items():
        parts.append(Text(f"{printable(name)}: {counted(limit, 'slot')}, {running:,} running"))
    parts += [Text(f"failed: {words(failure)}", style="red") for failure in live.failures]
    return Group(*parts)


def slots(lane: LaneCounts) -> str:
    """Slots used and known; without `finished` events the ledger does not know which are still used."""
    limit = "?" if lane.limit is None else f"{lane.limit:,}"
    used = "?" if lane.limit is not None and lane.running > lane.limit else f"{lane.running:,}"
    return f"{used}/{limit}"


def words(failure: Failure) -> str:
    """One failure in one line."""
    return printable(f"{failure.at[11:19]} {failure.name} in membership {failure.membership}: {failure.why}")
