"""All figures of a report, gathered in one pass over the jobs. Pure: what they look like is the page's business."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from glob import escape

from batchsubmit.core.jobs import INVALID_ROW
from batchsubmit.core.ledger_state import Counts
from batchsubmit.core.states import CANCELLED_STATUS, LOG_GROUP, Phase, State
from batchsubmit.forecast import Finish
from batchsubmit.report.timeline import History, SlotTimes, Timeline, peak_running, quota_steps, used_slot_seconds
from batchsubmit.report.waits import Cause

_RECENT_SHARE = 1 / 3
_LEAST_ACCEPTED = 10
_SILENT_SECONDS = 900.0
_MOST_UNKNOWN = 500
_PARTS = {"shortest": 0.0, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "p95": 0.95, "longest": 1.0}
_MOST_EXAMPLES = 5
_MOST_SLOWEST = 10
_VARYING = re.compile(
    r"arn:[^\s,;)'\"]+"  # ARNs
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # UUIDs
    r"|'[^']*'|\"[^\"]*\"|\b(?=\w*\d)[\w.:/-]+"  # quoted names, and words with a digit in them
)
_ADVICE = {
    INVALID_ROW: "Fix the rows: batchsubmit export LEDGER --failed-manifest MANIFEST writes them as a manifest.",
    "ValidationException": "The request is wrong: fix its row and submit it again, which makes it a new job.",
    "ResourceNotFoundException": "Something that the row names does not exist, in this region and account at least.",
    "AccessDeniedException": "The role may not use what the row names: allow it, then submit with --retry-failed.",
    "ConflictException": "The service was busy with something of the same name: submit again with --retry-failed.",
    "InputUnusable": "The trained model or the channel can not be used: make another and name it in the rows.",
    "NoAnswer": "None of the calls was accepted, as lookups proved: submit again with --retry-failed.",
    "CREATE_FAILED": "The job was accepted and failed while it ran: fix its row, or give it another --batch-id. "
    f"Its container's logs are in the CloudWatch log group {LOG_GROUP}.",
    "CANCEL_FAILED": "Someone cancelled the job, and cancelling failed: look at it in the console.",
    CANCELLED_STATUS: "Someone cancelled the job; another --batch-id submits it again.",
}
_CODE_COUNTS = frozenset({Phase.REJECTED, Phase.REFUSED, Phase.FINISHED})
_MESSAGE_COUNTS = frozenset({Phase.REJECTED, Phase.FINISHED, Phase.UNKNOWN})


def reason_of(history: History) -> tuple[str, str]:
    """The code and message that still count: those of a refusal are over once the job is accepted."""
    state = history.state
    code = state.code if state.phase in _CODE_COUNTS else ""
    return code, state.message if state.phase in _MESSAGE_COUNTS else ""


@dataclass(slots=True)
class Reason:
    """One reason, and how many jobs failed for it. `number` is its place in order of appearance.

    `status` is that of jobs that ran; `logs` says which of their logs did not reach CloudWatch, where AWS says so. `at`
    is when the jobs failed.
    """

    number: int
    code: str
    message: str
    status: str
    logs: str = ""
    count: int = 0
    at: list[float] = field(default_factory=list)
    memberships: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    @property
    def has_run(self) -> bool:
        """Whether the jobs were accepted, and failed while they ran."""
        return bool(self.status)

    @property
    def state(self) -> State:
        """Where its jobs stand."""
        return State.of_end(self.status) if self.status else State.REJECTED

    @property
    def words(self) -> str:
        """Status, code and message, and what keeps the logs from being read."""
        words = ": ".join(filter(None, (self.status, self.code, self.message)))
        return f"{words} ({self.logs})" if self.logs else words

    @property
    def kind(self) -> str:
        """The same without names, numbers and identifiers of jobs."""
        return ": ".join(filter(None, (self.status, self.code, _VARYING.sub("…", self.message))))

    @property
    def glob(self) -> str:
        """A pattern that its messages fit."""
        return "*".join(map(escape, _VARYING.split(self.message)))

    @property
    def advice(self) -> str:
        """What to do about it, where that is known."""
        return _ADVICE.get(self.status or self.code, "")


class Reasons:
    """Groups failed jobs by reason as they come.

    Jobs that finished badly go by the code that AWS gave: it documents that the code is stable and the message is not.
    Of those that were not accepted, messages that differ only in names, numbers and identifiers are one reason. The
    first message of each is shown as it was received.
    """

    def __init__(self) -> None:
        self._by_words: dict[tuple[str, str], Reason] = {}

    def __len__(self) -> int:
        return len(self._by_words)

    def add(self, history: History) -> int:
        """Take in a failed job; give the number of its reason."""
        state = history.state
        code, message = reason_of(history)
        status = state.status if state.bad_end else ""
        words = (status, state.bad_end) if status else (code, _VARYING.sub("…", message))
        reason = self._by_words.get(words)
        if reason is None:
            reason = self._by_words[words] = Reason(len(self._by_words), state.bad_end or code, message, status)
        reason.logs = reason.logs or state.logs
        reason.count += 1
        failed_at = history.finished_at if status else history.rejected_at
        reason.at.extend([] if failed_at is None else [failed_at])
        reason.memberships.add(state.membership)
        if len(reason.examples) < _MOST_EXAMPLES:
            reason.examples.append(state.name)
        return reason.number

    def retry_options(self, reason: Reason) -> list[str]:
        """The options of `retry` that choose exactly these jobs; empty where it takes none of them."""
        if reason.state is State.CANCELLED or not reason.code:
            return []
        alike = [each for each in self._by_words.values() if (each.state, each.code) == (reason.state, reason.code)]
        options = ["--status", str(reason.state), "--code", reason.code]
        return [*options, "--message", reason.glob] if len(alike) > 1 else options

    def most_frequent_first(self) -> list[Reason]:
        """All reasons."""
        return sorted(self._by_words.values(), key=lambda reason: (-reason.count, reason.number))


@dataclass(frozen=True, slots=True)
class JobTime:
    """How long one job ran."""

    seconds: float
    key: str
    name: str


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

    `is_learned` is False where no quota is in the ledger; then the most jobs that ever ran at once count as the slots.
    """

    share: float
    slots: int
    is_learned: bool


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
    finish: Finish | None
    now: float


@dataclass(slots=True)
class Figures:
    """Gathers job by job with `add`; then everything may be read, `outlook` and `slot_use` too.

    `lanes` is by membership, in the order of their first acceptance; `times` by trained model and instance type.
    """

    timeline: Timeline
    fates: Counter[State] = field(default_factory=Counter)
    by_membership: dict[str, Counter[State]] = field(default_factory=dict)
    lanes: dict[str, SlotTimes] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=Reasons)
    unknown: list[History] = field(default_factory=list)
    waited: dict[Cause, Waited] = field(default_factory=lambda: {cause: Waited() for cause in Cause})
    times: dict[tuple[str, str], list[JobTime]] = field(default_factory=dict)
    ended: dict[State, list[float]] = field(default_factory=lambda: {fate: [] for fate in State})
    calling: int = 0
    attempts: int = 0
    duplicates: int = 0

    def add(self, history: History) -> tuple[State, int | None]:
        """Take in one job; give where it stands, and the number of its reason where it failed."""
        state, fate = history.state, State.of(history.state)
        self.fates[fate] += 1
        self.by_membership.setdefault(state.membership, Counter())[fate] += 1
        self._add_times(history, fate)
        self.calling += state.phase is Phase.INTENT
        self.attempts += state.attempt
        self.duplicates += len(state.duplicates)
        for cause, seconds in history.waited.items():
            self.waited[cause].add(seconds)
        if fate is State.UNKNOWN and len(self.unknown) < _MOST_UNKNOWN:
            self.unknown.append(history)
        return fate, self.reasons.add(history) if history.has_failed else None

    def _add_times(self, history: History, fate: State) -> None:
        end = history.rejected_at if fate is State.REJECTED else history.finished_at
        if end is not None:
            self.ended[fate].append(end)
        if history.accepted_at is None:
            return
        lane = self.lanes.setdefault(history.state.membership, SlotTimes())
        lane.accepted.append(history.accepted_at)
        if history.finished_at is not None:
            lane.finished.append(max(history.finished_at, history.accepted_at))
            lane.ended.append(history.accepted_at)
        if history.seconds is not None:
            kind = (model_name(history.state.trained_model), history.instance_type)
            self.times.setdefault(kind, []).append(JobTime(history.seconds, history.state.job, history.state.name))

    @property
    def counts(self) -> Counts:
        """The nine numbers of every surface."""
        return self.timeline.work.counts(self.by_membership)

    @property
    def accepted(self) -> int:
        """Jobs that the service has or had."""
        return self.counts.submitted

    @property
    def has_ends(self) -> bool:
        """Whether any job was seen to end; without --wait none is."""
        return any(lane.finished for lane in self.lanes.values())

    def acceptances(self) -> list[float]:
        """All times of acceptance, sorted."""
        return sorted(at for lane in self.lanes.values() for at in lane.accepted)

    def spreads(self) -> list["Spread"]:
        """How long jobs ran, the kinds with the most jobs first."""
        kinds = sorted(self.times.items(), key=lambda item: -len(item[1]))
        return [Spread.of(model, instance_type, times) for (model, instance_type), times in kinds]

    def outlook(self, now: float) -> Outlook:
        """Look ahead."""
        timeline = self.timeline
        left = self.counts.pending
        last = timeline.runs[-1] if timeline.runs else None
        finish = timeline.progress.finish(datetime.fromtimestamp(now, UTC))
        return Outlook(
            left=left,
            is_left_known=bool(last and (last.ended or last.started.rows)),
            is_under_way=last is not None and last.ended is None and now - last.last_at < _SILENT_SECONDS,
            per_hour=_pace(self.acceptances(), last.began_at, last.last_at) if last else None,
            seconds_to_submit=finish.sent_seconds if finish and left else None,
            seconds_to_finish=finish.seconds if finish and finish.seconds else None,
            finish=finish,
            now=now,
        )

    def slot_use(self) -> SlotUse | None:
        """Judge from the first acceptance to the last: after that there was nothing left to fill slots with."""
        acceptances = self.acceptances()
        if not self.has_ends or acceptances[-1] <= acceptances[0]:
            return None
        begin, end = acceptances[0], acceptances[-1]
        steps = quota_steps(self.timeline.quotas, list(self.lanes))
        slots = steps[-1][1] if steps else peak_running(self.lanes)
        share = used_slot_seconds(self.lanes, begin, end) / (slots * (end - begin)) if slots else 0.0
        return SlotUse(share=min(share, 1.0), slots=slots, is_learned=bool(steps))


def _pace(acceptances: Sequence[float], begin: float, end: float) -> float | None:
    """Acceptances an hour in the last third of a run; in all of it where those are too few to judge by."""
    recent = end - (end - begin) * _RECENT_SHARE
    since = recent if len(acceptances) - bisect_left(acceptances, recent) >= _LEAST_ACCEPTED else begin
    count = len(acceptances) - bisect_left(acceptances, since)
    return count / (end - since) * 3600 if count and end > since else None


def model_name(arn: str) -> str:
    """The last part of a trained model's ARN, by which people know it."""
    return arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long the jobs of one trained model and instance type ran: shortest, quartiles, 95th of a hundred, longest."""

    model: str
    instance_type: str
    jobs: int
    shortest: float
    quarter: float
    median: float
    three_quarters: float
    p95: float
    longest: float
    slowest: tuple[JobTime, ...]

    @classmethod
    def of(cls, model: str, instance_type: str, times: Sequence[JobTime]) -> "Spread":
        """Sum up the run times of jobs of one kind."""
        ordered = sorted(times, key=lambda job: job.seconds)
        seconds = [job.seconds for job in ordered]
        parts = (_quantile(seconds, part) for part in _PARTS.values())
        slowest = tuple(ordered[: -_MOST_SLOWEST - 1 : -1])
        return cls(
            model=model,
            instance_type=instance_type,
            jobs=len(ordered),
            slowest=slowest,
            **dict(zip(_PARTS, parts, strict=True)),
        )

    @property
    def name(self) -> str:
        """Model and instance type, as people write them."""
        return " · ".join(filter(None, (self.model, self.instance_type)))

    def parts(self) -> dict[str, float]:
        """The quantiles by name, in order."""
        return {part: getattr(self, part) for part in _PARTS}


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
