"""One accepted job: what was asked for, where it stands, and the two ways the service shows it.

Values only: it must not know why or when a job changes. The request is kept as JSON, because a million of
them as objects would take gigabytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import Final
from uuid import NAMESPACE_URL, uuid5


class Status(StrEnum):
    """Where a job stands."""

    CREATE_PENDING = "CREATE_PENDING"
    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_FAILED = "CREATE_FAILED"
    ACTIVE = "ACTIVE"
    CANCEL_PENDING = "CANCEL_PENDING"
    CANCEL_IN_PROGRESS = "CANCEL_IN_PROGRESS"
    CANCEL_FAILED = "CANCEL_FAILED"
    INACTIVE = "INACTIVE"


ENDED_BY_ITSELF: Final = frozenset({Status.ACTIVE, Status.CREATE_FAILED})
STARTING: Final = frozenset({Status.CREATE_PENDING, Status.CREATE_IN_PROGRESS})
CANCELLING: Final = frozenset({Status.CANCEL_PENDING, Status.CANCEL_IN_PROGRESS})

DETAILS: Final[Mapping[Status, tuple[str, str]]] = {
    Status.CREATE_FAILED: (
        "INTERNAL_ERROR",
        "The inference container exited with a non-zero status (sandbox).",
    ),
    Status.CANCEL_FAILED: ("INTERNAL_ERROR", "The inference job could not be cancelled (sandbox)."),
}

_KEPT_APART: Final = frozenset({"membershipIdentifier", "name", "trainedModelArn", "tags"})
_SUMMARIZED: Final = (
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
    arn_prefix: str
    membership: str
    account: str
    name: str
    model: str
    version: str | None
    tags: dict[str, str] | None
    packed: bytes
    created_at: float
    updated_at: float
    status: Status = Status.CREATE_PENDING
    run_seconds: float = 0.0
    fails: bool = False
    failure_message: str = ""
    """Stands in the place of the usual message where the job fails."""
    unpublished: str = ""
    """Why the job's logs and metrics are not published; empty where they are."""
    generation: int = 0
    """Counts the changes of plan, so that a transition planned before a cancellation is known to be void."""
    summarized: tuple[int, dict[str, object]] | None = None
    """The latest summary and its generation: a List shows hundreds of jobs that have not changed since the last one."""

    @property
    def arn(self) -> str:
        """The job's ARN."""
        return self.arn_prefix + self.job_id

    def request(self) -> dict[str, object]:
        """Return the accepted request, with the tags as they are now."""
        request: dict[str, object] = {
            "membershipIdentifier": self.membership,
            "name": self.name,
            "trainedModelArn": self.model,
            **json.loads(self.packed),
        }
        return request | {"tags": dict(self.tags)} if self.tags else request

    def summary(self) -> dict[str, object]:
        """Return the job as List shows it; not to be changed."""
        if self.summarized is None or self.summarized[0] != self.generation:
            self.summarized = (self.generation, self._summary())
        return self.summarized[1]

    def _summary(self) -> dict[str, object]:
        request = json.loads(self.packed)
        shown = {name: request[name] for name in _SUMMARIZED if name in request}
        return {
            **shown,
            "trainedModelInferenceJobArn": self.arn,
            "membershipIdentifier": self.membership,
            "trainedModelArn": self.model,
            "collaborationIdentifier": collaboration(self.membership),
            "name": self.name,
            **self._standing(),
        }

    def detail(self) -> dict[str, object]:
        """Return the job as Get shows it."""
        shown = {**self.request(), "trainedModelInferenceJobArn": self.arn, **self._standing()}
        if self.status in DETAILS:
            code, message = DETAILS[self.status]
            shown["statusDetails"] = {"statusCode": code, "message": self.failure_message or message}
        return shown

    def _standing(self) -> dict[str, object]:
        standing: dict[str, object] = {
            "status": self.status.value,
            "createTime": timestamp(self.created_at),
            "updateTime": timestamp(self.updated_at),
        }
        if self.status in ENDED_BY_ITSELF:
            published = "PUBLISH_FAILED" if self.unpublished else "PUBLISH_SUCCEEDED"
            standing |= {"metricsStatus": published, "logsStatus": published}
            if self.unpublished:
                standing |= {"metricsStatusDetails": self.unpublished, "logsStatusDetails": self.unpublished}
        return standing


def pack(request: Mapping[str, object]) -> bytes:
    """Return what of a request has no field of its own in the record."""
    rest = {name: value for name, value in request.items() if name not in _KEPT_APART and value is not None}
    return json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode()


def timestamp(seconds: float) -> str:
    """Return Unix seconds as the wire has them: ISO 8601 in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_id(random: Random) -> str:
    """Return a random UUID; `uuid.UUID` itself would cost as much as the rest of an acceptance."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(maxsize=10_000)
def collaboration(membership: str) -> str:
    """Return the collaboration a membership belongs to: made up, and always the same."""
    return str(uuid5(NAMESPACE_URL, membership))
