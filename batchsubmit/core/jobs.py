"""The values that the rest of the program passes around: jobs, what a call brought, and what the ledger records.

Only values live here: nothing awaits, logs, reads a clock or knows AWS beyond its words.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias, TypedDict

import msgspec

_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]  # base64.b32encode takes twice as long

KEY_TAG = "batchsubmit:key"
"""The tag that carries a job's key on the service, so that a lookup can prove that a job is ours."""


def job_digest(canonical: bytes, *, batch: str = "", ordinal: int = 0) -> bytes:
    """Tell a job by what it asks for: the first 16 bytes of a SHA-256.

    `canonical` is the request as `schema.canonical` writes it; `ordinal` counts the identical rows before this one,
    so the same row in the same batch has the same key at any place of the manifest. The batch is framed by its
    length, so that no batch id and request can run into one another.
    """
    name = batch.encode()
    return hashlib.sha256(b"batchsubmit-key-1\n%d\n%d\n%b%b" % (ordinal, len(name), name, canonical)).digest()[:16]


def key_text(digest: bytes | bytearray) -> str:
    """Write a digest as a key: 26 lower-case base 32 characters, which ledger, tag and logs carry."""
    number = int.from_bytes(digest, "big") << 2
    return "".join([_PAIRS[number >> bits & 1023] for bits in range(120, -1, -10)])


ResultPlace: TypeAlias = tuple[str, str, str]
"""Membership, trained model and name: jobs that share all three overwrite each other's results."""


def results_place(request: Mapping[str, Any]) -> ResultPlace | None:
    """Say where a request's results go; None where one of the three is no text.

    `<S3 path>/<collaboration id>/<trained model name>/<caller account>/<job name>` (User Guide, "Create an inference
    job").
    """
    membership, model, name = request.get("membershipIdentifier"), request.get("trainedModelArn"), request.get("name")
    if isinstance(membership, str) and isinstance(model, str) and isinstance(name, str):
        return membership, model, name
    return None


def round_tag(key: str, number: int) -> str:
    """The value of our tag for one round of a job."""
    return f"{key}.{number}" if number else key


class Stamp(TypedDict):
    """What every event of a job begins with: when, which job, where, under which name."""

    at: str
    job: str
    membership: str
    name: str


@dataclass(frozen=True, slots=True, order=True)
class JobClass:
    """Jobs that can be expected to take about as long as one another."""

    trained_model: str = ""
    instance_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One validated request for one inference job. `request` is what the API takes, without our own tag.

    `round` counts how often the job has run and failed before, and is sent again.
    """

    key: str
    membership: str
    name: str
    request: Mapping[str, Any]
    round: int = 0

    @property
    def tag(self) -> str:
        """What our tag says on the service: each round has a value of its own, and no lookup takes one for another."""
        return round_tag(self.key, self.round)

    @property
    def trained_model(self) -> str:
        """The ARN of the trained model that the job runs."""
        return str(self.request["trainedModelArn"])

    @property
    def instance_type(self) -> str:
        """The instance type that it runs on."""
        return str(self.request["resourceConfig"]["instanceType"])

    def stamp(self, at: str) -> Stamp:
        """Begin an event of this job."""
        return {"at": at, "job": self.key, "membership": self.membership, "name": self.name}


# What one call brought. `cleanrooms.responses` decides which answer is which, `submitter` the reaction to each.


class RefusalCause(StrEnum):
    """Why a call was certainly not accepted: decided once, and carried by outcome and ledger event."""

    SLOTS = "slots"
    OTHER_QUOTA = "other_quota"
    THROTTLED = "throttled"
    CONFLICT = "conflict"
    DENIED = "denied"
    INVALID = "invalid"
    CALLER = "caller"
    WRONG_ENDPOINT = "wrong_endpoint"
    NOT_SENT = "not_sent"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service took the job and named it."""

    arn: str


@dataclass(frozen=True, slots=True)
class _NotAccepted:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class QuotaExceeded(_NotAccepted):
    """402: not accepted, all slots are taken. The quota's name and value are the service's, where it gave them."""

    quota_name: str | None = None
    quota_value: float | None = None
    cause: ClassVar = RefusalCause.SLOTS


@dataclass(frozen=True, slots=True)
class OtherQuotaExceeded(_NotAccepted):
    """402 about a quota that is not one of slots, a data access budget for instance: no slot that is freed helps."""

    quota_name: str
    quota_value: float | None = None
    cause: ClassVar = RefusalCause.OTHER_QUOTA


@dataclass(frozen=True, slots=True)
class Throttled(_NotAccepted):
    """429 and its other spellings: not accepted, we call too often."""

    retry_after_seconds: float = 0.0
    is_throttling: ClassVar = True
    cause: ClassVar = RefusalCause.THROTTLED


class Conflicted(_NotAccepted):
    """409: not accepted now."""

    cause: ClassVar = RefusalCause.CONFLICT


class InvalidRequest(_NotAccepted):
    """400, 404, or anything else that says the request can never work."""

    cause: ClassVar = RefusalCause.INVALID


class Denied(_NotAccepted):
    """403 about what this call names: another job may be allowed."""

    cause: ClassVar = RefusalCause.DENIED


@dataclass(frozen=True, slots=True)
class Forbidden(_NotAccepted):
    """The caller's credentials, or an endpoint that is no Clean Rooms ML: no other job would fare better."""

    cause: RefusalCause = RefusalCause.CALLER


class NotSent(_NotAccepted):
    """The request never left: refused connection, no such host, connect time-out."""

    cause: ClassVar = RefusalCause.NOT_SENT


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The request may have been accepted: 5xx, read time-out, lost connection, an answer that may follow acceptance."""

    reason: str
    retry_after_seconds: float = 0.0
    is_throttling: bool = False


Result: TypeAlias = (
    Accepted
    | QuotaExceeded
    | OtherQuotaExceeded
    | Throttled
    | Conflicted
    | InvalidRequest
    | Denied
    | Forbidden
    | NotSent
    | Uncertain
)


# What the ledger records. Field order is line order; `at` is UTC, RFC 3339, microseconds.


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: str


class Share(msgspec.Struct, frozen=True, array_like=True):
    """So many jobs of a run that are of one membership, trained model and instance type."""

    membership: str
    trained_model: str
    instance_type: str
    jobs: int


class RunStarted(_Event, frozen=True, kw_only=True, tag="run_started"):
    """A run took the ledger. `holder` tells a second run who has it.

    `to_do` is the number of jobs not yet decided, `rows` that of the manifest, 0 where there is none. `work` is what is
    to do by kind, judged by a sample of the rows; it, the slots and the calls a second that were set (0 where they were
    not) are for readers who estimate the end. `again` are those of `to_do` that were rejected or failed before.
    `settings` are those that differ from the default, as TOML has them.
    """

    run: str
    batch: str
    manifest: str
    manifest_sha256: str
    version: str
    holder: str
    sandbox: bool = False
    to_do: int = 0
    rows: int = 0
    work: tuple[Share, ...] = ()
    per_membership: int = 0
    per_account: int = 0
    per_second: float = 0.0
    retry: str = ""
    settings: dict[str, str] = {}
    again: dict[str, int] = {}


class RunEnded(_Event, frozen=True, kw_only=True, tag="run_ended", omit_defaults=True):
    """A run let go of the ledger in good order. A killed run has no such line. `quotas` are those that it learned."""

    run: str
    exit_status: int
    reason: str
    counts: dict[str, int]
    quotas: dict[str, int] = {}

    def __post_init__(self) -> None:
        """Earlier versions wrote an account's number behind `account`, and several where there were several."""
        if accounts := [name for name in self.quotas if name.startswith("account")]:
            self.quotas["account"] = sum(self.quotas.pop(name) for name in accounts)


class _JobEvent(_Event, frozen=True, kw_only=True):
    job: str
    membership: str
    name: str


class Intent(_JobEvent, frozen=True, kw_only=True, tag="intent", omit_defaults=True):
    """An attempt is about to be made. Durable before the call leaves. A higher `round` sends a failed job again."""

    attempt: int
    trained_model: str
    instance_type: str = ""
    round: int = 0


class JobSubmitted(_JobEvent, frozen=True, kw_only=True, tag="submitted"):
    """The service has the job. `via` is `start` (it answered) or `lookup` (we found it)."""

    arn: str
    attempt: int
    via: str


class Refused(_JobEvent, frozen=True, kw_only=True, tag="refused"):
    """The attempt was certainly not accepted, and the job may be tried again.

    `cause` is a `RefusalCause`; ledgers of earlier versions have none, and one of a later version may have others.
    """

    code: str
    cause: str = ""
    attempt: int


class JobUnknown(_JobEvent, frozen=True, kw_only=True, tag="unknown"):
    """The attempt may or may not have been accepted. Never repeated blindly."""

    reason: str
    attempt: int


class Absent(_JobEvent, frozen=True, kw_only=True, tag="absent"):
    """A lookup proved that the unknown attempt was not accepted."""

    attempt: int


class Duplicate(_JobEvent, frozen=True, kw_only=True, tag="duplicate"):
    """The service has one more job that carries this job's key: `arn` runs beside `of`, and is paid for."""

    arn: str
    of: str


INVALID_ROW = "InvalidRow"
"""The code of a row that is wrong, and was recorded as rejected without a call."""


class JobRejected(_JobEvent, frozen=True, kw_only=True, tag="rejected"):
    """The job can not be submitted; code and message are the service's own words, or the validator's."""

    code: str
    message: str
    attempt: int


class EarlierRejected(JobRejected, frozen=True, kw_only=True, tag="failed"):
    """The same as earlier versions wrote it. It is read and copied as it stands, and never written newly."""


class JobFinished(_JobEvent, frozen=True, kw_only=True, tag="finished", omit_defaults=True):
    """The service ran the job to its end: `ACTIVE` is well, anything else is not.

    `code` and `message` are its statusDetails, of which only the code is stable; `logs` says which of logs and metrics
    did not arrive, and why. `ended` is the service's own time of the end.
    """

    arn: str
    status: str
    code: str = ""
    message: str
    logs: str = ""
    ended: str = ""


JobEvent: TypeAlias = (
    Intent | JobSubmitted | Refused | JobUnknown | Absent | Duplicate | JobRejected | EarlierRejected | JobFinished
)
Event: TypeAlias = RunStarted | RunEnded | JobEvent
