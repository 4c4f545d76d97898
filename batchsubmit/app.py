"""Assembly: opens manifest, ledger, client and sandbox, hands them to the engine, and accounts for the run.

Nothing is decided here that a smaller module could decide, and nothing is printed.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from batchsubmit import __version__
from batchsubmit.catalog import Catalog
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.engine import Engine, Limits
from batchsubmit.errors import ManifestError, UsageError
from batchsubmit.follow import Follower
from batchsubmit.jobs import RunEnded, RunStarted
from batchsubmit.ledger import Ledger
from batchsubmit.ledger.file import open_ledger
from batchsubmit.lookup import Lookup
from batchsubmit.observers import Observer
from batchsubmit.observers.logs import bind_run
from batchsubmit.observers.tally import Tally
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.recorder import Recorder
from batchsubmit.region import resolve_region
from batchsubmit.report.summary import Summary, UnknownJob
from batchsubmit.sandbox import SandboxServer, SandboxService, SandboxSettings
from batchsubmit.slots import Lanes
from batchsubmit.sources import Reader, Spooled
from batchsubmit.sources.checked import open_checked_manifest
from batchsubmit.sources.inventory import Inventory, Terms
from batchsubmit.sources.manifest import ManifestSource
from batchsubmit.standing import Standing
from batchsubmit.states import Action, Book, decide
from batchsubmit.stopping import NO_LIMIT, FailureLimit, Stop, StopReason, stop_at, stop_on_signals
from batchsubmit.submitter import Submitter


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """What one `submit` was asked to do, beside the settings."""

    manifest: str
    ledger: Path | None = None
    batch: str = ""
    sandbox: bool = False
    sandbox_job_seconds: float = 2.0
    wait: bool = False
    skip_invalid: bool = False
    allow_duplicates: bool = False
    retry_failed: bool = False
    resubmit_unknown: bool = False
    failure_limit: FailureLimit = NO_LIMIT
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a progress display may look at while a run goes on (see `observers.progress.Watched`)."""

    to_do: int
    tally: Tally
    stop: Stop
    source: ManifestSource
    lanes: Lanes
    engine: Engine
    follower: Follower

    def submitted(self) -> int:
        """Jobs submitted by this run."""
        return self.tally.submitted

    def failed(self) -> int:
        """Jobs that failed in this run, on the way to the service or on it."""
        return self.tally.failed + self.tally.finished_badly

    def unknown(self) -> int:
        """Jobs whose fate became unknown in this run."""
        return self.tally.unknown

    def under_way(self) -> int:
        """Jobs taken in hand: calls, and tries that wait for their turn."""
        return self.engine.under_way

    def full_lanes(self) -> int:
        """Memberships whose jobs wait for a slot."""
        return len(self.lanes.full(self.source.waiting()))

    def running(self) -> int:
        """Submitted jobs that are being followed to their end."""
        return self.follower.running

    def stopping(self) -> str:
        """Why the run is ending early; empty where it is not."""
        return str(self.stop.reason or "")


Display = Callable[[View], AbstractContextManager[object]]


async def submit(
    options: SubmitOptions,
    settings: Settings,
    *,
    observers: Sequence[Observer] = (),
    display: Display = nullcontext,
) -> Summary:
    """Submit every job of a manifest that the ledger does not know to be submitted.

    Raises ManifestError (problems in rows; nothing was sent), UsageError, LedgerError, StoppedError.
    """
    stop = Stop()
    task = asyncio.current_task()
    region = settings.aws.region if options.sandbox else resolve_region(settings.aws)
    if not (region or options.sandbox):
        raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, at_once=lambda: task.cancel() if task else None))
        checked = open_checked_manifest(
            options.manifest,
            settings,
            region=region,
            terms=Terms(
                batch=options.batch,
                allow_duplicates=options.allow_duplicates,
                keep_invalid=options.skip_invalid,
            ),
            is_stopped=lambda: stop.requested,
        )
        spooled, reader, inventory = await stack.enter_async_context(checked)
        if inventory.problems and not (options.skip_invalid and inventory.is_readable):
            raise ManifestError(options.manifest, inventory.problems, inventory.problem_count)
        path = options.ledger or default_ledger(options.manifest)
        ledger = await stack.enter_async_context(open_ledger(path, concurrency=settings.submit.concurrency))
        refuse_rehearsal_mix(ledger.book, path, sandbox=options.sandbox)
        run = Run(options=options, settings=settings, ledger=ledger, stop=stop, inventory=inventory)
        await run.begin(spooled)
        await run.send(reader, region or inventory.region, observers, display)
        return await run.end(path)


def default_ledger(manifest: str) -> Path:
    """The ledger of a manifest for which none is named: `<stem>.ledger.jsonl` in the current folder."""
    name = manifest.rstrip("/").rsplit("/", 1)[-1]
    stem = "stdin" if name in {"", "-"} else name.removesuffix(".gz")
    return Path(f"{Path(stem).stem}.ledger.jsonl")


def refuse_rehearsal_mix(book: Book, path: Path, *, sandbox: bool) -> None:
    """Keep a rehearsal's ledger from making a real run believe that its jobs are submitted, and the other way round."""
    if any(run.sandbox != sandbox for run in book.runs):
        was, now = ("the real service", "the sandbox") if sandbox else ("the sandbox", "the real service")
        raise UsageError(f"the ledger {path} was written against {was}; give the run on {now} another --ledger")


class Run:
    """One run, from its first line in the ledger to its last."""

    def __init__(
        self,
        *,
        options: SubmitOptions,
        settings: Settings,
        ledger: Ledger,
        stop: Stop,
        inventory: Inventory,
    ) -> None:
        self._options = options
        self._settings = settings
        self._ledger = ledger
        self._stop = stop
        self._inventory = inventory
        self._clock = SystemClock()
        self._began_at = self._clock.monotonic()
        self._id = f"{self._clock.now():%Y%m%dT%H%M%SZ}-{os.getpid()}"
        self._tally = Tally(self._judge_failures)
        self._undecided: dict[str, str] = {}
        self._before = Standing.of(inventory.index, ledger.book)

    async def begin(self, spooled: Spooled) -> None:
        """Write the run's first line, then the rows that cannot be sent."""
        started = RunStarted(
            at=self._now(),
            run=self._id,
            batch=self._options.batch,
            manifest=spooled.label,
            manifest_sha256=spooled.sha256,
            version=__version__,
            holder=f"process {os.getpid()} on {socket.gethostname()}",
            sandbox=self._options.sandbox,
        )
        bind_run(self._id)
        await self._ledger.put(started)
        for row in self._inventory.invalid:
            if self._ledger.book.get(row.key) is None:
                self._ledger.note(row.failed(self._now()))

    async def send(self, reader: Reader, region: str, observers: Sequence[Observer], display: Display) -> None:
        """Send what is to be sent, and with `--wait` follow all of it to its end."""
        source = ManifestSource(reader, self._inventory.index, batch=self._options.batch, decision=self._decide)
        must_follow = self._options.wait and self._before.submitted > self._before.finished
        if not (source.waiting_jobs() or must_follow or self._ledger.book.undecided()):
            return
        async with AsyncExitStack() as stack:
            url = None
            if self._options.sandbox:
                url = await stack.enter_async_context(open_sandbox(self._options.sandbox_job_seconds))
            api = await stack.enter_async_context(
                open_cleanrooms(
                    self._settings.aws,
                    region=region,
                    concurrency=self._settings.submit.concurrency,
                    tag_jobs=self._settings.submit.tag_jobs,
                    sandbox_url=url,
                )
            )
            await self._drive(api, source, observers, display, stack)

    async def _drive(
        self,
        api: CleanRooms,
        source: ManifestSource,
        observers: Sequence[Observer],
        display: Display,
        stack: AsyncExitStack,
    ) -> None:
        """Put engine and follower together and let them run."""
        settings, stop, clock = self._settings, self._stop, self._clock
        recorder = Recorder(self._ledger, clock, (self._tally, *observers))
        gate = RateGate(Pace(settings.rate.max_per_second))
        stop.on_request(gate.close)
        lanes = Lanes(settings.slots)
        submitter = Submitter(
            api=api,
            recorder=recorder,
            gate=gate,
            policies=RetryPolicies(settings.retry, sleep=stop.pause),
            stop=stop,
        )
        catalog = Catalog(api, settings.retry, sleep=stop.pause)
        engine = Engine(
            source=source,
            submitter=submitter,
            lookup=Lookup(catalog=catalog, recorder=recorder, settings=settings.lookup, stop=stop),
            lanes=lanes,
            stop=stop,
            clock=clock,
            limits=Limits(
                concurrency=settings.submit.concurrency,
                max_attempts=settings.retry.max_attempts,
                resubmit_unknown=self._options.resubmit_unknown,
            ),
        )
        follower = Follower(
            catalog=catalog,
            recorder=recorder,
            slots=settings.slots,
            stop=stop,
        )
        view = View(
            to_do=source.waiting_jobs(),
            tally=self._tally,
            stop=stop,
            source=source,
            lanes=lanes,
            engine=engine,
            follower=follower,
        )
        stack.enter_context(display(view))
        stack.enter_context(stop_at(self._options.deadline, stop, clock))
        await engine.run(self._ledger.book.undecided())
        self._undecided = engine.undecided
        if self._options.wait:
            await follower.follow(self._inventory.index)

    def _decide(self, key: str) -> Action:
        return decide(self._ledger.book.get(key), retry_failed=self._options.retry_failed)

    def _judge_failures(self, tally: Tally) -> None:
        failed = tally.failed + tally.finished_badly
        decided = tally.submitted + tally.failed
        if self._options.failure_limit.is_exceeded(failed=failed, decided=decided):
            self._stop.request(StopReason.FAILURES, f"{failed} jobs failed, more than --max-failures allows")

    async def end(self, path: Path) -> Summary:
        """Account for every row and write the run's last line."""
        after = Standing.of(self._inventory.index, self._ledger.book)
        unknown = self._ledger.book.undecided()
        failed_before = 0 if self._options.retry_failed else self._before.failed
        summary = Summary(
            run=self._id,
            batch=self._options.batch,
            manifest=self._options.manifest,
            ledger=str(path),
            rows=self._inventory.row_count,
            submitted=after.submitted - self._before.submitted,
            submitted_before=self._before.submitted,
            failed=after.failed - failed_before,
            failed_before=failed_before,
            invalid=self._inventory.invalid_count,
            unknown=after.unknown,
            unknown_elsewhere=len(unknown) - after.unknown,
            left=after.left,
            finished_well=after.finished_well,
            finished_badly=after.finished - after.finished_well,
            refused_by_quota=self._tally.refused_by_quota,
            throttled=self._tally.throttled,
            seconds=round(self._clock.monotonic() - self._began_at, 3),
            is_waited_for=self._options.wait,
            stop_reason=str(self._stop.reason or ""),
            stop_message=self._stop.message,
            unknown_jobs=tuple(
                UnknownJob(
                    job=each.job,
                    membership=each.membership,
                    name=each.name,
                    reason=self._undecided.get(each.job) or each.message,
                )
                for each in unknown
            ),
        )
        if self._stop.reason is not StopReason.LEDGER:
            await self._ledger.put(
                RunEnded(
                    at=self._now(),
                    run=self._id,
                    exit_status=summary.exit_status,
                    reason=summary.stop_reason,
                    counts=summary.counts(),
                )
            )
        return summary

    def _now(self) -> str:
        return timestamp(self._clock.now())


@asynccontextmanager
async def open_sandbox(job_seconds: float) -> AsyncIterator[str]:
    """Start a local Clean Rooms ML in this process; gives its URL."""
    settings = SandboxSettings(job_seconds=job_seconds)
    async with SandboxServer(SandboxService(settings, time.time), None) as server:
        yield server.url
