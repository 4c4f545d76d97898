"""How long jobs have run, which tells when to poll one and when a batch will be done. Pure."""

from collections import deque
from statistics import fmean

from batchsubmit.core.jobs import JobClass

_ENOUGH = 3
"""Jobs that must have ended before a class of jobs is judged by its own times."""

_KEPT = 200
"""Times kept of a class, the latest ones: models and data change."""

ALL = JobClass()
"""The class of all jobs."""


class RunTimes:
    """How long jobs have run, by trained model and instance type; of those that have not ended, how long at least.

    `doubt` is how wrong all of them may be together (a sigma): some are only someone's word.
    """

    def __init__(self, *, doubt: float = 0.0) -> None:
        self.doubt = doubt
        self._seen: dict[JobClass, deque[tuple[float, bool]]] = {}

    def add(self, kind: JobClass, seconds: float, *, ended: bool = True) -> None:
        """Add a job's run time, or how long it ran at least."""
        for wider in {kind, JobClass(kind.trained_model), ALL}:
            self._seen.setdefault(wider, deque(maxlen=_KEPT)).append((max(seconds, 1e-3), ended))

    def update(self, other: "RunTimes") -> None:
        """Add what another ledger has, as the later times."""
        for kind, seen in other._seen.items():  # noqa: SLF001 (of our own kind)
            self._seen.setdefault(kind, deque(maxlen=_KEPT)).extend(seen)

    def seen(self, kind: JobClass) -> list[tuple[float, bool]]:
        """The times of a class, in the order seen, and whether each is that of a whole run."""
        return list(self._seen.get(kind, ()))

    def ended(self, kind: JobClass = ALL) -> list[float]:
        """The times of jobs that have ended."""
        return [seconds for seconds, has_ended in self._seen.get(kind, ()) if has_ended]

    def known_class(self, kind: JobClass) -> JobClass:
        """The narrowest class around this one of which enough jobs have ended: its own, its model's, or all."""
        narrower = (kind, JobClass(kind.trained_model))
        return next((each for each in narrower if len(self.ended(each)) >= _ENOUGH), ALL)

    def mean_seconds(self, kind: JobClass) -> float | None:
        """How long a job of this class takes on average; None where no time is known."""
        return fmean(ended) if (ended := self.ended(self.known_class(kind))) else None

    def expected(self, kind: JobClass) -> tuple[float, float] | None:
        """The seconds after which one of twenty jobs like this has ended, and half of them; None where none has."""
        times = sorted(self.ended(self.known_class(kind)))
        return (times[len(times) // 20], times[len(times) // 2]) if times else None
