"""The jobs that run in one membership, ours and others', as far as they are known. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from batchsubmit.core.jobs import JobClass


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


class RunningJobs:
    """The jobs that hold the slots of a membership."""

    def __init__(self) -> None:
        self._jobs: dict[str, RunningJob] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(self._jobs.values())

    def __contains__(self, arn: str) -> bool:
        return arn in self._jobs

    @property
    def ours(self) -> int:
        """Jobs of this ledger."""
        return sum(bool(job.key) for job in self)

    def add(self, job: RunningJob, *, most: int | None = None) -> None:
        """A job runs from now on; with `most`, only so many of the latest are remembered."""
        self._jobs.pop(job.arn, None)
        self._jobs[job.arn] = job
        while most is not None and len(self._jobs) > most:
            del self._jobs[next(iter(self._jobs))]

    def discard(self, arn: str) -> None:
        """The service does not know this job."""
        self._jobs.pop(arn, None)

    def clear(self) -> None:
        """Forget all."""
        self._jobs.clear()

    def saw(self, seen_jobs: Iterable[SeenJob], *, began_at: float, now: float, lists_all: bool) -> list[Ended]:
        """Take in a poll that began at `began_at`; give the jobs that have ended.

        A List shows jobs of others too. It may lag and miss one of ours, so none of ours is dropped for not being
        there; others' jobs are.
        """
        seen = {each.arn: each for each in seen_jobs}
        ended = [Ended(job, seen[job.arn]) for job in self if job.arn in seen and not seen[job.arn].is_running]
        lost = [job.arn for job in self if lists_all and not job.key and job.arn not in seen]
        for arn in [*lost, *(each.job.arn for each in ended)]:
            del self._jobs[arn]
        for each in seen.values():
            if each.is_running:
                job = self._jobs.get(each.arn) or self._found(each, now)
                job.seen_at = max(job.seen_at, began_at)
        return ended

    def _found(self, seen: SeenJob, now: float) -> RunningJob:
        """Take up a job of others."""
        began_at = now - max(seen.age_seconds, 0.0)
        job = RunningJob(arn=seen.arn, key="", kind=JobClass(seen.trained_model), began_at=began_at, seen_at=now)
        self._jobs[seen.arn] = job
        return job
