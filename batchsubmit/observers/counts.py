"""Counts what happened in this run; the progress display, the failure limit and the summary read it."""

from collections.abc import Callable

from batchsubmit.core.jobs import Absent, Finished, JobEvent, JobRejected, RefusalCause, Refused, Submitted, Unknown


class Tally:
    """Running counts of one run. `on_decided` is called after each job that was decided or finished."""

    def __init__(self, on_decided: Callable[["Tally"], None] = lambda _: None) -> None:
        self.submitted = 0
        self.failed = 0
        self._unknown: set[str] = set()
        self.refused_by_quota = 0
        self.throttled = 0
        self.finished_well = 0
        self.finished_badly = 0
        self._on_decided = on_decided

    def __repr__(self) -> str:
        return f"<Tally {self.submitted} submitted, {self.failed} failed, {self.unknown} unknown>"

    def saw(self, event: JobEvent) -> None:
        """Count one event."""
        match event:
            case Submitted():
                self.submitted += 1
                self._unknown.discard(event.job)
            case Absent():
                self._unknown.discard(event.job)
                return
            case JobRejected():
                self.failed += 1
            case Unknown():
                self._unknown.add(event.job)
            case Finished():
                self.finished_well += event.status == "ACTIVE"
                self.finished_badly += event.status != "ACTIVE"
            case Refused():
                self.refused_by_quota += event.cause == RefusalCause.SLOTS
                return
            case _:
                return
        self._on_decided(self)

    @property
    def unknown(self) -> int:
        """Jobs whose fate is unknown now."""
        return len(self._unknown)

    def rate_cut(self, per_second: float) -> None:
        """Count one throttling that was answered by a lower rate."""
        del per_second
        self.throttled += 1

    def ledger_took(self, seconds: float) -> None:
        """Take no notice: nothing of it is counted."""
