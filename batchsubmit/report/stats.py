"""All figures of a report, gathered in one pass over the jobs.

Pure: what they look like is the page's business.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple, TypeAlias

from batchsubmit.core.job_states import Phase, State, has_failed
from batchsubmit.report.reasons import Reasons
from batchsubmit.report.timeline import History, SlotTimes, Timeline, mean_running, peak_running, quota_steps
from batchsubmit.report.waits import Cause

_SILENT_SECONDS = 900.0
ReportedJob: TypeAlias = tuple[History, State, int | None]
"""A job, where it stands and, where it failed, the number of its reason."""


class SlotUse(NamedTuple):
    """The part of the slots' time that was used; where no quota was learned, the peak stands for the slots."""

    share: float
    slots: int
    is_learned: bool


class Figures:
    """All figures of a ledger at one moment (`now`, Unix seconds).

    `jobs` are all jobs with where they stand and, of those that failed, the number of their reason; `lanes` is by
    membership, in the order of their first acceptance; `waited` by cause, the seconds of each job that waited at all;
    `ran` by trained model and instance type, the jobs that were seen to end and their seconds; `ended` by state, when.
    """

    def __init__(self, timeline: Timeline, now: float) -> None:
        self.timeline = timeline
        self.now = now
        self.last_run = timeline.runs[-1] if timeline.runs else None
        self.begin = timeline.runs[0].began_at if timeline.runs else now
        self.end = max(timeline.last_at or self.begin, self.begin)
        self.jobs: list[ReportedJob] = []
        self.by_membership: dict[str, Counter[State]] = {}
        self.lanes: dict[str, SlotTimes] = {}
        self.reasons = Reasons()
        self.waited: dict[Cause, list[float]] = {cause: [] for cause in Cause}
        self.ran: dict[tuple[str, str], list[tuple[float, History]]] = {}
        self.ended: dict[State, list[float]] = {state: [] for state in State}
        self.calling = self.attempts = self.duplicates = 0
        for history in timeline.histories():
            self._add(history)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Say what the jobs come to together, and what is to come.

        `is_total_known` is False where the ledger knows only the jobs that it has met. Jobs in a call of a run that is
        under way are no alarm. `per_second` is the pace at the last event, as a display would have shown it then.
        Seconds count from now, as if a run that ended were started again at once; None where no end was seen yet.
        """
        last, progress = self.last_run, self.timeline.progress
        self.counts = self.timeline.work.counts(self.by_membership)
        self.acceptances = sorted(at for lane in self.lanes.values() for at in lane.accepted)
        self.is_under_way = last is not None and last.ended is None and self.now - last.last_at < _SILENT_SECONDS
        self.is_total_known = bool(last and (last.ended or last.started.rows))
        self.has_alarm = self.counts.unknown > (self.calling if self.is_under_way else 0)
        self.per_second = progress.per_second(datetime.fromtimestamp(self.end, UTC))
        self.finish = progress.finish(datetime.fromtimestamp(self.now, UTC))
        self.seconds_to_submit = self.finish.sent_seconds if self.finish and self.counts.pending else None
        self.seconds_to_finish = (self.finish.seconds or None) if self.finish else None

    def _add(self, history: History) -> None:
        state, fate = history.state, State.of(history.state)
        ended_at = history.rejected_at if fate is State.REJECTED else history.finished_at
        reason = self.reasons.add(state, ended_at) if has_failed(state) else None
        self.jobs.append((history, fate, reason))
        self.by_membership.setdefault(state.membership, Counter())[fate] += 1
        self.calling += state.phase is Phase.INTENT
        self.attempts += state.attempt
        self.duplicates += len(state.duplicates)
        for cause, seconds in history.waited.items():
            self.waited[cause] += [seconds] if seconds > 0 else []
        self.ended[fate] += [] if ended_at is None else [ended_at]
        if history.accepted_at is None:
            return
        lane = self.lanes.setdefault(state.membership, SlotTimes())
        lane.accepted.append(history.accepted_at)
        if history.finished_at is not None and history.seconds is not None:
            lane.finished.append(max(history.finished_at, history.accepted_at))
            lane.ended.append(history.accepted_at)
            kind = model_name(state.trained_model), history.instance_type
            self.ran.setdefault(kind, []).append((history.seconds, history))

    @cached_property
    def slot_use(self) -> SlotUse | None:
        """Judged from the first acceptance to the last: after that there was nothing left to fill slots with."""
        edges = self.acceptances[:1] + self.acceptances[-1:]
        if not self.ran or edges[0] == edges[1]:
            return None
        steps = quota_steps(self.timeline.runs, self.lanes)
        slots = steps[-1][1] if steps else peak_running(self.lanes)
        used = sum(mean_running(lane, edges)[0] for lane in self.lanes.values())
        return SlotUse(min(used / slots, 1.0) if slots else 0.0, slots, bool(steps))

    def instance_hours(self, prices: Mapping[str, float]) -> list[tuple[str, float, float | None]]:
        """Hours and cost in USD by instance type, of the jobs that were seen to end; None where no price is set."""
        hours: dict[str, float] = defaultdict(float)
        for (_, instance_type), jobs in self.ran.items():
            hours[instance_type] += sum(seconds for seconds, _ in jobs) / 3600
        return [(kind, spent, spent * prices[kind] if kind in prices else None) for kind, spent in hours.items()]


def model_name(arn: str) -> str:
    """The last part of a trained model's ARN, by which people know it."""
    return arn.rpartition("/")[2]
