"""`batchsubmit cancel`: finds a ledger's jobs that run, cancels those agreed on and no others, and records their ends.

A person is asked with no lock held and no client open. Unlike a start a cancellation may be repeated, so an unclear
answer is looked at and tried again.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import click

from batchsubmit.aws import resolve_region, whose_account
from batchsubmit.cleanrooms.api import JobsApi
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.cli.confirm import ask
from batchsubmit.cli.options import command, conclude, rate_option, run_command, settings_and_json
from batchsubmit.cli.output import say
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.job_states import CANCELLED_STATUS, JobState, Phase, is_running
from batchsubmit.core.jobs import Accepted, Conflicted, Denied, Forbidden, NotSent, Result, Throttled, Uncertain
from batchsubmit.errors import EXIT_STOPPED, LedgerError, StoppedError, UsageError, status_of_work
from batchsubmit.ledger.file import holding_run
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.pacing import Pace, retried
from batchsubmit.schema.arns import region_in
from batchsubmit.submit.engine import open_gate, open_reads
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason, reading, stop_on_signals
from batchsubmit.text import agreeing, counted, duration

_CANCELLING = frozenset({"CANCEL_PENDING", "CANCEL_IN_PROGRESS"})
_NAMES_SHOWN = 10


@command(
    ("cancel all that run, after a look and a question", "batchsubmit cancel jobs.ledger.jsonl"),
    ("only see what would be cancelled", "batchsubmit cancel jobs.ledger.jsonl --dry-run"),
    ("only some, in a script", "batchsubmit cancel jobs.ledger.jsonl --name 'churn-*' --yes --json"),
    exits={
        0: "cancelled, or nothing was running",
        1: "some jobs could not be cancelled",
        2: "usage or settings wrong: nothing was cancelled",
        3: "not agreed to, or stopped before the end: run it again to go on",
        4: "the ledger is in use (end the run first) or damaged",
    },
)
@click.argument("ledger", type=parse_location)
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only in this one; may be repeated.")
@click.option("--name", "names", multiple=True, metavar="GLOB", help="Only jobs of such names; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would be cancelled, and cancel nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the cancelled jobs have ended.")
@rate_option
@settings_and_json
def cancel(ledger: Location, settings: Settings, *, as_json: bool, **how: Any) -> int:  # noqa: ANN401 (click's)
    """Cancel the running jobs that LEDGER started, and no others, and record how each ended.

    The service is asked which of the ledger's jobs run; they are shown, and nothing is cancelled before you agree.
    Jobs of others, in the same memberships too, are never touched. A run that still submits must be ended first;
    of a table end all of them, for nobody checks.
    """
    if not (how["yes"] or how["dry_run"] or sys.stdin.isatty()):
        raise UsageError("there is no terminal to ask at: give --yes to cancel, or --dry-run to see what would be")
    filters = {name: how[name] for name in ("memberships", "names")}
    found = run_command(_survey(ledger, settings, **filters))
    asks = bool(found.running) and not (how["dry_run"] or how["yes"])
    if asks:
        say(run_command(whose_account(region_in(found.running[0].arn))))
    say(*found.words(ledger, is_filtered=any(filters.values())))
    if found.running:
        say(found.loss(), is_odd=True)
    status, content = 0, found.as_dict()
    if asks and not run_command(ask("Cancel them?", Stop(), in_full=True)):
        say("Nothing was cancelled.")
        status = EXIT_STOPPED
    elif (found.running or found.cancelling) and not how["dry_run"]:
        content = run_command(_recall(ledger, settings, found, wait=not how["no_wait"]))
        status = status_of_work(left=content["stop_message"] or content["left"], failed=content["refused"])
        say(*_words(**content))
    return conclude((), {"ledger": str(ledger), **content, "exit_status": status}, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What there is to cancel. `cancelling` are on their way already; `unknown` jobs may run, but nobody knows."""

    running: list[JobState]
    cancelling: list[JobState]
    unknown: int
    duplicates: int

    def words(self, ledger: Location, *, is_filtered: bool) -> Iterator[str]:
        """Say it to people."""
        lanes: dict[str, list[JobState]] = {}
        for state in self.running:
            lanes.setdefault(state.membership, []).append(state)
        if self.running:
            where = f" in {counted(len(lanes), 'membership')}"
            yield f"{counted(len(self.running), 'job')} to cancel{where}, which {ledger} started:"
        else:
            asked = " and that --membership or --name chose" if is_filtered else ""
            yield f"Nothing to cancel: no job that {ledger} started{asked} is running"
        for membership, states in lanes.items():
            names = ", ".join(state.name for state in states[:_NAMES_SHOWN])
            more = f" and {len(states) - _NAMES_SHOWN:,} more" if len(states) > _NAMES_SHOWN else ""
            yield f"  membership {membership}: {counted(len(states), 'job')}: {names}{more}"
        yield from _counts(
            (len(self.cancelling), "being cancelled already"),
            (self.unknown, "unknown: they may run, and are not cancelled; batchsubmit submit or verify looks them up"),
            (self.duplicates, "duplicates that the ledger knows of: cancel those by their ARN, they may be another's"),
        )

    def loss(self) -> str:
        """Say what is paid for nothing."""
        now = datetime.now(UTC)
        ages = [(now - datetime.fromisoformat(state.since)).total_seconds() for state in self.running if state.since]
        have = agreeing(len(self.running), "It has", "They have")
        return f"{have} run for {duration(sum(ages))}: paid, without a result"

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        counts = {"cancelling": len(self.cancelling), "unknown": self.unknown, "duplicates": self.duplicates}
        return {"running": list(map(_job, self.running)), **counts}


def _job(state: JobState) -> dict[str, str]:
    return {name: getattr(state, name) for name in ("job", "membership", "name", "arn")}


def _counts(*counts: tuple[int, str]) -> Iterator[str]:
    yield from (f"  {count:>9,} {words}" for count, words in counts if count)


def _words(
    *, cancelled: int, ended: int, under_way: int, left: int, refused: list[dict[str, str]], stop_message: str
) -> Iterator[str]:
    yield f"{counted(cancelled, 'job')} cancelled"
    yield from _counts(
        (ended, "had ended before the cancellation reached them"),
        (under_way, "being cancelled; the next submit --wait records how they end"),
        (left, "left running"),
    )
    for job in refused:
        yield f"  not cancelled: {job['name']} in membership {job['membership']}: {job['reason']}"
    if stop_message:
        yield f"  why: {stop_message}"
        yield "  next: run the same command again to go on"


async def _survey(
    location: Location, settings: Settings, *, memberships: Collection[str], names: Sequence[str]
) -> _Survey:
    """Find the running jobs. Raises UsageError, LedgerError (a run has the ledger), StoppedError."""
    state = await asyncio.to_thread(fold_ledger, location, region=resolve_region(settings.aws))
    if any(run.sandbox for run in state.runs):
        raise UsageError(f"the ledger {location} was written against the sandbox of a run, which ended with it")
    if isinstance(location, Path) and (holder := holding_run(location, state)):
        raise LedgerError(f"the ledger {location} is in use by {holder}; end that run first")
    states = chosen(state, memberships=memberships, names=names)
    found: tuple[list[JobState], list[JobState]] = [], []
    if states:
        async with reading() as stop, _service(states, settings, stop) as canceller:
            try:
                found = await canceller.look(states)
            except ReadError as exc:
                words = f"the service does not tell which jobs run; nothing was cancelled: {exc}"
                raise StoppedError(words) from exc
    duplicates = sum(len(job.duplicates) for job in state)
    return _Survey(*found, unknown=len(state.undecided()), duplicates=duplicates)


async def _recall(location: Location, settings: Settings, agreed: _Survey, *, wait: bool) -> dict[str, Any]:
    """Cancel the running jobs of a survey and no others; with `wait` follow them to their end and record it.

    Gives how many were `cancelled`, had `ended` before, are `under_way` to their end, or are `left`, and which were
    `refused`. Raises UsageError, LedgerError (a run took the ledger meanwhile), StoppedError.
    """
    stop, region = Stop(), resolve_region(settings.aws)
    targets = [*agreed.running, *agreed.cancelling]
    async with (
        open_for_writing(location, settings, region=region) as ledger,
        _service(targets, settings, stop) as canceller,
    ):
        await ledger.load(state.job for state in targets)
        with stop_on_signals(stop):
            await canceller.cancel(agreed.running)
            asked = [*canceller.asked, *agreed.cancelling]
            if wait:
                await canceller.record_ends(asked, Recorder(ledger, SystemClock()))
        after = [ledger.state.get(state.job) or state for state in asked]
    refused = {state.job: why for state in agreed.running if (why := canceller.refused.get(state.job))}
    failed = {state.job: f"{state.status}: {state.message}" for state in after if state.status == "CANCEL_FAILED"}
    cancelled = sum(state.status == CANCELLED_STATUS for state in after)
    under_way = sum(not state.status for state in after)
    reasons = refused | failed
    return {
        "cancelled": cancelled,
        "ended": len(after) - cancelled - under_way - len(failed),
        "under_way": under_way,
        "left": len(agreed.running) - len(canceller.asked) - len(refused),
        "refused": [{**_job(state), "reason": reasons[state.job]} for state in targets if state.job in reasons],
        "stop_message": stop.message,
    }


@asynccontextmanager
async def _service(states: Sequence[JobState], settings: Settings, stop: Stop) -> AsyncIterator["Canceller"]:
    """Open a client in the region that the jobs' own ARNs name."""
    regions = {region_in(state.arn) for state in states}
    if len(regions) > 1:
        raise UsageError(f"the jobs are in several regions ({', '.join(sorted(regions))}): choose by --membership")
    async with open_cleanrooms(settings, region=min(regions)) as api:
        yield Canceller(api, settings, stop)


def chosen(states: Iterable[JobState], *, memberships: Collection[str], names: Sequence[str]) -> list[JobState]:
    """The submitted jobs of these memberships (none named: of all) whose names fit one of the globs (none: any)."""
    return [
        state
        for state in states
        if state.phase is Phase.SUBMITTED
        and (not memberships or state.membership in memberships)
        and (not names or any(fnmatchcase(state.name, glob) for glob in names))
    ]


def runs_on(status: str) -> bool:
    """Whether a job in this status runs and is not being cancelled."""
    return is_running(status) and status not in _CANCELLING


class Canceller:
    """Asks the service to end jobs; `refused` has those that it will not end, with its words."""

    def __init__(self, api: JobsApi, settings: Settings, stop: Stop) -> None:
        self._api = api
        self._stop = stop
        self._poll_seconds = settings.slots.min_poll_seconds
        self._reads = open_reads(api, settings, stop, SystemClock())
        self._gate = open_gate(Pace(settings.rate.max_per_second), stop, SystemClock())
        self._retry = settings.retry
        self.asked: list[JobState] = []
        self.refused: dict[str, str] = {}

    async def look(self, states: Sequence[JobState]) -> tuple[list[JobState], list[JobState]]:
        """Ask the service which of these jobs run on, and which are being cancelled.

        One that List does not show (yet) is asked for by its ARN. Raises ReadError.
        """
        memberships = sorted({state.membership for state in states})
        listed = {job.arn: job.status for each in memberships for job in await self._reads.jobs(each)}
        stands = [(state, listed.get(state.arn) or await self._status(state)) for state in states]
        running = [state for state, status in stands if status and runs_on(status)]
        return running, [state for state, status in stands if status in _CANCELLING]

    async def _status(self, state: JobState) -> str:
        details = await self._reads.find(state.membership, state.arn)
        return details.status if details else ""

    async def cancel(self, states: Iterable[JobState]) -> None:
        """Call for one job after the other; return once all is answered, or the run is asked to stop."""
        for state in states:
            result = await retried(partial(self._call, state), self._retry, sleep=self._stop.pause)
            match result:
                case Accepted():
                    self.asked.append(state)
                case Forbidden() | Denied():
                    words = str(ReadError("CancelTrainedModelInferenceJob", result))
                    self._stop.request(StopReason.of(result), words)
                case NotSent():
                    self._stop.request(StopReason.UNREACHABLE, f"nothing could be sent: {result.message}")
                case None | Throttled():
                    return
                case Uncertain():
                    self.refused[state.job] = result.reason
                case _:
                    self.refused[state.job] = f"{result.code}: {result.message}"

    async def _call(self, state: JobState) -> Result | None:
        """Make one call; None where the run is stopping, and none may be made."""
        if self._stop.requested or not await self._gate.admit():
            return None
        sent_at = self._gate.monotonic()
        outcome = await self._api.cancel(state.membership, state.arn)
        self._gate.answered(outcome, sent_at=sent_at)
        if isinstance(outcome, Conflicted | Uncertain):
            return await self._after_doubt(state, outcome)
        return outcome

    async def _after_doubt(self, state: JobState, outcome: Conflicted | Uncertain) -> Result:
        """Look at a job whose call brought a conflict or no answer: what no longer runs on is well."""
        try:
            status = await self._status(state)
        except ReadError as exc:
            return exc.outcome
        if not runs_on(status):
            return Accepted(state.arn)
        if isinstance(outcome, Conflicted):
            return outcome
        return Conflicted("NoAnswer", outcome.reason)  # as a conflict it is tried again, a bounded number of times

    async def record_ends(self, states: Sequence[JobState], recorder: Recorder) -> None:
        """Poll cancelled jobs, and no others, until each end is recorded or the run is asked to stop."""
        left = list(states)
        while left and not self._stop.requested:
            try:
                left = [state for state in left if not await self._record_end(state, recorder)]
            except ReadError as exc:
                self._stop.request(StopReason.of(exc.outcome), f"the jobs cannot be followed to their end: {exc}")
                return
            if left:
                await self._stop.pause(self._poll_seconds)

    async def _record_end(self, state: JobState, recorder: Recorder) -> bool:
        """Record a job's end; False where it has not ended yet."""
        details = await self._reads.details(state.membership, state.arn)
        if is_running(details.status):
            return False
        await recorder.record(recorder.finished(state, details.status, details.updated_at, details))
        return True
