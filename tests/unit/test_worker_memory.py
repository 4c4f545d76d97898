"""A worker keeps nothing of a job that is done: its parts are as large after many jobs as after few.

All of it is real but for queue, table and service, which are in memory, and time, which is virtual. What is counted is
everything that can be reached from the parts; `tests/bench/worker_memory.py` measures the process.
"""

import gc
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, cast

from memory_cleanrooms import Disturbance, MemoryCleanRooms
from memory_sqs import MemorySqs
from memory_table import MemoryTable
from simulation.loop import VirtualClock, VirtualLoop
from strategies import REGION
from test_queue_source import body
from virtual_disk import running_loop, virtually

from batchsubmit.app.worker import WorkerLedger
from batchsubmit.config import LookupSettings, RateSettings, Settings, WorkerSettings
from batchsubmit.core.jobs import Uncertain
from batchsubmit.ledger.shared import LeaseTerms, open_shared
from batchsubmit.observers.base import Readings, RunCounts
from batchsubmit.observers.metrics import Metrics
from batchsubmit.pacing import Pace
from batchsubmit.queue.client import ReachedQueue
from batchsubmit.queue.message import MessageReader
from batchsubmit.queue.receive import QueueParts
from batchsubmit.queue.source import SqsSource
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.schema import RequestChecker
from batchsubmit.submit.engine import build_engine
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason

if TYPE_CHECKING:
    from batchsubmit.queue.client import Queue

OUTSIDE = (
    MemorySqs,
    MemoryTable,
    SandboxService,
    MemoryCleanRooms,
    VirtualLoop,
    RequestChecker,
    ModuleType,
    type,
    Pace,
)
"""What keeps all jobs because that is its purpose, what is the program's and not the worker's, and the calls of the
last second, which here is all of them."""

CONTAINERS = (dict, set, list, deque)


def reachable_bytes(*roots: object) -> int:
    """The size of all objects that can be reached from these, without the room that a container has left."""
    seen: dict[int, object] = {}
    left = list(roots)
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, OUTSIDE):
            continue
        seen[id(thing)] = thing
        left += _inside(thing)
    return sum(8 * len(each) if isinstance(each, CONTAINERS) else sys.getsizeof(each) for each in seen.values())


def _inside(thing: object) -> Iterator[object]:
    if isinstance(thing, FunctionType):  # not its module's globals
        yield from thing.__closure__ or ()
        return
    yield from gc.get_referents(thing)


class MemoryWorker:
    """A worker at a queue in memory; every seventh call brings no answer, and is looked up."""

    def __init__(self) -> None:
        self.sqs, self.table = MemorySqs(), MemoryTable()
        self.clock = VirtualClock(running_loop())
        service = SandboxSettings(per_membership=5, per_account=0, job_seconds=1, pending_seconds=0, seed=1)
        self.service = SandboxService(service, self.clock.service_time)
        self.sent = self.calls = 0

    def _disturb(self, operation: str, _name: str) -> Disturbance | None:
        self.calls += operation.startswith("Start")
        is_lost = operation.startswith("Start") and self.calls % 7 == 0
        return Disturbance(Uncertain("no answer"), took_effect=self.calls % 2 == 0) if is_lost else None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[list[object]]:
        """Let it work; gives its parts."""
        settings = Settings(
            rate=RateSettings(max_per_second=0, reads_per_second=0),
            lookup=LookupSettings(settle_seconds=1),
            worker=WorkerSettings(visibility_timeout_seconds=300),
        )
        terms, stop = LeaseTerms(lease_seconds=1e4), Stop()
        opening = open_shared(self.table, "w", "w", clock=self.clock, terms=terms)
        async with opening as ledger:
            metrics = Metrics(Readings)
            recorder = Recorder(ledger, self.clock, [metrics, RunCounts()])
            reached = ReachedQueue(
                queue=cast("Queue", self.sqs),
                attributes=await self.sqs.attributes(),
                dead_letters=None,
            )
            site = QueueParts(reached, settings, region=REGION, ledger=WorkerLedger(recorder), clock=self.clock)
            api = MemoryCleanRooms(self.service, disturb=self._disturb)
            reader = MessageReader(RequestChecker(region=REGION), defaults={})
            async with SqsSource.open(site, reader, print) as source:
                stop.on_request(source.close)
                engine = build_engine(
                    source,
                    settings=settings,
                    api=api,
                    recorder=recorder,
                    stop=stop,
                    account_of=source.account_of,
                )
                running = running_loop().create_task(engine.run())
                yield [source, engine, ledger, recorder, metrics, site]
                stop.request(StopReason.SIGNAL, "SIGTERM")
                await running

    async def submit(self, jobs: int) -> None:
        """Put so many more on the queue and wait until all are done; then some more, after what is known has aged."""
        for count in (jobs - 10, 10):
            for _ in range(count):
                self.sqs.put(body(f"job-{self.sent:05}"))
                self.sent += 1
            while self.sqs.messages:
                await self.clock.sleep(5)
            await self.clock.sleep(3600)


@virtually
async def test_a_worker_s_parts_are_as_large_after_many_jobs_as_after_few() -> None:
    """Ledger, queue, slots, lookups, metrics: what a message or a job leaves behind is less than a byte."""
    worker = MemoryWorker()
    async with worker.at_work() as parts:
        await worker.submit(300)
        before = reachable_bytes(*parts)
        await worker.submit(300)
        after = reachable_bytes(*parts)
    assert len({job.name for job in worker.service.jobs()}) == worker.sent == 600
    assert after - before < 300
