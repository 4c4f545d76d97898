"""What each job waited for, by its ledger's events: quota, rate, throttling, a retry, a lookup. Pure.

Waits are counted on a run clock that stands still while no run is active: from the last event of a run to the start of
the next one no job waits for anything. `export.md` defines their causes. A slow answer counts as a wait for the rate,
since the ledger does not say when the call left the rate gate. A run without a manifest (a worker) does not say when
its jobs began to wait, and no wait before their first intent is counted.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from batchsubmit.core import jobs
from batchsubmit.core.job_states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP
from batchsubmit.core.ledger_state import ACCOUNT

_MOST_COUNTED: Final = 10_000
"""Jobs counted as running in a lane: quotas are far below it, and a ledger without ends would count all its jobs."""
_ANSWER, _TURN = "answer", "turn"
"""What a job may wait for beside a cause: the answer to its call, and its turn in the lane."""


class Cause(StrEnum):
    """What a job waited for."""

    QUOTA = "quota"
    RATE = "rate"
    THROTTLING = "throttling"
    RETRY = "retry"
    LOOKUP = "lookup"


_NO_ANSWER: Final = (jobs.JobUnknown, jobs.Absent)
"""After an intent: the call got none, and a lookup decides."""
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
    answers: list[float] = field(default_factory=list)
    has_slot: bool = False


@dataclass(slots=True)
class _RunLanes:
    """One run's lanes, of memberships and of the account: refusals, quotas, and when each further job first ran."""

    last: float
    limits: dict[str, int]
    reached: dict[str, list[float]]
    refused: dict[str, float] = field(default_factory=dict)

    def full_since(self, membership: str) -> float:
        """When the lane was first known to be full."""
        moments = [self.refused.get(membership, math.inf)]
        for name, default in ((membership, DEFAULT_PER_MEMBERSHIP), (ACCOUNT, DEFAULT_PER_ACCOUNT)):
            reached = self.reached.get(name, [])
            limit = self.limits.get(name, default if len(reached) <= default else 0)
            if 0 < limit <= len(reached):
                moments.append(reached[limit - 1])
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
        now = at - self._idle_seconds
        reached = {name: [now] * min(count, _MOST_COUNTED) for name, count in self._running.items()}
        self._runs.append(_RunLanes(now, dict(self._runs[-1].limits), reached))
        self.advance(at)
        self._origin = None
        if event.manifest_sha256:
            self._origin = self._origins.setdefault((event.manifest_sha256, event.batch), now)

    def apply(self, event: jobs.JobEvent, at: float) -> None:
        """Take in an event of a job."""
        self.advance(at)
        job = self._jobs.get(event.job)
        if job is None:
            job = self._jobs[event.job] = _JobWaits(event.membership)
            if self._origin is not None and isinstance(event, jobs.Intent):
                job.turns.append((self._origin, self._now))
        self._end_wait(job, event)
        job.awaited, job.since = self._awaited(job, event), self._now

    def learned(self, limits: Mapping[str, int]) -> None:
        """Take in quotas, of the last run, from its start on, and those after it."""
        self._runs[-1].limits |= limits

    def _end_wait(self, job: _JobWaits, event: jobs.JobEvent) -> None:
        seconds = max(self._now - job.since, 0.0)
        if job.awaited == _TURN:
            job.turns.append((job.since, self._now))
        elif job.awaited == _ANSWER and not isinstance(event, _NO_ANSWER) and getattr(event, "via", "") != "lookup":
            job.answers.append(seconds)
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
                self._running.update((job.membership, ACCOUNT))
                for name in (job.membership, ACCOUNT):
                    reached = self._runs[-1].reached.setdefault(name, [])
                    reached += [self._now] if len(reached) < min(self._running[name], _MOST_COUNTED) else []
            case jobs.JobFinished() if job.has_slot:
                job.has_slot = False
                self._running.subtract((job.membership, ACCOUNT))
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
        found[Cause.RATE] = max(in_lane - full, 0.0) + sum(each - self._fastest_call for each in job.answers)
        return found

    def _full_seconds(self, membership: str, begin: float, end: float) -> float:
        """For how long, between two moments, this lane was known to be full."""
        seconds = 0.0
        for run in reversed(self._runs):
            if run.last < begin:
                break
            seconds += max(min(end, run.last) - max(begin, run.full_since(membership)), 0.0)
        return seconds
