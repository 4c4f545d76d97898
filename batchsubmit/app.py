"""Assembly: opens manifest, ledger, sandbox and client, puts the engine together, and lets it run.

Nothing is decided here that a smaller module could decide, and nothing is printed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

from batchsubmit.catalog import Catalog
from batchsubmit.cleanrooms import JobsApi
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.durations import Durations
from batchsubmit.engine import Crew, Engine, Limits
from batchsubmit.errors import ManifestError, UsageError
from batchsubmit.ledger.file import open_ledger
from batchsubmit.lookup import Lookup
from batchsubmit.observers import Observer
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.recorder import Recorder
from batchsubmit.region import resolve_region
from batchsubmit.report.summary import Summary
from batchsubmit.run import Run, SubmitOptions
from batchsubmit.sandbox import SandboxServer, SandboxService, SandboxSettings
from batchsubmit.slots import Slots
from batchsubmit.sources.checked import open_checked_manifest
from batchsubmit.sources.inventory import Terms
from batchsubmit.sources.manifest import ManifestSource
from batchsubmit.states import Book
from batchsubmit.stopping import Stop, stop_at, stop_on_signals
from batchsubmit.submitter import Submitter
from batchsubmit.view import View
from batchsubmit.watch import Watcher

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
    terms = Terms(batch=options.batch, allow_duplicates=options.allow_duplicates, keep_invalid=options.skip_invalid)
    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, at_once=lambda: task.cancel() if task else None))
        checked = open_checked_manifest(
            options.manifest, settings, region=region, terms=terms, is_stopped=lambda: stop.requested
        )
        spooled, reader, inventory = await stack.enter_async_context(checked)
        if inventory.problems and not (options.skip_invalid and inventory.is_readable):
            raise ManifestError(options.manifest, inventory.problems, inventory.problem_count)
        path = options.ledger or default_ledger(options.manifest)
        ledger = await stack.enter_async_context(open_ledger(path, concurrency=settings.submit.concurrency))
        refuse_rehearsal_mix(ledger.book, path, sandbox=options.sandbox)
        run = Run(options=options, ledger=ledger, stop=stop, inventory=inventory)
        await run.begin(spooled)
        source = ManifestSource(reader, inventory.index, batch=options.batch, decision=run.decide)
        if source.waiting_jobs() or ledger.book.undecided() or run.must_follow:
            access = _open_service(options, settings, region or inventory.region)
            async with access as api:
                await _Machinery(run, settings, api, source, observers).work(display)
        return await run.end(path)


@asynccontextmanager
async def _open_service(options: SubmitOptions, settings: Settings, region: str) -> AsyncIterator[JobsApi]:
    """Open a client on the service, or on a sandbox that lives as long."""
    async with AsyncExitStack() as stack:
        url = None
        if options.sandbox:
            url = await stack.enter_async_context(open_sandbox(options.sandbox_job_seconds))
        access = open_cleanrooms(
            settings.aws,
            region=region,
            concurrency=settings.submit.concurrency,
            tag_jobs=settings.submit.tag_jobs,
            sandbox_url=url,
        )
        yield await stack.enter_async_context(access)


class _Machinery:
    """Engine, lookup and watcher of one run, put together around one service and one source."""

    def __init__(
        self, run: Run, settings: Settings, api: JobsApi, source: ManifestSource, observers: Sequence[Observer]
    ) -> None:
        stop, clock = run.stop, SystemClock()
        recorder = Recorder(run.ledger, clock, (run.tally, *observers))
        gate, reads = RateGate(Pace(settings.rate.max_per_second)), RateGate(Pace(settings.rate.reads_per_second))
        catalog = Catalog(api, settings.retry, gate=reads, sleep=stop.pause)
        stop.on_request(gate.close)
        stop.on_request(reads.close)
        follows = run.options.wait
        self._run = run
        self._source = source
        self._clock = clock
        self._slots = Slots(
            settings.slots, Durations(), account_of=lambda each: run.inventory.accounts.get(each, ""), follows=follows
        )
        self._watcher = Watcher(
            catalog=catalog,
            recorder=recorder,
            slots=self._slots,
            stop=stop,
            settle_seconds=settings.lookup.settle_seconds,
            follows=follows,
        )
        policies = RetryPolicies(settings.retry, sleep=stop.pause)
        self._engine = Engine(
            source=source,
            crew=Crew(
                submitter=Submitter(api=api, recorder=recorder, gate=gate, policies=policies, stop=stop),
                lookup=Lookup(catalog=catalog, recorder=recorder, settings=settings.lookup, stop=stop),
                watcher=self._watcher,
            ),
            slots=self._slots,
            stop=stop,
            clock=clock,
            limits=Limits(
                concurrency=settings.submit.concurrency,
                max_attempts=settings.retry.max_attempts,
                resubmit_unknown=run.options.resubmit_unknown,
            ),
        )

    async def work(self, display: Display) -> None:
        """Send what is to be sent, and with `--wait` follow all of it to its end."""
        run = self._run
        view = View(
            to_do=self._source.waiting_jobs(),
            tally=run.tally,
            stop=run.stop,
            source=self._source,
            slots=self._slots,
            engine=self._engine,
        )
        with display(view), stop_at(run.options.deadline, run.stop, self._clock):
            for key in run.inventory.index if run.options.wait else ():
                self._watcher.follow(key)
            await self._engine.run(run.ledger.book.undecided())
            run.undecided = self._engine.undecided
            run.quotas = self._slots.quotas()


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


@asynccontextmanager
async def open_sandbox(job_seconds: float) -> AsyncIterator[str]:
    """Start a local Clean Rooms ML in this process; gives its URL."""
    settings = SandboxSettings(job_seconds=job_seconds)
    async with SandboxServer(SandboxService(settings, time.time), None) as server:
        yield server.url
