"""Those who watch a run: logs, progress, metrics. They are told after the ledger and can hold nothing up."""

from typing import Protocol

from batchsubmit.core.jobs import JobEvent


class Observer(Protocol):
    """Told of every event of a job once the ledger has it, of changes of the rate, and of how long the ledger took."""

    def saw(self, event: JobEvent) -> None:
        """An event of a job was recorded."""
        ...

    def rate_cut(self, per_second: float) -> None:
        """The service throttled and the rate is now this."""
        ...

    def ledger_took(self, seconds: float) -> None:
        """An event that somebody waits for took this long to become durable."""
        ...
