"""What observers of a run are: logs, counts, metrics. They get each event after the ledger and can hold nothing up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    RefusalCause,
    Refused,
)
from batchsubmit.core.states import State
from batchsubmit.log import get_logger


class Observer(Protocol):
    """Gets every event of a job once the ledger has it, changes of the rate, and how long the ledger took."""

    def saw(self, event: JobEvent) -> None:
        """An event of a job was recorded."""
        ...

    def rate_cut(self, per_second: float) -> None:
        """The service throttled and the rate is now this."""
        del per_second

    def ledger_took(self, seconds: float) -> None:
        """An event took this long to become durable."""
        del seconds


def bind_run(run: str) -> None:
    """Put the run's name into every line that this task and those it starts log from now on."""
    structlog.contextvars.bind_contextvars(run=run)


def bind_worker(worker: str) -> None:
    """Put a worker's name into every line that this task and those it starts log from now on."""
    structlog.contextvars.bind_contextvars(worker=worker)


class LogObserver(Observer):
    """One log line an event; those that a person should look at are warnings or errors."""

    def __init__(self) -> None:
        # Bound once: an unbound logger is set up again at each call, whether its line is wanted or not.
        self._log = get_logger().bind()

    def saw(self, event: JobEvent) -> None:
        """Log an event of a job."""
        log, job = self._log, {"job": event.job, "name": event.name, "membership": event.membership}
        match event:
            case Intent():
                log.debug("job.intent", **job, attempt=event.attempt)
            case JobSubmitted():
                log.info("job.submitted", **job, attempt=event.attempt, arn=event.arn, via=event.via)
            case Refused():
                log.debug("job.refused", **job, attempt=event.attempt, code=event.code, cause=event.cause)
            case JobUnknown():
                log.warning("job.unknown", **job, attempt=event.attempt, reason=event.reason)
            case Absent():
                log.info("job.absent", **job, attempt=event.attempt)
            case Duplicate():
                log.error("job.duplicate", **job, arn=event.arn, of=event.of)
            case JobRejected():
                log.warning("job.rejected", **job, attempt=event.attempt, code=event.code, message=event.message)
            case JobFinished():
                state = State.of_end(event.status)
                write = log.warning if state is State.FAILED else log.info
                end = {"arn": event.arn, "status": event.status, "code": event.code, "message": event.message}
                write(f"job.{state}", **job, **end)

    def rate_cut(self, per_second: float) -> None:
        """Log that the service throttles."""
        self._log.warning("rate.cut", calls_per_second=round(per_second, 3))


class RunCounts(Observer):
    """Counts of one run, for the display, the failure limit and the summary.

    `on_decided` is called after each job that was decided or finished.
    """

    def __init__(self, on_decided: Callable[["RunCounts"], None] = lambda _: None) -> None:
        self.submitted = 0
        self.rejected = 0
        self._unknown: set[str] = set()
        self.refused_by_quota = 0
        self.throttled = 0
        self.succeeded = 0
        self.failed = 0
        self.cancelled = 0
        self._on_decided = on_decided

    def __repr__(self) -> str:
        return f"<RunCounts {self.submitted} submitted, {self.rejected} rejected, {self.failed} failed>"

    def saw(self, event: JobEvent) -> None:
        """Count one event."""
        match event:
            case JobSubmitted():
                self.submitted += 1
                self._unknown.discard(event.job)
            case Absent():
                self._unknown.discard(event.job)
                return
            case JobRejected():
                self.rejected += 1
            case JobUnknown():
                self._unknown.add(event.job)
            case JobFinished():
                state = State.of_end(event.status)
                self.succeeded += state is State.SUCCEEDED
                self.failed += state is State.FAILED
                self.cancelled += state is State.CANCELLED
            case Refused():
                self.refused_by_quota += event.cause == RefusalCause.SLOTS
                return
            case _:
                return
        self._on_decided(self)

    @property
    def unknown(self) -> int:
        """Jobs that are unknown now."""
        return len(self._unknown)

    def rate_cut(self, per_second: float) -> None:
        """Count that the service throttled and the rate was cut."""
        del per_second
        self.throttled += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReading:
    """One membership: jobs that wait, slots that are taken (ours and others'), and the quota where it is known."""

    membership: str
    waiting: int
    slots_used: int
    slots_known: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The state of a worker. A None has no series: what is not known is not shown as zero.

    `messages` and `queue_failures` count since the worker began, by a few words of ours.
    """

    lanes: tuple[LaneReading, ...] = ()
    account_slots_used: int | None = None
    account_slots_known: int | None = None
    rate_per_second: float = 0.0
    calls_under_way: int = 0
    jobs_unknown: int = 0
    jobs_undecided: int = 0
    messages_held: int = 0
    oldest_message_age_seconds: float | None = None
    is_draining: bool = False
    queue_polls: int = 0
    messages: Mapping[str, int] = field(default_factory=dict)
    queue_failures: Mapping[str, int] = field(default_factory=dict)
