"""The ledger's events as one record a job: its state, its times, what it waited for; and the jobs that ran over time.

Every report and export reads a ledger through here, in one pass over any iterable of events. `states.fold` says where
a job stands; `waits` says what the seconds mean. Pure: Unix seconds, and what has no end in the ledger counts as
running until the ledger's last event.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Self

import msgspec

from batchsubmit.core.jobs import (
    Absent,
    Entry,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    RefusalCause,
    Refused,
    RunEnded,
    RunStarted,
    Unrecognised,
)
from batchsubmit.core.ledger_state import Work
from batchsubmit.core.states import UNDECIDED, JobState, fold, has_failed
from batchsubmit.forecast import RunHistory
from batchsubmit.report.waits import ANSWER, TURN, Cause, JobWaits, LaneLog, awaited_after, refusal_cause


@dataclass(slots=True, kw_only=True)
class History:
    """One job. Times are Unix seconds; `finished_at` is the service's, or else when a run saw the end.

    `run` is the number of the run that first wrote of it; `waited` is filled in when the whole ledger is read.
    """

    state: JobState
    run: int
    via: str = ""
    instance_type: str = ""
    first_intent_at: float | None = None
    rejected_at: float | None = None
    accepted_at: float | None = None
    finished_at: float | None = None
    waited: dict[Cause, float] = field(default_factory=dict)
    waits: JobWaits = field(default_factory=JobWaits)

    @property
    def is_unknown(self) -> bool:
        """Whether the job may run on the service or not."""
        return self.state.phase in UNDECIDED

    @property
    def has_failed(self) -> bool:
        """Whether it was rejected, failed, or was cancelled."""
        return has_failed(self.state)

    @property
    def seconds(self) -> float | None:
        """From acceptance to the end as it was seen."""
        if self.accepted_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.accepted_at, 0.0)


@dataclass(slots=True)
class RunSpan:
    """One run: its first line, its last one if it lived to write it, and the time of its last event."""

    started: RunStarted
    began_at: float
    last_at: float
    ended: RunEnded | None = None


@dataclass(frozen=True, slots=True)
class LearnedQuota:
    """A quota that a run learned: from then on at most `limit` jobs of a membership, or of the account (empty)."""

    at: float
    membership: str
    limit: int


class Timeline:
    """A whole ledger: its jobs in the order of their first event, its runs, the quotas they learned."""

    def __init__(self) -> None:
        self.runs: list[RunSpan] = []
        self.quotas: list[LearnedQuota] = []
        self.throttled_at: list[float] = []
        self.last_at: float | None = None
        self.progress = RunHistory()
        self.work = Work()
        self._histories: dict[str, History] = {}
        self._now = 0.0
        self._idle_seconds = 0.0
        self._lanes = LaneLog()
        self._origins: dict[tuple[str, str], float] = {}
        self._fastest_call = math.inf

    @classmethod
    def of(cls, events: Iterable[Entry]) -> Self:
        """Read all events."""
        timeline = cls()
        for event in events:
            timeline.apply(event)
        return timeline

    def __len__(self) -> int:
        return len(self._histories)

    def apply(self, event: Entry) -> None:
        """Take in one event. Kinds that this version does not know are ignored, except for a learned quota."""
        at = _seconds(event.at)
        self.progress.apply(event)
        self.work.apply(event)
        if isinstance(event, RunStarted):
            self._begin_run(event, at)
        else:
            self._now = at - self._idle_seconds
            self._lanes.advance(self._now)
            if isinstance(event, JobEvent):
                self._apply_to_job(event, at)
            elif isinstance(event, RunEnded):
                self._end_run(event)
            else:
                self._read_quota(event, at)
        self.last_at = at
        if self.runs:
            self.runs[-1].last_at = at

    def histories(self) -> Iterator[History]:
        """Give every job, in the order of first events; may be called again."""
        fastest = 0.0 if math.isinf(self._fastest_call) else self._fastest_call
        for history in self._histories.values():
            history.waited = history.waits.by_cause(self._lanes, history.state.membership, fastest, self._now)
            yield history

    def is_under_way(self, at: float) -> bool:
        """Whether a run was on at a moment."""
        return any(run.began_at <= at <= run.last_at for run in self.runs)

    def batch_of(self, history: History) -> str:
        """The batch id of the run that first wrote of a job."""
        return self.runs[history.run].started.batch if history.run >= 0 else ""

    def _begin_run(self, event: RunStarted, at: float) -> None:
        if self.last_at is not None:
            self._idle_seconds += max(at - self.last_at, 0.0)
        self._now = at - self._idle_seconds
        self._lanes.begin_run(self._now)
        self.runs.append(RunSpan(event, at, at))
        if event.manifest_sha256:
            self._origins.setdefault((event.manifest_sha256, event.batch), self._now)

    def _end_run(self, event: RunEnded) -> None:
        run = next((run for run in reversed(self.runs) if run.started.run == event.run), None)
        if run is None:
            return
        run.ended = event
        accounts = [limit for name, limit in event.quotas.items() if _is_account(name)]
        learned = {name: limit for name, limit in event.quotas.items() if not _is_account(name)}
        if accounts:
            learned[""] = sum(accounts)  # all the slots there are, where memberships are in several accounts
        for membership, limit in learned.items():
            self._learn(run.began_at, membership, limit)

    def _learn(self, at: float, membership: str, limit: int) -> None:
        self.quotas.append(LearnedQuota(at, membership, limit))
        self._lanes.learned(membership, limit)

    def _read_quota(self, event: object, at: float) -> None:
        """Take a learned quota from an event of any kind that has the form of one."""
        members = event.members if isinstance(event, Unrecognised) else msgspec.to_builtins(event)
        membership, limit = members.get("membership"), members.get("limit")
        if members.get("event") == "quota" and isinstance(membership, str) and isinstance(limit, int | float):
            self._learn(at, membership, int(limit))

    def _apply_to_job(self, event: JobEvent, at: float) -> None:
        history = self._histories.get(event.job)
        if isinstance(event, Intent):
            self.work.sends(history.state if history else None)
        if history is None:
            history = self._histories[event.job] = History(state=fold(None, event), run=len(self.runs) - 1)
        else:
            history.state = fold(history.state, event)
        self._end_wait(history, event, at)
        history.waits.awaited, history.waits.since = self._note(history, event, at), self._now

    def _end_wait(self, history: History, event: JobEvent, at: float) -> None:
        """Count the wait that this event ends; that for the first intent began with the first run of the manifest."""
        if isinstance(event, Intent) and history.first_intent_at is None:
            history.first_intent_at = at
            started = self.runs[-1].started if self.runs else None
            began = self._origins.get((started.manifest_sha256, started.batch)) if started else None
            if began is not None:
                history.waits.turns.append((began, self._now))
            return
        is_lookup = isinstance(event, JobUnknown | Absent) or (isinstance(event, JobSubmitted) and event.via != "start")
        call_seconds = history.waits.end(self._now, has_answer=not is_lookup)
        if call_seconds is not None:
            self._fastest_call = min(call_seconds, self._fastest_call)

    def _note(self, history: History, event: JobEvent, at: float) -> str:
        """Keep what the event says of times and slots; give what the job waits for from now on."""
        match event:
            case Intent():
                history.instance_type = event.instance_type
                return ANSWER
            case Refused():
                cause = refusal_cause(event)
                if cause == RefusalCause.SLOTS:
                    self._lanes.refused(event.membership, self._now)
                elif cause == RefusalCause.THROTTLED:
                    self.throttled_at.append(at)
                return awaited_after(cause)
            case JobUnknown():
                return Cause.LOOKUP
            case Absent():
                return TURN
            case JobSubmitted():
                history.via, history.accepted_at, history.finished_at = event.via, at, None
                self._lanes.accepted(event.membership, self._now)
            case JobRejected():
                history.rejected_at = at
            case JobFinished() if history.finished_at is None:
                history.finished_at = _seconds(event.ended) if event.ended else at
                self._lanes.finished(event.membership)
        return ""


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _is_account(name: str) -> bool:
    """Whether a quota at a run's end is an account's: `account`, or `account 123456789012` where there are several."""
    return name == "account" or name.startswith("account ")


@dataclass(slots=True)
class SlotTimes:
    """When the jobs of one membership took and gave back their slots; `ended` is when those that did had taken them."""

    accepted: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


def grid(begin: float, end: float, points: int = 160) -> list[float]:
    """The moments between which running jobs are averaged."""
    step = max(end - begin, 1.0) / points
    return [begin + step * index for index in range(points + 1)]


def mean_running(lane: SlotTimes, edges: Sequence[float]) -> list[float]:
    """How many jobs of a lane ran, on average, between each two edges."""
    used = pairwise(_slot_seconds(lane, edges))
    return [
        (after - before) / (end - begin) for (before, after), (begin, end) in zip(used, pairwise(edges), strict=True)
    ]


def used_slot_seconds(lanes: Mapping[str, SlotTimes], begin: float, end: float) -> float:
    """For how long slots were held between two moments, summed over all slots."""
    pairs = (tuple(_slot_seconds(lane, (begin, end))) for lane in lanes.values())
    return sum(after - before for before, after in pairs)


def _slot_seconds(lane: SlotTimes, moments: Sequence[float]) -> Iterator[float]:
    """For how long slots were held until each of these moments, in order."""
    starts, ends = sorted(lane.accepted), sorted(lane.finished)
    started = ended = 0
    sum_started = sum_ended = 0.0
    for moment in moments:
        while started < len(starts) and starts[started] <= moment:
            sum_started += starts[started]
            started += 1
        while ended < len(ends) and ends[ended] <= moment:
            sum_ended += ends[ended]
            ended += 1
        yield (moment * started - sum_started) - (moment * ended - sum_ended)


def peak_running(lanes: Mapping[str, SlotTimes]) -> int:
    """The most jobs that ran at once, all lanes together."""
    steps = [(at, 1) for lane in lanes.values() for at in lane.accepted]
    steps += [(at, -1) for lane in lanes.values() for at in lane.finished]
    peak = running = 0
    for _, step in sorted(steps):  # at one moment, ends come before starts
        running += step
        peak = max(peak, running)
    return peak


def quota_steps(quotas: Sequence[LearnedQuota], memberships: Sequence[str]) -> list[tuple[float, int]]:
    """From when on at most how many jobs could run at once, as far as the ledger has learned it.

    The account's quota, or the memberships' together where those are all known and fewer.
    """
    known: dict[str, int] = {}
    steps: list[tuple[float, int]] = []
    for quota in sorted(quotas, key=lambda each: each.at):
        known[quota.membership] = quota.limit
        bounds = [known[""]] if "" in known else []
        if memberships and all(membership in known for membership in memberships):
            bounds.append(sum(known[membership] for membership in memberships))
        if bounds and steps and steps[-1][0] == quota.at:
            del steps[-1]  # several quotas learned at one moment are one step
        if bounds and (not steps or steps[-1][1] != min(bounds)):
            steps.append((quota.at, min(bounds)))
    return steps
