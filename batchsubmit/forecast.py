"""When a batch will be done: the one estimate that plan, prompt, displays, report and notice show.

Running times are those that ledgers tell (`Progress`, a fold of their events), or the user's word. Some futures are
drawn: each draws a belief about the times from those that were seen, and lays the waiting jobs on the slots after those
that run. What cannot be known is not in the interval: that tonight's data is larger, that others take slots.

Pure but for the dice, which are seeded: the same knowledge of the same moment gives the same estimate.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from random import Random
from statistics import NormalDist, fmean
from typing import NamedTuple

from batchsubmit.core.jobs import Entry, Finished, Intent, JobRejected, RunEnded, RunStarted, Submitted
from batchsubmit.core.states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP

_FUTURES = 200
_COVERAGE = (0.1, 0.5, 0.9)
_LEAST_LAID = 300
_ROUNDS_LAID = 10
"""Of a large batch so many jobs, or so many a slot, are laid one by one; the work before them is poured."""
_ENOUGH = 3
"""Jobs that must have ended before a kind of jobs is judged by its own times."""
_MANY = 20
"""From so many on they are drawn from as they are; fewer have not shown yet how long a long job takes."""
_KEPT = 300
_MOST_RUNNING = 2_000
"""Jobs followed at once; of a run that never sees ends, the oldest have ended long ago."""
_PRIOR_SIGMA, _PRIOR_WEIGHT = 0.5, 2.0
"""A few equal times do not prove that all are equal."""
_DRIFT_SIGMA = 0.05
"""No two batches are quite alike, however many jobs were seen."""
_TURNOVER, _TURNOVER_SECONDS = 0.03, 0.1
"""Until a freed slot is seen and filled: a part of a job's time, since polls are paced by it, and a call."""
_BURST = 3
"""AWS's page "Quotas for Clean Rooms ML" gives Start 1 call a second and, as we read it, a burst of 3."""
_TAIL_SHARE = 0.1
"""A job older than any that was seen is expected to need a tenth of its age more."""
_STALE = 1.5
"""A job older than so many times the longest that was seen has ended, only nobody looked."""
_AGAIN = timedelta(seconds=10)
_GRID = [NormalDist().inv_cdf((place + 0.5) / 100) for place in range(100)]

NOTHING_KNOWN = "no job of the ledgers has ended yet; give --job-minutes, or --history with an earlier ledger"


class Kind(NamedTuple):
    """Jobs that can be expected to take about as long as one another."""

    trained_model: str = ""
    instance_type: str = ""


_ALL = Kind()


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody says of the jobs' length: the mean, how doubtful it is, and how much jobs differ (as sigmas)."""

    mean_seconds: float
    doubt: float = 0.15
    spread: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Slots of each membership and, around those, of each account: AWS's defaults."""

    per_membership: int = DEFAULT_PER_MEMBERSHIP
    per_account: int = DEFAULT_PER_ACCOUNT

    @property
    def of_lane(self) -> int:
        """What a membership can use at most."""
        return min(self.per_membership, self.per_account)


@dataclass(slots=True, kw_only=True)
class Lane:
    """A membership's part: jobs that wait, by kind, and those that run, each with its age in seconds."""

    account: str = ""
    waiting: Counter[Kind] = field(default_factory=Counter)
    running: list[tuple[Kind, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Seconds until the last job has ended: the median, and four times in five; and until the last one has begun."""

    low_seconds: float
    seconds: float
    high_seconds: float
    sent_seconds: float

    def words(self, now: datetime) -> str:
        """Say it in one sentence."""
        low, high = lasting(self.low_seconds), lasting(self.high_seconds)
        moment = now.astimezone() + timedelta(seconds=self.seconds)
        at = f"{moment:%a %d %b %H:%M}" if self.seconds >= 60 else f"{moment:%H:%M:%S}"
        return f"in {lasting(self.seconds)}, {at}; four times in five between {low} and {high}"

    def as_dict(self, now: datetime) -> dict[str, float | str]:
        """As JSON has it: seconds from now, and moments."""
        numbers = {"low": self.low_seconds, "": self.seconds, "high": self.high_seconds, "sent": self.sent_seconds}
        found: dict[str, float | str] = {}
        for name, seconds in numbers.items():
            prefix = f"{name}_" if name else ""
            found[f"{prefix}seconds"] = round(seconds, 3)
            found[f"{prefix}at"] = (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
        return found


def lasting(seconds: float) -> str:
    """A time as people say it, to two or three figures."""
    for unit, length in (("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}s"
    return f"{seconds:.0f} seconds"


class Times:
    """Running times that were seen, by kind, with those of jobs that have not ended as lower bounds."""

    def __init__(self, word: Word | None = None) -> None:
        self.word = word
        self._seen: dict[Kind, deque[tuple[float, bool]]] = {}

    def add(self, kind: Kind, seconds: float, *, ended: bool = True) -> None:
        """Take in a job's time, or how long it ran at least."""
        for circle in {kind, Kind(kind.trained_model), _ALL}:
            self._seen.setdefault(circle, deque(maxlen=_KEPT)).append((max(seconds, 1e-3), ended))

    def update(self, other: "Times") -> None:
        """Take in what another ledger told, as the later news."""
        for circle, seen in other._seen.items():  # noqa: SLF001 (of our own kind)
            self._seen.setdefault(circle, deque(maxlen=_KEPT)).extend(seen)

    @property
    def ended(self) -> list[float]:
        """The times of jobs that have ended."""
        return [seconds for seconds, ended in self._seen.get(_ALL, ()) if ended]

    @property
    def longest_seconds(self) -> float | None:
        """What the longest job takes, as far as is known."""
        return 2 * self.word.mean_seconds if self.word else max(self.ended, default=None)

    def circle(self, kind: Kind) -> Kind:
        """The narrowest kind of jobs around one of which enough is known."""
        for circle in (kind, Kind(kind.trained_model)):
            if sum(ended for _, ended in self._seen.get(circle, ())) >= _ENOUGH:
                return circle
        return _ALL

    def seen(self, circle: Kind) -> list[tuple[float, bool]]:
        """What is known of a kind of jobs, the longest first, and whether they had ended."""
        return [] if self.word else sorted(self._seen[circle], reverse=True)

    def believed(self, seen: Sequence[tuple[float, bool]], dice: Random) -> list[float]:
        """Draw a belief from what was seen: times in order, each as likely as the others."""
        if self.word is not None:
            mu = math.log(self.word.mean_seconds) - self.word.spread**2 / 2
            return _log_normal(dice.gauss(mu, self.word.doubt), self.word.spread)
        times: list[float] = []
        for seconds, ended in seen:
            # Kaplan and Meier: a job cut short is taken to be one of those that ran longer.
            times.append(seconds if ended or not times else dice.choice(times))
        if len(times) >= _MANY:
            return sorted(dice.choices(times, k=len(times)))
        logs = [math.log(each) for each in times]
        mean, freedom = fmean(logs), len(logs) - 1 + _PRIOR_WEIGHT
        squares = sum((each - mean) ** 2 for each in logs) + _PRIOR_WEIGHT * _PRIOR_SIGMA**2
        sigma = math.sqrt(squares / dice.gammavariate(freedom / 2, 2.0))
        return _log_normal(dice.gauss(mean, sigma / math.sqrt(len(logs))), sigma)


def _log_normal(mu: float, sigma: float) -> list[float]:
    return [math.exp(mu + sigma * each) for each in _GRID]


@dataclass(slots=True)
class _Sent:
    """A job on its way through a ledger."""

    membership: str
    kind: Kind
    intended_at: datetime
    submitted_at: datetime | None = None


class Progress:
    """What a ledger's events tell of running times and quotas, and which jobs wait and run: a fold."""

    def __init__(self) -> None:
        self.run: RunStarted | None = None
        self.learned: dict[str, int] = {}
        self._times = Times()
        self._waiting: Counter[tuple[str, Kind]] = Counter()
        self._accepted: Counter[tuple[str, Kind]] = Counter()
        self._sent: dict[str, _Sent] = {}
        self._looked_at: datetime | None = None
        self._last_words: tuple[datetime, str] | None = None

    def apply(self, event: Entry) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self.run = event
                self._waiting = Counter()
                for share in event.work:
                    self._waiting[share.membership, Kind(share.trained_model, share.instance_type)] += share.jobs
            case RunEnded():
                self.learned.update(event.quotas)
            case Intent():
                kind = Kind(event.trained_model, event.instance_type)
                self._sent[event.job] = _Sent(event.membership, kind, datetime.fromisoformat(event.at))
                if len(self._sent) > _MOST_RUNNING:
                    del self._sent[next(iter(self._sent))]
            case Submitted() if sent := self._sent.get(event.job):
                is_found = event.via == "lookup"
                sent.submitted_at = sent.intended_at if is_found else datetime.fromisoformat(event.at)
                self._accepted[sent.membership, sent.kind] += 1
                self._take(sent.membership, sent.kind)
            case JobRejected() if sent := self._sent.pop(event.job, None):
                self._take(sent.membership, sent.kind)
            case Finished():
                self._finish(event)

    def _take(self, membership: str, kind: Kind) -> None:
        """Count down what waits; of kinds that a sample of the rows did not show, another one of the membership."""
        key = (membership, kind)
        if not self._waiting[key]:
            others = (each for each, count in self._waiting.items() if count and each[0] == membership)
            key = next(others, key)
        self._waiting[key] = max(self._waiting[key] - 1, 0)

    def _finish(self, event: Finished) -> None:
        seen_at = datetime.fromisoformat(event.at)
        self._looked_at = max(self._looked_at or seen_at, seen_at)
        sent = self._sent.pop(event.job, None)
        if sent is None or sent.submitted_at is None:
            return
        seconds = (datetime.fromisoformat(event.ended or event.at) - sent.submitted_at).total_seconds()
        if seconds <= 0:  # the service's clock is behind ours
            seconds = (seen_at - sent.submitted_at).total_seconds()
        self._times.add(sent.kind, seconds)

    def times(self, word: Word | None = None) -> Times:
        """Running times, those that are known only as lower bounds too: jobs that ran when somebody looked last."""
        times = Times(word)
        times.update(self._times)
        for sent in self._sent.values():
            if sent.submitted_at and self._looked_at and self._looked_at > sent.submitted_at:
                times.add(sent.kind, (self._looked_at - sent.submitted_at).total_seconds(), ended=False)
        return times

    def running(self, now: datetime, longest_seconds: float | None) -> dict[str, list[tuple[Kind, float]]]:
        """By membership the jobs that run, as far as is known, and their ages."""
        found: dict[str, list[tuple[Kind, float]]] = {}
        for sent in self._sent.values():
            age = max((now - sent.submitted_at).total_seconds(), 0.0) if sent.submitted_at else math.inf
            if age < (longest_seconds or math.inf) * _STALE:
                found.setdefault(sent.membership, []).append((sent.kind, age))
        return found

    def finish(self, now: datetime, *, left: int = 0) -> Finish | None:
        """Estimate when all will have ended that waits and runs; None where too little is known, or for a worker.

        A run of an earlier version does not tell what is to do: its `left` jobs are taken to be like those before.
        """
        run, times = self.run, self.times()
        waiting = +self._waiting
        if run is not None and left and not run.work:
            waiting = Counter({key: -(-left * n // self._accepted.total()) for key, n in self._accepted.items()})
        if run is None or not run.manifest_sha256 or (left and not waiting):
            return None
        lanes = lanes_of(waiting, self.running(now, times.longest_seconds))
        quotas, _ = self.quotas(lanes, per_membership=run.per_membership, per_account=run.per_account)
        return forecast(lanes.values(), quotas, times, per_second=run.per_second)

    def words(self, now: datetime, *, left: int = 0) -> str:
        """Say when all will be done, for a display: estimated again every few seconds only; empty where unknown."""
        if self._last_words is None or now - self._last_words[0] >= _AGAIN:
            finish = self.finish(now, left=left)
            self._last_words = now, f"done {finish.words(now)}" if finish and finish.seconds else ""
        return self._last_words[1]

    def quotas(self, lanes: Mapping[str, Lane], *, per_membership: int, per_account: int) -> tuple[Quotas, bool]:
        """The quotas that were set, else those that runs learned, else AWS's defaults, and whether any is assumed.

        What is seen to run must be allowed.
        """
        lane = max((self.learned.get(each, 0) for each in lanes), default=0)
        account = max((value for name, value in self.learned.items() if name.split()[0] == "account"), default=0)
        run = [len(each.running) for each in lanes.values()]
        quotas = Quotas(
            per_membership=per_membership or max(lane or Quotas().per_membership, *run, 0),
            per_account=per_account or max(account or Quotas().per_account, sum(run)),
        )
        return quotas, not ((per_membership or lane) and (per_account or account))


def lanes_of(
    waiting: Mapping[tuple[str, Kind], int], running: Mapping[str, list[tuple[Kind, float]]]
) -> dict[str, Lane]:
    """Put what waits and what runs together by membership."""
    lanes: dict[str, Lane] = {}
    for (membership, kind), count in waiting.items():
        lanes.setdefault(membership, Lane()).waiting[kind] += count
    for membership, jobs in running.items():
        lanes.setdefault(membership, Lane()).running = jobs
    for lane in lanes.values():
        models = (kind.trained_model.split(":") for kind in (*lane.waiting, *(kind for kind, _ in lane.running)))
        lane.account = next((parts[4] for parts in models if len(parts) > 4), "")
    return lanes


def forecast(
    lanes: Iterable[Lane], quotas: Quotas, times: Times, *, per_second: float = 0.0, seed: int = 0
) -> Finish | None:
    """Estimate when all jobs of these lanes will have ended; `per_second` bounds the calls, 0 for no bound.

    None where no time of any job is known.
    """
    accounts: dict[str, list[Lane]] = {}
    for lane in lanes:
        if lane.waiting.total() or lane.running:
            accounts.setdefault(lane.account, []).append(lane)
    if not accounts:
        return Finish(low_seconds=0.0, seconds=0.0, high_seconds=0.0, sent_seconds=0.0)
    if not (times.word or times.ended):
        return None
    dice = Random(seed)  # noqa: S311 (futures, not secrets)
    rate = per_second / len(accounts) if per_second else math.inf
    parts = [_Part(each, quotas, rate, times, dice) for each in accounts.values()]
    seen = {circle: times.seen(circle) for part in parts for circle in sorted(part.circles)}
    sent, done = [], []
    for _ in range(_FUTURES):
        beliefs = {circle: times.believed(each, dice) for circle, each in seen.items()}
        ends = [part.lay(beliefs, dice) for part in parts]
        drift = dice.lognormvariate(0.0, _DRIFT_SIGMA)
        sent.append(drift * max(begun for begun, _ in ends))
        done.append(drift * max(ended for _, ended in ends))
    low, median, high = (sorted(done)[round(share * (_FUTURES - 1))] for share in _COVERAGE)
    return Finish(low_seconds=low, seconds=median, high_seconds=high, sent_seconds=sorted(sent)[_FUTURES // 2])


class _Part:
    """The lanes of one account. Of a large batch a sample, in proportion, is laid on the slots one by one."""

    def __init__(self, lanes: Sequence[Lane], quotas: Quotas, rate: float, times: Times, dice: Random) -> None:
        self._quotas, self._rate = quotas, rate
        slots = min(quotas.per_account, quotas.of_lane * len(lanes))
        total = sum(lane.waiting.total() for lane in lanes)
        share = min(1.0, max(_LEAST_LAID, _ROUNDS_LAID * slots) / total) if total else 0.0
        self._laid: list[list[Kind]] = []
        self._poured: list[list[tuple[Kind, int]]] = []
        for lane in lanes:
            kinds = [(times.circle(kind), count, math.ceil(count * share)) for kind, count in lane.waiting.items()]
            laid = [circle for circle, _, sampled in kinds for _ in range(sampled)]
            dice.shuffle(laid)
            self._laid.append(laid)
            self._poured.append([(circle, count - sampled) for circle, count, sampled in kinds if count > sampled])
        self._running = [[(times.circle(kind), age) for kind, age in lane.running] for lane in lanes]
        running = {circle for lane in self._running for circle, _ in lane}
        self.circles = running.union(*self._laid)

    def lay(self, beliefs: Mapping[Kind, Sequence[float]], dice: Random) -> tuple[float, float]:
        """Draw one future: when its last job begins, and when its last job has ended."""
        before = self._pour(beliefs, dice)
        ends = [
            (_rest(beliefs[circle], age, dice), lane) for lane, jobs in enumerate(self._running) for circle, age in jobs
        ]
        heapify(ends)
        held = [len(jobs) for jobs in self._running]
        left = [[dice.choice(beliefs[circle]) for circle in jobs] for jobs in self._laid]
        ready = deque(lane for lane, jobs in enumerate(left) if jobs and held[lane] < self._quotas.of_lane)
        waiting = sum(map(len, left))
        now = begun = due = 0.0
        latest = max((end for end, _ in ends), default=0.0)
        while waiting:
            while ready and len(ends) < self._quotas.per_account:
                lane = ready.popleft()
                begun = max(now, due - (_BURST - 1) / self._rate)
                due = max(due, begun) + 1 / self._rate
                end = begun + left[lane].pop() * (1 + _TURNOVER) + _TURNOVER_SECONDS
                latest = max(latest, end)
                heappush(ends, (end, lane))
                held[lane] += 1
                waiting -= 1
                if left[lane] and held[lane] < self._quotas.of_lane:
                    ready.append(lane)
            now, lane = heappop(ends)
            held[lane] -= 1
            if left[lane] and held[lane] == self._quotas.of_lane - 1:
                ready.append(lane)
        return before + begun, before + latest

    def _pour(self, beliefs: Mapping[Kind, Sequence[float]], dice: Random) -> float:
        """How long the jobs that are not laid keep the slots busy; the lane with the least work ends first."""
        moments = {circle: _moments(beliefs[circle]) for jobs in self._poured for circle, _ in jobs}
        work = []
        for jobs in self._poured:
            total = 0.0
            for circle, count in jobs:
                mean, sigma = moments[circle]
                total += max(dice.gauss(count * mean, math.sqrt(count) * sigma), 0.0)
            work.append(total * (1 + _TURNOVER) + sum(count for _, count in jobs) * _TURNOVER_SECONDS)
        now = done = 0.0
        for number, amount in enumerate(sorted(work)):
            now += (amount - done) / min(self._quotas.of_lane, self._quotas.per_account / (len(work) - number))
            done = amount
        return max(now, sum(count for jobs in self._poured for _, count in jobs) / self._rate)


def _moments(belief: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (those of `statistics` are exact, and a hundred times as slow)."""
    mean = fmean(belief)
    return mean, math.sqrt(sum((each - mean) ** 2 for each in belief) / len(belief))


def _rest(belief: Sequence[float], age: float, dice: Random) -> float:
    """Draw what a job that has run for so long still needs."""
    if belief[0] == belief[-1]:
        return max(belief[0] - age, 0.0)
    longer = [each for each in belief if each > age]
    return dice.choice(longer) - age if longer else dice.expovariate(1 / max(age * _TAIL_SHARE, 1e-3))
