"""Where a job's time went before the service had it, as far as the ledger says. Pure.

Seconds are counted on a run clock that stands still while no run is active: from the last event of a run to the start
of the next one no job waits for anything. The causes, and what each is made of:

quota       after a refusal by a quota, of slots or not, until the next intent; and before the first intent, the part of
            the wait in which the membership's lane was known to be full
rate        from an intent to its answer, less the ledger's fastest call (the ledger does not say when the call left
            the rate gate, so a slow answer counts here too); and before the first intent, the rest of the wait
throttling  after a refusal by throttling until the next intent
retry       after any other refusal (a conflict, a call that could not be sent) until the next intent
lookup      from an intent that got no answer until the lookup decided it

The wait before the first intent begins with the first run over the same manifest and batch. A run without a manifest
(a worker) does not say when its jobs began to wait, and none is counted. A lane is known to be full, until its run's
end, from its first refusal by the quota on, or once as many of its jobs, or of all, are accepted and not seen to end as
the quota allows: the one that the run or an earlier one learned, else AWS's default, unless more than that ever ran in
the run. What is still waiting is counted up to the ledger's last event.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from batchsubmit.core.jobs import RefusalCause, Refused
from batchsubmit.core.states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP

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
"""Ledgers of versions before 1.0 have no causes: there the code decides, as it did for those versions."""


class Cause(StrEnum):
    """What a job waited for."""

    QUOTA = "quota"
    RATE = "rate"
    THROTTLING = "throttling"
    RETRY = "retry"
    LOOKUP = "lookup"


ANSWER, TURN = "answer", "turn"
"""What a job may wait for beside a cause: the answer to its call, and its turn in the lane."""

_AFTER_REFUSAL: Final[dict[str, str]] = {
    RefusalCause.SLOTS: Cause.QUOTA,
    RefusalCause.OTHER_QUOTA: Cause.QUOTA,
    RefusalCause.THROTTLED: Cause.THROTTLING,
    RefusalCause.WITHDRAWN: TURN,
}


def refusal_cause(event: Refused) -> str:
    """Why a call was refused, as the ledger has it."""
    word = event.code.lower()
    return event.cause or next((cause for mark, cause in _EARLIER_CAUSES if mark in word), "")


def awaited_after(cause: str) -> str:
    """What a job waits for after it was refused for this cause."""
    return _AFTER_REFUSAL.get(cause, Cause.RETRY)


@dataclass(slots=True)
class JobWaits:
    """What one job waited for. `awaited` is what it waits for now, since `since` on the run clock; empty for nothing.

    Of waits in the lane begin and end are kept: when the lane was full may be known only later.
    """

    awaited: str = ""
    since: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    answer_seconds: float = 0.0
    calls: int = 0
    turns: list[tuple[float, float]] = field(default_factory=list)

    def end(self, now: float, *, has_answer: bool) -> float | None:
        """End the present wait; give the seconds of a call that was answered."""
        seconds = max(now - self.since, 0.0)
        if self.awaited == ANSWER and has_answer:
            self.answer_seconds += seconds
            self.calls += 1
            return seconds
        if self.awaited == TURN:
            self.turns.append((self.since, now))
        elif self.awaited:
            cause = Cause.LOOKUP if self.awaited == ANSWER else self.awaited
            self.seconds[cause] = self.seconds.get(cause, 0.0) + seconds
        return None

    def by_cause(
        self, lanes: "LaneLog", membership: str, fastest_call_seconds: float, now: float
    ) -> dict[Cause, float]:
        """All causes, the open wait up to `now` included.

        Of a wait in the lane, the part in which it was full is the quota's; the calls themselves are no wait.
        """
        turns = [*self.turns, (self.since, now)] if self.awaited == TURN else self.turns
        full = sum(lanes.full_seconds(membership, begin, end) for begin, end in turns)
        in_lane = sum(max(end - begin, 0.0) for begin, end in turns)
        found = {cause: self.seconds.get(cause, 0.0) for cause in Cause}
        if self.awaited in found:
            found[Cause(self.awaited)] += max(now - self.since, 0.0)
        found[Cause.QUOTA] += full
        found[Cause.RATE] = max(in_lane - full, 0.0)
        found[Cause.RATE] += max(self.answer_seconds - self.calls * fastest_call_seconds, 0.0)
        return found


@dataclass(slots=True)
class _RunLanes:
    """One run's lanes by membership, the empty name for the account: when how many jobs ran, refusals, quotas."""

    began: float = 0.0
    last: float = 0.0
    limits: dict[str, int] = field(default_factory=dict)
    reached: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)

    def full_since(self, membership: str) -> float | None:
        """When the lane was first known to be full."""
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
    """Remembers for how long each membership's lane was full, run by run. Times are the run clock's."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._running: Counter[str] = Counter()
        self._runs = [_RunLanes()]

    def begin_run(self, now: float) -> None:
        """Begin a run; jobs that were not seen to end hold their slots from its start on."""
        reached = {name: [now] * min(count, _MOST_COUNTED) for name, count in self._running.items()}
        self._runs.append(_RunLanes(now, now, dict(self._limits), reached))

    def advance(self, now: float) -> None:
        """Note how far the run has come."""
        self._runs[-1].last = now

    def refused(self, membership: str, now: float) -> None:
        """Note a refusal by the quota."""
        self._runs[-1].refused.setdefault(membership, now)

    def learned(self, membership: str, limit: int) -> None:
        """Note a quota, for this run, from its start on, and those after it."""
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
