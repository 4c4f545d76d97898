"""The ledger's events as one record a job: its state, its times, what it waited for; and the jobs that ran over time.

Pure: Unix seconds, and what has no end in the ledger counts as running until the ledger's last event.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Self

from batchsubmit.core import jobs
from batchsubmit.core.job_states import JobState, fold
from batchsubmit.core.ledger_state import Work, slots_known
from batchsubmit.forecast import RunHistory
from batchsubmit.report.waits import Cause, Waits


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
