"""When a batch will be done: the one estimate that plan, prompt, displays, report and notice show.

Run times come from ledgers (`RunHistory`, a fold of their events) or from the user. Some futures are drawn: each draws
its own run times from those that were seen, and lays the waiting jobs on the slots after the running ones. The interval
does not cover what no ledger can show: that tonight's data is larger, or that others take slots.

Pure; the random numbers are seeded, so the same knowledge of the same moment gives the same estimate.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from random import Random
from statistics import NormalDist, fmean

from batchsubmit.core.job_durations import ALL, RunTimes
from batchsubmit.core.job_states import BURST, DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP
from batchsubmit.core.jobs import Event, Intent, JobClass, JobFinished, JobRejected, JobSubmitted, RunEnded, RunStarted
from batchsubmit.core.ledger_state import ACCOUNT
from batchsubmit.text import duration

_FUTURES = 200
_COVERAGE = (0.1, 0.5, 0.9)
_LEAST_LAID, _ROUNDS_LAID = 300, 10
"""Of a large batch so many jobs, or so many a slot, are laid one by one; the time before them is work by slots."""
_MANY = 20
"""From so many on the times are drawn from as they are; fewer have not shown yet how long a long job takes."""
_MOST_RUNNING = 2_000
"""Jobs followed at once; of a run that never sees ends, the oldest have ended long ago."""
_PRIOR_SIGMA, _PRIOR_WEIGHT = 0.5, 2.0
"""A few equal times do not prove that all are equal."""
_DRIFT_SIGMA = 0.06
"""No two batches are quite the same, however many jobs were seen."""
_TURNOVER, _TURNOVER_SECONDS = 0.03, 0.1
"""Until a freed slot is seen and filled: a part of a job's time, since polls are paced by it, and a call."""
_TAIL_SHARE = 0.1
"""A job older than any that was seen is expected to need a tenth of its age more."""
_STALE = 1.5
"""A job older than so many times the longest that was seen has ended, only nobody looked."""
_REFRESH = timedelta(seconds=10)
_RATE_WINDOW, _LEAST_WINDOW = timedelta(minutes=10), timedelta(seconds=10)
_GRID = [NormalDist().inv_cdf((place + 0.5) / 100) for place in range(100)]

NOTHING_KNOWN = "no job of the ledgers has ended yet; give --job-minutes, or --history with an earlier ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCounts:
    """Slots of each membership and, around those, of each account: AWS's defaults."""

    per_membership: int = DEFAULT_PER_MEMBERSHIP
    per_account: int = DEFAULT_PER_ACCOUNT

    @property
    def usable(self) -> int:
        """What one membership can use at most."""
        return min(self.per_membership, self.per_account)


@dataclass(slots=True, kw_only=True)
class LaneWork:
    """A membership's jobs: those that wait, by class, and those that run, each with its age in seconds."""

    waiting: Counter[JobClass] = field(default_factory=Counter)
    running: list[tuple[JobClass, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Seconds until the last job has ended: the median, and four times in five; and until the last one has begun."""

    low_seconds: float
    seconds: float
    high_seconds: float
    sent_seconds: float

    def words(self, now: datetime) -> str:
        """Say it in one sentence."""
        low, high = duration(self.low_seconds), duration(self.high_seconds)
        moment = now.astimezone() + timedelta(seconds=self.seconds)
        at = f"{moment:%a %d %b %H:%M}" if self.seconds >= 60 else f"{moment:%H:%M:%S}"
        return f"{at}, in {duration(self.seconds)} (four times in five {low} to {high})"

    def as_dict(self, now: datetime) -> dict[str, float | str]:
        """As JSON has it: seconds from now, and moments."""
        numbers = {"low_": self.low_seconds, "": self.seconds, "high_": self.high_seconds, "sent_": self.sent_seconds}
        found: dict[str, float | str] = {}
        for prefix, seconds in numbers.items():
            found[f"{prefix}seconds"] = round(seconds, 3)
            found[f"{prefix}at"] = (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
        return found


def assumed_times(mean_seconds: float, *, doubt: float = 0.15, spread: float = 0.3) -> RunTimes:
    """Take someone's word for a run time: the mean, how doubtful it is, and how much jobs differ (as sigmas)."""
    times, parts = RunTimes(doubt=doubt), [math.exp(spread * each) for each in _GRID]
    for part in parts:
        times.add(ALL, mean_seconds * part / fmean(parts))
    return times


def draw(times: RunTimes, kind: JobClass, random: Random) -> list[float]:
    """Draw what the times of a known class may really be: times in order, each as likely as the others."""
    seen: list[float] = []
    for seconds, has_ended in sorted(times.seen(kind), reverse=True):
        # Kaplan and Meier: a job cut short is taken to be one of those that ran longer.
        seen.append(seconds if has_ended or not seen else random.choice(seen))
    if len(seen) >= _MANY:
        doubt = random.lognormvariate(0.0, times.doubt) if times.doubt else 1.0
        return sorted(doubt * each for each in random.choices(seen, k=len(seen)))
    logs = [math.log(each) for each in seen]
    mean, freedom = fmean(logs), len(logs) - 1 + _PRIOR_WEIGHT
    squares = sum((each - mean) ** 2 for each in logs) + _PRIOR_WEIGHT * _PRIOR_SIGMA**2
    sigma = math.sqrt(squares / random.gammavariate(freedom / 2, 2.0))
    mean = random.gauss(mean, sigma / math.sqrt(len(logs)))
    return [math.exp(mean + sigma * each) for each in _GRID]


@dataclass(slots=True)
class _Sent:
    """A job that a ledger has an intent of and no end."""

    membership: str
    kind: JobClass
    intended_at: datetime
    submitted_at: datetime | None = None


class RunHistory:
    """What a ledger's events show of run times and quotas, and which jobs wait and run: a fold."""

    def __init__(self) -> None:
        self.run: RunStarted | None = None
        self.learned: dict[str, int] = {}
        self._times = RunTimes()
        self._waiting: Counter[tuple[str, JobClass]] = Counter()
        self._sent: dict[str, _Sent] = {}
        self._polled_at: datetime | None = None
        self._decided_at: deque[datetime] = deque()
        self._last_words: tuple[datetime, str] | None = None

    def apply(self, event: Event) -> None:
        """Apply one event."""
        if isinstance(event, JobSubmitted | JobRejected):
            self._decide(datetime.fromisoformat(event.at))
        match event:
            case RunStarted():
                self.run = event
                self._decided_at.clear()
                self._waiting = Counter()
                for share in event.work:
                    self._waiting[share.membership, JobClass(share.trained_model, share.instance_type)] += share.jobs
            case RunEnded():
                self.learned.update(event.quotas)
            case Intent():
                kind = JobClass(event.trained_model, event.instance_type)
                self._sent[event.job] = _Sent(event.membership, kind, datetime.fromisoformat(event.at))
                if len(self._sent) > _MOST_RUNNING:
                    del self._sent[next(iter(self._sent))]
            case JobSubmitted() if sent := self._sent.get(event.job):
                is_found = event.via == "lookup"
                sent.submitted_at = sent.intended_at if is_found else datetime.fromisoformat(event.at)
                self._count_down(sent.membership, sent.kind)
            case JobRejected() if sent := self._sent.pop(event.job, None):
                self._count_down(sent.membership, sent.kind)
            case JobFinished():
                self._finish(event)

    def _decide(self, at: datetime) -> None:
        self._decided_at.append(at)
        while at - self._decided_at[0] > _RATE_WINDOW:
            self._decided_at.popleft()

    def _count_down(self, membership: str, kind: JobClass) -> None:
        """Count down what waits; of classes that a sample of the rows did not show, another one of the membership."""
        key = (membership, kind)
        if not self._waiting[key]:
            others = (each for each, count in self._waiting.items() if count and each[0] == membership)
            key = next(others, key)
        self._waiting[key] = max(self._waiting[key] - 1, 0)

    def _finish(self, event: JobFinished) -> None:
        seen_at = datetime.fromisoformat(event.at)
        self._polled_at = max(self._polled_at or seen_at, seen_at)
        sent = self._sent.pop(event.job, None)
        if sent is None or sent.submitted_at is None:
            return
        seconds = (datetime.fromisoformat(event.ended or event.at) - sent.submitted_at).total_seconds()
        if seconds <= 0:  # the service's clock is behind ours
            seconds = (seen_at - sent.submitted_at).total_seconds()
        self._times.add(sent.kind, seconds)

    def times(self) -> RunTimes:
        """Run times, with the lower bounds of jobs that ran at the last poll."""
        times = RunTimes()
        times.update(self._times)
        for sent in self._sent.values():
            if sent.submitted_at and self._polled_at and self._polled_at > sent.submitted_at:
                times.add(sent.kind, (self._polled_at - sent.submitted_at).total_seconds(), ended=False)
        return times

    def running(self, now: datetime, times: RunTimes) -> dict[str, list[tuple[JobClass, float]]]:
        """By membership the jobs that run, as far as is known, and their ages."""
        found: dict[str, list[tuple[JobClass, float]]] = {}
        oldest = _STALE * max(times.ended(), default=math.inf)
        for sent in self._sent.values():
            age = max((now - sent.submitted_at).total_seconds(), 0.0) if sent.submitted_at else math.inf
            if age < oldest:
                found.setdefault(sent.membership, []).append((sent.kind, age))
        return found

    def finish(self, now: datetime) -> Finish | None:
        """Estimate when all that waits and runs will have ended; None where no job's time is known, or not the work."""
        run, times = self.run, self.times()
        if run is None or not run.manifest_sha256 or (run.to_do and not run.work):
            return None
        lanes = lanes_of(+self._waiting, self.running(now, times))
        slots, _ = self.slots(lanes, per_membership=run.per_membership, per_account=run.per_account)
        return forecast(lanes.values(), slots, times, per_second=run.per_second)

    def words(self, now: datetime) -> str:
        """Say when all will be done, for a display: estimated again every few seconds only; empty where unknown."""
        if self._last_words is None or now - self._last_words[0] >= _REFRESH:
            finish = self.finish(now)
            self._last_words = now, f"ETA {finish.words(now)}" if finish and finish.seconds else ""
        return self._last_words[1]

    def per_second(self, now: datetime) -> float:
        """Jobs decided a second in the last ten minutes, or since the run began; a worker's since its first one."""
        since = now - _RATE_WINDOW
        decided = [at for at in self._decided_at if at >= since]
        began = max(datetime.fromisoformat(self.run.at), since) if self.run else min(decided, default=since)
        return len(decided) / max(now - began, _LEAST_WINDOW).total_seconds()

    def slots(self, lanes: Mapping[str, LaneWork], *, per_membership: int, per_account: int) -> tuple[SlotCounts, bool]:
        """The quotas that were set, else learned, else AWS's but at least what runs; and whether any is assumed."""
        lane = max((self.learned.get(each, 0) for each in lanes), default=0)
        account = self.learned.get(ACCOUNT, 0)
        running = [len(each.running) for each in lanes.values()]
        slots = SlotCounts(
            per_membership=per_membership or max(lane or DEFAULT_PER_MEMBERSHIP, *running, 0),
            per_account=per_account or max(account or DEFAULT_PER_ACCOUNT, sum(running)),
        )
        return slots, not ((per_membership or lane) and (per_account or account))


def lanes_of(
    waiting: Mapping[tuple[str, JobClass], int], running: Mapping[str, list[tuple[JobClass, float]]]
) -> dict[str, LaneWork]:
    """Put what waits and what runs together by membership."""
    lanes: dict[str, LaneWork] = {}
    for (membership, kind), count in waiting.items():
        lanes.setdefault(membership, LaneWork()).waiting[kind] += count
    for membership, jobs in running.items():
        lanes.setdefault(membership, LaneWork()).running = jobs
    return lanes


def forecast(
    lanes: Iterable[LaneWork], slots: SlotCounts, times: RunTimes, *, per_second: float = 0.0, seed: int = 0
) -> Finish | None:
    """Estimate when all jobs of these lanes will have ended; `per_second` bounds the calls, 0 for no bound.

    None where no time of any job is known.
    """
    busy = [lane for lane in lanes if lane.waiting.total() or lane.running]
    if not busy:
        return Finish(low_seconds=0.0, seconds=0.0, high_seconds=0.0, sent_seconds=0.0)
    if not times.ended():
        return None
    random = Random(seed)  # noqa: S311 (futures, not secrets)
    batch = _Batch(busy, slots, per_second or math.inf, times, random)
    sent, done = [], []
    for _ in range(_FUTURES):
        drawn = {kind: draw(times, kind, random) for kind in batch.classes}
        begun, ended = batch.lay(drawn, random)
        drift = random.lognormvariate(0.0, _DRIFT_SIGMA)
        sent.append(drift * begun)
        done.append(drift * ended)
    low, median, high = (sorted(done)[round(share * (_FUTURES - 1))] for share in _COVERAGE)
    return Finish(low_seconds=low, seconds=median, high_seconds=high, sent_seconds=sorted(sent)[_FUTURES // 2])


class _Batch:
    """All lanes. Of a large batch a sample, in proportion, is laid on the slots one by one."""

    def __init__(
        self, lanes: Sequence[LaneWork], slots: SlotCounts, rate: float, times: RunTimes, random: Random
    ) -> None:
        self._slots, self._rate = slots, rate
        total = sum(lane.waiting.total() for lane in lanes)
        most = max(_LEAST_LAID, _ROUNDS_LAID * min(slots.per_account, slots.usable * len(lanes)))
        share = min(1.0, most / total) if total else 0.0
        self._laid: list[list[JobClass]] = []
        self._before: list[Counter[JobClass]] = []
        for lane in lanes:
            counts = Counter[JobClass]()
            for kind, count in lane.waiting.items():
                counts[times.known_class(kind)] += count
            sample = Counter({kind: math.ceil(count * share) for kind, count in counts.items()})
            laid = list(sample.elements())
            random.shuffle(laid)
            self._laid.append(laid)
            self._before.append(counts - sample)
        self._running = [[(times.known_class(kind), age) for kind, age in lane.running] for lane in lanes]
        self.classes = sorted({kind for lane in self._running for kind, _ in lane}.union(*self._laid))

    def lay(self, drawn: Mapping[JobClass, Sequence[float]], random: Random) -> tuple[float, float]:
        """Draw one future: when its last job begins, and when its last job has ended."""
        before = self._seconds_before(drawn)
        left = [[random.choice(drawn[kind]) for kind in jobs] for jobs in self._laid]
        held = [len(jobs) for jobs in self._running]
        ends = [(_rest(drawn[kind], age, random), n) for n, jobs in enumerate(self._running) for kind, age in jobs]
        heapify(ends)
        latest = max((end for end, _ in ends), default=0.0)
        ready = deque(n for n, jobs in enumerate(left) if jobs and held[n] < self._slots.usable)
        waiting = sum(map(len, left))
        now = begun = due = 0.0
        while waiting:
            while ready and len(ends) < self._slots.per_account:
                lane = ready.popleft()
                begun = max(now, due - (BURST - 1) / self._rate)
                due = max(due, begun) + 1 / self._rate
                end = begun + left[lane].pop() * (1 + _TURNOVER) + _TURNOVER_SECONDS
                latest = max(latest, end)
                heappush(ends, (end, lane))
                held[lane] += 1
                waiting -= 1
                if left[lane] and held[lane] < self._slots.usable:
                    ready.append(lane)
            now, lane = heappop(ends)
            held[lane] -= 1
            if left[lane] and held[lane] == self._slots.usable - 1:
                ready.append(lane)
        return before + begun, before + latest

    def _seconds_before(self, drawn: Mapping[JobClass, Sequence[float]]) -> float:
        """How long the jobs that are not laid one by one take: by the fullest lane, the account, or the rate."""
        means = {kind: fmean(drawn[kind]) * (1 + _TURNOVER) + _TURNOVER_SECONDS for kind in self.classes}
        work = [sum(count * means[kind] for kind, count in counts.items()) for counts in self._before]
        calls = sum(counts.total() for counts in self._before)
        return max(max(work) / self._slots.usable, sum(work) / self._slots.per_account, calls / self._rate)


def _rest(times: Sequence[float], age: float, random: Random) -> float:
    """Draw what a job that has run for so long still needs."""
    if times[0] == times[-1]:
        return max(times[0] - age, 0.0)
    longer = [each for each in times if each > age]
    return random.choice(longer) - age if longer else random.expovariate(1 / max(age * _TAIL_SHARE, 1e-3))
