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
from strategies import REGION
from test_queue_source import body
from virtual_time import VirtualClock, VirtualLoop, running_loop, virtually
from world import START, World

from batchsubmit.core.jobs import Uncertain
from batchsubmit.ledger.shared import LeaseTerms, open_shared
from batchsubmit.observers.base import Readings
from batchsubmit.observers.metrics import Metrics
from batchsubmit.pacing import Pace
from batchsubmit.queue.acks import QueueLedger
from batchsubmit.queue.source import SqsSource
from batchsubmit.sandbox import SandboxService
from batchsubmit.schema import RequestChecker
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import StopReason

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


class MemoryWorker(World):
    """A worker at a queue in memory; every seventh call brings no answer, and is looked up."""

    def __init__(self) -> None:
        settings = {
            "rate": {"max_per_second": 0},
            "lookup": {"settle_seconds": 1},
            "worker": {"visibility_timeout_seconds": 300},
            "retry": {},
            "slots": {},
            "submit": {},
        }
        super().__init__(VirtualClock(running_loop()), settings=settings, per_membership=5, job_seconds=1)
        self.sqs, self.table = MemorySqs(), MemoryTable()
        self.sent = 0

    def disturb(self, operation: str, name: str) -> Disturbance | None:
        """Lose answers."""
        super().disturb(operation, name)
        calls = self.calls[operation]
        is_lost = operation == START and calls % 7 == 0
        return Disturbance(Uncertain("no answer"), took_effect=calls % 2 == 0) if is_lost else None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[list[object]]:
        """Let it work; gives its parts."""
        terms = LeaseTerms(lease_seconds=1e4)
        opening = open_shared(self.table, "w", "w", clock=self.clock, terms=terms)
        async with opening as ledger:
            self.ledger, metrics = ledger, Metrics(Readings)
            self.observers.append(metrics)
            recorder = Recorder(ledger, self.clock, self.observers)
            sqs = SqsSource(
                cast("Queue", self.sqs),
                self.settings,
                region=REGION,
                ledger=QueueLedger(recorder.ledger, recorder.record),
                clock=self.clock,
                on_trouble=print,
            )
            self.stop.on_request(sqs.close)
            async with sqs.receiving() as source:
                engine = self.engine(source)
                running = running_loop().create_task(engine.run())
                yield [source, engine, ledger, recorder, metrics]
                self.stop.request(StopReason.SIGNAL, "SIGTERM")
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
