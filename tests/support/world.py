"""The world of a test: service, ledger, clock and stop in memory, and the engine that `build_engine` puts over them.

A test says what differs (settings, quotas, what single calls bring), lets it run, and asks service and ledger
afterwards.
"""

import asyncio
import io
import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from conftest import FakeClock
from memory_cleanrooms import Disturbance, MemoryCleanRooms, Wire
from memory_ledger import MemoryLedger

from batchsubmit.clock import Clock, SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.job_states import Retry, decide
from batchsubmit.core.jobs import Event, Job, JobFinished, JobSubmitted, Result
from batchsubmit.core.source import Ending, Source
from batchsubmit.manifest.check import Terms, open_reader, take_inventory
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.source import ManifestSource
from batchsubmit.observers.base import Observer, RunCounts
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.schema import RequestChecker
from batchsubmit.submit.engine import Engine, build_engine
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop

START = "StartTrainedModelInferenceJob"
LIST = "ListTrainedModelInferenceJobs"
GET = "GetTrainedModelInferenceJob"
PATIENCE_SECONDS = 100_000.0
"""In virtual time; in real time the test's own limit comes first."""

FREE = {"per_membership": 0, "per_account": 0, "pending_seconds": 0.0, "job_seconds": 3600.0, "seed": 1}
QUICK = {
    "rate": {"max_per_second": 0, "reads_per_second": 0},
    "retry": {"base_seconds": 0.001, "cap_seconds": 0.002, "max_attempts": 3},
    "slots": {"min_poll_seconds": 0.01, "max_poll_seconds": 0.02},
    "lookup": {"settle_seconds": 0.02},
    "submit": {"concurrency": 8},
}
"""Settings for jobs that take no time; a section that a test gives replaces the one here."""

Trouble = Result | Disturbance | None


class World:
    """A service without quotas unless said, and one ledger; run as many engines on them as needed.

    `script` is what the next Start calls bring, in their order; `troubles` what the calls of an operation, or the Start
    calls of a job of that name, bring: each of them, or the next ones of a list. None is the service's own answer.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *script: Trouble,
        ledger: Any = None,  # noqa: ANN401 (a Ledger with `events`)
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        api: Callable[..., MemoryCleanRooms] = MemoryCleanRooms,
        way_seconds: float = 0.0,
        job_seconds_of: Callable[[str], float] | None = None,
        observers: Sequence[Observer] = (),
        **sandbox: Any,  # noqa: ANN401 (of SandboxSettings)
    ) -> None:
        self.clock: Any = clock or SystemClock()
        self.script = list(script)
        self.troubles: dict[str, list[Trouble] | Trouble] = {}
        self.calls: Counter[str] = Counter()
        self.starts: list[str] = []
        limits = SandboxSettings().changed(FREE | sandbox)
        now = getattr(self.clock, "service_time", lambda: self.clock.now().timestamp())
        self.service = SandboxService(limits, now, *([job_seconds_of] if job_seconds_of else []))
        self.api: Any = api(self.service, disturb=self.disturb)
        if way_seconds:
            self.api = Wire(self.api, seconds=way_seconds)
        self.settings = Settings.model_validate({**QUICK, **(settings or {})})
        self.ledger = ledger if ledger is not None else MemoryLedger()
        self.counts = RunCounts()
        self.observers = [self.counts, *observers]
        self.stop = self.new_stop()

    def new_stop(self) -> Stop:
        """A stop that nobody has asked for; its pauses take the clock's time."""
        self.stop = FakeClockStop(self.clock) if isinstance(self.clock, FakeClock) else Stop()
        return self.stop

    def disturb(self, operation: str, name: str) -> Disturbance | None:
        """What a call brings instead of the service's answer."""
        self.calls[operation] += 1
        if operation == START:
            self.starts.append(name)
        trouble = self.troubles.get(name if operation == START else operation)
        if operation == START and not trouble:
            trouble = self.script
        if isinstance(trouble, list):
            trouble = trouble.pop(0) if trouble else None
        return trouble if isinstance(trouble, Disturbance | None) else Disturbance(trouble)

    def engine(self, source: "Source | Iterable[Job]" = (), **options: Any) -> Engine:  # noqa: ANN401 (of build_engine)
        """What a command builds, over this world."""
        return build_engine(
            source if hasattr(source, "take") else MemorySource(source),
            settings=self.settings,
            api=self.api,
            recorder=Recorder(self.ledger, self.clock, self.observers),
            stop=self.stop,
            **options,
        )

    async def run(self, source: "Source | Iterable[Job]" = (), **options: Any) -> Engine:  # noqa: ANN401 (of build_engine)
        """Build an engine and run it to its end, as the next run on the ledger."""
        engine = self.engine(source, **options)
        await asyncio.wait_for(engine.run(self.ledger.state.undecided()), PATIENCE_SECONDS)
        return engine

    @property
    def names(self) -> list[str]:
        """The names of the jobs that the service has, in the order of their acceptance."""
        return [job.name for job in self.service.jobs()]

    @property
    def arns(self) -> list[str]:
        """The ARNs of the jobs that the service has."""
        return [job.arn for job in self.service.jobs()]

    @property
    def arns_agree(self) -> bool:
        """Whether ledger and service have the same jobs."""
        return sorted(event.arn for event in self.events(JobSubmitted)) == sorted(self.arns)

    @property
    def kinds(self) -> list[type[Event]]:
        """The kinds of the ledger's events."""
        return [type(event) for event in self.ledger.events]

    def events(self, kind: type[Any]) -> list[Any]:
        """The ledger's events of one kind."""
        return [event for event in self.ledger.events if isinstance(event, kind)]

    @property
    def finished(self) -> dict[str, tuple[str, str]]:
        """Status and message of the jobs that have ended, by name."""
        return {event.name: (event.status, event.message) for event in self.events(JobFinished)}


class FakeClockStop(Stop):
    """A stop whose pauses take the fake clock's time."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    async def pause(self, seconds: float) -> None:
        """Jump."""
        await self._clock.sleep(seconds)


def manifest_source(
    rows: Iterable[Mapping[str, Any]],
    ledger: Any,  # noqa: ANN401 (a Ledger)
    *,
    retry: Retry | None = None,
    allow_duplicates: bool = False,
) -> ManifestSource:
    """Rows as a manifest of which a run takes what the ledger leaves to do."""
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    spooled = ManifestFile(label="jobs.jsonl", format="jsonl", sha256="0", file=io.BytesIO(text))
    reader = open_reader(spooled, defaults={}, checker=RequestChecker())
    inventory = take_inventory(reader, Terms(allow_duplicates=allow_duplicates))
    assert not inventory.problems
    return ManifestSource(inventory.index, batch="", decision=lambda key: decide(ledger.state.get(key), retry=retry))


class MemorySource:
    """`Source` over jobs in memory, in the order in which they are given."""

    is_open = False

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._lanes: dict[str, deque[Job]] = {}
        for job in jobs:
            self._lanes.setdefault(job.membership, deque()).append(job)

    def waiting(self) -> Collection[str]:
        """The memberships that have a job to take."""
        return self._lanes.keys()

    def waiting_jobs(self) -> int:
        """Jobs not taken, or released."""
        return sum(map(len, self._lanes.values()))

    def take(self, membership: str) -> "MemoryDelivery":
        """Take the next job of a membership."""
        job = self._lanes[membership].popleft()
        if not self._lanes[membership]:
            del self._lanes[membership]
        return MemoryDelivery(self, job)

    def put_back(self, job: Job) -> None:
        """Take a job back to the head of its lane."""
        self._lanes.setdefault(job.membership, deque()).appendleft(job)

    def request_of(self, key: str) -> Mapping[str, Any] | None:
        """No job is held back."""
        del key
        return None

    def requeue(self, key: str) -> None:
        """No job is held back."""
        del key

    def listen(self, callback: Callable[[], None]) -> None:
        """Nothing comes later."""
        del callback


class MemoryDelivery:
    """One job on loan."""

    def __init__(self, source: MemorySource, job: Job) -> None:
        self._source = source
        self.job = job

    def ended(self, how: Ending) -> None:
        """Back to the head of the lane, if nothing was decided."""
        if how in {Ending.RELEASED, Ending.HELD}:
            self._source.put_back(self.job)

    def denied(self, code: str, message: str) -> bool:
        """There is no place for such jobs."""
        del code, message
        return False
