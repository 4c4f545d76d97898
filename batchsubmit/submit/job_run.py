"""Runs one delivery from its claim to its outcome in source, slots and ledger; and what refusals teach on the way.

When a call may begin is decided in `engine`, how one is made in `submitter`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, assert_never

from batchsubmit.advice import forbidden_words
from batchsubmit.core.job_states import Action, JobState, Retry, decide
from batchsubmit.core.jobs import Accepted, Denied, InvalidRequest, Job, OtherQuotaExceeded, QuotaExceeded, Uncertain
from batchsubmit.core.ledger_state import ACCOUNT
from batchsubmit.core.source import Delivery, Ending, Source
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import Taken
from batchsubmit.log import get_logger
from batchsubmit.slots import JobClass, RunningJob, Slots, Ticket, other_quota_words
from batchsubmit.submit.inputs import Inputs
from batchsubmit.submit.lookup import Lookup, Undecided
from batchsubmit.submit.poller import Poller
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Denials, InProgress, Stop, StopReason
from batchsubmit.submit.submitter import Submission, Submitter


@dataclass(kw_only=True, eq=False)
class JobRunner:
    """Runs deliveries to their end, and settles jobs that an earlier run left unknown; any number at a time.

    A job fails after `max_attempts` calls without an answer.
    """

    source: Source
    slots: Slots
    stop: Stop
    recorder: Recorder
    submitter: Submitter
    lookup: Lookup
    poller: Poller
    inputs: Inputs
    in_progress: InProgress
    max_attempts: int
    retry: Retry | None
    resubmit_unknown: bool
    denials: Denials = field(default_factory=Denials)
    _unanswered: Counter[str] = field(default_factory=Counter)
    _held_by_others: frozenset[str] = frozenset()
    _to_send_again: set[str] = field(default_factory=set)

    async def run(self, delivery: Delivery, ticket: Ticket, tasks: asyncio.TaskGroup) -> None:
        """Claim a job, submit it or look it up, release the claim, and tell its source how it ended."""
        ending: Ending | None = Ending.RELEASED
        with self.stop.on_error(StopReason.LEDGER):
            ending = await self._ending(delivery, ticket, tasks)
        if ending is Ending.DECIDED:
            self._unanswered.pop(delivery.job.key, None)
        if ending is not None:
            delivery.ended(ending)

    async def _ending(self, delivery: Delivery, ticket: Ticket, tasks: asyncio.TaskGroup) -> Ending | None:
        """Say how a job ended; None where its source deals with that, or it is kept as denied.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        job = delivery.job
        async with AsyncExitStack() as claim:
            with self.in_progress.job_in_progress():
                held = await claim.enter_async_context(self._claimed(job.key))
                brought = await self._submitted(job) if held is Action.SUBMIT else held
            self._end_call(job, ticket, brought)
            match brought:
                case Ending():
                    return brought
                case Accepted():
                    return await self._accepted()
                case QuotaExceeded():
                    return Ending.RELEASED
                case OtherQuotaExceeded():
                    return Ending.HELD
                case Denied():
                    return await self._denied(delivery, brought)
                case Uncertain() | Action.LOOK_UP:
                    return await self._look_up(job, tasks)
                case Taken():
                    with self.in_progress.looking_up():
                        await self.stop.pause(brought.retry_after_seconds)
                    return Ending.RELEASED
                case Action():  # another run has decided it since the source looked
                    self.in_progress.undecided.pop(job.key, None)
                    self.poller.follow(job.key)
                    return Ending.DECIDED
                case _:
                    assert_never(brought)

    def _end_call(self, job: Job, ticket: Ticket, brought: Submission | Action | Taken) -> None:
        """Give the leave to call back, by what the call brought, if one was made."""
        now = self.recorder.clock.monotonic()
        if isinstance(brought, Accepted):
            kind = JobClass(job.trained_model, job.instance_type)
            running = RunningJob(arn=brought.arn, key=job.key, kind=kind, began_at=now, seen_at=now)
            self.slots.accepted(ticket, running, now)
        elif isinstance(brought, QuotaExceeded):
            self.slots.refused(ticket, brought, now)
            self._log_held_by_others()
        elif isinstance(brought, OtherQuotaExceeded):
            if wait := self.slots.held(ticket, brought, now):
                words = {"membership": job.membership, "quota": other_quota_words(brought), "next_try_seconds": wait}
                get_logger().warning("lane.held", **words)
        else:
            self.slots.ended(ticket)

    @asynccontextmanager
    async def _claimed(self, key: str) -> AsyncIterator[Action | Taken]:
        """Claim a job until the end, and decide about it by its state then: what the source knew of it may be old.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        claim = await self.recorder.ledger.claim(key)
        if isinstance(claim, Taken):
            yield claim
            return
        action = decide(claim.state, retry=self.retry)
        try:
            yield Action.SUBMIT if action is Action.LOOK_UP and key in self._to_send_again else action
        finally:
            self.recorder.ledger.release(key)

    async def _submitted(self, job: Job) -> Submission:
        """Make the attempts, unless an input of the job is known to be one that can not be used."""
        refusal = self.inputs.refusal(job)
        return await (self.submitter.fail(job, refusal) if refusal else self.submitter.submit(job))

    def _log_held_by_others(self) -> None:
        """Log once that others seem to use a quota up, and again only after it was otherwise."""
        held = self.slots.held_by_others()
        for name in held.keys() - self._held_by_others:
            membership = None if name == ACCOUNT else name
            get_logger().warning("slots.held_by_others", membership=membership, slots=held[name])
        self._held_by_others = frozenset(held)

    async def _accepted(self) -> Ending:
        """The service has a job: those that were denied are so for their own sake."""
        self.denials.is_about_rows = True
        await self._reject_denied()
        return Ending.DECIDED

    # Jobs that the service denies

    async def _denied(self, delivery: Delivery, refusal: Denied) -> Ending | None:
        """Decide about a denied job, or keep it until it is known whether the caller may start any.

        A source from which jobs may still come does not stop for that.
        """
        if delivery.denied(refusal.code, refusal.message):
            return None
        if self.denials.is_about_rows or self.source.is_open:
            return await self.submitter.fail(delivery.job, refusal)
        self.denials.kept.append((delivery, refusal))
        return None

    async def _reject_denied(self) -> None:
        """Record that the jobs that were kept failed permanently, unless another worker has them by now."""
        for delivery, refusal in self.denials.take():
            ending = Ending.RELEASED
            with self.stop.on_error(StopReason.LEDGER):
                async with self._claimed(delivery.job.key) as held:
                    if held is Action.SUBMIT:
                        ending = await self.submitter.fail(delivery.job, refusal)
            delivery.ended(ending)

    async def settle_at_end(self) -> None:
        """Decide, when nothing else is left, about the jobs that were denied; those of a run that stops are left."""
        denials = self.denials
        if denials.is_everything:
            said = forbidden_words("StartTrainedModelInferenceJob", denials.kept[-1][1])
            count = len(denials.kept)
            words = f"all of {count} jobs were denied and none was accepted; none is recorded as rejected. {said}"
            self.stop.request(StopReason.DENIED, words)
        if not self.stop.requested:
            await self._reject_denied()
        for delivery, _ in denials.take():
            delivery.ended(Ending.RELEASED)

    # Jobs whose last call had no answer

    async def _look_up(self, job: Job, tasks: asyncio.TaskGroup) -> Ending:
        """Look up a call without an answer, and act on the finding."""
        with self.in_progress.looking_up():
            ending = await self._found(job.key, job.request, tasks)
        if ending is Ending.DECIDED:
            return await self._accepted()
        if ending is Ending.RELEASED and self._unanswered[job.key] >= self.max_attempts:
            message = f"{self.max_attempts} calls brought no answer, and none of them was accepted"
            return await self.submitter.fail(job, InvalidRequest("NoAnswer", message))
        return ending

    async def _found(self, key: str, request: Mapping[str, Any] | None, tasks: asyncio.TaskGroup) -> Ending:
        """Look up on the service whether a call without an answer was accepted; RELEASED says to send it again.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        try:
            finding = await self.lookup.resolve(key, request, tasks)
        except StoppedError:
            self.in_progress.undecided[key] = "the ledger cannot be written"
            raise
        self.in_progress.undecided.pop(key, None)
        match finding:
            case Accepted():
                self.poller.follow(key)
                return Ending.DECIDED
            case Undecided(is_lost=True):  # another worker has it: ask in a while whether that one submitted it
                return Ending.RELEASED
            case Undecided(reason) if self.stop.requested or not self.resubmit_unknown:
                self.in_progress.undecided[key] = reason
                return Ending.UNKNOWN
            case Undecided():
                self._to_send_again.add(key)
        self._unanswered[key] += 1
        return Ending.RELEASED

    async def settle(self, state: JobState, tasks: asyncio.TaskGroup) -> None:
        """Look a job up that an earlier run left unknown, and unblock its lane; what is not there is queued again."""
        key = state.job
        request: Mapping[str, Any] | None = None
        with self.stop.on_error(StopReason.MANIFEST):
            request = self.source.request_of(key)
        held: Action | Taken = Taken("", 0.0)  # until the ledger says more
        with self.stop.on_error(StopReason.LEDGER):
            while True:
                async with self._claimed(key) as held:
                    if held is Action.SUBMIT or (
                        held is Action.LOOK_UP and await self._found(key, request, tasks) is Ending.RELEASED
                    ):
                        self.source.requeue(key)
                    elif isinstance(held, Action):
                        self.poller.follow(key)
                if isinstance(held, Action) or self.stop.requested:
                    break
                await self.stop.pause(held.retry_after_seconds)
        if isinstance(held, Taken):
            why = f"claimed by {held.by}" if held.by else "the ledger cannot be relied on"
            self.in_progress.undecided[key] = why
        self.in_progress.blocked -= Counter({state.membership: 1})  # a count of 0 is dropped
        self.in_progress.changed.set()
