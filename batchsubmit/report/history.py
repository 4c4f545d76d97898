"""What a ledger tells of a job, a run and a quota, for every report and export. Values only; `chronicle` makes them."""

from dataclasses import dataclass
from datetime import datetime

from batchsubmit.core.jobs import RunEnded, RunStarted
from batchsubmit.core.states import UNDECIDED, JobState, Phase
from batchsubmit.report.waits import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One job. Times are Unix seconds; `finished_at` is the service's, or else when a run saw the end."""

    state: JobState
    run: int
    via: str
    first_intent_at: float | None
    accepted_at: float | None
    finished_at: float | None
    waited: dict[Cause, float]

    @property
    def is_unknown(self) -> bool:
        """Whether the job may run on the service or not."""
        return self.state.phase in UNDECIDED

    @property
    def has_failed(self) -> bool:
        """Whether it could not be submitted, or ran to a bad end."""
        return self.state.phase is Phase.FAILED or (
            self.state.phase is Phase.FINISHED and self.state.status != "ACTIVE"
        )

    @property
    def seconds(self) -> float | None:
        """From acceptance to the end as it was seen."""
        if self.accepted_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.accepted_at, 0.0)


@dataclass(slots=True)
class RunSpan:
    """One run: its first line, its last one if it lived to write it, and the time of its last event."""

    started: RunStarted
    began_at: float
    last_at: float
    ended: RunEnded | None = None


@dataclass(frozen=True, slots=True)
class LearnedQuota:
    """A quota that a run learned: from then on at most `limit` jobs of a membership, or of the account (empty)."""

    at: float
    membership: str
    limit: int


def moment(at: str) -> float:
    """Unix seconds of an event's `at`."""
    return datetime.fromisoformat(at).timestamp()
