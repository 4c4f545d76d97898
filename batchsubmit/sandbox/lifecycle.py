"""When jobs change: planned at acceptance or cancellation, carried out lazily when somebody looks.

It must not know quotas, requests or a clock: the time comes in as Unix seconds, the ended jobs go out.
"""

import math
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

from batchsubmit.sandbox.records import JobRecord, Status
from batchsubmit.sandbox.settings import SandboxSettings


class Lifecycle:
    """A heap of coming transitions. One job has at most one that counts.

    With `run_seconds`, a job runs as long as that says of its name, and nothing is drawn.
    """

    def __init__(self, settings: SandboxSettings, run_seconds: Callable[[str], float] | None = None) -> None:
        self.settings = settings
        self._run_seconds = run_seconds
        self._random = Random(settings.seed)  # noqa: S311 - durations, not secrets
        self._due: list[tuple[float, int, int, JobRecord]] = []
        self._order = count()
        self.statuses: Counter[Status] = Counter()

    def begin(self, job: JobRecord) -> None:
        """Plan a new job's run. Its fate is drawn now, so that a seed repeats it whenever it is looked at."""
        settings = self.settings
        self.statuses[job.status] += 1
        job.run_seconds = self._run_seconds(job.name) if self._run_seconds else self._draw_seconds()
        failing = self._random.random() < settings.failure_probability
        job.fails = failing or job.name in settings.failing_names
        job.failure_message = settings.failure_messages.get(job.name, "")
        job.unpublished = settings.unpublished
        self._plan(job, job.created_at + settings.pending_seconds)

    def cancel(self, job: JobRecord, now: float) -> None:
        """Turn a pending or running job around."""
        job.fails = self._random.random() < self.settings.cancel_failure_probability
        self._enter(job, Status.CANCEL_PENDING, now)
        self._plan(job, now + self.settings.cancel_pending_seconds)

    def advance(self, now: float) -> list[JobRecord]:
        """Carry out what is due, in its order and at its own time; return the jobs that ended."""
        ended = []
        while self._due and self._due[0][0] <= now:
            at, _, generation, job = heappop(self._due)
            if job.generation == generation and self._step(job, at):
                ended.append(job)
        return ended

    def next_change_at(self) -> float | None:
        """Return when something changes next, for a simulation that jumps there; None if nothing runs."""
        while self._due and self._due[0][3].generation != self._due[0][2]:
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def _step(self, job: JobRecord, at: float) -> bool:
        """Take the next step of a job's plan; return whether it was the last one."""
        match job.status:
            case Status.CREATE_PENDING:
                self._enter(job, Status.CREATE_IN_PROGRESS, at)
                self._plan(job, at + job.run_seconds)
                return False
            case Status.CANCEL_PENDING:
                self._enter(job, Status.CANCEL_IN_PROGRESS, at)
                self._plan(job, at + self.settings.cancel_seconds)
                return False
            case Status.CREATE_IN_PROGRESS:
                self._enter(job, Status.CREATE_FAILED if job.fails else Status.ACTIVE, at)
            case _:
                self._enter(job, Status.CANCEL_FAILED if job.fails else Status.INACTIVE, at)
        return True

    def _enter(self, job: JobRecord, status: Status, at: float) -> None:
        self.statuses[job.status] -= 1
        self.statuses[status] += 1
        job.status = status
        job.updated_at = at
        job.generation += 1

    def _plan(self, job: JobRecord, at: float) -> None:
        heappush(self._due, (at, next(self._order), job.generation, job))

    def _draw_seconds(self) -> float:
        mean, sigma = self.settings.job_seconds, self.settings.job_sigma
        if not mean or not sigma:
            return mean
        return self._random.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
