"""Cancels jobs on the service, and only those that it is given: paced, repeated where safe, and recorded at their end.

Unlike a start a cancellation may be repeated, so an unclear answer is looked at and tried again. It knows neither the
terminal nor which jobs to choose beyond `chosen`.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeAlias

from batchsubmit.advice import forbidden_words
from batchsubmit.cleanrooms.api import JobsApi, is_running
from batchsubmit.cleanrooms.reads import JobReads, ReadError
from batchsubmit.config import SlotSettings
from batchsubmit.core.jobs import (
    Accepted,
    Conflicted,
    Denied,
    Forbidden,
    NotSent,
    Outcome,
    Throttled,
    Uncertain,
)
from batchsubmit.core.states import JobState, Phase
from batchsubmit.pacing import RateGate, RetryPolicies
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason

OPERATION = "CancelTrainedModelInferenceJob"
_CALLS_AT_ONCE = 8
_CANCELLING = frozenset({"CANCEL_PENDING", "CANCEL_IN_PROGRESS"})


class RunState(StrEnum):
    """Whether a job on the service runs, is being cancelled or has ended."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    """No call was made, because the run is stopping."""


_Result: TypeAlias = Outcome | _Withdrawn


def chosen(states: Iterable[JobState], *, memberships: Collection[str], names: Sequence[str]) -> list[JobState]:
    """The submitted jobs of these memberships (none named: of all) whose names fit one of the globs (none: any)."""
    return [
        state
        for state in states
        if state.phase is Phase.SUBMITTED
        and (not memberships or state.membership in memberships)
        and (not names or any(fnmatchcase(state.name, glob) for glob in names))
    ]


def run_state(status: str) -> RunState:
    """Sort a status of the service."""
    if status in _CANCELLING:
        return RunState.CANCELLING
    return RunState.RUNNING if is_running(status) else RunState.ENDED


async def look(catalog: JobReads, states: Iterable[JobState]) -> dict[RunState, list[JobState]]:
    """Ask the service where these jobs stand; one that List does not show (yet) is asked for by its ARN.

    A job that the service does not have at all is left out. Raises ReadError.
    """
    lanes: dict[str, list[JobState]] = {}
    for state in states:
        lanes.setdefault(state.membership, []).append(state)
    found: dict[RunState, list[JobState]] = {each: [] for each in RunState}
    for membership in sorted(lanes):
        listed = {job.arn: job.status for job in await catalog.jobs(membership)}
        for state in lanes[membership]:
            status = listed.get(state.arn) or await _status(catalog, state)
            if status:
                found[run_state(status)].append(state)
    return found


async def _status(catalog: JobReads, state: JobState) -> str:
    details = await catalog.find(state.membership, state.arn)
    return details.status if details else ""


class Canceller:
    """Asks the service to end jobs; `refused` has those that it will not end, with its words."""

    def __init__(self, *, api: JobsApi, catalog: JobReads, gate: RateGate, policies: RetryPolicies, stop: Stop) -> None:
        self._api = api
        self._catalog = catalog
        self._gate = gate
        self._policies = policies
        self._stop = stop
        self._at_once = asyncio.Semaphore(_CALLS_AT_ONCE)
        self.asked: list[JobState] = []
        self.refused: dict[str, str] = {}

    async def cancel(self, states: Iterable[JobState]) -> None:
        """Call for each job; return once every call is answered, or the run is asked to stop."""
        async with asyncio.TaskGroup() as calling:
            for state in states:
                calling.create_task(self._cancel(state), name=f"cancel {state.job}")

    async def _cancel(self, state: JobState) -> None:
        async with self._at_once:
            result = await self._policies.run(partial(self._call, state))
        match result:
            case Accepted():
                self.asked.append(state)
            case Forbidden() | Denied():
                self._stop.request(StopReason.CREDENTIALS, forbidden_words(OPERATION, result))
            case NotSent():
                self._stop.request(StopReason.UNREACHABLE, f"nothing could be sent: {result.message}")
            case _Withdrawn() | Throttled():
                return
            case Uncertain():
                self.refused[state.job] = result.reason
            case _:
                self.refused[state.job] = f"{result.code}: {result.message}"

    async def _call(self, state: JobState) -> _Result:
        if self._stop.requested or not await self._gate.admit():
            return _Withdrawn()
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        outcome = await self._api.cancel(state.membership, state.arn)
        if isinstance(outcome, Throttled | Uncertain):
            if outcome.is_throttling:
                self._gate.pace.throttled(sent_at=sent_at, now=loop.time())
            await self._stop.pause(outcome.retry_after_seconds)
        elif isinstance(outcome, Accepted):
            self._gate.pace.succeeded(sent_at=sent_at, now=loop.time())
        if isinstance(outcome, Conflicted | Uncertain):
            return await self._after_doubt(state, outcome)
        return outcome

    async def _after_doubt(self, state: JobState, outcome: Conflicted | Uncertain) -> Outcome:
        """Look at a job whose call brought a conflict or no answer: what no longer runs on is well."""
        try:
            status = await _status(self._catalog, state)
        except ReadError as exc:
            return exc.outcome
        if run_state(status) is not RunState.RUNNING:
            return Accepted(state.arn)
        if isinstance(outcome, Conflicted):
            return outcome
        return Conflicted("NoAnswer", outcome.reason)  # as a conflict it is tried again, a bounded number of times


async def record_ends(
    states: Sequence[JobState], *, catalog: JobReads, recorder: Recorder, slots: SlotSettings, stop: Stop
) -> None:
    """Poll cancelled jobs, and no others, until each end is recorded or the run is asked to stop.

    Polls that bring nothing get rarer.
    """
    pause = slots.min_poll_seconds
    left = list(states)
    while left and not stop.requested:
        try:
            waiting = [state for state in left if not await _record_end(state, catalog, recorder)]
        except ReadError as exc:
            reason = StopReason.CREDENTIALS if exc.is_forbidden else StopReason.UNREACHABLE
            stop.request(reason, f"the jobs cannot be followed to their end: {exc}")
            return
        pause = slots.min_poll_seconds if len(waiting) < len(left) else pause * 2
        left = waiting
        if left:
            await stop.pause(min(pause, slots.max_poll_seconds))


async def _record_end(state: JobState, catalog: JobReads, recorder: Recorder) -> bool:
    """Record a job's end; False where it has not ended yet."""
    details = await catalog.details(state.membership, state.arn)
    if is_running(details.status):
        return False
    await recorder.record(recorder.finished(state, details.status, details.updated_at, details))
    return True
