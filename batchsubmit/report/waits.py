"""Where a job's time went before the service had it, as far as the ledger tells. Pure.

Seconds are counted on the run clock, which stands still while no run is on: from the last event of a run to the start
of the next one nobody waits for anything. The causes, and what each is made of:

quota       after a refusal by a quota, of slots or not, until the next intent; and before the first intent, the part of
            the wait in which the membership's lane was known to be full
rate        from an intent to its answer, less the ledger's fastest call (the ledger does not tell when the call left
            the rate gate, so a slow answer counts here too); and before the first intent, the rest of the wait
throttling  after a refusal by throttling until the next intent
retry       after any other refusal (a conflict, a call that could not be sent) until the next intent
lookup      from an intent that got no answer until it was found out what became of it

The wait before the first intent begins with the first run over the same manifest and batch. A run without a manifest
(a worker) does not tell when its jobs began to wait, and none is counted. A lane is known to be full, until its run's
end, from its first refusal by the quota on, or once as many of its jobs, or of all, are accepted and not seen to end as
the quota allows: the one that the run or an earlier one learned, else AWS's default, unless more than that ever ran in
the run. What is still waiting is counted up to the ledger's last event.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from batchsubmit.core.jobs import RefusalCause, Refused

DEFAULT_PER_MEMBERSHIP: Final = 5
DEFAULT_PER_ACCOUNT: Final = 10
_MOST_COUNTED: Final = 10_000
_EARLIER_CAUSES: Final = (
    ("servicequotaexceeded", RefusalCause.SLOTS),
    ("402", RefusalCause.SLOTS),
    ("withdrawn", RefusalCause.WITHDRAWN),
    ("throttl", RefusalCause.THROTTLED),
    ("toomanyrequests", RefusalCause.THROTTLED),
    ("limitexceeded", RefusalCause.THROTTLED),
    ("slowdown", RefusalCause.THROTTLED),
    ("throughputexceeded", RefusalCause.THROTTLED),
    ("priorreq", RefusalCause.THROTTLED),
)
"""Ledgers of versions before 1.0 have no causes: there the code tells, as it did for those versions."""


class Cause(StrEnum):
    """What a job waited for."""

    QUOTA = "quota"
    RATE = "rate"
    THROTTLING = "throttling"
    RETRY = "retry"
    LOOKUP = "lookup"


class Pending(StrEnum):
    """What has to come next, for a job that is not decided."""

    NOTHING = ""
    ANSWER = "answer"
    TURN = "turn"
    QUOTA = "quota"
    THROTTLING = "throttling"
    RETRY = "retry"
    LOOKUP = "lookup"


_PENDING_AFTER: Final[dict[str, Pending]] = {
    RefusalCause.SLOTS: Pending.QUOTA,
    RefusalCause.OTHER_QUOTA: Pending.QUOTA,
    RefusalCause.THROTTLED: Pending.THROTTLING,
    RefusalCause.WITHDRAWN: Pending.TURN,
}
_CAUSE_OF: Final = {
    Pending.QUOTA: Cause.QUOTA,
    Pending.THROTTLING: Cause.THROTTLING,
    Pending.RETRY: Cause.RETRY,
    Pending.LOOKUP: Cause.LOOKUP,
}


class Waits(msgspec.Struct, array_like=True, gc=False):
    """Seconds waited. `answers` is from intent to answer, over `calls` calls; `turns` are waits in the lane.

    Of those the begin and end are kept, on the run clock: when the lane was full may be known only later.
    """

    quota: float = 0.0
    throttling: float = 0.0
    retry: float = 0.0
    lookup: float = 0.0
    answers: float = 0.0
    calls: int = 0
    turns: list[tuple[float, float]] = msgspec.field(default_factory=list)

    def add(self, cause: Cause, seconds: float) -> None:
        """Count seconds towards a cause other than the rate."""
        setattr(self, cause, getattr(self, cause) + max(seconds, 0.0))

    def answered(self, seconds: float) -> None:
        """Count one call from its intent to its answer."""
        self.answers += max(seconds, 0.0)
        self.calls += 1

    def by_cause(self, lanes: "LaneLog", membership: str, fastest_call_seconds: float) -> dict[Cause, float]:
        """All causes; of a wait in the lane, what it was full for is the quota's, and the calls are off the rate."""
        full = sum(lanes.full_seconds(membership, begin, end) for begin, end in self.turns)
        turns = sum(max(end - begin, 0.0) for begin, end in self.turns)
        beyond_calls = max(self.answers - self.calls * fastest_call_seconds, 0.0)
        return {
            Cause.QUOTA: self.quota + full,
            Cause.RATE: max(turns - full, 0.0) + beyond_calls,
            Cause.THROTTLING: self.throttling,
            Cause.RETRY: self.retry,
            Cause.LOOKUP: self.lookup,
        }


def refusal_cause(event: Refused) -> str:
    """Why a call was refused, as the ledger has it."""
    word = event.code.lower()
    return event.cause or next((cause for mark, cause in _EARLIER_CAUSES if mark in word), "")


def pending_after(cause: str) -> Pending:
    """Say what a job waits for after it was refused for this cause."""
    return _PENDING_AFTER.get(cause, Pending.RETRY)


def cause_of(pending: Pending) -> Cause | None:
    """Name the cause of a wait; None where it takes more than a name to say (an answer, a turn, nothing)."""
    return _CAUSE_OF.get(pending)


class RunClock:
    """Seconds during which a run was on. It stands still between the last event of one and the start of the next."""

    def __init__(self) -> None:
        self._still_seconds = 0.0
        self._last_at: float | None = None

    def read(self, at: float) -> float:
        """Tell the run clock's time at an event of a run."""
        self._last_at = at
        return at - self._still_seconds

    def resume(self, at: float) -> float:
        """Tell the run clock's time at the start of a run."""
        if self._last_at is not None:
            self._still_seconds += max(at - self._last_at, 0.0)
        return self.read(at)


@dataclass(slots=True)
class _RunLanes:
    """What one run tells of its lanes: the first time at which so and so many jobs ran, refusals, quotas."""

    began: float
    last: float
    limits: dict[str, int]
    reached: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)

    def full_since(self, membership: str) -> float | None:
        """When the lane was first known to be full; the empty name stands for the account."""
        known = [self._at_limit(membership, DEFAULT_PER_MEMBERSHIP), self._at_limit("", DEFAULT_PER_ACCOUNT)]
        known.append(self.refused.get(membership))
        return min((moment for moment in known if moment is not None), default=None)

    def _at_limit(self, name: str, default: int) -> float | None:
        reached = self.reached.get(name, [])
        limit = self.limits.get(name)
        if limit is None:
            limit = default if len(reached) <= default else None
        return reached[limit - 1] if limit is not None and 0 < limit <= len(reached) else None


class LaneLog:
    """Remembers what tells for how long each membership's lane was full, run by run. Times are the run clock's."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._running: Counter[str] = Counter()
        self._runs = [_RunLanes(0.0, 0.0, {})]

    def begin_run(self, now: float) -> None:
        """Begin a run; jobs that were not seen to end hold their slots from its start on."""
        run = _RunLanes(now, now, dict(self._limits))
        run.reached = {name: [now] * min(count, _MOST_COUNTED) for name, count in self._running.items()}
        self._runs.append(run)

    def saw(self, now: float) -> None:
        """Note how far the run has come."""
        self._runs[-1].last = now

    def refused(self, membership: str, now: float) -> None:
        """Note a refusal by the quota."""
        self._runs[-1].refused.setdefault(membership, now)

    def learned(self, membership: str, limit: int) -> None:
        """Note a quota, for this run, from its start on, and those after it; an empty name stands for the account."""
        self._limits[membership] = self._runs[-1].limits[membership] = limit

    def accepted(self, membership: str, now: float) -> None:
        """Note that a job took a slot."""
        for name in (membership, ""):
            self._running[name] += 1
            reached = self._runs[-1].reached.setdefault(name, [])
            if len(reached) < self._running[name] <= _MOST_COUNTED:
                reached.append(now)

    def finished(self, membership: str) -> None:
        """Note that a job gave its slot back."""
        for name in (membership, ""):
            self._running[name] -= 1

    def full_seconds(self, membership: str, begin: float, end: float) -> float:
        """For how long, between two moments, this lane was known to be full."""
        seconds = 0.0
        for run in reversed(self._runs):
            if run.last < begin:
                break
            since = run.full_since(membership) if run.began < end else None
            if since is not None:
                seconds += max(min(end, run.last) - max(begin, since), 0.0)
        return seconds
