"""Whether a ledger's events make sense in their order: what no run of this program would have written. Pure."""

from dataclasses import dataclass, field
from typing import assert_never

from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Event,
    Finished,
    Intent,
    JobEvent,
    JobRejected,
    Refused,
    RunEnded,
    RunStarted,
    Submitted,
    Unknown,
)
from batchsubmit.core.ledger_state import Book
from batchsubmit.core.states import UNDECIDED, JobState, Phase

_HAS_ARN = frozenset({Phase.SUBMITTED, Phase.FINISHED})


@dataclass(slots=True)
class Audit:
    """Reads events one by one, folds them, and collects what is wrong with line numbers.

    A table has no lines: `unit` is then the word for what is numbered.
    """

    unit: str = "line"
    book: Book = field(default_factory=Book)
    faults: list[str] = field(default_factory=list)
    _owners: dict[str, str] = field(default_factory=dict)

    def read(self, number: int, event: Event) -> None:
        """Take in the event of one line."""
        if not isinstance(event, RunStarted | RunEnded):
            fault = misplaced(self.book.get(event.job), event) or self._claimed_twice(event)
            if fault:
                self.faults.append(f"{self.unit} {number}: {event.name}: {fault}")
        self.book.apply(event)

    def _claimed_twice(self, event: JobEvent) -> str:
        if not isinstance(event, Submitted):
            return ""
        owner = self._owners.setdefault(event.arn, event.job)
        return "" if owner == event.job else f"its ARN {event.arn} is already that of job {owner}"


def misplaced(before: JobState | None, event: JobEvent) -> str:
    """Say why an event cannot follow what is known of its job; empty where it can."""
    phase = before.phase if before and before.attempt + len(before.arn) else None
    match event:
        case Intent():
            return "a call after the job was submitted" if phase in _HAS_ARN else ""
        case Submitted():
            return _submission(phase, event)
        case Refused():
            return _after(phase, {Phase.INTENT}, "refused without a call")
        case Unknown():
            return _after(phase, UNDECIDED, "unknown without a call")
        case Absent():
            return _after(phase, UNDECIDED, "absent without a doubt")
        case JobRejected():
            return "failed after it was submitted" if phase in _HAS_ARN else ""
        case Finished() | Duplicate():
            return _after(phase, _HAS_ARN, "finished, or has a duplicate, before it was submitted")
        case _:
            assert_never(event)


def _submission(phase: Phase | None, event: Submitted) -> str:
    """An answer follows its intent; a lookup may also prove wrong what was recorded before.

    Attempt 0 is a call of which this ledger knows nothing: it was restored from a copy older than the call.
    """
    if phase in _HAS_ARN:
        return "submitted a second time"
    if phase is None and event.via == "lookup" and event.attempt == 0:
        return ""
    if phase is None or (event.via == "start" and phase is not Phase.INTENT):
        return "submitted without a call"
    return ""


def _after(phase: Phase | None, allowed: frozenset[Phase] | set[Phase], otherwise: str) -> str:
    return "" if phase in allowed else otherwise
