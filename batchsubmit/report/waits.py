"""Where a job's time went before the service had it, as far as the ledger tells. Pure.

Seconds are counted on the run clock, which stands still while no run is on: from the last event of a run to the start
of the next one nobody waits for anything. The causes, and what each is made of:

quota       after a refusal by the quota until the next intent; and before the first intent, the part of the wait in
            which the membership's lane was known to be full
rate        from an intent to its answer, less the ledger's fastest call (the ledger does not tell when the call left
            the rate gate, so a slow answer counts here too); and before the first intent, the rest of the wait
throttling  after a refusal by throttling until the next intent
retry       after any other refusal (a conflict, a call that could not be sent) until the next intent
lookup      from an intent that got no answer until it was found out what became of it

The wait before the first intent begins with the first run over the same manifest and batch. A run without a manifest
(a worker) does not tell when its jobs began to wait, and none is counted. A lane is known to be full from its first
refusal by the quota in a run on, or once as many of its jobs are accepted and not known to have finished as a quota in
the ledger allows, until that run's end. What is still waiting is counted up to the ledger's last event.
"""

from collections import Counter
from enum import StrEnum
from typing import Final

import msgspec

QUOTA_CODE: Final = "ServiceQuotaExceededException"
_WITHDRAWN: Final = "Withdrawn"
_THROTTLING_MARKS: Final = ("throttl", "toomanyrequests", "limitexceeded", "slowdown", "throughputexceeded", "priorreq")


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


_CAUSE_OF: Final = {
    Pending.QUOTA: Cause.QUOTA,
    Pending.THROTTLING: Cause.THROTTLING,
    Pending.RETRY: Cause.RETRY,
    Pending.LOOKUP: Cause.LOOKUP,
}


class Waits(msgspec.Struct, array_like=True, gc=False):
    """Seconds waited by cause. `answers` is from intent to answer, over `calls` calls; see `rate_seconds`."""

    quota: float = 0.0
    turn: float = 0.0
    throttling: float = 0.0
    retry: float = 0.0
    lookup: float = 0.0
    answers: float = 0.0
    calls: int = 0

    def add(self, cause: Cause, seconds: float) -> None:
        """Count seconds towards a cause other than the rate."""
        setattr(self, cause, getattr(self, cause) + max(seconds, 0.0))

    def answered(self, seconds: float) -> None:
        """Count one call from its intent to its answer."""
        self.answers += max(seconds, 0.0)
        self.calls += 1

    def waited_turn(self, seconds: float, *, full_seconds: float) -> None:
        """Count a wait in the lane: the part in which it was full was for the quota, the rest for a turn."""
        full = min(max(full_seconds, 0.0), max(seconds, 0.0))
        self.quota += full
        self.turn += max(seconds, 0.0) - full

    def by_cause(self, fastest_call_seconds: float) -> dict[Cause, float]:
        """All causes, with the calls themselves taken off the rate."""
        beyond_calls = max(self.answers - self.calls * fastest_call_seconds, 0.0)
        return {
            Cause.QUOTA: self.quota,
            Cause.RATE: self.turn + beyond_calls,
            Cause.THROTTLING: self.throttling,
            Cause.RETRY: self.retry,
            Cause.LOOKUP: self.lookup,
        }


def pending_after(code: str) -> Pending:
    """Say what a job waits for after it was refused with this code."""
    if code == QUOTA_CODE:
        return Pending.QUOTA
    if code == _WITHDRAWN:
        return Pending.TURN
    spelled = code.lower()
    return Pending.THROTTLING if any(mark in spelled for mark in _THROTTLING_MARKS) else Pending.RETRY


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


class LaneLog:
    """Since when each membership's lane is known to be full, and for how long it was. Times are the run clock's."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._running: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._account_since: float | None = None
        self._before: dict[str, float] = {}
        self._account_before = 0.0

    def refused(self, membership: str, now: float) -> None:
        """Note a refusal by the quota; an empty membership stands for the account."""
        if membership:
            self._since.setdefault(membership, now)
        elif self._account_since is None:
            self._account_since = now

    def learned(self, membership: str, limit: int, now: float) -> None:
        """Note a quota; an empty membership stands for the account."""
        self._limits[membership] = limit
        self._judge(membership, now)

    def accepted(self, membership: str, now: float) -> None:
        """Note that a job took a slot."""
        for each in (membership, ""):
            self._running[each] += 1
            self._judge(each, now)

    def finished(self, membership: str) -> None:
        """Note that a job gave its slot back."""
        for each in (membership, ""):
            self._running[each] -= 1

    def _judge(self, membership: str, now: float) -> None:
        limit = self._limits.get(membership)
        if limit is not None and self._running[membership] >= limit:
            self.refused(membership, now)

    def run_ended(self, now: float) -> None:
        """Forget that lanes are full: the next run finds out anew."""
        for membership in {*self._before, *self._since}:
            self._before[membership] = self.full_seconds(membership, now)
        if self._account_since is not None:
            self._account_before += now - self._account_since
        self._since.clear()
        self._account_since = None

    def full_seconds(self, membership: str, now: float) -> float:
        """For how long, of all the time until now, this lane was known to be full."""
        since = [moment for moment in (self._since.get(membership), self._account_since) if moment is not None]
        return self._before.get(membership, self._account_before) + (now - min(since) if since else 0.0)

    def totals(self, now: float) -> dict[str, float]:
        """The same for every lane known so far; the empty membership stands for those that are not."""
        return {"": self._account_before} | {each: self.full_seconds(each, now) for each in self._before}
