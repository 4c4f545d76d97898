"""Assembly of the worker: opens queue, ledger and client, puts the engine together, and lets it run till SIGTERM.

Nothing is decided here that a smaller module could decide, and nothing is printed.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from batchsubmit.app import refuse_rehearsal_mix
from batchsubmit.catalog import Catalog
from batchsubmit.cleanrooms import JobsApi
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.engine import Engine, Limits
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.file import open_ledger
from batchsubmit.lookup import Lookup
from batchsubmit.observers import Observer
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.recorder import Recorder
from batchsubmit.region import resolve_region
from batchsubmit.schema import RequestChecker
from batchsubmit.shift import LedgerBooks, Shift, ShiftSummary
from batchsubmit.slots import Lanes
from batchsubmit.sources.sqs.message import Judge
from batchsubmit.sources.sqs.queue import region_of
from batchsubmit.sources.sqs.served import open_served
from batchsubmit.sources.sqs.site import Served, make_site
from batchsubmit.sources.sqs.source import SqsSource
from batchsubmit.stopping import Stop, StopReason, stop_on_signals
from batchsubmit.submitter import Submitter


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one worker was asked to do, beside the settings."""

    ledger: Path
    batch: str = ""


async def work(
    options: WorkerOptions,
    settings: Settings,
    *,
    observers: Sequence[Observer] = (),
    advise: Callable[[str], None] = lambda _: None,
) -> ShiftSummary:
    """Submit the jobs of a queue until SIGTERM, or until something stops every job.

    `advise` is told where the queue's settings do not fit. Raises UsageError, LedgerError, StoppedError.
    """
    stop = Stop()
    task = asyncio.current_task()
    url, region = queue_and_region(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, at_once=lambda: task.cancel() if task else None))
        served, words = await stack.enter_async_context(open_served(url, settings, region=region))
        for word in words:
            advise(word)
        opening = open_ledger(options.ledger, concurrency=settings.submit.concurrency)
        ledger = await stack.enter_async_context(opening)
        refuse_rehearsal_mix(ledger.book, options.ledger, sandbox=False)
        shift = Shift(queue=url, ledger_name=str(options.ledger), stop=stop, sandbox=False)
        recorder = Recorder(ledger, SystemClock(), (shift.tally, *observers))
        access = open_cleanrooms(
            settings.aws,
            region=region,
            concurrency=settings.submit.concurrency,
            tag_jobs=settings.submit.tag_jobs,
        )
        api = await stack.enter_async_context(access)
        await shift.begin(recorder, options.batch)
        await _serve(served, settings, options.batch, api=api, recorder=recorder, stop=stop)
        return await shift.end(recorder, served.counters)


async def check(settings: Settings) -> list[str]:
    """Look whether the queue can be used; gives the advice on its settings. Raises UsageError, StoppedError."""
    url, region = queue_and_region(settings)
    async with open_served(url, settings, region=region) as (_, words):
        return words


def queue_and_region(settings: Settings) -> tuple[str, str]:
    """Find the queue's URL and the region. Raises UsageError."""
    url = settings.worker.queue_url
    if not url:
        raise UsageError("no queue: give --queue-url, or queue_url under [worker] in the settings")
    region = resolve_region(settings.aws) or region_of(url)
    if not region:
        raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
    return url, region


async def _serve(
    served: Served, settings: Settings, batch: str, *, api: JobsApi, recorder: Recorder, stop: Stop
) -> None:
    """Run the engine on the queue."""
    _, region = queue_and_region(settings)
    checker = RequestChecker(region=region, own_tag=settings.submit.tag_jobs)
    judge = Judge(checker, defaults=settings.defaults, batch=batch)
    site = make_site(served, settings, region=region, books=LedgerBooks(recorder), clock=recorder.clock)

    def give_up(exc: StoppedError) -> None:
        stop.request(StopReason.QUEUE, str(exc))

    async with SqsSource.open(site, judge, give_up) as source:
        stop.on_request(source.close)
        engine = _engine(source, settings, api=api, recorder=recorder, stop=stop)
        await engine.run(recorder.ledger.book.undecided())


def _engine(source: SqsSource, settings: Settings, *, api: JobsApi, recorder: Recorder, stop: Stop) -> Engine:
    gate = RateGate(Pace(settings.rate.max_per_second))
    stop.on_request(gate.close)
    catalog = Catalog(api, settings.retry, sleep=stop.pause)
    return Engine(
        source=source,
        submitter=Submitter(
            api=api,
            recorder=recorder,
            gate=gate,
            policies=RetryPolicies(settings.retry, sleep=stop.pause),
            stop=stop,
        ),
        lookup=Lookup(catalog=catalog, recorder=recorder, settings=settings.lookup, stop=stop),
        lanes=Lanes(settings.slots),
        stop=stop,
        clock=recorder.clock,
        limits=Limits(concurrency=settings.submit.concurrency, max_attempts=settings.retry.max_attempts),
    )
