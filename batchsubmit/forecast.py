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

from batchsubmit.core.jobs import Entry, Intent, JobClass, JobFinished, JobRejected, JobSubmitted, RunEnded, RunStarted
from batchsubmit.core.states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP
from batchsubmit.text import duration

_FUTURES = 200
_COVERAGE = (0.1, 0.5, 0.9)
_LEAST_LAID, _ROUNDS_LAID = 300, 10
"""Of a large batch so many jobs, or so many a slot, are laid one by one; the time before them is work by slots."""
_ENOUGH = 3
"""Jobs that must have ended before a class of jobs is judged by its own times."""
_MANY = 20
"""From so many on the times are drawn from as they are; fewer have not shown yet how long a long job takes."""
_KEPT = 300
_MOST_RUNNING = 2_000
"""Jobs followed at once; of a run that never sees ends, the oldest have ended long ago."""
_PRIOR_SIGMA, _PRIOR_WEIGHT = 0.5, 2.0
"""A few equal times do not prove that all are equal."""
_DRIFT_SIGMA = 0.06
"""No two batches are quite the same, however many jobs were seen."""
_TURNOVER, _TURNOVER_SECONDS = 0.03, 0.1
"""Until a freed slot is seen and filled: a part of a job's time, since polls are paced by it, and a call."""
_BURST = 3
"""AWS's page "Quotas for Clean Rooms ML" gives Start 1 call a second and, as we read it, a burst of 3."""
_TAIL_SHARE = 0.1
"""A job older than any that was seen is expected to need a tenth of its age more."""
_STALE = 1.5
"""A job older than so many times the longest that was seen has ended, only nobody looked."""
_REFRESH = timedelta(seconds=10)
_RATE_WINDOW, _LEAST_WINDOW = timedelta(minutes=10), timedelta(seconds=10)
_GRID = [NormalDist().inv_cdf((place + 0.5) / 100) for place in range(100)]

NOTHING_KNOWN = "no job of the ledgers has ended yet; give --job-minutes, or --history with an earlier ledger"
_ALL = JobClass()


@dataclass(frozen=True, slots=True)
class AssumedTime:
    """A run time that someone gives: the mean, how doubtful it is, and how much jobs differ (as sigmas)."""

    mean_seconds: float
    doubt: float = 0.15
    spread: float = 0.3


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

    account: str = ""
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


class RunTimes:
    """Run times that were seen, by class; those of jobs that have not ended are lower bounds."""

    def __init__(self, assumed: AssumedTime | None = None) -> None:
        self.assumed = assumed
        self._seen: dict[JobClass, deque[tuple[float, bool]]] = {}

    def add(self, kind: JobClass, seconds: float, *, ended: bool = True) -> None:
        """Add a job's run time, or how long it ran at least."""
        for wider in {kind, JobClass(kind.trained_model), _ALL}:
            self._seen.setdefault(wider, deque(maxlen=_KEPT)).append((max(seconds, 1e-3), ended))

    def update(self, other: "RunTimes") -> None:
        """Add what another ledger has, as the later times."""
        for kind, seen in other._seen.items():  # noqa: SLF001 (of our own kind)
            self._seen.setdefault(kind, deque(maxlen=_KEPT)).extend(seen)

    @property
    def ended(self) -> list[float]:
        """The times of jobs that have ended."""
        return self._ended(_ALL)

    @property
    def longest_seconds(self) -> float | None:
        """What the longest job takes, as far as is known."""
        return 2 * self.assumed.mean_seconds if self.assumed else max(self.ended, default=None)

    def mean_seconds(self, kind: JobClass) -> float | None:
        """How long a job of this class takes on average; None where no time is known."""
        if self.assumed is not None:
            return self.assumed.mean_seconds
        return fmean(ended) if (ended := self._ended(self.known_class(kind))) else None

    def _ended(self, kind: JobClass) -> list[float]:
        return [seconds for seconds, ended in self._seen.get(kind, ()) if ended]

    def known_class(self, kind: JobClass) -> JobClass:
        """The narrowest class around this one of which enough jobs have ended."""
        for each in (kind, JobClass(kind.trained_model)):
            if sum(ended for _, ended in self._seen.get(each, ())) >= _ENOUGH:
                return each
        return _ALL

    def draw(self, kind: JobClass, random: Random) -> list[float]:
        """Draw what the times of a known class may really be: times in order, each as likely as the others."""
        if self.assumed is not None:
            mu = math.log(self.assumed.mean_seconds) - self.assumed.spread**2 / 2
            return _log_normal(random.gauss(mu, self.assumed.doubt), self.assumed.spread)
        times: list[float] = []
        for seconds, ended in sorted(self._seen[kind], reverse=True):
            # Kaplan and Meier: a job cut short is taken to be one of those that ran longer.
            times.append(seconds if ended or not times else random.choice(times))
        if len(times) >= _MANY:
            return sorted(random.choices(times, k=len(times)))
        logs = [math.log(each) for each in times]
        mean, freedom = fmean(logs), len(logs) - 1 + _PRIOR_WEIGHT
        squares = sum((each - mean) ** 2 for each in logs) + _PRIOR_WEIGHT * _PRIOR_SIGMA**2
        sigma = math.sqrt(squares / random.gammavariate(freedom / 2, 2.0))
        return _log_normal(random.gauss(mean, sigma / math.sqrt(len(logs))), sigma)


def _log_normal(mu: float, sigma: float) -> list[float]:
    return [math.exp(mu + sigma * each) for each in _GRID]


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
        self._accepted: Counter[tuple[str, JobClass]] = Counter()
        self._sent: dict[str, _Sent] = {}
        self._polled_at: datetime | None = None
        self._decided_at: deque[datetime] = deque()
        self._last_words: tuple[datetime, str] | None = None

    def apply(self, event: Entry) -> None:
        """Apply one event."""
        if isinstance(event, JobSubmitted | JobRejected):
            self._count_decided(datetime.fromisoformat(event.at))
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
                self._accepted[sent.membership, sent.kind] += 1
                self._count_down(sent.membership, sent.kind)
            case JobRejected() if sent := self._sent.pop(event.job, None):
                self._count_down(sent.membership, sent.kind)
            case JobFinished():
                self._finish(event)

    def _count_decided(self, at: datetime) -> None:
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

    def times(self, assumed: AssumedTime | None = None) -> RunTimes:
        """Run times, with the lower bounds of jobs that ran at the last poll."""
        times = RunTimes(assumed)
        times.update(self._times)
        for sent in self._sent.values():
            if sent.submitted_at and self._polled_at and self._polled_at > sent.submitted_at:
                times.add(sent.kind, (self._polled_at - sent.submitted_at).total_seconds(), ended=False)
        return times

    def running(self, now: datetime, longest_seconds: float | None) -> dict[str, list[tuple[JobClass, float]]]:
        """By membership the jobs that run, as far as is known, and their ages."""
        found: dict[str, list[tuple[JobClass, float]]] = {}
        for sent in self._sent.values():
            age = max((now - sent.submitted_at).total_seconds(), 0.0) if sent.submitted_at else math.inf
            if age < (longest_seconds or math.inf) * _STALE:
                found.setdefault(sent.membership, []).append((sent.kind, age))
        return found

    def finish(self, now: datetime, *, left: int = 0) -> Finish | None:
        """Estimate when all will have ended that waits and runs; None where too little is known, or for a worker.

        A run of an earlier version does not say what is to do: its `left` jobs are taken to be like those before.
        """
        run, times = self.run, self.times()
        waiting = +self._waiting
        if run is not None and left and not run.work:
            waiting = Counter({key: -(-left * n // self._accepted.total()) for key, n in self._accepted.items()})
        if run is None or not run.manifest_sha256 or (left and not waiting):
            return None
        lanes = lanes_of(waiting, self.running(now, times.longest_seconds))
        slots, _ = self.slots(lanes, per_membership=run.per_membership, per_account=run.per_account)
        return forecast(lanes.values(), slots, times, per_second=run.per_second)

    def words(self, now: datetime, *, left: int = 0) -> str:
        """Say when all will be done, for a display: estimated again every few seconds only; empty where unknown."""
        if self._last_words is None or now - self._last_words[0] >= _REFRESH:
            finish = self.finish(now, left=left)
            self._last_words = now, f"ETA {finish.words(now)}" if finish and finish.seconds else ""
        return self._last_words[1]

    def per_second(self, now: datetime) -> float:
        """Jobs decided a second in the last ten minutes, or since the run began."""
        since = now - _RATE_WINDOW
        while self._decided_at and self._decided_at[0] < since:
            self._decided_at.popleft()
        if not self._decided_at:
            return 0.0
        since = max(datetime.fromisoformat(self.run.at) if self.run else self._decided_at[0], since)
        return len(self._decided_at) / max(now - since, _LEAST_WINDOW).total_seconds()

    def slots(self, lanes: Mapping[str, LaneWork], *, per_membership: int, per_account: int) -> tuple[SlotCounts, bool]:
        """The quotas that were set, else those that runs learned, else AWS's defaults, and whether any is assumed.

        What is seen to run must be allowed.
        """
        lane = max((self.learned.get(each, 0) for each in lanes), default=0)
        account = max((value for name, value in self.learned.items() if name.split()[0] == "account"), default=0)
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
    for lane in lanes.values():
        models = (kind.trained_model.split(":") for kind in (*lane.waiting, *(kind for kind, _ in lane.running)))
        lane.account = next((parts[4] for parts in models if len(parts) > 4), "")
    return lanes


def forecast(
    lanes: Iterable[LaneWork], slots: SlotCounts, times: RunTimes, *, per_second: float = 0.0, seed: int = 0
) -> Finish | None:
    """Estimate when all jobs of these lanes will have ended; `per_second` bounds the calls, 0 for no bound.

    None where no time of any job is known.
    """
    by_account: dict[str, list[LaneWork]] = {}
    for lane in lanes:
        if lane.waiting.total() or lane.running:
            by_account.setdefault(lane.account, []).append(lane)
    if not by_account:
        return Finish(low_seconds=0.0, seconds=0.0, high_seconds=0.0, sent_seconds=0.0)
    if not (times.assumed or times.ended):
        return None
    random = Random(seed)  # noqa: S311 (futures, not secrets)
    rate = per_second / len(by_account) if per_second else math.inf
    accounts = [_Account(each, slots, rate, times, random) for each in by_account.values()]
    classes = sorted({kind for account in accounts for kind in account.classes})
    sent, done = [], []
    for _ in range(_FUTURES):
        drawn = {kind: times.draw(kind, random) for kind in classes}
        ends = [account.lay(drawn, random) for account in accounts]
        drift = random.lognormvariate(0.0, _DRIFT_SIGMA)
        sent.append(drift * max(begun for begun, _ in ends))
        done.append(drift * max(ended for _, ended in ends))
    low, median, high = (sorted(done)[round(share * (_FUTURES - 1))] for share in _COVERAGE)
    return Finish(low_seconds=low, seconds=median, high_seconds=high, sent_seconds=sorted(sent)[_FUTURES // 2])


class _Account:
    """The lanes of one account. Of a large batch a sample, in proportion, is laid on the slots one by one."""

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
        self.classes = {kind for lane in self._running for kind, _ in lane}.union(*self._laid)

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
                begun = max(now, due - (_BURST - 1) / self._rate)
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
