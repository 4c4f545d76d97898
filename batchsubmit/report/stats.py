"""All figures of a report, gathered in one pass over the jobs, and the sentences that it begins with.

Pure: what they look like is the page's business.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple

from batchsubmit.core.states import Phase, State, has_failed
from batchsubmit.report.reasons import Reasons
from batchsubmit.report.summary import bad_words
from batchsubmit.report.timeline import Cause, History, SlotTimes, Timeline, mean_running, peak_running, quota_steps
from batchsubmit.text import counted, date_and_time, duration, rate

_SILENT_SECONDS = 900.0
STOPS = {
    "signal": "someone stopped it",
    "cancelled": "the program that ran it ended it",
    "deadline": "its deadline had come",
    "failures": "more jobs failed than it was allowed",
    "canary": "its first jobs did not all finish well",
    "queue": "its queue could not be read",
    "held": "quotas other than those of slots refused all that was left",
    "denied": "the service denied what it was asked for, so a permission is missing",
    "credentials": "the service refused its credentials",
    "unreachable": "the service could not be reached",
    "ledger": "the ledger could not be written",
    "ledger_lost": "the ledger went away under it",
    "manifest": "the manifest changed under it",
}


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
        self.jobs: list[tuple[History, State, int | None]] = []
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


class Headline(NamedTuple):
    """`mood` is one of bad, mixed, good, open; each sentence stands alone."""

    title: str
    mood: str
    status: str
    sentences: list[str]


def headline(figures: Figures) -> Headline:
    """Say it in one look."""
    started = figures.last_run.started if figures.last_run else None
    title = (started.batch or started.manifest.rpartition("/")[2]) if started else "An empty ledger"
    return Headline(title, *_status(figures), list(_sentences(figures)))


def _status(figures: Figures) -> tuple[str, str]:
    last = figures.last_run
    if figures.has_alarm:
        return "bad", "Under way; jobs are unknown" if figures.is_under_way else "Jobs are unknown"
    if figures.is_under_way:
        return "open", "Under way"
    if last and last.ended is None:
        return "mixed", "The last run ended without a word"
    if last and last.ended and last.ended.reason:
        return "mixed", "Stopped before the end"
    if figures.counts.pending:
        return "mixed", "Not all is submitted"
    bad = bad_words(figures.counts)
    return ("mixed", bad) if bad else ("good", "Done")


def _sentences(figures: Figures) -> Iterator[str]:
    counts = figures.counts
    if counts.unknown:
        jobs = counted(counts.unknown, "job")
        if figures.has_alarm:
            yield f"{jobs} may run or not: run the same command again, which looks such jobs up first."
        else:
            yield f"{jobs} in a call when this page was made."
    ended = f", {counts.succeeded:,} of them succeeded" if counts.succeeded else ""
    least = "" if figures.is_total_known else "at least "
    yield f"{counts.submitted:,} of {least}{counted(counts.total, 'job')} submitted{ended}."
    parts = [f"{number:,} {name}" for name in ("failed", "rejected", "cancelled") if (number := getattr(counts, name))]
    yield f"{', '.join(parts)}, for {_reasons(figures)}." if parts else "None failed."
    yield from _left(figures)


def _left(figures: Figures) -> Iterator[str]:
    last = figures.last_run
    if last and last.ended and (reason := last.ended.reason):
        yield f"The last run stopped because {STOPS.get(reason, reason)}; the same command goes on."
    if not figures.counts.pending:
        yield "Nothing is pending."
        return
    pace = f", at the last pace {rate(figures.per_second)}" if figures.per_second else ""
    yield f"{counted(figures.counts.pending, 'job')} pending{pace}."
    if figures.seconds_to_submit is not None and figures.seconds_to_finish is not None:
        start = "If nothing comes between" if figures.is_under_way else "Started again at once"
        submitted, finished = (
            f"in {duration(each)} ({date_and_time(figures.now + each)[5:-3]} UTC)"
            for each in (figures.seconds_to_submit, figures.seconds_to_finish)
        )
        yield f"{start}, all would be submitted {submitted}, finished {finished}."


def _reasons(figures: Figures) -> str:
    most, *others = figures.reasons.most_frequent_first()
    code = most.code or "no code"
    if not others:
        return f"one reason, {code}"
    above_all = f", most of all {code}" if most.count > others[0].count else ""
    return f"{1 + len(others):,} different reasons{above_all}"
