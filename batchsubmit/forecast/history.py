"""What earlier runs tell of the time that jobs take, read off ledgers. Pure over events.

A job's time is from its `submitted` to its end: the service's own where the ledger has it, else when it was seen. Jobs
of which only a least time is known (they still ran when somebody last looked) count too, or a batch that has just begun
would be judged by its shortest jobs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from batchsubmit.jobs import Event, Finished, Intent, RunEnded, Submitted

_MOST_CALL_SECONDS = 5.0
"""An answer that took longer waited for something else: a rate, a retry, a machine asleep."""


@dataclass(frozen=True, slots=True)
class Observation:
    """How long a job ran; with `ended` false, how long at least."""

    seconds: float
    ended: bool = True


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that was submitted and of whose end the ledger does not know."""

    membership: str
    trained_model: str
    since: datetime


@dataclass(slots=True)
class _Open:
    """A job on its way through the ledger."""

    membership: str
    trained_model: str = ""
    intended_at: datetime | None = None
    submitted_at: datetime | None = None


@dataclass(slots=True)
class History:
    """What was learned: observations by trained model, seconds that Start calls took, who still runs.

    `quotas` are those that runs learned, of memberships and, as `account` with its number, of accounts.
    """

    observations: dict[str, list[Observation]] = field(default_factory=dict)
    call_seconds: list[float] = field(default_factory=list)
    running: list[RunningJob] = field(default_factory=list)
    quotas: dict[str, int] = field(default_factory=dict)

    def add(self, other: "History") -> None:
        """Take in what another history learned."""
        for model, times in other.observations.items():
            self.observations.setdefault(model, []).extend(times)
        self.call_seconds.extend(other.call_seconds)
        self.running.extend(other.running)
        self.quotas.update(other.quotas)

    def read(self, events: Iterable[Event]) -> None:
        """Take in one ledger, from its first event to its last."""
        open_jobs: dict[str, _Open] = {}
        last_look: datetime | None = None
        for event in events:
            match event:
                case Intent():
                    job = _Open(event.membership, event.trained_model, _moment(event.at))
                    open_jobs[event.job] = job
                case Submitted():
                    self._submitted(open_jobs.setdefault(event.job, _Open(event.membership)), event)
                case Finished():
                    seen_at = _moment(event.at)
                    last_look = max(last_look or seen_at, seen_at)
                    self._finished(open_jobs.pop(event.job, None), event)
                case RunEnded():
                    self.quotas.update(event.quotas)
        self._close(open_jobs.values(), last_look)

    def _submitted(self, job: _Open, event: Submitted) -> None:
        at = _moment(event.at)
        if event.via == "lookup":
            job.submitted_at = job.intended_at
            return
        job.submitted_at = at
        if job.intended_at is not None:
            taken = (at - job.intended_at).total_seconds()
            if 0 < taken < _MOST_CALL_SECONDS:
                self.call_seconds.append(taken)

    def _finished(self, job: _Open | None, event: Finished) -> None:
        if job is None or job.submitted_at is None:
            return
        seconds = (_moment(event.ended or event.at) - job.submitted_at).total_seconds()
        if seconds <= 0:  # the service's clock is behind ours
            seconds = (_moment(event.at) - job.submitted_at).total_seconds()
        self._observe(job.trained_model, Observation(max(seconds, 1e-3)))

    def _close(self, left: Iterable[_Open], last_look: datetime | None) -> None:
        """Keep what is known of the jobs without an end: they ran at least until somebody looked last."""
        for job in left:
            if job.submitted_at is None:
                continue
            self.running.append(RunningJob(job.membership, job.trained_model, job.submitted_at))
            if last_look is not None and last_look > job.submitted_at:
                least = (last_look - job.submitted_at).total_seconds()
                self._observe(job.trained_model, Observation(least, ended=False))

    def _observe(self, trained_model: str, observation: Observation) -> None:
        self.observations.setdefault(trained_model, []).append(observation)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
