"""Those who watch a run: logs, progress, metrics. They are told after the ledger and can hold nothing up."""

from typing import Protocol

from batchsubmit.jobs import JobEvent


class Observer(Protocol):
    """Told of every event of a job once the ledger has it, and of changes of the rate."""

    def saw(self, event: JobEvent) -> None:
        """An event of a job was recorded."""
        ...

    def rate_cut(self, per_second: float) -> None:
        """The service throttled and the rate is now this."""
        ...
