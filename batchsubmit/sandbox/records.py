"""One accepted job: what was asked for, where it stands, and the two ways the service shows it.

It must not know requests over HTTP, quotas or faults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5


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

USUAL_FAILURE: Final = "The inference container exited with a non-zero status (sandbox)."
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
    failure_message: str = USUAL_FAILURE
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
