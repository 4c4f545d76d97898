"""Assembly of `submit`: opens manifest, ledger, sandbox and client, builds the engine, and runs it.

Nothing is decided here that a smaller module could decide, and nothing is printed.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from batchsubmit.app.run import Run, SubmitOptions, dated, require_region
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.api import JobSummary
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.cleanrooms.quotas import read_quotas
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.core.job_states import Phase, is_good_end, is_running
from batchsubmit.core.ledger_state import ACCOUNT, within_quotas
from batchsubmit.errors import NotAgreedError, StoppedError, UsageError
from batchsubmit.ledger.base import Ledger
from batchsubmit.ledger.open import open_for_writing, refuse_rehearsal_mix
from batchsubmit.ledger.read import Tail
from batchsubmit.manifest.check import check_manifest
from batchsubmit.manifest.file import ManifestFile, open_manifest
from batchsubmit.manifest.overwrites import warnings_of_rows
from batchsubmit.observers.base import LogObserver, Observer
from batchsubmit.observers.progress import Display, RunProgress, pace_in
from batchsubmit.report.summary import Summary
from batchsubmit.submit.engine import Engine, build_engine, open_reads
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, stop_at, stop_on_signals
from batchsubmit.text import counted, duration


async def submit(
    options: SubmitOptions, settings: Settings, *, display: Display, approve: Callable[[Run], Awaitable[None]]
) -> Summary:
    """Submit every job of a manifest that the ledger does not know to be submitted; signals end it in good order.

    `approve` is asked once everything is checked and the ledger is ours, before anything is written or sent; it raises
    NotAgreedError where nothing is to be.

    Raises ManifestError (problems in rows; nothing was sent), UsageError, LedgerError, StoppedError.
    """
    stop = Stop()
    with stop_on_signals(stop):
        async with (
            open_manifest(options.manifest, region=_region(options, settings)) as manifest,
            open_run(manifest, options, settings, stop) as run,
        ):
            try:
                await approve(run)
            except (NotAgreedError, UsageError):
                path = run.options.place
                if isinstance(path, Path) and path.is_file() and not path.stat().st_size:
                    path.unlink()  # nothing is left of a run that does not begin
                raise
            return await execute(run, display=display)


def _region(options: SubmitOptions, settings: Settings) -> str | None:
    """Find the region; where there is none, a rehearsal takes the manifest's. Raises UsageError."""
    return settings.aws.region if options.sandbox else resolve_region(settings.aws)


@asynccontextmanager
async def open_run(
    manifest: ManifestFile, options: SubmitOptions, settings: Settings, stop: Stop
) -> AsyncIterator[Run]:
    """Check a manifest and open its ledger. Raises ManifestError, UsageError, LedgerError, StoppedError."""
    region = _region(options, settings)
    terms = replace(options.terms, is_stopped=lambda: stop.requested)
    inventory = await check_manifest(manifest, settings, region=region, terms=terms)
    options.refuse_problems(inventory)
    path = options.place
    region = region or inventory.region if options.sandbox else require_region(region)
    async with open_for_writing(path, settings, region=region) as ledger:
        await ledger.load(inventory.index)
        refuse_rehearsal_mix(ledger.state, path, sandbox=options.sandbox)
        if options.retry:
            options = replace(options, retry=dated(options.retry, ledger.state, timestamp(SystemClock().now())))
            if not options.sandbox:
                await _record_ends_unseen(ledger, settings, region, stop)
        if options.known_only:
            inventory = inventory.only(ledger.state)
        if options.sandbox:  # it knows no Service Quotas, and jobs of seconds are polled more often than AWS's
            least = min(settings.slots.min_poll_seconds, max(options.sandbox_job_seconds / 50, 0.01))
            slots = settings.slots.model_copy(update={"min_poll_seconds": least, "service_quotas": False})
            settings = settings.model_copy(update={"slots": slots})
        run = Run(
            options=options,
            settings=settings,
            region=region,
            ledger=ledger,
            stop=stop,
            manifest=manifest,
            inventory=inventory,
        )
        run.warnings = await asyncio.to_thread(warnings_of_rows, inventory, run.rows, ledger.state)
        yield run


async def _record_ends_unseen(ledger: Ledger, settings: Settings, region: str, stop: Stop) -> None:
    """Record the ends that no run saw: what nobody followed may have failed. Raises StoppedError."""
    left = [state for state in ledger.state if state.phase is Phase.SUBMITTED]
    if not left:
        return
    recorder, ended = Recorder(ledger, SystemClock()), dict[str, JobSummary]()
    async with stop.cutting_off(), open_cleanrooms(settings, region=region) as api:
        reads = open_reads(api, settings, stop, recorder.clock)
        try:
            for membership in dict.fromkeys(state.membership for state in left):
                ended |= {job.arn: job for job in await reads.jobs(membership) if not is_running(job.status)}
            for state in left:
                if job := ended.get(state.arn):
                    good = is_good_end(job.status)
                    details = None if good else await reads.details(state.membership, state.arn)
                    await recorder.record(recorder.finished(state, job.status, job.updated_at, details))
        except ReadError as exc:
            raise StoppedError(f"the service does not say how the jobs ended; nothing was sent: {exc}") from exc


async def execute(
    run: Run, *, observers: Sequence[Observer] = (), display: Display = lambda *_: nullcontext()
) -> Summary:
    """Send what is left of a manifest, until nothing is or the run stops, and account for it. Raises StoppedError."""
    api: CleanRooms | None = None
    async with AsyncExitStack() as stack:
        try:
            if run.has_work:
                # What is wrong for every call is found here, before the ledger says that a run began.
                async with run.stop.cutting_off():  # a program that gives credentials may not answer
                    api = await stack.enter_async_context(_open_service(run))
        except StoppedError:
            if not run.stop.requested:
                raise
        await run.begin()
        if api is not None:
            with stop_at(run.options.deadline, run.stop, SystemClock()):
                await _send(run, api, observers, display)
    return await run.end()


async def _send(run: Run, api: CleanRooms, observers: Sequence[Observer], display: Display) -> None:
    """Send the canaries alone, if any, which are followed in any case, then the rest; look up first what is unknown."""
    settings, options = run.settings, run.options
    recorder = Recorder(run.ledger, SystemClock(), (run.tally, LogObserver(), *observers))
    quotas = await read_quotas(settings.aws, region=run.region) if settings.slots.service_quotas else None
    has_canaries = options.canary and run.open_source().waiting_jobs()
    for only in (set(run.canaries), None) if has_canaries else (None,):
        if run.stop.requested:
            return
        follows = options.wait or only is not None
        run.engine = engine = build_engine(
            run.open_source(only),
            settings=settings,
            api=api,
            recorder=recorder,
            stop=run.stop,
            quotas=quotas,
            gate=run.engine.gate if run.engine else None,
            retry=options.retry,
            resubmit_unknown=options.resubmit_unknown,
            follows=follows,
        )
        # A table would have to be read as a whole each time.
        pace = pace_in(Tail(options.place)) if isinstance(options.place, Path) else lambda: (0.0, "")
        for key in (run.inventory.index if only is None else only) if follows else ():
            engine.poller.follow(key)
        unknown = [state for state in run.ledger.state.undecided() if only is None or state.job in only]
        with display(partial(_progress, run, engine), pace):
            await engine.run(unknown)
        if only is not None and not run.stop.requested:
            run.judge_canaries()


def _progress(run: Run, engine: Engine) -> RunProgress:
    """Read the state of the run for a display, and what keeps jobs from being sent."""
    slots, ours = engine.slots, engine.slots.ours()
    # Who follows jobs sees them run, more than AWS's defaults allow where the quota was raised.
    running = sum(ours.values()) if slots.follows else within_quotas(ours, slots.quotas())
    why = []
    if looked_up := engine.in_progress.looked_up:
        why.append(f"looking up {counted(looked_up, 'job')}, up to {duration(run.settings.lookup.settle_seconds)}")
    # While slots wait for jobs, those wait for the rate.
    if full := 0 if engine.gate.is_awaited else slots.full_lanes():
        why.append(f"waiting for a slot in {counted(full, 'membership')}")
    if others := slots.held_by_others():
        why.append(f"the quota looks used by others: {', '.join(others.values())}")
    for quota, count in Counter(engine.slots.other_quotas.values()).items():
        why.append(f"held by the quota {quota} in {counted(count, 'membership')}")
    return RunProgress(
        counts=run.counts_now(running=running, in_progress=engine.in_progress.jobs),
        slots=slots.usage()[ACCOUNT],
        in_progress=engine.in_progress.jobs,
        why=tuple(why),
        stopping=str(run.stop.reason or ""),
    )


@asynccontextmanager
async def _open_service(run: Run) -> AsyncIterator[CleanRooms]:
    """Open a client on the service, or on a sandbox in this process. Raises UsageError where its faults are wrong."""
    options, url = run.options, None
    async with AsyncExitStack() as stack:
        if options.sandbox:
            # A real run has no use for the sandbox's ten modules.
            from batchsubmit.sandbox import FaultPlan, Faults, SandboxServer, SandboxService, SandboxSettings  # noqa: PLC0415

            try:
                faults = Faults(FaultPlan.read(options.faults) if options.faults else None)
            except ValueError as exc:
                raise UsageError(f"{exc}; nothing was sent") from exc
            service = SandboxService(SandboxSettings(job_seconds=options.sandbox_job_seconds), time.time)
            url = (await stack.enter_async_context(SandboxServer(service, faults))).url
        yield await stack.enter_async_context(open_cleanrooms(run.settings, region=run.region, sandbox_url=url))
