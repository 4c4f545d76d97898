"""Where a run stands at this moment, read off its ledger's events as they come. Pure: the time is an argument.

It knows what the ledger knows: a job counts as running from its acceptance until a `finished` event, which only a run
that follows its jobs (`--wait`) writes.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from batchsubmit.core.jobs import Event, Finished, JobEvent, JobRejected, RunEnded, RunStarted, Submitted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState, Phase, end_words
from batchsubmit.forecast import RunHistory

_RATE_WINDOW = timedelta(minutes=10)
_LEAST_WINDOW = timedelta(seconds=10)
_FAILURES_KEPT = 5

ACCOUNT = "account"
"""What the limit of an account stands under beside those of memberships; an account's name may follow."""


@dataclass(frozen=True, slots=True)
class Lane:
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
        """How often it was begun from the start; what was read before the last one counts no more."""
        ...

    def poll(self) -> Iterator[Event]:
        """Give the events that came since the last look, in their order."""
        ...


class Live:
    """The fold of a ledger, with the counts and rates that a person beside a run looks for."""

    def __init__(self) -> None:
        self.book = LedgerState()
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
        return self.book.runs[-1] if self.book.runs else None

    @property
    def is_over(self) -> bool:
        """Whether no run is under way, as far as the ledger tells: a killed run writes no end."""
        return self.run is None or self.book.last_end is not None

    @property
    def left(self) -> int:
        """Jobs that the run has still to decide."""
        return max(0, self.run.to_do - self._decided) if self.run else 0

    def apply(self, event: Event) -> None:
        """Take in one event. A kind that this version does not know tells at most of a quota."""
        self._learn(event)
        self.progress.apply(event)
        if isinstance(event, RunStarted):
            self._decided = 0
            self._decided_at.clear()
        if isinstance(event, RunStarted | RunEnded):
            self.book.apply(event)
        elif hasattr(event, "job"):
            self._count(event)

    def _learn(self, event: Event) -> None:
        learned = dict(getattr(event, "quotas", None) or {})
        if hasattr(event, "limit") and hasattr(event, "membership"):
            learned[event.membership or ACCOUNT] = event.limit
        self.limits.update((membership, int(limit)) for membership, limit in learned.items())

    def _count(self, event: JobEvent) -> None:
        before = self.book.get(event.job)
        self.book.apply(event)
        self._lanes.setdefault(event.membership)
        if before is not None:
            self._counts[before.membership, _place(before)] -= 1
        after = self.book.get(event.job)
        if after is not None:
            self._counts[after.membership, _place(after)] += 1
        if isinstance(event, Submitted | JobRejected):
            self._decided += 1
            self._decided_at.append(datetime.fromisoformat(event.at))
        if isinstance(event, JobRejected):
            self._failed(event, f"{event.code}: {event.message}")
        elif isinstance(event, Finished) and event.status != "ACTIVE":
            self._failed(event, end_words(event))

    def _failed(self, event: JobEvent, why: str) -> None:
        self.failure_count += 1
        self.failures.append(Failure(event.at, event.membership, event.name, why))

    def account_limits(self) -> dict[str, int]:
        """The limits of accounts that are known, by their names."""
        return {name: limit for name, limit in self.limits.items() if name.split(" ")[0] == ACCOUNT}

    def last_failures(self, count: int) -> list[Failure]:
        """The last so many failures, as far as they are kept."""
        return list(self.failures)[max(0, len(self.failures) - count) :]

    def lanes(self) -> Iterator[Lane]:
        """Every membership, in the order of its first event."""
        for membership in self._lanes:
            running = self._counts[membership, "running"]
            ended = self._counts[membership, "well"] + self._counts[membership, "badly"]
            yield Lane(
                membership=membership,
                submitted=running + ended,
                running=running,
                failed=self._counts[membership, "failed"] + self._counts[membership, "badly"],
                unknown=self._counts[membership, "unknown"],
                calling=self._counts[membership, "calling"],
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


def _place(state: JobState) -> str:
    """The count that a job belongs to."""
    if state.phase is Phase.FINISHED:
        return "well" if state.status == "ACTIVE" else "badly"
    if state.phase is Phase.SUBMITTED:
        return "running"
    if state.phase is Phase.FAILED:
        return "failed"
    if state.phase is Phase.INTENT:
        return "calling"  # no trouble while a run is under way, and of a killed one the next run looks first
    return "unknown" if state.phase is Phase.UNKNOWN else "waiting"
