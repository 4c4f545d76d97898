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

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from batchsubmit.core import jobs
from batchsubmit.core.states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP

_MOST_COUNTED: Final = 10_000
_ANSWER, _TURN = "answer", "turn"
"""What a job may wait for beside a cause: the answer to its call, and its turn in the lane."""


class Cause(StrEnum):
    """What a job waited for."""

    QUOTA = "quota"
    RATE = "rate"
    THROTTLING = "throttling"
    RETRY = "retry"
    LOOKUP = "lookup"


_AFTER_REFUSAL: Final[dict[str, str]] = {
    jobs.RefusalCause.SLOTS: Cause.QUOTA,
    jobs.RefusalCause.OTHER_QUOTA: Cause.QUOTA,
    jobs.RefusalCause.THROTTLED: Cause.THROTTLING,
    jobs.RefusalCause.WITHDRAWN: _TURN,
}


@dataclass(slots=True)
class _JobWaits:
    """What one job waited for. `awaited` is what it waits for now, since `since` on the run clock; empty for nothing.

    Of waits in the lane begin and end are kept: when the lane was full may be known only later.
    """

    membership: str
    awaited: str = ""
    since: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    turns: list[tuple[float, float]] = field(default_factory=list)
    calls: int = 0
    is_sent: bool = False
    has_slot: bool = False


@dataclass(slots=True)
class _RunLanes:
    """One run's lanes by membership, the empty name for the account: refusals, quotas, when so many jobs first ran."""

    last: float
    limits: dict[str, int]
    reached: dict[tuple[str, int], float]
    refused: dict[str, float] = field(default_factory=dict)

    def full_since(self, membership: str) -> float:
        """When the lane was first known to be full."""
        moments = [self.refused.get(membership, math.inf)]
        for name, default in ((membership, DEFAULT_PER_MEMBERSHIP), ("", DEFAULT_PER_ACCOUNT)):
            assumed = 0 if (name, default + 1) in self.reached else default
            moments.append(self.reached.get((name, self.limits.get(name, assumed)), math.inf))
        return min(moments)


class Waits:
    """Follows a ledger's events, and says of each job what it waited for."""

    def __init__(self) -> None:
        self._now = 0.0
        self._idle_seconds = 0.0
        self._last_at: float | None = None
        self._jobs: dict[str, _JobWaits] = {}
        self._runs = [_RunLanes(0.0, {}, {})]
        self._running: Counter[str] = Counter()
        self._origin: float | None = None
        self._origins: dict[tuple[str, str], float] = {}
        self._fastest_call = math.inf

    def advance(self, at: float) -> None:
        """Go on to the time of the next event."""
        self._last_at, self._now = at, at - self._idle_seconds
        self._runs[-1].last = self._now

    def begin_run(self, event: jobs.RunStarted, at: float) -> None:
        """Begin a run; jobs that were not seen to end hold their slots from its start on."""
        self._idle_seconds += max(at - self._last_at, 0.0) if self._last_at is not None else 0.0
        numbers = ((name, n + 1) for name, count in self._running.items() for n in range(min(count, _MOST_COUNTED)))
        now = at - self._idle_seconds
        self._runs.append(_RunLanes(now, dict(self._runs[-1].limits), dict.fromkeys(numbers, now)))
        self.advance(at)
        self._origin = None
        if event.manifest_sha256:
            self._origin = self._origins.setdefault((event.manifest_sha256, event.batch), now)

    def apply(self, event: jobs.JobEvent, at: float) -> None:
        """Take in an event of a job."""
        self.advance(at)
        job = self._jobs.get(event.job) or self._jobs.setdefault(event.job, _JobWaits(event.membership))
        self._end_wait(job, event)
        job.awaited, job.since = self._awaited(job, event), self._now

    def learned(self, limits: Mapping[str, int]) -> None:
        """Take in quotas, of the last run, from its start on, and those after it."""
        self._runs[-1].limits |= limits

    def _end_wait(self, job: _JobWaits, event: jobs.JobEvent) -> None:
        """Count the wait that this event ends; that for the first intent began with the first run of the manifest."""
        seconds = max(self._now - job.since, 0.0)
        if isinstance(event, jobs.Intent) and not job.is_sent:
            job.is_sent = True
            job.turns += [] if self._origin is None else [(self._origin, self._now)]
        elif job.awaited == _TURN:
            job.turns.append((job.since, self._now))
        elif job.awaited == _ANSWER and _is_answer(event):
            job.seconds[_ANSWER] += seconds
            job.calls += 1
            self._fastest_call = min(seconds, self._fastest_call)
        elif job.awaited:
            job.seconds[Cause.LOOKUP if job.awaited == _ANSWER else job.awaited] += seconds

    def _awaited(self, job: _JobWaits, event: jobs.JobEvent) -> str:
        """Note who takes slots, and who finds none; give what the job waits for from now on."""
        match event:
            case jobs.Intent():
                return _ANSWER
            case jobs.JobSubmitted() if not job.has_slot:
                job.has_slot = True
                self._running.update((job.membership, ""))
                for name in (job.membership, ""):
                    if self._running[name] <= _MOST_COUNTED:
                        self._runs[-1].reached.setdefault((name, self._running[name]), self._now)
            case jobs.JobFinished() if job.has_slot:
                job.has_slot = False
                self._running.subtract((job.membership, ""))
            case jobs.Refused():
                if event.cause == jobs.RefusalCause.SLOTS:
                    self._runs[-1].refused.setdefault(event.membership, self._now)
                return _AFTER_REFUSAL.get(event.cause, Cause.RETRY)
            case jobs.JobUnknown():
                return Cause.LOOKUP
            case jobs.Absent():
                return _TURN
        return ""

    def of(self, key: str) -> dict[Cause, float]:
        """The seconds by cause that a job waited, the open wait included; the calls themselves are no wait."""
        job = self._jobs[key]
        turns = [*job.turns, (job.since, self._now)] if job.awaited == _TURN else job.turns
        full = sum((self._full_seconds(job.membership, *turn) for turn in turns), 0.0)
        in_lane = sum((max(end - begin, 0.0) for begin, end in turns), 0.0)
        found = {cause: job.seconds[cause] for cause in Cause}
        if job.awaited in found:
            found[Cause(job.awaited)] += max(self._now - job.since, 0.0)
        found[Cause.QUOTA] += full
        found[Cause.RATE] = max(in_lane - full, 0.0)
        if job.calls:
            found[Cause.RATE] += max(job.seconds[_ANSWER] - job.calls * self._fastest_call, 0.0)
        return found

    def _full_seconds(self, membership: str, begin: float, end: float) -> float:
        """For how long, between two moments, this lane was known to be full."""
        seconds = 0.0
        for run in reversed(self._runs):
            if run.last < begin:
                break
            seconds += max(min(end, run.last) - max(begin, run.full_since(membership)), 0.0)
        return seconds


def _is_answer(event: jobs.JobEvent) -> bool:
    """Whether an event after an intent is the answer to the call; without one, a lookup decides."""
    return (
        event.via == "start"
        if isinstance(event, jobs.JobSubmitted)
        else not isinstance(event, (jobs.JobUnknown, jobs.Absent))
    )
