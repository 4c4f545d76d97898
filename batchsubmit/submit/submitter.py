"""One job, from its intent to its outcome: intent on the disk, through the rate gate, one call, outcome on the disk.

It knows neither where jobs come from nor who goes next. What an answer means is decided in `cleanrooms`, how long to
wait before the next try in `pacing`; here stands what is done about it.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from batchsubmit.advice import denied_words, forbidden_words
from batchsubmit.cleanrooms.api import JobsApi
from batchsubmit.config import RetrySettings
from batchsubmit.core import jobs
from batchsubmit.core.source import Ending
from batchsubmit.ledger.base import ClaimedArnError, LostJobError
from batchsubmit.pacing import RateGate, retried
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason

Submission: TypeAlias = (
    jobs.Accepted | jobs.QuotaExceeded | jobs.OtherQuotaExceeded | jobs.Denied | jobs.Uncertain | Ending
)
"""How the submission of a job ended: by its last outcome, or DECIDED where the ledger says that it failed for good.

RELEASED where the run is stopping, or others have the job now: nothing was sent.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Makes the attempts of a job and writes down what came of each."""

    api: JobsApi
    recorder: Recorder
    gate: RateGate
    settings: RetrySettings
    stop: Stop

    async def submit(self, job: jobs.Job) -> Submission:
        """Try to submit a job until it is decided, a slot is missing, or the run stops.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        try:
            result = await retried(partial(self._attempt, job), self.settings, sleep=self.stop.pause)
        except LostJobError:  # the worker that took the job over looks it up, and finds what this call brought
            return Ending.RELEASED
        match result:
            case jobs.InvalidRequest() | jobs.Conflicted():
                return await self.fail(job, result)
            case jobs.Forbidden():
                self.stop.request(StopReason.of(result), forbidden_words("StartTrainedModelInferenceJob", result))
            case jobs.NotSent():
                self.stop.request(StopReason.of(result), f"nothing could be sent: {result.message}")
            case jobs.Throttled():
                pass
            case _:
                return result
        return Ending.RELEASED

    async def _attempt(self, job: jobs.Job) -> jobs.Result | Ending:
        """Make one call, between an intent and its outcome in the ledger. Raises StoppedError."""
        if self.stop.requested:
            return Ending.RELEASED
        state = self.recorder.ledger.state.get(job.key)
        attempt = state.attempt + 1 if state else 1
        if state and state.next_round:
            job = replace(job, round=state.next_round)
        intent = jobs.Intent(
            **job.stamp(self.recorder.now()),
            attempt=attempt,
            trained_model=job.trained_model,
            instance_type=job.instance_type,
            round=job.round,
        )
        await self.recorder.record(intent)
        outcome = await self._call(job)
        if outcome is None:
            refused = jobs.Refused(
                **job.stamp(self.recorder.now()), code="Withdrawn", cause=jobs.RefusalCause.WITHDRAWN, attempt=attempt
            )
            self.recorder.note(refused)
            return Ending.RELEASED
        if isinstance(outcome, jobs.Conflicted) and (state := self.recorder.ledger.state.get(job.key)) and state.doubts:
            # The conflict may be with our own earlier attempt, which the lookup missed: look again before trying on.
            outcome = jobs.Uncertain(f"{outcome.code} after an attempt without an answer: {outcome.message}")
        return await self._recorded(job, attempt, outcome)

    async def _call(self, job: jobs.Job) -> jobs.Result | None:
        """Make the call when its turn comes; None where it may not be made any more."""
        # Asked after all waits: meanwhile another worker may have taken a shared ledger's job over.
        if not await self.gate.admit() or not self.recorder.ledger.holds(job.key):
            return None
        sent_at = self.gate.monotonic()
        outcome = await self.api.start(job)
        if self.gate.answered(outcome, sent_at=sent_at):
            self.recorder.rate_cut(self.gate.pace.per_second)
        return outcome

    async def _recorded(self, job: jobs.Job, attempt: int, outcome: jobs.Result) -> jobs.Result:
        """Write down what the call brought. The event is taken at once, so that a cancelled task loses nothing."""
        stamp = job.stamp(self.recorder.now())
        if isinstance(outcome, jobs.Accepted):
            try:
                await self.recorder.record(jobs.JobSubmitted(**stamp, arn=outcome.arn, attempt=attempt, via="start"))
            except ClaimedArnError as exc:
                # Identical, untagged jobs are one another's: a lookup elsewhere has taken this one for such a job.
                outcome = jobs.Uncertain(str(exc))
        if isinstance(outcome, jobs.Uncertain):
            await self.recorder.record(jobs.JobUnknown(**stamp, reason=outcome.reason, attempt=attempt))
        elif not isinstance(outcome, jobs.Accepted):
            self.recorder.note(jobs.Refused(**stamp, code=outcome.code, cause=outcome.cause, attempt=attempt))
        return outcome

    async def fail(self, job: jobs.Job, outcome: jobs.InvalidRequest | jobs.Conflicted | jobs.Denied) -> Ending:
        """Record that a job failed for good; RELEASED where another worker has it by now, and will find out itself."""
        state = self.recorder.ledger.state.get(job.key)
        failed = jobs.JobRejected(
            **job.stamp(self.recorder.now()),
            code=outcome.code,
            message=denied_words(outcome.message) if isinstance(outcome, jobs.Denied) else outcome.message,
            attempt=state.attempt if state else 0,
        )
        try:
            await self.recorder.record(failed)
        except LostJobError:
            return Ending.RELEASED
        return Ending.DECIDED
