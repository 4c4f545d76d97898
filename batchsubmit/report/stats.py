"""All figures of a report, gathered in one pass over the jobs. Pure: what they look like is the page's business."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from batchsubmit.core.states import Phase
from batchsubmit.report.course import Course, peak_running, quota_steps, used_slot_seconds
from batchsubmit.report.failures import Reasons
from batchsubmit.report.timeline import History, TimelineBuilder
from batchsubmit.report.waits import Cause

_RECENT_SHARE = 1 / 3
_LEAST_ACCEPTED = 10
_SILENT_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`left` is jobs to be submitted; `is_left_known` is False where the ledger knows only those that it has met.

    `per_hour` is the recent pace of acceptances, None where nothing was accepted or one moment saw it all.
    The seconds count from `now`, as if a run that ended were started again at once; None where no end was seen yet.
    """

    left: int
    is_left_known: bool
    is_under_way: bool
    per_hour: float | None
    seconds_to_submit: float | None
    seconds_to_finish: float | None
    now: float


def outlook(
    chronicle: TimelineBuilder,
    *,
    decided: int,
    waiting: int,
    acceptances: Sequence[float],
    now: float,
) -> Outlook:
    """Look ahead.

    `decided` jobs are accepted, failed or unknown; `waiting` are known and neither; `acceptances` is sorted.
    """
    left, is_known = _left_over(chronicle, decided, waiting)
    last = chronicle.runs[-1] if chronicle.runs else None
    per_hour = _pace(acceptances, last.began_at, last.last_at) if last else None
    is_under_way = last is not None and last.ended is None and now - last.last_at < _SILENT_SECONDS
    finish = chronicle.progress.finish(datetime.fromtimestamp(now, UTC), left=left)
    return Outlook(
        left=left,
        is_left_known=is_known,
        is_under_way=is_under_way,
        per_hour=per_hour,
        seconds_to_submit=finish.sent_seconds if finish and left else None,
        seconds_to_finish=finish.seconds if finish and finish.seconds else None,
        now=now,
    )


def _left_over(chronicle: TimelineBuilder, decided: int, waiting: int) -> tuple[int, bool]:
    """The last run says it at its end; while it runs, and after a crash, the manifest's rows do."""
    if not chronicle.runs:
        return waiting, False
    last = chronicle.runs[-1]
    if last.ended is not None and "left" in last.ended.counts:
        return last.ended.counts["left"], True
    if last.started.rows:
        return max(last.started.rows - decided, waiting), True
    return waiting, False


def _pace(acceptances: Sequence[float], begin: float, end: float) -> float | None:
    """Acceptances an hour in the last third of a run; in all of it where those are too few to judge by."""
    recent = end - (end - begin) * _RECENT_SHARE
    since = recent if len(acceptances) - bisect_left(acceptances, recent) >= _LEAST_ACCEPTED else begin
    count = len(acceptances) - bisect_left(acceptances, since)
    return count / (end - since) * 3600 if count and end > since else None


_MOST_UNKNOWN = 500
SLOW = 0.95
"""Of a hundred jobs so many are quicker than one that is called slow."""


class Fate(StrEnum):
    """Where a job stands, in a reader's words; what needs a hand comes first."""

    UNKNOWN = "unknown"
    FAILED = "not submitted"
    BAD = "ended badly"
    WAITING = "waiting"
    ACCEPTED = "accepted"
    WELL = "finished well"

    @classmethod
    def of(cls, history: History) -> "Fate":
        """Judge one job."""
        if history.is_unknown:
            return cls.UNKNOWN
        match history.state.phase:
            case Phase.FAILED:
                return cls.FAILED
            case Phase.SUBMITTED:
                return cls.ACCEPTED
            case Phase.FINISHED:
                return cls.BAD if history.has_failed else cls.WELL
            case _:
                return cls.WAITING


@dataclass(slots=True)
class Waited:
    """What one cause cost: seconds in all, the longest wait of a job, and how many jobs waited for it at all."""

    seconds: float = 0.0
    longest: float = 0.0
    jobs: int = 0

    def add(self, seconds: float) -> None:
        """Take in one job's wait."""
        if seconds > 0:
            self.seconds += seconds
            self.longest = max(self.longest, seconds)
            self.jobs += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """How much of the slots' time was used while there was something to submit.

    `is_learned` is False where no quota stands in the ledger, and the most jobs that ever ran at once serve instead.
    """

    share: float
    slots: int
    is_learned: bool


@dataclass(slots=True)
class Figures:
    """Gathers job by job with `add`; then everything may be read, `outlook` and `slot_use` too."""

    chronicle: TimelineBuilder
    fates: Counter[Fate] = field(default_factory=Counter)
    by_membership: dict[str, Counter[Fate]] = field(default_factory=dict)
    course: Course = field(default_factory=Course)
    reasons: Reasons = field(default_factory=Reasons)
    unknown: list[History] = field(default_factory=list)
    waited: dict[Cause, Waited] = field(default_factory=lambda: {cause: Waited() for cause in Cause})
    durations: dict[str, "array[float]"] = field(default_factory=dict)
    calling: int = 0
    attempts: int = 0
    duplicates: int = 0

    def add(self, history: History) -> tuple[Fate, int | None]:
        """Take in one job; give its fate, and the number of its reason where it failed."""
        state, fate = history.state, Fate.of(history)
        self.fates[fate] += 1
        self.by_membership.setdefault(state.membership, Counter())[fate] += 1
        self.course.add(history)
        self.calling += state.phase is Phase.INTENT
        self.attempts += state.attempt
        self.duplicates += len(state.duplicates)
        for cause, seconds in history.waited.items():
            self.waited[cause].add(seconds)
        if history.seconds is not None:
            self.durations.setdefault(model_name(state.trained_model), array("d")).append(history.seconds)
        if fate is Fate.UNKNOWN and len(self.unknown) < _MOST_UNKNOWN:
            self.unknown.append(history)
        return fate, self.reasons.add(history) if history.has_failed else None

    @property
    def accepted(self) -> int:
        """Jobs that the service has or had."""
        return self.fates[Fate.ACCEPTED] + self.fates[Fate.WELL] + self.fates[Fate.BAD]

    def outlook(self, acceptances: Sequence[float], now: float) -> Outlook:
        """Look ahead."""
        decided = self.accepted + self.fates[Fate.FAILED] + self.fates[Fate.UNKNOWN]
        return outlook(
            self.chronicle,
            decided=decided,
            waiting=self.fates[Fate.WAITING],
            acceptances=acceptances,
            now=now,
        )

    def slot_use(self, acceptances: Sequence[float]) -> SlotUse | None:
        """Judge from the first acceptance to the last: after that there was nothing left to fill slots with."""
        lanes = self.course.lanes
        if not self.course.tells_ends or acceptances[-1] <= acceptances[0]:
            return None
        begin, end = acceptances[0], acceptances[-1]
        steps = quota_steps(self.chronicle.quotas, list(lanes))
        slots = steps[-1][1] if steps else peak_running(lanes)
        share = used_slot_seconds(lanes, begin, end) / (slots * (end - begin)) if slots else 0.0
        return SlotUse(share=min(share, 1.0), slots=slots, is_learned=bool(steps))


def model_name(arn: str) -> str:
    """The last part of a trained model's ARN, by which people know it."""
    return arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long the jobs of one model ran: least, quartiles, most, and the 95th of a hundred."""

    model: str
    jobs: int
    least: float
    quarter: float
    median: float
    three_quarters: float
    most: float
    slow: float


def spreads(durations: dict[str, "array[float]"]) -> list[Spread]:
    """The models with the most jobs first."""
    return [
        _spread(model, sorted(seconds)) for model, seconds in sorted(durations.items(), key=lambda item: -len(item[1]))
    ]


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _spread(model: str, ordered: Sequence[float]) -> Spread:
    return Spread(
        model=model,
        jobs=len(ordered),
        least=ordered[0],
        quarter=_quantile(ordered, 0.25),
        median=_quantile(ordered, 0.5),
        three_quarters=_quantile(ordered, 0.75),
        most=ordered[-1],
        slow=_quantile(ordered, SLOW),
    )
