"""The jobs that run in one membership, as polls have seen them, and when each is polled next. Pure.

Reading is cheap: Clean Rooms ML allows 50 Gets a second (User Guide, "Quotas for Clean Rooms ML"), while ten slots of
half an hour end 20 jobs an hour. So each running job is asked for by Get at a small part of its expected running time,
by how long jobs like it have run, and a freed slot idles for half of that part on average.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from batchsubmit.config import SlotSettings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.jobs import JobClass

_CLOSE = 1 / 38
"""Of the median running time, or of the job's age where it is older: between polls once a job may end, while a slot is
waited for. It leaves some 1.4 % of a slot's time idle, for some 25 calls a job."""

_COARSE = 1 / 6
"""The same before one of twenty jobs like it has ended, or where nobody waits for a slot."""

_UNLEARNED = 1 / 10
_UNLEARNED_LEAST = 20
"""Where no job has ended yet, a job is polled again at this part of its age, or so many shortest intervals later."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll that is due. Without `arns` it is a List of the whole membership, else a Get of each."""

    membership: str
    arns: tuple[str, ...] = ()

    @property
    def lists_all(self) -> bool:
        """Whether it shows the jobs of others too."""
        return not self.arns


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
    ran_seconds: float
    ended_at: datetime | None = None


def next_get_at(job: RunningJob, times: RunTimes, settings: SlotSettings, *, closely: bool) -> float:
    """Say when a running job is asked for again; `closely` where a slot is waited for."""
    age = max(job.seen_at - job.began_at, 0.0)
    least, most, expected = settings.min_poll_seconds, settings.max_poll_seconds, times.expected(job.kind)
    if expected is None:
        wait = max(age * _UNLEARNED, least * _UNLEARNED_LEAST)
    else:
        early, median = expected
        coarse, close = (max(median, age) * part for part in (_COARSE, _CLOSE))
        wait = close if closely else coarse
        if closely and age < early:
            wait = min(coarse, max(early - age, close))
    return job.seen_at + max(min(wait, most), least)


def take_in(
    running: dict[str, RunningJob], seen_jobs: Iterable[SeenJob], *, began_at: float, now: float, lists_all: bool
) -> list[RunningJob]:
    """Bring the jobs that run up to a poll that began at `began_at`; give those that have ended.

    A List shows jobs of others too. It may lag and miss one of ours, so none of ours is dropped for not being there;
    others' jobs are.
    """
    seen = {each.arn: each for each in seen_jobs}
    ended = [job for arn, job in running.items() if arn in seen and not seen[arn].is_running]
    lost = [job for arn, job in running.items() if lists_all and not job.key and arn not in seen]
    for job in (*ended, *lost):
        del running[job.arn]
    for each in seen.values():
        if each.is_running:
            kind, since = JobClass(each.trained_model), now - each.ran_seconds
            of_others = RunningJob(arn=each.arn, key="", kind=kind, began_at=since, seen_at=now)
            job = running.setdefault(each.arn, of_others)
            job.seen_at = max(job.seen_at, began_at)
    return ended
