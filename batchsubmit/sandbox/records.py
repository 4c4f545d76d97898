"""One accepted job: what was asked for, where it stands, and the two ways the service shows it.

It must not know requests over HTTP, quotas or faults.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from batchsubmit.sandbox.settings import SandboxSettings


class Status(StrEnum):
    """Where a job stands."""

    CREATE_PENDING = "CREATE_PENDING"
    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_FAILED = "CREATE_FAILED"
    ACTIVE = "ACTIVE"
    CANCEL_IN_PROGRESS = "CANCEL_IN_PROGRESS"
    INACTIVE = "INACTIVE"


ENDED_BY_ITSELF: Final = frozenset({Status.ACTIVE, Status.CREATE_FAILED})
STARTING: Final = frozenset({Status.CREATE_PENDING, Status.CREATE_IN_PROGRESS})

_FAILURE: Final = "The inference container exited with a non-zero status (sandbox)."
_SUMMARIZED: Final = (
    "membershipIdentifier",
    "name",
    "trainedModelArn",
    "configuredModelAlgorithmAssociationArn",
    "trainedModelVersionIdentifier",
    "outputConfiguration",
    "description",
    "mlModelInferencePayerAccountId",
)


@dataclass(slots=True, kw_only=True, eq=False)
class JobRecord:
    """A job as the service keeps it. Times are Unix seconds."""

    job_id: str
    arn: str
    membership: str
    account: str
    name: str
    request: Mapping[str, Any]
    """The accepted request, without the members that are null."""
    created_at: float
    updated_at: float
    status: Status = Status.CREATE_PENDING
    run_seconds: float = 0.0
    failure_message: str = _FAILURE
    unpublished: str = ""
    """Why the job's logs and metrics are not published; empty where they are."""

    @property
    def tags(self) -> dict[str, str]:
        """The job's tags."""
        tags: dict[str, str] = self.request.get("tags", {})
        return tags

    def summary(self) -> dict[str, object]:
        """Return the job as List shows it."""
        shown = {name: self.request[name] for name in _SUMMARIZED if name in self.request}
        return shown | {"collaborationIdentifier": collaboration(self.membership)} | self._progress()

    def detail(self) -> dict[str, object]:
        """Return the job as Get shows it."""
        shown = dict(self.request) | self._progress()
        if self.status is Status.CREATE_FAILED:
            shown["statusDetails"] = {"statusCode": "INTERNAL_ERROR", "message": self.failure_message}
        return shown

    def _progress(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "trainedModelInferenceJobArn": self.arn,
            "status": self.status.value,
            "createTime": wire_time(self.created_at),
            "updateTime": wire_time(self.updated_at),
        }
        if self.status in ENDED_BY_ITSELF:
            published = "PUBLISH_FAILED" if self.unpublished else "PUBLISH_SUCCEEDED"
            shown |= {"metricsStatus": published, "logsStatus": published}
            if self.unpublished:
                shown |= {"metricsStatusDetails": self.unpublished, "logsStatusDetails": self.unpublished}
        return shown


def wire_time(seconds: float) -> str:
    """Return Unix seconds as the wire has them: ISO 8601 in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@cache
def collaboration(membership: str) -> str:
    """Return the collaboration a membership belongs to: made up, and always the same."""
    return str(uuid5(NAMESPACE_URL, membership))


class Lifecycle:
    """A heap of coming changes. With `run_seconds`, a job runs as long as that says of its name."""

    def __init__(self, settings: SandboxSettings, run_seconds: Callable[[str], float] | None = None) -> None:
        self.settings = settings
        self._run_seconds = run_seconds
        self._random = Random(settings.seed)  # noqa: S311 - durations, not secrets
        self._due: list[tuple[float, int, Status, JobRecord]] = []
        self._order = count()

    def begin(self, job: JobRecord) -> None:
        """Plan a new job's run. How it ends is drawn now, so that a seed repeats it whenever it is looked at."""
        settings = self.settings
        job.run_seconds = self._run_seconds(job.name) if self._run_seconds else self._draw_seconds()
        failing = self._random.random() < settings.failure_probability or job.name in settings.failing_names
        job.failure_message = settings.failure_messages.get(job.name, _FAILURE)
        job.unpublished = settings.unpublished
        runs_at = job.created_at + settings.pending_seconds
        self._plan(job, runs_at, Status.CREATE_IN_PROGRESS)
        self._plan(job, runs_at + job.run_seconds, Status.CREATE_FAILED if failing else Status.ACTIVE)

    def cancel(self, job: JobRecord, now: float) -> None:
        """Begin to cancel a pending or running job: what was planned for it is void."""
        job.status, job.updated_at = Status.CANCEL_IN_PROGRESS, now
        self._plan(job, now + self.settings.cancel_seconds, Status.INACTIVE)

    def advance(self, now: float) -> list[JobRecord]:
        """Carry out what is due, in its order and at its own time; return the jobs that ended."""
        ended = []
        while (at := self.next_change_at()) is not None and at <= now:
            *_, status, job = heappop(self._due)
            job.status, job.updated_at = status, at
            if status is not Status.CREATE_IN_PROGRESS:
                ended.append(job)
        return ended

    def next_change_at(self) -> float | None:
        """Return when something changes next, for a simulation that jumps there; None if nothing runs."""
        while self._due:
            at, _, status, job = self._due[0]
            if job.status in STARTING or status is Status.INACTIVE:
                return at
            heappop(self._due)  # void, for the job was cancelled
        return None

    def _plan(self, job: JobRecord, at: float, status: Status) -> None:
        heappush(self._due, (at, next(self._order), status, job))

    def _draw_seconds(self) -> float:
        mean, sigma = self.settings.job_seconds, self.settings.job_sigma
        if not mean or not sigma:
            return mean
        return self._random.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
