"""The jobs that run in one membership, as polls have seen them. Pure."""

from collections.abc import Iterable
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
    ran_seconds: float
    ended_at: datetime | None = None


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
