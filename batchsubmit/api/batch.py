"""The Python API: job requests in, a stream of outcomes out, for scripts, notebooks and an orchestrator's tasks.

It is `submit` without a terminal: the same checks, keys, ledger and engine (`app`), but no signal handler, nothing
printed, and no exit status. How a command line says such things it must not know.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack

from batchsubmit.api.outcomes import Finished, Outcome, OutcomeObserver, Rejected, Submitted, Unknown
from batchsubmit.app.run import SubmitOptions, submit_options
from batchsubmit.app.submit import execute, open_run
from batchsubmit.aws import resolve_region
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings, checked_text, load_settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import read_ledger, run_blocking
from batchsubmit.log import get_logger
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.jsonl_reader import LABEL, Requests, open_requests
from batchsubmit.report.summary import Summary
from batchsubmit.submit.stopping import Stop, StopReason
from batchsubmit.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcomes of the requests of one call, in the order in which they came, and the run in numbers."""

    outcomes: tuple[Outcome, ...]
    summary: Summary

    @property
    def submitted(self) -> tuple[Submitted, ...]:
        """The jobs that the service has, those of earlier runs included."""
        return tuple(each for each in self.outcomes if isinstance(each, Submitted))

    @property
    def finished(self) -> tuple[Finished, ...]:
        """The jobs that were followed to their end, well or not."""
        return tuple(each for each in self.outcomes if isinstance(each, Finished))

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The jobs that cannot be submitted as they are."""
        return tuple(each for each in self.outcomes if isinstance(each, Rejected))

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """The jobs that may or may not run."""
        return tuple(each for each in self.outcomes if isinstance(each, Unknown))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return _for_notebook(parse_location(self.summary.ledger), None)

    @property
    def is_good(self) -> bool:
        """Whether every job is submitted (and, where they were followed, finished well): the command's status 0."""
        return self.summary.exit_status == 0


class Choices(TypedDict, total=False):
    """How a batch is to be submitted: the arguments of `open_batch` beside its ledger."""

    batch: str
    settings: Settings | None
    wait: bool | None
    canary: int
    retry_failed: bool
    resubmit_unknown: bool
    allow_duplicates: bool
    skip_invalid: bool
    sandbox: bool


@asynccontextmanager
async def open_batch(*, ledger: str | Path, **choices: Unpack[Choices]) -> AsyncIterator["Batch"]:
    """Open a batch, whose jobs are submitted with `submit`; at the end, calls in progress are awaited and recorded.

    `ledger` is a file, or `dynamodb://TABLE`; `batch` is the command's `--batch-id`, taken as it stands. Without
    `settings` they are read from `BATCHSUBMIT_*`, as the command does; `wait` (unset: as in the settings) follows jobs
    to their end; `canary` jobs, the first ones, go alone, and the rest only once all of them have finished well.
    `retry_failed` sends jobs again that were rejected, or ran and failed, `resubmit_unknown` sends those again that the
    service does not show (one that does run is then paid twice). `allow_duplicates` lets identical requests be jobs of
    their own, in their number; `skip_invalid` submits the good requests and records the others as rejected. `sandbox`
    rehearses without AWS.

    Leaving the block early, by an exception or a cancellation, sends nothing more and waits for the calls in progress,
    no longer than the time-outs of `[aws]` let them take; a second cancellation does not wait, and the next run looks
    up what that left open. Raises UsageError.
    """
    settings = choices.get("settings") or load_settings()
    given: dict[str, Any] = {name: each for name, each in choices.items() if name != "settings" and each is not None}
    given["batch"] = checked_text(choices.get("batch", ""), "batch")
    place = parse_location(str(ledger))
    opened = Batch(submit_options(settings, datetime.now(UTC), manifest=LABEL, ledger=place, **given), settings)
    try:
        yield opened
    finally:
        await opened.close()


def _for_notebook(ledger: Location | None, settings: Settings | None) -> str:
    from batchsubmit.report.page import make_page  # noqa: PLC0415 (few programs are notebooks)
    from batchsubmit.report.timeline import Timeline  # noqa: PLC0415

    if ledger is None or (isinstance(ledger, Path) and not ledger.exists()):
        return "<p>Nothing is submitted yet.</p>"
    settings = settings or load_settings()
    region = None if isinstance(ledger, Path) else resolve_region(settings.aws)
    timeline = Timeline.of(read_ledger(ledger, region=region))
    made_at = SystemClock().now().timestamp()
    page = make_page(timeline, ledger=str(ledger), made_at=made_at, names=settings.names, prices=settings.prices)
    return page.for_notebook()


class Batch:
    """A round of work on one ledger. Made by `open_batch`."""

    def __init__(self, options: SubmitOptions, settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._in_progress: dict[asyncio.Task[Summary], Stop] = {}
        self._is_closed = False
        self.summary: Summary | None = None
        """The last call's account in numbers, once its stream has ended."""

    def _repr_html_(self) -> str:
        """What a notebook shows, also while the batch runs."""
        return _for_notebook(self._options.ledger, self._settings)

    async def submit(self, requests: Requests) -> AsyncGenerator[Outcome, None]:
        """Check all requests, then submit those that the ledger does not know to be submitted, each exactly once.

        Requests are as the API takes them, less what the settings' `[defaults]` fill in. Jobs of earlier runs come
        first. Nothing waits for the reader of the stream. A reader who leaves it before its end stops the run, in good
        order, at the latest where the batch ends.

        Raises ManifestError (`problems` have the number of the request, from 1, as `line`; nothing was sent),
        UsageError, LedgerError (the ledger is in use or damaged), and after all outcomes StoppedError where jobs are
        left: submit the same requests again to go on.
        """
        if self._is_closed:
            raise UsageError("the batch is closed: submit within its `async with` block")
        stop, outcomes = Stop(), asyncio.Queue[Outcome | None]()
        async with open_requests(requests) as spooled:
            # No TaskGroup: it would cancel calls in progress, and wrap what the caller's own code raises.
            task = asyncio.create_task(self._run(spooled, stop, outcomes.put_nowait), name="submit requests")
            self._in_progress[task] = stop
            try:
                while (outcome := await outcomes.get()) is not None:
                    yield outcome
                await asyncio.wait([task])
                summary = task.result()
                if summary.stop_reason or summary.counts.pending:
                    words, left = summary.stop_message or "other runs have the rest", summary.counts.pending
                    again = "submit the same requests again to go on"
                    raise StoppedError(f"{words}; {counted(left, 'job')} left: {again}")
                self.summary = summary
            finally:
                await _drain(task, stop)
                del self._in_progress[task]

    async def _run(self, spooled: ManifestFile, stop: Stop, give: Callable[[Outcome | None], None]) -> Summary:
        """Run in a task of its own, which goes on whether or not its outcomes are read; None comes after the last."""
        try:
            async with open_run(spooled, self._options, self._settings, stop) as run:
                for warning in run.warnings:
                    get_logger().warning("checks.warning", reason=str(warning))
                observer = OutcomeObserver(give, run.ledger.state, follows=self._options.wait)
                observer.begin(run.inventory.index, run.inventory.invalid.values(), retry=run.options.retry)
                summary = await execute(run, observers=[observer])
                observer.end(run.engine.in_progress.undecided if run.engine else {})
            return summary
        finally:
            give(None)

    async def close(self) -> None:
        """Stop what is in progress, in good order. `open_batch` does this."""
        self._is_closed = True
        for task, stop in tuple(self._in_progress.items()):
            await _drain(task, stop)


async def _drain(task: asyncio.Task[Summary], stop: Stop) -> None:
    """Send nothing more and wait for the calls in progress; if that is cancelled, end at once."""
    stop.request(StopReason.CANCELLED, "the batch was closed before its end")
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise
    finally:
        if task.done() and not task.cancelled():
            task.exception()  # retrieved: the reader of the stream gets it, others left


def submit_jobs(requests: Requests, *, ledger: str | Path, **choices: Unpack[Choices]) -> Report:
    """Submit requests and wait until each is decided, for callers that are not asynchronous, notebooks included.

    Arguments and errors are those of `open_batch` and `Batch.submit`. Where the run ends early, StoppedError is raised
    instead of a report; the ledger has what was done, and the next call gives it again.
    """

    async def work() -> Report:
        async with open_batch(ledger=ledger, **choices) as opened:
            outcomes = [outcome async for outcome in opened.submit(requests)]
        if opened.summary is None:
            raise StoppedError("the run ended without an account; submit the same requests again to go on")
        return Report(outcomes=tuple(outcomes), summary=opened.summary)

    return run_blocking(work())
