"""What observers of a run are: logs, counts, metrics. They get each event after the ledger and can hold nothing up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from batchsubmit.core import jobs
from batchsubmit.core.job_states import State
from batchsubmit.log import get_logger


class Observer:
    """Gets every event of a job once the ledger has it, changes of the rate, and how long the ledger took."""

    def saw(self, event: jobs.JobEvent) -> None:
        """An event of a job was recorded."""

    def rate_cut(self, per_second: float) -> None:
        """The service throttled and the rate is now this."""

    def ledger_took(self, seconds: float) -> None:
        """An event took this long to become durable."""


_LOGGED: dict[type[jobs.JobEvent], tuple[str, str]] = {
    jobs.Intent: ("debug", "attempt"),
    jobs.JobSubmitted: ("info", "attempt arn via"),
    jobs.Refused: ("debug", "attempt code cause"),
    jobs.JobUnknown: ("warning", "attempt reason"),
    jobs.Absent: ("info", "attempt"),
    jobs.Duplicate: ("error", "arn of"),
    jobs.JobRejected: ("warning", "attempt code message"),
    jobs.JobFinished: ("info", "arn status code message"),
}
"""The level of an event's line, and what it has of the event. Those that a person should look at are no `info`."""


class LogObserver(Observer):
    """One log line an event."""

    def __init__(self) -> None:
        # Bound once: an unbound logger is set up again at each call, whether its line is wanted or not.
        self._log = get_logger().bind()

    def saw(self, event: jobs.JobEvent) -> None:
        """Log an event of a job; that of an end is named after where the job stands."""
        level, members = _LOGGED[type(event)]
        word = str(event.__struct_config__.tag)
        if isinstance(event, jobs.JobFinished):
            word = State.of_end(event.status)
            level = "warning" if word == State.FAILED else level
        values = {name: getattr(event, name) for name in ("job", "name", "membership", *members.split())}
        getattr(self._log, level)(f"job.{word}", **values)

    def rate_cut(self, per_second: float) -> None:
        """Log that the service throttles."""
        self._log.warning("rate.cut", calls_per_second=round(per_second, 3))


class RunCounts(Observer):
    """Counts of one run; `on_decided` is called after each job that was decided or finished."""

    def __init__(self, on_decided: Callable[["RunCounts"], None] = lambda _: None) -> None:
        self.submitted = self.rejected = self.succeeded = self.failed = self.cancelled = 0
        self.refused_by_quota = self.throttled = 0
        self._unknown: set[str] = set()
        self._on_decided = on_decided

    def saw(self, event: jobs.JobEvent) -> None:
        """Count one event."""
        self._unknown.discard(event.job)
        match event:
            case jobs.JobSubmitted():
                self.submitted += 1
            case jobs.JobRejected():
                self.rejected += 1
            case jobs.JobUnknown():
                self._unknown.add(event.job)
            case jobs.JobFinished():
                state = State.of_end(event.status)
                self.succeeded += state is State.SUCCEEDED
                self.failed += state is State.FAILED
                self.cancelled += state is State.CANCELLED
            case jobs.Refused():
                self.refused_by_quota += event.cause == jobs.RefusalCause.SLOTS
        if isinstance(event, jobs.JobSubmitted | jobs.JobRejected | jobs.JobUnknown | jobs.JobFinished):
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
class Readings:
    """The state of a worker, by the names of its metrics. What is not known is None or missing, not zero.

    `jobs_waiting` and the slots are by membership. `messages` and `queue_failures` count since the worker began, by a
    few words of ours.
    """

    account_slots_used: int | None = None
    account_slots_known: int | None = None
    rate_calls_per_second: float = 0.0
    calls_under_way: int = 0
    jobs_unknown: int = 0
    jobs_undecided: int = 0
    messages_held: int = 0
    oldest_message_age_seconds: float | None = None
    draining: bool = False
    queue_polls: int = 0
    messages: Mapping[str, int] = field(default_factory=dict)
    queue_failures: Mapping[str, int] = field(default_factory=dict)
    jobs_waiting: Mapping[str, int] = field(default_factory=dict)
    slots_used: Mapping[str, int] = field(default_factory=dict)
    slots_known: Mapping[str, int] = field(default_factory=dict)
