"""Whatever fails, dies and starts again, in whatever order: the service has each wanted job once, and the ledger it.

A hypothesis state machine drives engine, submitter, lookup and ledger against the sandbox's state machine, all in
virtual time. A killed process loses what its disk did not have yet, but not the requests that it had sent.
"""

import asyncio
import random
from collections import Counter, deque
from functools import partial
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from conftest import OTHER_MEMBERSHIP, request_named
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from memory_cleanrooms import Disturbance, MemoryCleanRooms, Wire
from memory_ledger import SlowLedger
from strategies import MEMBERSHIP, examples
from virtual_time import VirtualClock, VirtualLoop, end_all
from world import START, World, manifest_source

from batchsubmit.core.job_states import Phase, Retry
from batchsubmit.core.jobs import (
    Conflicted,
    Denied,
    Forbidden,
    InvalidRequest,
    Job,
    JobSubmitted,
    NotSent,
    OtherQuotaExceeded,
    QuotaExceeded,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.sandbox import SandboxService
from batchsubmit.schema import canonical
from batchsubmit.submit.stopping import StopReason

pytestmark = pytest.mark.timeout(900)  # a failure takes its time to be made small; else it is seconds

SETTLE_SECONDS = 10.0
LONGEST_LAG_SECONDS = 6.0
LATE_SECONDS = 3.0
"""How long after its caller gave up a request may still be accepted: with the lag, within the settle time."""

LONGEST_WAY_SECONDS = 2.0
"""To the service and back again takes twice this."""

AN_HOUR = 3600.0
SETTINGS = {
    "retry": {"base_seconds": 0.5, "cap_seconds": 4, "max_attempts": 3},
    "slots": {"min_poll_seconds": 0.5, "max_poll_seconds": 2},
    "lookup": {"settle_seconds": SETTLE_SECONDS},
    "submit": {"concurrency": 2},
}
PATIENCE_SECONDS = 100_000.0

INSTEAD: tuple[Result, ...] = (
    Throttled("ThrottlingException", "Rate exceeded"),
    Conflicted("ConflictException", "in progress"),
    QuotaExceeded("ServiceQuotaExceededException", "full"),
    NotSent("EndpointConnection", "refused"),
    Uncertain("500 before acceptance"),
    Forbidden("ExpiredTokenException", "expired"),
    Denied("AccessDeniedException", "not authorized"),
    OtherQuotaExceeded("ServiceQuotaExceededException", "spent", "Data access budget", 0),
)
"""What Start may bring while nothing takes effect."""

READ_TROUBLE: tuple[Result, ...] = (
    Throttled("ThrottlingException", "Rate exceeded"),
    Uncertain("500"),
    NotSent("EndpointConnection", "refused"),
    InvalidRequest("ValidationException", "nextToken is expired."),
    InvalidRequest("ResourceNotFoundException", "no such job"),
    Denied("AccessDeniedException", "not authorized"),
)
LOST, LATE = "lost", "late"


class Service(MemoryCleanRooms):
    """The service in memory; it keeps account of which key's call made which job, tags or not."""

    def __init__(self, service: SandboxService, **more: Any) -> None:  # noqa: ANN401 (of MemoryCleanRooms)
        super().__init__(service, **more)
        self.key_of: dict[str, str] = {}
        self.request_of: dict[str, bytes] = {}
        self.start_trouble: deque[Result | str] = deque()

    async def start(self, job: Job) -> Result:
        """Accept, or have trouble."""
        trouble = self.start_trouble.popleft() if self.start_trouble else None
        if trouble == LATE:
            asyncio.get_running_loop().call_later(LATE_SECONDS, self._accept_late, job)
            return Uncertain("read time-out, and accepted after it")
        if trouble is None or trouble == LOST:
            outcome = await self._accept(job)
            return Uncertain("the answer is lost") if trouble == LOST else outcome
        assert not isinstance(trouble, str)
        return trouble

    async def _accept(self, job: Job) -> Result:
        before = len(self._service.jobs())
        outcome = await super().start(job)
        for record in self._service.jobs()[before:]:
            self.key_of[record.arn] = job.key
            self.request_of[record.arn] = canonical(job.request)
        return outcome

    def _accept_late(self, job: Job) -> None:
        asyncio.ensure_future(self._accept(job))  # noqa: RUF006 (it takes one turn of the loop)


class Troubled(World):
    """A world whose next reads, of whatever kind, may meet trouble."""

    read_trouble: deque[Result]

    def disturb(self, operation: str, name: str) -> Disturbance | None:
        """Reads alone: the service itself has the trouble of Start calls."""
        del name
        return None if operation == START or not self.read_trouble else Disturbance(self.read_trouble.popleft())


class Process:
    """One run of the program: what is lost when it dies."""

    def __init__(self, machine: "ExactlyOnce", *, retry: Retry | None = None) -> None:
        world = machine.world
        self.stop = world.new_stop()
        world.api = self.wire = Wire(machine.service, seconds=machine.way_seconds)
        source = manifest_source(machine.rows, world.ledger, retry=retry, allow_duplicates=True)
        self.task = machine.loop.create_task(world.run(source, retry=retry))

    @property
    def is_over(self) -> bool:
        """Whether the run has ended by itself. Raises what it raised."""
        return self.task.done() and self.task.result() is not None


class ExactlyOnce(RuleBasedStateMachine):
    """A machine, a service and a person who starts the program again and again."""

    tag_jobs: ClassVar[bool]
    may_repeat_rows: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        # The jitter of retries comes from the global generator.
        random.seed(0)
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.rows: list[dict[str, Any]] = []
        self.process: Process | None = None

    @initialize(
        slots=st.sampled_from([0, 0, 2]),
        job_seconds=st.sampled_from([0.5, 20.0]),
        way_seconds=st.sampled_from([0.01, LONGEST_WAY_SECONDS]),
    )
    def open_the_service(self, slots: int, job_seconds: float, way_seconds: float) -> None:
        """With quotas or without, near or far."""
        self.way_seconds = way_seconds
        service = partial(Service, tag_jobs=self.tag_jobs)
        quotas = {"per_membership": slots, "job_seconds": job_seconds, "pending_seconds": 0.1}
        self.world = Troubled(self.clock, ledger=SlowLedger(), settings=SETTINGS, api=service, **quotas)
        self.world.read_trouble = deque()
        self.service: Service = self.world.api

    @rule(
        number=st.integers(0, 3),
        copies=st.integers(1, 3),
        membership=st.sampled_from([MEMBERSHIP, MEMBERSHIP, OTHER_MEMBERSHIP]),
    )
    def add_rows(self, number: int, copies: int, membership: str) -> None:
        """The next run finds more rows, some of them identical."""
        row = request_named(f"job-{number}", membership=membership)
        if self.may_repeat_rows:
            self.rows += [row] * copies
        elif row not in self.rows:
            self.rows.append(row)

    @precondition(lambda self: self.process is None)
    @rule()
    def start_the_program(self) -> None:
        """On the same ledger."""
        self.process = Process(self)

    @rule(turns=st.integers(1, 40))
    def go_on(self, turns: int) -> None:
        """For some turns of the event loop: nearly everything that matters happens in a few."""
        self.loop.run_steps(turns)
        self._bury()

    @rule(seconds=st.sampled_from([0.005, 0.3, 3.0, SETTLE_SECONDS]))
    def wait(self, seconds: float) -> None:
        """For some time."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self._bury()

    def _bury(self) -> None:
        if self.process is not None and self.process.is_over:
            self.process = None

    @rule(trouble=st.lists(st.sampled_from([None, LOST, LOST, LATE, *INSTEAD]), min_size=1, max_size=4))
    def disturb_starts(self, trouble: list[Result | str]) -> None:
        """The next calls meet this."""
        self.service.start_trouble.extend(trouble)

    @rule(trouble=st.lists(st.sampled_from(READ_TROUBLE), min_size=1, max_size=3))
    def disturb_reads(self, trouble: list[Result]) -> None:
        """The next lookups meet this."""
        self.world.read_trouble.extend(trouble)

    @rule(seconds=st.sampled_from([0.0, 1.0, LONGEST_LAG_SECONDS]))
    def lag(self, seconds: float) -> None:
        """List shows a job only so much later."""
        self.world.service.configure(self.world.service.settings.changed({"list_lag_seconds": seconds}))

    @rule(seconds=st.sampled_from([-AN_HOUR, 0.0, AN_HOUR]))
    def set_the_wall_clock(self, seconds: float) -> None:
        """Right, or an hour wrong."""
        self.clock.offset_seconds = seconds

    @precondition(lambda self: self.process is not None)
    @rule(data=st.data())
    def kill_the_program(self, data: st.DataObject) -> None:
        """The ledger keeps what was durable, and perhaps some of what was being written."""
        assert self.process is not None
        kept = data.draw(st.integers(0, len(self.world.ledger.events) - self.world.ledger.durable), label="events kept")
        self.process.wire.is_cut = True
        self.world.ledger = self.world.ledger.killed(kept=kept)
        self._end_process()

    @precondition(lambda self: self.process is not None)
    @rule()
    def interrupt_the_program_twice(self) -> None:
        """The second signal cancels what is under way; the ledger is still written out."""
        assert self.process is not None
        self.process.stop.request(StopReason.SIGNAL, "SIGINT received")
        self._end_process()

    def _end_process(self) -> None:
        assert self.process is not None
        self.process.task.cancel()
        self.loop.run_until_complete(asyncio.gather(self.process.task, return_exceptions=True))
        self.process = None

    @precondition(lambda self: self.process is not None)
    @rule()
    def interrupt_the_program(self) -> None:
        """Calls under way are awaited."""
        assert self.process is not None
        self.process.stop.request(StopReason.SIGNAL, "SIGINT received")

    @invariant()
    def no_job_runs_twice(self) -> None:
        """By key; untagged jobs of identical rows cannot be told apart, so those are counted by what they ask for."""
        if not hasattr(self, "service"):
            return
        if self.tag_jobs:
            assert max(Counter(self.service.key_of.values()).values(), default=0) <= 1
        assert Counter(self.service.request_of.values()) <= Counter(map(canonical, self.rows))

    def teardown(self) -> None:
        """The trouble ends, and one more run: then each row has one job, and the ledger has its ARN."""
        try:
            if hasattr(self, "service"):
                self._finish()
                self._settle_accounts()
        finally:
            end_all(self.loop)
            troubles = self.loop.troubles
            self.loop.close()
        assert troubles == []

    def _finish(self) -> None:
        self.service.start_trouble.clear()
        self.world.read_trouble.clear()
        for _ in range(2):  # the run that is under way may have met trouble that ends it early
            self.process = self.process or Process(self, retry=Retry())
            running = asyncio.wait_for(asyncio.shield(self.process.task), PATIENCE_SECONDS)
            self.loop.run_until_complete(running)
            self.process = None

    def _settle_accounts(self) -> None:
        self.no_job_runs_twice()
        assert Counter(self.service.request_of.values()) == Counter(map(canonical, self.rows))
        assert all(state.phase in {Phase.SUBMITTED, Phase.FINISHED} for state in self.world.ledger.state)
        recorded = [event.arn for event in self.world.ledger.events if isinstance(event, JobSubmitted)]
        assert sorted(recorded) == sorted(self.service.key_of)


def machine(name: str, **kind: bool) -> type[ExactlyOnce]:
    """A kind of machine."""
    return type(name, (ExactlyOnce,), kind)


UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much]
KIND = partial(settings, stateful_step_count=40, suppress_health_check=UNHURRIED)

TestTagged = machine("Tagged", tag_jobs=True, may_repeat_rows=True).TestCase
TestTagged.settings = KIND(max_examples=examples(150))

TestUntagged = machine("Untagged", tag_jobs=False, may_repeat_rows=False).TestCase
TestUntagged.settings = KIND(max_examples=examples(100))

TestUntaggedCopies = machine("UntaggedCopies", tag_jobs=False, may_repeat_rows=True).TestCase
TestUntaggedCopies.settings = KIND(max_examples=examples(100))
