"""Assembly of the worker: opens queue, ledger and client, puts the engine together, and lets it run till SIGTERM.

Nothing is decided here that a smaller module could decide, and nothing is printed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from batchsubmit.app.shutdown import ShutdownGrace
from batchsubmit.app.submit import refuse_rehearsal_mix
from batchsubmit.app.worker_run import LedgerBooks, WorkerRun, WorkerSummary
from batchsubmit.app.worker_status import WorkerParts, WorkerStatus, make_metrics, serving_probes
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.cleanrooms.quotas import Quotas, read_quotas
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.file import FileLedger
from batchsubmit.ledger.open import open_for_writing, owner_name
from batchsubmit.ledger.shared import SharedLedger
from batchsubmit.manifest.defaults import Defaults
from batchsubmit.observers.base import Observer, bind_worker
from batchsubmit.queue.client import LONG_POLL_SECONDS, ReachedQueue, region_of
from batchsubmit.queue.message import MessageReader
from batchsubmit.queue.open import make_parts, open_reached
from batchsubmit.queue.source import SqsSource
from batchsubmit.schema import RequestChecker
from batchsubmit.schema.arns import account_in
from batchsubmit.submit.build import EngineBuilder, EngineContext, RateGates
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason, stop_on_signals


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one worker was asked to do, beside the settings."""

    ledger: Location
    batch: str = ""


async def work(
    options: WorkerOptions,
    settings: Settings,
    *,
    observers: Sequence[Observer] = (),
    advise: Callable[[str], None] = lambda _: None,
) -> WorkerSummary:
    """Submit the jobs of a queue until SIGTERM, or until something stops every job.

    `advise` is told where the queue's settings do not fit. Raises UsageError, LedgerError, StoppedError.
    """
    stop = Stop()
    task = asyncio.current_task()
    url, region = queue_and_region(settings)
    Defaults(settings.defaults, RequestChecker()).refuse_moment()
    grace = ShutdownGrace(stop, settings.worker.grace_seconds)
    async with grace.for_everything(), AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, at_once=lambda: task.cancel() if task else None))
        served, words = await stack.enter_async_context(open_reached(url, settings, region=region))
        for word in words:
            advise(word)
        bind_worker(owner_name())
        ledger = await stack.enter_async_context(_open_ledger(options, settings, region, stop))
        worker_run = WorkerRun(queue=url, ledger_name=str(options.ledger), stop=stop, sandbox=False)
        worker_status = _worker_status(served, settings, worker_run)
        metrics = make_metrics(worker_status.read)
        recorder = Recorder(ledger, SystemClock(), (worker_run.tally, *observers, *([metrics] if metrics else [])))
        ready = worker_status.ready(lambda: ledger.trouble)
        probes = serving_probes(settings.worker, live=worker_status.live(), ready=ready, metrics=metrics)
        await stack.enter_async_context(probes)
        api = await stack.enter_async_context(_open_service(settings, region))
        await worker_run.begin(recorder, options.batch)
        shop = _WorkerContext(
            served=served,
            settings=settings,
            region=region,
            batch=options.batch,
            recorder=recorder,
            stop=stop,
            worker_status=worker_status,
            worker_run=worker_run,
            grace=grace,
        )
        await _serve(shop, api)
        return await worker_run.end(recorder, served.counters)


@asynccontextmanager
async def _open_ledger(
    options: WorkerOptions, settings: Settings, region: str, stop: Stop
) -> AsyncIterator[FileLedger | SharedLedger]:
    """Open a ledger of the service's, which ends the worker where it is lost."""
    async with open_for_writing(options.ledger, settings, region=region, keeps_all=False) as ledger:
        refuse_rehearsal_mix(ledger.state, options.ledger, sandbox=False)
        if isinstance(ledger, SharedLedger):
            ledger.on_loss = lambda exc: stop.request(StopReason.LEDGER, str(exc))
        yield ledger


def _open_service(settings: Settings, region: str) -> AbstractAsyncContextManager[CleanRooms]:
    return open_cleanrooms(
        settings.aws,
        region=region,
        concurrency=settings.submit.concurrency,
        tag_jobs=settings.submit.tag_jobs,
    )


def _worker_status(served: ReachedQueue, settings: Settings, worker_run: WorkerRun) -> WorkerStatus:
    patience = LONG_POLL_SECONDS + settings.aws.read_timeout_seconds + settings.worker.visibility_timeout_seconds
    return WorkerStatus(
        queue=served.queue,
        counters=served.counters,
        tally=worker_run.tally,
        stop=worker_run.stop,
        within_seconds=patience,
    )


async def check(settings: Settings) -> list[str]:
    """Look whether the queue can be used; gives the advice on its settings. Raises UsageError, StoppedError."""
    url, region = queue_and_region(settings)
    Defaults(settings.defaults, RequestChecker()).refuse_moment()
    async with open_reached(url, settings, region=region) as (_, words):
        return words


def queue_and_region(settings: Settings) -> tuple[str, str]:
    """Find the queue's URL and the region. Raises UsageError."""
    worker = settings.worker
    url = worker.queue_url
    if not url:
        raise UsageError("no queue: give --queue-url, or queue_url under [worker] in the settings")
    if worker.grace_seconds < worker.wait_seconds:
        raise UsageError(
            f"worker.grace_seconds is {worker.grace_seconds:g}, and a long poll, which is never cut off, takes "
            f"worker.wait_seconds, {worker.wait_seconds}: set the first to more"
        )
    region = resolve_region(settings.aws) or region_of(url)
    if not region:
        raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
    return url, region


async def _serve(shop: "_WorkerContext", api: CleanRooms) -> None:
    """Run the engine on the queue."""
    settings, stop, recorder = shop.settings, shop.stop, shop.recorder
    checker = RequestChecker(region=shop.region, own_tag=settings.submit.tag_jobs)
    judge = MessageReader(
        checker, defaults=settings.defaults, batch=shop.batch, foreign_arns=settings.checks.foreign_arns
    )
    books = LedgerBooks(recorder)
    site = make_parts(shop.served, settings, region=shop.region, ledger=books, clock=recorder.clock)

    def give_up(exc: StoppedError) -> None:
        stop.request(StopReason.QUEUE, str(exc))

    quotas = await read_quotas(settings.aws, region=shop.region) if settings.slots.service_quotas else Quotas()
    async with SqsSource.open(site, judge, give_up) as source:
        stop.on_request(source.close)
        shop.worker_status.station = station = _station(source, shop, api, quotas)

        def cut_short() -> None:
            shop.worker_run.cut_short(shop.grace.seconds, calls=station.engine.under_way)

        async with shop.grace.for_what_is_under_way(cut_short):
            await station.engine.run(recorder.ledger.state.undecided())
        shop.worker_run.held = station.engine.held_lanes()
        held = station.slots.held_by_others()
        shop.worker_run.held_by_others = {each.membership or "account": str(each) for each in held}


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkerContext:
    """What the machinery of one worker is made of."""

    served: ReachedQueue
    settings: Settings
    region: str
    batch: str
    recorder: Recorder
    stop: Stop
    worker_status: WorkerStatus
    worker_run: WorkerRun
    grace: ShutdownGrace


def _station(source: SqsSource, shop: _WorkerContext, api: CleanRooms, quotas: Quotas) -> WorkerParts:
    """Put the engine together."""
    settings, stop, recorder = shop.settings, shop.stop, shop.recorder
    gates = RateGates.of(settings.rate, stop)
    around = EngineContext(settings=settings, api=api, recorder=recorder, stop=stop, gates=gates, resources=api)
    machinery = EngineBuilder(around, is_endless=True)
    machinery.quotas = quotas

    def account_of(membership: str) -> str:
        return source.account_of(membership) or _account_in(recorder.ledger.state, membership)

    works = machinery.around(source, account_of=account_of)
    return WorkerParts(source=source, engine=works.engine, slots=works.slots, gate=gates.starts)


def _account_in(book: LedgerState, membership: str) -> str:
    """Read a membership's account off what the ledger knows of it."""
    models = (state.trained_model for state in book if state.membership == membership)
    return next((account_in(model) for model in models if f":membership/{membership}/" in model), "")
