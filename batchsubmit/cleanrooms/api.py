"""Clean Rooms ML, as far as a batch needs it: the seam `JobsApi` and the values that cross it.

`client.CleanRooms` is the real side; the tests have one in memory, and both pass the same contract tests.
One `start` is one attempt on the wire. Nothing here knows the ledger, pace or retries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from batchsubmit.core.jobs import Job, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """A job as List shows it."""

    arn: str
    name: str
    status: str
    created_at: datetime
    updated_at: datetime | None = None
    trained_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """One page of List; an empty page may have a next one."""

    jobs: tuple[JobSummary, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """A job as Get shows it; `request` holds the members that a Start request could have had.

    `code` and `message` are its statusDetails; `logs` names what did not reach CloudWatch, logs or metrics, and why.
    """

    arn: str
    status: str
    code: str = ""
    message: str
    logs: str = ""
    tags: Mapping[str, str]
    request: Mapping[str, Any]
    created_at: datetime | None = None
    updated_at: datetime | None = None


CREATING_STATUSES = frozenset({"CREATE_PENDING", "CREATE_IN_PROGRESS"})
"""An input in one of these can not be used yet."""


@dataclass(frozen=True, slots=True, order=True)
class Input:
    """What a job reads: a trained model or an ML input channel; `version` is of a model, empty for its latest one."""

    kind: str
    membership: str
    arn: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.arn}"


def inputs_of(request: Mapping[str, Any]) -> tuple[Input, Input]:
    """Name the trained model and the channel of a valid request."""
    membership = request["membershipIdentifier"]
    version = request.get("trainedModelVersionIdentifier") or ""
    return (
        Input("trained model", membership, request["trainedModelArn"], version),
        Input("channel", membership, request["dataSource"]["mlInputChannelArn"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A trained model or an ML input channel as the service shows it; `ACTIVE` is ready for use.

    `message` is its statusDetails. Of a channel: `kept_until`, when its data goes, and `budgets`, how often each of the
    tables behind it may still be accessed, by the ARN of the association of the table.
    """

    arn: str
    status: str
    message: str = ""
    kept_until: datetime | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)


class JobsApi(Protocol):
    """What the program needs of the service. Nothing but cancellation is raised: trouble is an outcome as well."""

    async def start(self, job: Job) -> Result:
        """Make one StartTrainedModelInferenceJob call and say what it brought."""

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Result:
        """Read one page of a membership's jobs."""

    async def get(self, membership: str, arn: str) -> JobDetails | Result:
        """Read all about one job."""

    async def cancel(self, membership: str, arn: str) -> Result:
        """Make one CancelTrainedModelInferenceJob call; `Accepted` where the service turns the job around.

        A job that has ended is `Conflicted`. Calling again for one that is being cancelled changes nothing.
        """

    async def input(self, wanted: Input) -> Resource | Result:
        """Read a trained model (the version, or the latest one) or an ML input channel."""
