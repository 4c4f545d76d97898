"""The jobs that run in one membership, ours and others', as far as they are known. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from batchsubmit.slots.durations import JobClass


@dataclass(slots=True, kw_only=True)
class RunningJob:
    """A job that holds a slot. `key` is empty for one that this ledger did not start; times are monotonic seconds."""

    arn: str
    key: str
    kind: JobClass
    began_at: float
    seen_at: float
    due_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A job as a look saw it. `ran_seconds` is the time from its creation to its end, or to now."""

    arn: str
    status: str
    is_running: bool
    trained_model: str
    age_seconds: float
    ran_seconds: float
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job of the roster that runs no more."""

    job: RunningJob
    sighting: Sighting


class Roster:
    """Who holds the slots of a membership."""

    def __init__(self) -> None:
        self._jobs: dict[str, RunningJob] = {}
        self.ours = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(self._jobs.values())

    def add(self, job: RunningJob) -> None:
        """A job runs from now on."""
        self._pop(job.arn)
        self._jobs[job.arn] = job
        self.ours += bool(job.key)

    def _pop(self, arn: str) -> RunningJob | None:
        job = self._jobs.pop(arn, None)
        self.ours -= job is not None and bool(job.key)
        return job

    def keep_latest(self, most: int) -> None:
        """Forget the oldest beyond so many."""
        while len(self._jobs) > most:
            self._pop(next(iter(self._jobs)))

    def clear(self) -> None:
        """Forget all."""
        self._jobs.clear()
        self.ours = 0

    def discard(self, arn: str) -> None:
        """The service does not know this job."""
        self._pop(arn)

    def saw(self, sightings: Iterable[Sighting], *, began_at: float, now: float, is_whole: bool) -> list[Ended]:
        """Take in a look that began at `began_at`; give those that have ended.

        A whole look shows jobs of others too. It may miss one of ours that is younger than List's lag, so nobody of
        ours is dropped for not being there; others' jobs are.
        """
        ended = []
        shown = set()
        for each in sightings:
            shown.add(each.arn)
            job = self._jobs.get(each.arn)
            if each.is_running:
                if job is None:
                    job = self._stranger(each, now)
                job.seen_at, job.due_at = max(job.seen_at, began_at), None
            elif job is not None:
                self._pop(each.arn)
                ended.append(Ended(job, each))
        if is_whole:
            for arn in [job.arn for job in self if not job.key and job.arn not in shown]:
                self._pop(arn)
            for job in self:
                job.seen_at = max(job.seen_at, began_at)
        return ended

    def missing(self, shown: Iterable[str], *, older_than: float, now: float) -> list[str]:
        """ARNs of ours that a whole look should have shown by now."""
        seen = set(shown)
        return [job.arn for job in self if job.arn not in seen and now - job.began_at > older_than]

    def _stranger(self, seen: Sighting, now: float) -> RunningJob:
        job = RunningJob(
            arn=seen.arn,
            key="",
            kind=JobClass(seen.trained_model),
            began_at=now - max(seen.age_seconds, 0.0),
            seen_at=now,
        )
        self._jobs[seen.arn] = job
        return job
