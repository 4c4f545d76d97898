"""Writes down what happened, then informs the observers: the ledger comes first."""

from collections.abc import Sequence
from datetime import datetime

from batchsubmit.cleanrooms.api import JobDetails
from batchsubmit.clock import Clock, timestamp
from batchsubmit.core.job_states import JobState, is_good_end
from batchsubmit.core.jobs import JobEvent, JobFinished
from batchsubmit.ledger.base import Ledger
from batchsubmit.observers.base import Observer


class Recorder:
    """Writes the events of one run."""

    def __init__(self, ledger: Ledger, clock: Clock, observers: Sequence[Observer] = ()) -> None:
        self.ledger = ledger
        self.clock = clock
        self._observers = observers

    async def record(self, event: JobEvent) -> None:
        """Write an event down and wait until the disk has it.

        The ledger takes the event before anything is awaited, so a caller that is cancelled here loses nothing.
        Raises StoppedError where the ledger can no longer be relied on.
        """
        began = self.clock.monotonic()
        durable = self.ledger.put(event)
        await durable
        took = self.clock.monotonic() - began
        for observer in self._observers:
            observer.ledger_took(took)
        self._tell(event)

    def note(self, event: JobEvent) -> None:
        """Write an event down that nothing waits for."""
        self.ledger.note(event)
        self._tell(event)

    def rate_cut(self, per_second: float) -> None:
        """Tell that the service throttles; the ledger has no use for it."""
        for observer in self._observers:
            observer.rate_cut(per_second)

    def finished(
        self, state: JobState, status: str, ended_at: datetime | None, details: JobDetails | None = None
    ) -> JobFinished:
        """Make the event of a job's end, with the service's words where it ended badly."""
        words = None if is_good_end(status) else details
        return JobFinished(
            **state.stamp(self.now()),
            arn=state.arn,
            status=status,
            code=words.code if words else "",
            message=words.message if words else "",
            logs=words.logs if words else "",
            ended=timestamp(ended_at) if ended_at else "",
        )

    def now(self) -> str:
        """The time for an event's `at`."""
        return timestamp(self.clock.now())

    def _tell(self, event: JobEvent) -> None:
        for observer in self._observers:
            observer.saw(event)
