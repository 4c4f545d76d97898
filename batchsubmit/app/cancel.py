"""Assembly of `cancel`: reads a ledger, looks at the service, cancels what was agreed on, and records how it ended.

It is done in two steps, so that a person can be asked between them with no lock held and no client open.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.api import JobsApi
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.reads import JobReads, ReadError
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState
from batchsubmit.errors import StoppedError, UsageError, status_of_work
from batchsubmit.ledger.base import Ledger, Location
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.schema.arns import region_in
from batchsubmit.submit.cancel import Canceller, RunState, chosen, look, record_ends
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, stop_on_signals

CANCELLED_STATUS = "INACTIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which jobs of which ledger are to be cancelled."""

    ledger: Location
    memberships: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What there is to cancel. `cancelling` are on their way already; `unknown` jobs may run, but nobody knows."""

    running: tuple[JobState, ...]
    cancelling: tuple[JobState, ...]
    ended: int
    unknown: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """The outcome of the jobs that were to be cancelled, each in one of the counts or lists.

    `ended` ran to their end before the cancellation reached them; `under_way` were asked for and had not ended yet.
    """

    ledger: Location
    cancelled: int
    ended: int
    under_way: int
    left: int
    refused: tuple[tuple[JobState, str], ...]
    stop_message: str = ""

    @property
    def exit_status(self) -> int:
        """What remains to be done outranks what failed."""
        return status_of_work(left=self.stop_message or self.left, failed=self.refused)


async def survey(choice: Choice, settings: Settings) -> Survey:
    """Find the running jobs. Raises UsageError, LedgerError (a run has the ledger), StoppedError."""
    async with _read(choice.ledger, settings) as state:
        states = chosen(state, memberships=choice.memberships, names=choice.names)
        unknown = len(state.undecided())
        duplicates = sum(len(job.duplicates) for job in state)
    found: dict[RunState, list[JobState]] = {}
    if states:
        async with _service(states, settings) as api:
            found = await _look(api, states, settings)
    return Survey(
        running=tuple(found.get(RunState.RUNNING, ())),
        cancelling=tuple(found.get(RunState.CANCELLING, ())),
        ended=len(found.get(RunState.ENDED, ())),
        unknown=unknown,
        duplicates=duplicates,
    )


async def recall(choice: Choice, settings: Settings, agreed: Survey, *, wait: bool = True) -> Recall:
    """Cancel the running jobs of a survey and no others; with `wait` follow them to their end and record it.

    Raises UsageError, LedgerError (a run took the ledger meanwhile), StoppedError.
    """
    stop = Stop()
    task = asyncio.current_task()
    targets = [*agreed.running, *agreed.cancelling]
    async with _open(choice.ledger, settings) as ledger, _service(targets, settings) as api:
        await ledger.load(state.job for state in targets)
        with stop_on_signals(stop, at_once=lambda: task.cancel() if task else None):
            catalog = JobReads(api, settings.retry, sleep=stop.pause)
            gate = RateGate(Pace(settings.rate.max_per_second))
            stop.on_request(gate.close)
            policies = RetryPolicies(settings.retry, sleep=stop.pause)
            canceller = Canceller(api=api, catalog=catalog, gate=gate, policies=policies, stop=stop)
            await canceller.cancel(agreed.running)
            if wait and not stop.requested:
                recorder = Recorder(ledger, SystemClock())
                cancelled = [*canceller.asked, *agreed.cancelling]
                await record_ends(cancelled, catalog=catalog, recorder=recorder, slots=settings.slots, stop=stop)
        return _account(choice.ledger, ledger, canceller, agreed, stop)


def _account(location: Location, ledger: Ledger, canceller: Canceller, agreed: Survey, stop: Stop) -> Recall:
    asked = [*canceller.asked, *agreed.cancelling]
    after = [ledger.state.get(state.job) or state for state in asked]
    failed = [(state, f"{state.status}: {state.message}") for state in after if state.status == "CANCEL_FAILED"]
    cancelled = sum(state.status == CANCELLED_STATUS for state in after)
    under_way = sum(not state.status for state in after)
    refused = [(state, canceller.refused[state.job]) for state in agreed.running if state.job in canceller.refused]
    return Recall(
        ledger=location,
        cancelled=cancelled,
        ended=len(after) - cancelled - under_way - len(failed),
        under_way=under_way,
        left=len(agreed.running) - len(canceller.asked) - len(refused),
        refused=(*refused, *failed),
        stop_message=stop.message,
    )


@asynccontextmanager
async def _read(location: Location, settings: Settings) -> AsyncIterator[LedgerState]:
    """Give all jobs of a ledger. A file is locked meanwhile; a table is read beside whoever works on it."""
    if isinstance(location, Path):
        async with _open(location, settings) as ledger:
            yield ledger.state
        return
    state = await asyncio.to_thread(fold_ledger, location, region=resolve_region(settings.aws))
    _refuse_rehearsal(state, location)
    yield state


@asynccontextmanager
async def _open(location: Location, settings: Settings) -> AsyncIterator[Ledger]:
    """Open a ledger that is there already, and that was written against the service. A file is locked."""
    if isinstance(location, Path) and not location.is_file():
        raise UsageError(f"the ledger {location} cannot be read: there is no such file")
    async with open_for_writing(location, settings, region=resolve_region(settings.aws)) as ledger:
        _refuse_rehearsal(ledger.state, location)
        yield ledger


def _refuse_rehearsal(state: LedgerState, location: Location) -> None:
    if any(run.sandbox for run in state.runs):
        raise UsageError(f"the ledger {location} was written against the sandbox of a run, which ended with it")


@asynccontextmanager
async def _service(states: Sequence[JobState], settings: Settings) -> AsyncIterator[JobsApi]:
    """Open a client in the region that the jobs' own ARNs name."""
    regions = {region_in(state.arn) for state in states}
    if len(regions) > 1:
        raise UsageError(f"the jobs are in several regions ({', '.join(sorted(regions))}): choose by --membership")
    access = open_cleanrooms(
        settings.aws,
        region=min(regions),
        concurrency=settings.submit.concurrency,
        tag_jobs=settings.submit.tag_jobs,
    )
    async with access as api:
        yield api


async def _look(api: JobsApi, states: Sequence[JobState], settings: Settings) -> dict[RunState, list[JobState]]:
    try:
        return await look(JobReads(api, settings.retry, sleep=asyncio.sleep), states)
    except ReadError as exc:
        raise StoppedError(f"the service does not tell which jobs run; nothing was cancelled: {exc}") from exc
