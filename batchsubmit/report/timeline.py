"""The ledger's events as one record a job: its state, its times, what it waited for; and the jobs that ran over time.

Pure: Unix seconds, and what has no end in the ledger counts as running until the ledger's last event.

Waits are counted on a run clock that stands still while no run is active: from the last event of a run to the start of
the next one no job waits for anything. `export.md` defines their causes. A slow answer counts as a wait for the rate,
since the ledger does not say when the call left the rate gate. A run without a manifest (a worker) does not say when
its jobs began to wait, and no wait before their first intent is counted.
"""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Final, Self

from batchsubmit.core import jobs
from batchsubmit.core.ledger_state import ACCOUNT, Work
from batchsubmit.core.states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP, JobState, fold
from batchsubmit.forecast import RunHistory

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
        reached = {name: [now] * count for name, count in self._running.items()}
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
                    reached += [self._now] if self._running[name] > len(reached) else []
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


@dataclass(slots=True, kw_only=True)
class History:
    """One job. Times are Unix seconds; `finished_at` is the service's, or else when a run saw the end.

    `batch` is that of the run that first wrote of it; `waited` is filled in when the whole ledger is read.
    """

    state: JobState
    batch: str
    via: str = ""
    instance_type: str = ""
    first_intent_at: float | None = None
    rejected_at: float | None = None
    accepted_at: float | None = None
    finished_at: float | None = None
    waited: dict[Cause, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """From acceptance to the end as it was seen."""
        if self.accepted_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.accepted_at, 0.0)


@dataclass(slots=True)
class RunSpan:
    """One run: its first line, its last one if it lived to write it, and the time of its last event.

    `quotas` are those that it learned, by membership and of the account (`ACCOUNT`).
    """

    started: jobs.RunStarted
    began_at: float
    last_at: float
    ended: jobs.RunEnded | None = None
    quotas: dict[str, int] = field(default_factory=dict)


class Timeline:
    """A whole ledger: its jobs in the order of their first event, and its runs."""

    def __init__(self) -> None:
        self.runs: list[RunSpan] = []
        self.throttled_at: list[float] = []
        self.last_at: float | None = None
        self.progress = RunHistory()
        self.work = Work()
        self._waits = Waits()
        self._histories: dict[str, History] = {}

    @classmethod
    def of(cls, events: Iterable[jobs.Event]) -> Self:
        """Read all events."""
        timeline = cls()
        for event in events:
            timeline.apply(event)
        return timeline

    def __len__(self) -> int:
        return len(self._histories)

    def apply(self, event: jobs.Event) -> None:
        """Take in one event."""
        at = datetime.fromisoformat(event.at).timestamp()
        self.progress.apply(event)
        self.work.apply(event)
        if isinstance(event, jobs.RunStarted):
            self._waits.begin_run(event, at)
            self.runs.append(RunSpan(event, at, at))
        elif isinstance(event, jobs.RunEnded):
            self._waits.advance(at)
            self._end_run(event)
        else:
            self._waits.apply(event, at)
            self._apply_to_job(event, at)
        self.last_at = at
        if self.runs:
            self.runs[-1].last_at = at

    def histories(self) -> Iterator[History]:
        """Give every job, in the order of first events; may be called again."""
        for key, history in self._histories.items():
            history.waited = self._waits.of(key)
            yield history

    def is_under_way(self, at: float) -> bool:
        """Whether a run was on at a moment."""
        return any(run.began_at <= at <= run.last_at for run in self.runs)

    def _end_run(self, event: jobs.RunEnded) -> None:
        run = next((run for run in reversed(self.runs) if run.started.run == event.run), None)
        if run is None:
            return
        run.ended, run.quotas = event, dict(event.quotas)
        self._waits.learned(run.quotas)

    def _apply_to_job(self, event: jobs.JobEvent, at: float) -> None:
        history = self._histories.get(event.job)
        before = history.state if history else None
        if isinstance(event, jobs.Intent):
            self.work.sends(before)
        state = fold(before, event)
        if history is None:
            batch = self.runs[-1].started.batch if self.runs else ""
            history = self._histories[event.job] = History(state=state, batch=batch)
        history.state = state
        match event:
            case jobs.Intent():
                history.instance_type = event.instance_type
                history.first_intent_at = at if history.first_intent_at is None else history.first_intent_at
            case jobs.JobSubmitted():
                history.via, history.accepted_at, history.finished_at = event.via, at, None
            case jobs.JobRejected():
                history.rejected_at = at
            case jobs.JobFinished() if history.finished_at is None:
                history.finished_at = datetime.fromisoformat(event.ended).timestamp() if event.ended else at
            case jobs.Refused() if event.cause == jobs.RefusalCause.THROTTLED:
                self.throttled_at.append(at)


@dataclass(slots=True)
class SlotTimes:
    """When the jobs of one membership took and gave back their slots; `ended` is when those that did had taken them."""

    accepted: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


def mean_running(lane: SlotTimes, edges: Sequence[float]) -> list[float]:
    """How many jobs of a lane ran, on average, between each two edges."""
    used = [
        taken - given
        for taken, given in zip(*(_seconds_since(each, edges) for each in (lane.accepted, lane.finished)), strict=True)
    ]
    return [
        (after - before) / (end - begin)
        for (before, after), (begin, end) in zip(pairwise(used), pairwise(edges), strict=True)
    ]


def _seconds_since(moments: Iterable[float], edges: Sequence[float]) -> list[float]:
    """At each edge, the sum of the seconds that have passed since the moments before it."""
    ordered = sorted(moments)
    sums = list(accumulate(ordered, initial=0.0))
    return [edge * count - sums[count] for edge in edges for count in (bisect_right(ordered, edge),)]


def peak_running(lanes: Mapping[str, SlotTimes]) -> int:
    """The most jobs that ran at once, all lanes together."""
    steps = [(at, 1) for lane in lanes.values() for at in lane.accepted]
    steps += [(at, -1) for lane in lanes.values() for at in lane.finished]
    return max(accumulate(step for _, step in sorted(steps)), default=0)  # at one moment, ends come before starts


def slots_known(quotas: Mapping[str, int], memberships: Collection[str]) -> int | None:
    """How many jobs of these memberships may run at once, where that is known.

    The account's quota, or the memberships' together where those are all known and fewer.
    """
    bounds = [quotas[ACCOUNT]] if ACCOUNT in quotas else []
    if memberships and all(membership in quotas for membership in memberships):
        bounds.append(sum(quotas[membership] for membership in memberships))
    return min(bounds, default=None)


def quota_steps(runs: Iterable[RunSpan], memberships: Collection[str]) -> list[tuple[float, int]]:
    """From when on at most how many jobs could run at once, as far as the runs have learned it."""
    known: dict[str, int] = {}
    steps: list[tuple[float, int]] = []
    for run in runs:
        known |= run.quotas
        slots = slots_known(known, memberships)
        if slots is not None and (not steps or steps[-1][1] != slots):
            steps.append((run.began_at, slots))
    return steps
