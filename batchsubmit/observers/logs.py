"""Logs a run through structlog: keys, never sentences, and nothing from a request body."""

import structlog

from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Finished,
    Intent,
    JobEvent,
    JobRejected,
    Refused,
    Submitted,
    Unknown,
)
from batchsubmit.log import get_logger


def bind_run(run: str) -> None:
    """Put the run's name into every line that this task and those it starts log from now on."""
    structlog.contextvars.bind_contextvars(run=run)


def bind_worker(worker: str) -> None:
    """Put a worker's name into every line that this task and those it starts log from now on."""
    structlog.contextvars.bind_contextvars(worker=worker)


class LogObserver:
    """One log line an event; ordinary ones at `info` and `debug`, those that want a person's eye at `warning`."""

    def __init__(self) -> None:
        # Bound once: what get_logger gives makes itself anew at each call, whether its line is wanted or not.
        self._log = get_logger().bind()

    def saw(self, event: JobEvent) -> None:
        """Log an event of a job."""
        log, job = self._log, {"job": event.job, "membership": event.membership}
        match event:
            case Intent():
                log.debug("job.intent", **job, attempt=event.attempt)
            case Submitted():
                log.info("job.submitted", **job, attempt=event.attempt, arn=event.arn, via=event.via)
            case Refused():
                log.debug("job.refused", **job, attempt=event.attempt, code=event.code, cause=event.cause)
            case Unknown():
                log.warning("job.unknown", **job, attempt=event.attempt, reason=event.reason)
            case Absent():
                log.info("job.absent", **job, attempt=event.attempt)
            case Duplicate():
                log.error("job.duplicate", **job, arn=event.arn, of=event.of)
            case JobRejected():
                log.warning("job.failed", **job, attempt=event.attempt, code=event.code, message=event.message)
            case Finished():
                log.info("job.finished", **job, arn=event.arn, status=event.status, code=event.code)

    def rate_cut(self, per_second: float) -> None:
        """Log that the service throttles."""
        self._log.warning("rate.cut", calls_per_second=round(per_second, 3))

    def ledger_took(self, seconds: float) -> None:
        """Take no notice: a line for each write would tell nothing that the metrics do not."""
