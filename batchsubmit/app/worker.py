"""`worker`: opens queue, ledger and client, builds the engine, runs it until SIGTERM, and shows how it is.

A queue has no end, so there is no account of every row as `run` has it; what counts is what this worker did.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from structlog.contextvars import bind_contextvars

from batchsubmit.app.grace import ShutdownGrace, require_grace
from batchsubmit.app.run import RunRecord, require_region
from batchsubmit.app.ui import live_pages
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.quotas import read_quotas
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings, changed
from batchsubmit.core.ledger_state import ACCOUNT, Counts
from batchsubmit.errors import EXIT_LEDGER, UsageError, status_of_work
from batchsubmit.health import Conditions, base_url, serving_probes, stalled
from batchsubmit.ledger.file import FileLedger
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.open import open_for_writing, owner_name, refuse_rehearsal_mix
from batchsubmit.ledger.shared import SharedLedger
from batchsubmit.manifest.defaults import Defaults
from batchsubmit.observers.base import LogObserver, Readings, RunCounts
from batchsubmit.observers.progress import DecidedPace, Display, WorkerProgress
from batchsubmit.outputs.templates import lasting_batch
from batchsubmit.queue.acks import QueueLedger
from batchsubmit.queue.client import Queue, open_queue, region_of
from batchsubmit.queue.source import SqsSource
from batchsubmit.schema import RequestChecker
from batchsubmit.submit.engine import Engine, build_engine
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason, stop_on_signals


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSummary:
    """One worker's life in numbers. `queue_counts` are of messages, the others of jobs."""

    run: str
    queue: str
    ledger: str
    submitted: int
    rejected: int
    unknown: int
    refused_by_quota: int
    throttled: int
    seconds: float
    queue_counts: dict[str, int]
    held_by_others: dict[str, str]
    held: dict[str, str]
    is_cut_short: bool
    stop_reason: str
    stop_message: str

    @property
    def exit_status(self) -> int:
        """0 for a worker that was asked to end and ended in its time; anything else stopped it."""
        if self.stop_reason == StopReason.LEDGER_LOST:
            return EXIT_LEDGER
        return status_of_work(left=self.is_cut_short or self.stop_reason not in {"", str(StopReason.SIGNAL)})

    def as_dict(self) -> dict[str, Any]:
        """The JSON summary: the same names, and the exit status."""
        return {**asdict(self), "exit_status": self.exit_status}


_COUNTED = ("submitted", "rejected", "unknown", "refused_by_quota", "throttled")


async def work(
    settings: Settings, *, ledger: Location, advise: Callable[[str], None], display: Display = lambda *_: nullcontext()
) -> WorkerSummary:
    """Submit the jobs of a queue until SIGTERM, or until something stops every job.

    `advise` gets a sentence for each setting of the queue that does not fit, and the address of the report page. Raises
    UsageError, LedgerError, StoppedError.
    """
    stop, tally, pace = Stop(), RunCounts(), DecidedPace()
    url, region, batch = _checked(settings)
    grace = ShutdownGrace(stop, settings.worker.grace_seconds)
    async with grace.for_everything(), AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        async with stop.cutting_off():
            queue = await stack.enter_async_context(open_queue(url, settings, region=region))
        for words in queue.advice:
            advise(words)
        bind_contextvars(worker=owner_name())
        opening = open_for_writing(ledger, settings, region=region, keeps_all=False)
        opened = await stack.enter_async_context(opening)
        refuse_rehearsal_mix(opened.state, ledger, sandbox=False)
        if isinstance(opened, SharedLedger):
            opened.on_loss = lambda exc: stop.request(StopReason.LEDGER, str(exc))
        status = WorkerStatus(queue=queue, settings=settings, ledger=opened, tally=tally, stop=stop)
        await stack.enter_async_context(status.serving(ledger, advise))
        async with stop.cutting_off():
            api = await stack.enter_async_context(open_cleanrooms(settings, region=region))
        recorder = Recorder(opened, SystemClock(), (tally, pace, LogObserver(), *status.metrics))
        record = RunRecord(opened, stop)
        await record.begin(batch=batch, manifest=url, manifest_sha256="", settings=changed(settings))
        quotas = await read_quotas(settings.aws, region=region) if settings.slots.service_quotas else None
        async with _make_source(settings, region, queue, recorder, stop).receiving() as source:
            engine = build_engine(source, settings=settings, api=api, recorder=recorder, stop=stop, quotas=quotas)
            status.parts = source, engine
            async with grace.for_calls(lambda: engine.in_progress.jobs):
                with display(status.progress, pace.read):
                    await engine.run(opened.state.undecided())
        counts = {name: getattr(tally, name) for name in _COUNTED}
        summary = WorkerSummary(
            run=record.id,
            queue=url,
            ledger=str(ledger),
            **counts,
            seconds=record.seconds(),
            queue_counts=asdict(queue.counters),
            held_by_others=engine.slots.held_by_others(),
            held=engine.slots.other_quotas,
            is_cut_short=bool(grace.cut_short),
            stop_reason=str(stop.reason or ""),
            stop_message=stop.message + grace.cut_short,
        )
        await record.end(summary.exit_status, counts)
        return summary


def _make_source(settings: Settings, region: str, queue: Queue, recorder: Recorder, stop: Stop) -> SqsSource:
    """Make a source that receives until the worker is asked to stop."""
    source = SqsSource(
        queue,
        settings,
        region=region,
        ledger=QueueLedger(recorder.ledger, recorder.record),
        clock=recorder.clock,
        on_trouble=lambda exc: stop.request(StopReason.QUEUE, str(exc)),
    )
    stop.on_request(source.close)
    return source


async def advice_on_queue(settings: Settings) -> Sequence[str]:
    """Check whether the queue can be used; gives the advice on its settings. Raises UsageError, StoppedError."""
    url, region, _ = _checked(settings)
    async with open_queue(url, settings, region=region) as queue:
        return queue.advice


def _checked(settings: Settings) -> tuple[str, str, str]:
    """Give the queue's URL, the region and the batch id. Raises UsageError."""
    url, region = queue_and_region(settings)
    Defaults(settings.defaults, RequestChecker()).refuse_moment()
    return url, region, lasting_batch(settings.submit)


def queue_and_region(settings: Settings) -> tuple[str, str]:
    """Find the queue's URL and the region. Raises UsageError, also where the settings do not fit a queue."""
    worker = settings.worker
    if not worker.queue_url:
        raise UsageError("no queue: give --queue-url, or queue_url under [worker] in the settings")
    if worker.ui and not worker.metrics_port:
        raise UsageError("worker.ui needs a port, and worker.metrics_port is 0: set one, or worker.ui to false")
    require_grace(worker)
    return worker.queue_url, require_region(resolve_region(settings.aws) or region_of(worker.queue_url))


_FAILURE_COUNTS = ("throttled", "unanswered", "delete_failures", "extension_failures")
_JOB_COUNTS = ("submitted", "rejected", "unknown", "failed", "cancelled")


@dataclass(kw_only=True)
class WorkerStatus:
    """A worker's readings and conditions, and its metrics, one or none. With its `parts`, once open, it is ready."""

    queue: Queue
    settings: Settings
    ledger: FileLedger | SharedLedger
    tally: RunCounts
    stop: Stop
    parts: tuple[SqsSource, Engine] | None = None

    def __post_init__(self) -> None:
        """Have metrics where their library is installed."""
        try:
            from batchsubmit.observers.metrics import Metrics  # noqa: PLC0415 (an extra)
        except ModuleNotFoundError:
            self.metrics: list[Metrics] = []
        else:
            self.metrics = [Metrics(self.read)]

    @asynccontextmanager
    async def serving(self, ledger: Location, advise: Callable[[str], None]) -> AsyncIterator[None]:
        """Answer probes and scrapes and, where that is set, show the report page; `advise` gets its address."""
        settings, metrics = self.settings.worker, self.metrics[0].exposition if self.metrics else None
        path, pages = live_pages(ledger, self.settings) if settings.ui else ("", [])
        async with serving_probes(
            settings, live={"intake": self.trouble}, ready=self.ready(), metrics=metrics, pages=pages
        ):
            if path:
                advise(f"report page: {base_url(settings.metrics_host, settings.metrics_port)}{path}")
            yield

    def trouble(self) -> str:
        """Say that the worker makes no progress. One that drains for minutes must not be killed for it."""
        return "" if self.stop.requested else stalled(self.settings, time.monotonic() - self.queue.called_at)

    def ready(self) -> Conditions:
        """What a worker needs to take new messages."""
        return {
            "queue": lambda: self.queue.trouble,
            "ledger": lambda: self.ledger.trouble,
            "manifests": lambda: self.parts[0].trouble() if self.parts else "",
            "worker": lambda: "draining" if self.stop.requested else "" if self.parts else "starting",
        }

    def progress(self) -> WorkerProgress:
        """What is shown at a terminal."""
        readings = self.read()
        return WorkerProgress(
            counts=Counts(**{name: getattr(self.tally, name) for name in _JOB_COUNTS}),
            slots=(readings.account_slots_used or 0, readings.account_slots_known),
            in_progress=readings.calls_under_way,
            state="draining" if self.stop.requested else self.queue.trouble or "ready",
            waiting=readings.jobs_waiting,
        )

    def read(self) -> Readings:
        """Look at everything."""
        if self.parts is None:
            return Readings(draining=self.stop.requested)
        source, engine = self.parts
        waiting = {lane: len(jobs) for lane, jobs in source.held.lanes.items()}
        usage, sent_at = engine.slots.usage(), source.held.oldest_sent_at()
        account_used, account_known = usage.pop(ACCOUNT)
        memberships = sorted(waiting.keys() | usage.keys())
        messages = asdict(self.queue.counters)
        return Readings(
            account_slots_used=account_used,
            account_slots_known=account_known,
            rate_calls_per_second=engine.gate.pace.per_second,
            calls_under_way=engine.in_progress.jobs,
            jobs_unknown=self.tally.unknown,
            jobs_undecided=len(engine.in_progress.undecided),
            messages_held=len(source.held),
            oldest_message_age_seconds=None if sent_at is None else max(time.time() - sent_at, 0.0),
            draining=self.stop.requested,
            queue_polls=messages.pop("polls"),
            queue_failures={name: messages.pop(name) for name in _FAILURE_COUNTS},
            messages=messages,
            jobs_waiting={name: waiting.get(name, 0) for name in memberships},
            slots_used={name: usage[name][0] if name in usage else 0 for name in memberships},
            slots_known={name: known for name, (_, known) in usage.items() if known is not None},
        )
