"""Assembly: opens manifest, ledger, sandbox and client, puts the engine together, and lets it run.

Nothing is decided here that a smaller module could decide, and nothing is printed.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from batchsubmit.app.run import Run, SubmitOptions
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.cleanrooms.quotas import read_quotas
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings, SubmitSettings
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.source import Source
from batchsubmit.core.states import Action, JobState
from batchsubmit.errors import ManifestError, StoppedError, UsageError
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import Tail
from batchsubmit.manifest.check import CheckedManifest, Terms, check_manifest
from batchsubmit.manifest.file import ManifestFile, open_manifest
from batchsubmit.manifest.progress import Prospect, ledger_warnings
from batchsubmit.manifest.rows import Reader
from batchsubmit.manifest.source import ManifestSource
from batchsubmit.observers.base import Observer
from batchsubmit.observers.progress import Display, RunProgress, RunReader, expected_finish
from batchsubmit.outputs.templates import zone_named
from batchsubmit.pacing import RateGate
from batchsubmit.report.summary import Summary
from batchsubmit.sandbox import SandboxServer, SandboxService, SandboxSettings
from batchsubmit.schema import RowWarning
from batchsubmit.slots import Slots
from batchsubmit.submit.build import EngineBuilder, EngineContext, RateGates
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import NO_LIMIT, FailureLimit, Stop, parse_deadline, stop_at, stop_on_signals
from batchsubmit.text import counted


@dataclass(frozen=True, slots=True)
class RunEngine:
    """One run's machinery."""

    run: Run
    machinery: EngineBuilder
    gate: RateGate
    display: Display
    path: Location

    @classmethod
    def of(
        cls,
        run: Run,
        settings: Settings,
        api: CleanRooms,
        observers: Sequence[Observer],
        display: Display,
        path: Location,
    ) -> "RunEngine":
        """Set up the machinery as the run was asked to work."""
        around = EngineContext(
            settings=settings,
            api=api,
            recorder=Recorder(run.ledger, SystemClock(), (run.tally, *observers)),
            stop=run.stop,
            gates=RateGates.of(settings.rate, run.stop),
            resources=api,
        )
        options = run.options
        machinery = EngineBuilder(around, retry_failed=options.retry_failed, resubmit_unknown=options.resubmit_unknown)
        return cls(run, machinery, around.gates.starts, display, path)

    async def work_off(self, source: Source, left_unknown: Iterable[JobState], followed: Iterable[str] | None) -> None:
        """Look up what is unknown, send what the source has, and see the jobs of these keys, if any, to their end."""
        run = self.run
        works = self.machinery.around(
            source,
            account_of=run.inventory.account_of,
            follows=followed is not None,
        )
        slots, engine = works.slots, works.engine
        # A table would have to be read as a whole each time.
        expected = expected_finish(Tail(self.path)) if isinstance(self.path, Path) else lambda: ""
        reader = RunReader(partial(self._progress, slots, engine, source.waiting_jobs()), expected)
        for key in followed or ():
            works.watcher.follow(key)
        with self.display(reader):
            await engine.run(left_unknown)
        run.undecided |= engine.undecided
        run.waits_for |= engine.waits_for
        run.quotas = slots.quotas()
        run.refused_by |= slots.refused_by
        run.held |= engine.held_lanes()
        run.held_by_others = {held.membership or "account": str(held) for held in slots.held_by_others()}

    def _progress(self, slots: Slots, engine: Engine, to_do: int) -> RunProgress:
        """Read the state of the run for a display."""
        counts, held = self.run.tally, Counter(engine.held_lanes().values())
        return RunProgress(
            to_do=to_do,
            submitted=counts.submitted,
            failed=counts.failed + counts.finished_badly,
            unknown=counts.unknown,
            in_progress=engine.under_way,
            # While slots wait for jobs, those wait for the rate.
            full_lanes=0 if self.gate.is_awaited else slots.full_lanes(),
            held_by_others=str(max(slots.held_by_others(), key=lambda held: held.slots, default="")),
            held=", ".join(f"{quota} in {counted(count, 'membership')}" for quota, count in held.items()),
            running=slots.running_of_ours(),
            stopping=str(self.run.stop.reason or ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun:
    """A manifest that was checked and a ledger that is ours: all that is needed but the service."""

    run: Run
    spooled: ManifestFile
    reader: Reader
    settings: Settings
    region: str
    path: Location


Approve = Callable[[CheckedRun], Awaitable[None]]
"""Looks at what is about to be sent; raises StoppedError where it is not to be."""


async def submit(
    options: SubmitOptions,
    settings: Settings,
    *,
    observers: Sequence[Observer] = (),
    display: Display = nullcontext,
    approve: Approve | None = None,
) -> Summary:
    """Submit every job of a manifest that the ledger does not know to be submitted; signals end it in good order.

    `approve` is asked once everything is checked and the ledger is ours, before anything is written or sent.

    Raises ManifestError (problems in rows; nothing was sent), UsageError, LedgerError, StoppedError.
    """
    stop = Stop()
    task = asyncio.current_task()
    region = region_of_run(options, settings)
    with stop_on_signals(stop, at_once=lambda: task.cancel() if task else None):
        async with (
            open_manifest(options.manifest, region=region) as spooled,
            open_undertaking(spooled, options, settings, region=region, stop=stop) as undertaking,
        ):
            if approve is not None:
                await _approved(undertaking, approve)
            return await carry_out(undertaking, observers=observers, display=display)


async def _approved(undertaking: CheckedRun, approve: Approve) -> None:
    """Go on where it is approved; else leave no ledger behind that was not there before."""
    try:
        await approve(undertaking)
    except StoppedError:
        path = undertaking.path
        if isinstance(path, Path) and path.is_file() and not path.stat().st_size:
            path.unlink()
        raise


def region_of_run(options: SubmitOptions, settings: Settings) -> str | None:
    """Find the region; None where only the manifest tells it, in a rehearsal. Raises UsageError."""
    region = settings.aws.region if options.sandbox else resolve_region(settings.aws)
    if not (region or options.sandbox):
        raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
    return region


@asynccontextmanager
async def open_undertaking(
    spooled: ManifestFile, options: SubmitOptions, settings: Settings, *, region: str | None, stop: Stop
) -> AsyncIterator[CheckedRun]:
    """Check a manifest and open its ledger. Raises ManifestError, UsageError, LedgerError, StoppedError."""
    terms = Terms(
        batch=options.batch,
        allow_duplicates=options.allow_duplicates,
        keep_invalid=options.skip_invalid,
        moment=options.moment,
    )
    reader, inventory = await check_manifest(
        spooled, settings, region=region, terms=terms, is_stopped=lambda: stop.requested
    )
    if inventory.problems and not (options.skip_invalid and inventory.is_readable):
        raise ManifestError(options.manifest, inventory.problems, inventory.problem_count, inventory.alike.lines())
    path, region = _path(options), region or inventory.region
    async with open_for_writing(path, settings, region=region) as ledger:
        await ledger.recall(inventory.index)
        refuse_rehearsal_mix(ledger.book, path, sandbox=options.sandbox)
        run = Run(options=options, ledger=ledger, stop=stop, inventory=inventory)
        names = partial(_name_warnings, reader, inventory, ledger.book, options)
        run.warnings = (*inventory.warnings, *await asyncio.to_thread(names))
        yield CheckedRun(run=run, spooled=spooled, reader=reader, settings=settings, region=region, path=path)


def _name_warnings(
    reader: Reader, inventory: CheckedManifest, book: LedgerState, options: SubmitOptions
) -> list[RowWarning]:
    return list(ledger_warnings(reader, inventory.index, book, retry_failed=options.retry_failed))


async def carry_out(
    undertaking: CheckedRun, *, observers: Sequence[Observer] = (), display: Display = nullcontext
) -> Summary:
    """Send what is left of a manifest, until nothing is or the run stops, and account for it. Raises StoppedError."""
    run, settings = undertaking.run, undertaking.settings
    options, ledger, stop, index = run.options, run.ledger, run.stop, run.inventory.index
    settings = _at_the_sandbox_s_pace(settings, options.sandbox_job_seconds) if options.sandbox else settings
    prospect = Prospect.of(index, ledger.book, retry_failed=options.retry_failed)
    await run.begin(undertaking.spooled, prospect.work(undertaking.reader, index), settings)
    open_source = partial(ManifestSource, undertaking.reader, index, batch=options.batch)
    source = open_source(decision=run.decide)
    if source.waiting_jobs() or ledger.book.undecided() or run.must_follow:
        with stop_at(options.deadline, stop, SystemClock()):
            async with _open_service(options, settings, undertaking.region) as api:
                workplace = RunEngine.of(run, settings, api, observers, display, undertaking.path)
                if settings.slots.service_quotas and not options.sandbox:
                    workplace.machinery.quotas = await read_quotas(settings.aws, region=undertaking.region)
                if options.canary and source.waiting_jobs():
                    await _send_canaries(workplace, open_source)
                    source = open_source(decision=run.decide)
                if not stop.requested:
                    await workplace.work_off(source, ledger.book.undecided(), index if options.wait else None)
    return await run.end(undertaking.path)


async def _send_canaries(workplace: RunEngine, open_source: Callable[..., ManifestSource]) -> None:
    """Send the first rows alone and follow them to their end; the run stops unless that is a good one."""
    run = workplace.run
    first = set(run.canaries())
    source = open_source(decision=lambda key: run.decide(key) if key in first else Action.NOTHING)
    await workplace.work_off(source, [each for each in run.ledger.book.undecided() if each.job in first], first)
    if not run.stop.requested:
        run.judge_canaries()


@asynccontextmanager
async def _open_service(options: SubmitOptions, settings: Settings, region: str) -> AsyncIterator[CleanRooms]:
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


def _at_the_sandbox_s_pace(settings: Settings, job_seconds: float) -> Settings:
    """Poll jobs of seconds more often than AWS's, which take minutes at least."""
    least = min(settings.slots.min_poll_seconds, max(job_seconds / 50, 0.01))
    return settings.model_copy(update={"slots": settings.slots.model_copy(update={"min_poll_seconds": least})})


def _path(options: SubmitOptions) -> Location:
    return options.ledger or default_ledger(options.manifest)


def default_ledger(manifest: str) -> Path:
    """The ledger of a manifest for which none is named: `<stem>.ledger.jsonl` in the current folder."""
    name = manifest.rstrip("/").rsplit("/", 1)[-1]
    stem = "stdin" if name in {"", "-"} else name.removesuffix(".gz")
    return Path(f"{Path(stem).stem}.ledger.jsonl")


def refuse_rehearsal_mix(book: LedgerState, path: Location, *, sandbox: bool) -> None:
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


def failure_limit_in(settings: SubmitSettings) -> FailureLimit:
    """Read `max_failures`. Raises UsageError."""
    return FailureLimit.parse(settings.max_failures) if settings.max_failures is not None else NO_LIMIT


def deadline_in(settings: SubmitSettings, now: datetime) -> datetime | None:
    """Read `deadline` in `time_zone`, or in local time; `now` is any aware moment. Raises UsageError."""
    if settings.deadline is None:
        return None
    zone = zone_named(settings.time_zone) if settings.time_zone else None
    return parse_deadline(settings.deadline, now.astimezone(zone) if zone else now.astimezone().replace(tzinfo=None))
