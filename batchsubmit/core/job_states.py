"""Where each job stands, read off the ledger's events, and what that allows. Pure.

`fold` is the only reading of the events: a run, `status` and every later report see a job the same way. All jobs of a
ledger are in a `ledger_state.LedgerState`.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from batchsubmit.core import jobs

LOG_GROUP = "/aws/cleanroomsml/TrainedModelInferenceJobs"
"""Where the logs of a job's container arrive in CloudWatch (User Guide, "Receiving model logs and metrics")."""

DEFAULT_PER_MEMBERSHIP = 5
DEFAULT_PER_ACCOUNT = 10
"""AWS's default quotas L-0F77DDDB and L-249F4B83 of pending or running jobs ("Quotas for Clean Rooms ML")."""

BURST = 3
"""Calls that may leave at once after a pause, whatever the rate: AWS documents it for StartTrainedModelInferenceJob
(User Guide, "Quotas for Clean Rooms ML": 1 call a second, burst 3)."""


class Phase(StrEnum):
    """The last thing that is known of a job."""

    INTENT = "intent"  # a call may have left: as unknown as UNKNOWN, only nobody lived to say so
    UNKNOWN = "unknown"
    REFUSED = "refused"
    ABSENT = "absent"
    SUBMITTED = "submitted"
    REJECTED = "failed"  # as tables of earlier versions have it
    FINISHED = "finished"


UNDECIDED = frozenset({Phase.INTENT, Phase.UNKNOWN})
"""The job may run on the service or not: it is looked up, never sent again blindly."""


class Action(StrEnum):
    """What a run may do with a job."""

    SUBMIT = "submit"
    LOOK_UP = "look_up"
    NOTHING = "nothing"


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as the ledger knows it.

    `attempt` is the number of the last one, `since` the time of its intent; `doubts` counts the unknown attempts that
    a lookup did not find; `duplicates` are ARNs that run beside `arn`, `earlier` those of earlier rounds. `code`,
    `message` and `logs` are those of the last event that has them.
    """

    job: str
    membership: str
    name: str
    phase: Phase
    attempt: int = 0
    since: str = ""
    trained_model: str = ""
    arn: str = ""
    code: str = ""
    message: str = ""
    status: str = ""
    logs: str = ""
    doubts: int = 0
    duplicates: tuple[str, ...] = ()
    round: int = 0
    earlier: tuple[str, ...] = ()

    @property
    def arns(self) -> tuple[str, ...]:
        """All ARNs that are this job's."""
        return (self.arn, *self.duplicates, *self.earlier)

    @property
    def tag(self) -> str:
        """What our tag says of the last round."""
        return jobs.round_tag(self.job, self.round)

    @property
    def next_round(self) -> int:
        """The round that a call would be of: a job that has run is sent again as another one."""
        return self.round + bool(self.arn)

    def stamp(self, at: str) -> jobs.Stamp:
        """Begin an event of this job."""
        return {"at": at, "job": self.job, "membership": self.membership, "name": self.name}

    @property
    def bad_end(self) -> str:
        """The code of a job that ran to a bad end, or its status where the service gave none; else empty."""
        return self.code or self.status if self.phase is Phase.FINISHED and not is_good_end(self.status) else ""


FINAL_STATUSES = frozenset({"ACTIVE", "CREATE_FAILED", "CANCEL_FAILED", "INACTIVE"})
RUNNING_STATUSES = frozenset({"CREATE_PENDING", "CREATE_IN_PROGRESS", "CANCEL_PENDING", "CANCEL_IN_PROGRESS"})
CANCELLED_STATUS = "INACTIVE"
"""The service's status of a job whose cancellation is done."""


def is_running(status: str) -> bool:
    """Whether a job in this status holds its slot; so does one in a status that this version does not know.

    AWS's quota page counts "pending/in-progress" jobs; that a job which is being cancelled is among them is assumed.
    """
    return status not in FINAL_STATUSES


def is_good_end(status: str) -> bool:
    """Whether the service's status of a job says that it finished well."""
    return status == "ACTIVE"


class State(StrEnum):
    """Where a job stands, in the words of every surface; what needs action comes first. All counts of jobs are by this.

    A job is submitted until its end is seen; it was rejected where the service refused it for good.
    """

    UNKNOWN = "unknown"
    REJECTED = "rejected"
    FAILED = "failed"
    PENDING = "pending"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, state: JobState | None) -> "State":
        """Judge one job; a job that the ledger does not know is pending."""
        if state is None or state.phase in {Phase.REFUSED, Phase.ABSENT}:
            return cls.PENDING
        if state.phase is Phase.FINISHED:
            return cls.of_end(state.status)
        return {Phase.SUBMITTED: cls.SUBMITTED, Phase.REJECTED: cls.REJECTED}.get(state.phase, cls.UNKNOWN)

    @classmethod
    def of_end(cls, status: str) -> "State":
        """Judge a job that has ended by the service's status of it."""
        if is_good_end(status):
            return cls.SUCCEEDED
        return cls.CANCELLED if status == CANCELLED_STATUS else cls.FAILED


def has_failed(state: JobState) -> bool:
    """Whether a job was rejected, failed, or was cancelled."""
    return State.of(state) in {State.REJECTED, State.FAILED, State.CANCELLED}


def end_words(end: JobState | jobs.JobFinished) -> str:
    """Say how a job ended badly: status, code, message, and what keeps its logs from being read."""
    said = ": ".join(filter(None, (end.status, end.code, end.message)))
    return f"{said} ({end.logs})" if end.logs else said


def begins_round(before: JobState, event: jobs.JobEvent) -> bool:
    """Whether an event sends a job again that ran and failed."""
    return isinstance(event, jobs.Intent) and event.round > before.round and bool(before.bad_end)


def fold(state: JobState | None, event: jobs.JobEvent) -> JobState:
    """Add one event to what is known of its job; one in an impossible order is passed over.

    Nothing makes a submitted job, or one with a later attempt, free to send.
    """
    before = state or JobState(job=event.job, membership=event.membership, name=event.name, phase=Phase.REFUSED)
    if not isinstance(event, jobs.JobSubmitted | jobs.JobFinished | jobs.Duplicate) and not begins_round(before, event):
        is_late = not isinstance(event, jobs.Intent | jobs.JobUnknown) and event.attempt < before.attempt
        if before.arn or is_late:
            return before
    return _folded(before, event)


_OF_THE_END = ("arn", "status", "code", "message", "logs")
"""What a job's end sets, and another round clears."""


def _folded(before: JobState, event: jobs.JobEvent) -> JobState:
    match event:
        case jobs.Intent():
            return replace(
                before,
                phase=Phase.INTENT,
                attempt=event.attempt,
                since=event.at,
                trained_model=event.trained_model,
                **_new_round(before, event),
            )
        case jobs.JobSubmitted():
            return replace(before, phase=Phase.SUBMITTED, attempt=event.attempt, arn=event.arn)
        case jobs.Refused():
            return replace(before, phase=Phase.REFUSED, attempt=event.attempt, code=event.code)
        case jobs.JobUnknown():
            return replace(before, phase=Phase.UNKNOWN, attempt=event.attempt, message=event.reason)
        case jobs.Absent():
            return replace(before, phase=Phase.ABSENT, attempt=event.attempt, doubts=before.doubts + 1)
        case jobs.Duplicate():
            return replace(before, duplicates=(*before.duplicates, event.arn))
        case jobs.JobRejected():
            return replace(before, phase=Phase.REJECTED, attempt=event.attempt, code=event.code, message=event.message)
        case jobs.JobFinished():
            return replace(before, phase=Phase.FINISHED, **{name: getattr(event, name) for name in _OF_THE_END})
        case _:
            assert_never(event)


def _new_round(before: JobState, event: jobs.Intent) -> dict[str, Any]:
    """What an intent of another round changes: the job is as one that never ran, and its earlier ARN stays its own."""
    if not begins_round(before, event):
        return {}
    cleared = dict.fromkeys(_OF_THE_END, "")
    return {**cleared, "doubts": 0, "round": event.round, "earlier": (*before.earlier, before.arn)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which jobs are sent again: rejected ones, and ones that ran and failed. A cancelled job is neither.

    `before` leaves out what was tried since (RFC 3339, UTC), so that a run never sends a job again that failed in it.
    """

    statuses: frozenset[str] = frozenset({State.REJECTED, State.FAILED})
    codes: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    before: str = ""

    def takes(self, state: JobState | None) -> bool:
        """Whether a job is one of them."""
        if state is None or (self.before and state.since >= self.before):
            return False
        return (
            State.of(state) in self.statuses
            and (not self.codes or not self.codes.isdisjoint({state.code, state.status}))
            and (not self.names or any(fnmatchcase(state.name, glob) for glob in self.names))
            and (not self.messages or any(fnmatchcase(state.message, glob) for glob in self.messages))
        )


_ACTIONS = {State.PENDING: Action.SUBMIT, State.UNKNOWN: Action.LOOK_UP}


def decide(state: JobState | None, *, retry: Retry | None = None) -> Action:
    """Say what a run may do with a job that stands so."""
    if retry and retry.takes(state):
        return Action.SUBMIT
    return _ACTIONS.get(State.of(state), Action.NOTHING)
