"""What polls see, and when a running job is polled next, by how long jobs like it have run. Pure.

Reading is cheap: Clean Rooms ML allows 50 Gets a second (User Guide, "Quotas for Clean Rooms ML"), while ten slots of
half an hour end 20 jobs an hour. So each running job is asked for by Get at a small part of its expected running time,
and a freed slot idles for half of that part on average.
"""

from dataclasses import dataclass
from datetime import datetime

from batchsubmit.config import SlotSettings
from batchsubmit.core.jobs import JobClass

_CLOSE = 1 / 38
"""Of the median running time, or of the job's age where it is older: between polls once a job may end, while a slot is
waited for. It leaves some 1.4 % of a slot's time idle, for some 25 calls a job."""

_COARSE = 1 / 6
"""The same before one of twenty jobs like it has ended, or where nobody waits for a slot."""

_UNLEARNED = 1 / 10
_UNLEARNED_LEAST = 20
"""Where no job has ended yet, a job is polled again at this part of its age, or so many shortest intervals later."""

_ENOUGH = 3
"""Jobs that must have ended before a class of jobs is judged by its own times."""

_KEPT = 200
"""Times kept of a class, the latest ones: models and data change."""

_ALL = JobClass("")


@dataclass(slots=True, kw_only=True)
class RunningJob:
    """A job that holds a slot. `key` is empty for one that this ledger did not start; times are monotonic seconds."""

    arn: str
    key: str
    kind: JobClass
    began_at: float
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenJob:
    """A job as a poll saw it. `ran_seconds` is the time from its creation to its end, or to now."""

    arn: str
    status: str
    is_running: bool
    trained_model: str
    age_seconds: float
    ran_seconds: float
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that was known to run and runs no more."""

    job: RunningJob
    seen: SeenJob


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll that is due. Without `arns` it is a List of the whole membership, else a Get of each."""

    membership: str
    arns: tuple[str, ...] = ()

    @property
    def lists_all(self) -> bool:
        """Whether it shows the jobs of others too."""
        return not self.arns


class Durations:
    """How long jobs have run, by trained model and instance type."""

    def __init__(self) -> None:
        self._seconds: dict[JobClass, list[float]] = {}
        self._expected: dict[JobClass, tuple[float, float]] = {}

    def learn(self, kind: JobClass, seconds: float) -> None:
        """Take in that a job has ended after so many seconds."""
        for each in _classes(kind):
            times = self._seconds.setdefault(each, [])
            times.append(max(seconds, 0.0))
            del times[:-_KEPT]
        self._expected.clear()

    def times(self, kind: JobClass) -> list[float]:
        """The times of its class, else of its model, else of all jobs, whichever has enough; in the order learned."""
        known = [self._seconds.get(each, []) for each in _classes(kind)]
        return list(next((times for times in known if len(times) >= _ENOUGH), known[-1]))

    def expected(self, kind: JobClass) -> tuple[float, float] | None:
        """The seconds after which one of twenty jobs like this has ended, and half of them; None where none has."""
        if kind not in self._expected:
            times = sorted(self.times(kind))
            if not times:
                return None
            self._expected[kind] = times[len(times) // 20], times[len(times) // 2]
        return self._expected[kind]


def _classes(kind: JobClass) -> tuple[JobClass, ...]:
    """From the narrowest class to all jobs."""
    return tuple(dict.fromkeys((kind, JobClass(kind.trained_model), _ALL)))


def next_get_at(job: RunningJob, durations: Durations, settings: SlotSettings, *, closely: bool) -> float:
    """Say when a running job is asked for again; `closely` where a slot is waited for."""
    age = max(job.seen_at - job.began_at, 0.0)
    least, most, expected = settings.min_poll_seconds, settings.max_poll_seconds, durations.expected(job.kind)
    if expected is None:
        wait = max(age * _UNLEARNED, least * _UNLEARNED_LEAST)
    else:
        early, median = expected
        coarse, close = (max(median, age) * part for part in (_COARSE, _CLOSE))
        wait = coarse if not closely or age < early else close
        if closely and age < early:
            wait = min(coarse, max(early - age, close))
    return job.seen_at + max(min(wait, most), least)
