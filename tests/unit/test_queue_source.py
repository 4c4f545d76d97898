"""The queue as a source over days, in virtual time: slots are few, and no message may be lost by waiting for one."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from conftest import OTHER_MEMBERSHIP, request_named
from memory_sqs import MemorySqs
from strategies import MEMBERSHIP, REGION
from structlog.testing import capture_logs
from virtual_time import VirtualClock, running_loop, virtually

from batchsubmit.config import Settings, WorkerSettings
from batchsubmit.core.job_states import Action
from batchsubmit.core.jobs import JobRejected
from batchsubmit.core.source import Ending
from batchsubmit.queue.client import Outgoing, QueueBusyError, QueueDeniedError
from batchsubmit.queue.message import Message, MessageReader
from batchsubmit.queue.source import SqsSource

if TYPE_CHECKING:
    from batchsubmit.core.source import Delivery
    from batchsubmit.errors import StoppedError
    from batchsubmit.queue.client import Queue

HOUR = 3600.0
DAY = 24 * HOUR


class MemoryLedger:
    """A ledger of what was decided."""

    def __init__(self) -> None:
        self.decisions: dict[str, Action] = {}
        self.failed: list[JobRejected] = []

    async def actions(self, keys: Sequence[str]) -> Sequence[Action]:
        """Say what may be done."""
        return [self.action_now(key) for key in keys]

    def action_now(self, key: str) -> Action:
        """Say it of one."""
        return self.decisions.get(key, Action.SUBMIT)

    async def record(self, event: JobRejected) -> bool:
        """Take a failure down."""
        if event.job in self.decisions:
            return False
        self.failed.append(event)
        self.decisions[event.job] = Action.NOTHING
        return True


class QueueWorld:
    """A source on a queue in memory, and an engine of few lines: so many slots a membership, each job holds one."""

    def __init__(
        self,
        sqs: MemorySqs,
        *,
        slots: Mapping[str, int],
        job_seconds: float,
        visibility: int = 300,
        most_held: int = 5000,
    ) -> None:
        self.sqs = sqs
        self.ledger = MemoryLedger()
        self.counters = sqs.counters
        self.submitted: list[str] = []
        self.running: Counter[str] = Counter()
        self.troubles: list[StoppedError] = []
        self.lookups: dict[str, Action] = {}
        self._slots = slots
        self._job_seconds = job_seconds
        worker = WorkerSettings(visibility_timeout_seconds=visibility, max_held_messages=most_held)
        self._settings = Settings(worker=worker)

    @asynccontextmanager
    async def running_source(self) -> AsyncIterator[SqsSource]:
        """Let a source work on the queue."""
        sqs = SqsSource(
            cast("Queue", self.sqs),
            self._settings,
            region=REGION,
            ledger=self.ledger,
            clock=VirtualClock(running_loop()),
            on_trouble=self.troubles.append,
        )
        async with sqs.receiving() as source, asyncio.TaskGroup() as tasks:
            self._source, self._tasks = source, tasks
            source.listen(self._fill)
            yield source
            source.close()
            self._slots = {}

    def _fill(self) -> None:
        for lane in list(self._source.waiting()):
            while self.running[lane] < self._slots.get(lane, 0) and lane in self._source.waiting():
                delivery = self._source.take(lane)
                if delivery is None:
                    continue
                job = delivery.job
                if self.ledger.action_now(job.key) is Action.LOOK_UP:
                    self._look_up(delivery)
                    continue
                assert self.ledger.action_now(job.key) is Action.SUBMIT
                self.submitted.append(job.name)
                self.ledger.decisions[job.key] = Action.NOTHING
                delivery.ended(Ending.DECIDED)
                self.running[lane] += 1
                self._tasks.create_task(self._run(lane))

    def _look_up(self, delivery: "Delivery") -> None:
        key, found = delivery.job.key, self.lookups.get(delivery.job.name)
        if found is None:
            delivery.ended(Ending.UNKNOWN)
            return
        self.ledger.decisions[key] = found
        delivery.ended(Ending.DECIDED if found is Action.NOTHING else Ending.RELEASED)

    async def leave_unknown(self, *names: str) -> None:
        """Put messages on the queue whose jobs a worker that died left open."""
        reader = MessageReader(Settings(), region=REGION)
        for name in names:
            self.sqs.put(body(name))
            parsed = reader.parse(await _first(self.sqs, name))
            self.ledger.decisions[parsed.key] = Action.LOOK_UP  # type: ignore[union-attr]

    async def _run(self, lane: str) -> None:
        await asyncio.sleep(self._job_seconds)
        self.running[lane] -= 1
        self._fill()

    async def until(self, condition: Callable[[], bool], *, within: float) -> None:
        """Wait in virtual time."""
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 (it takes no time)
                await asyncio.sleep(10)


def body(name: str, membership: str = MEMBERSHIP) -> str:
    """A request as a message's body."""
    return json.dumps(request_named(name, membership=membership))


@pytest.mark.parametrize(("receives", "visibility"), [(1000, 300), (10, 300), (3, 60), (1, 60)])
def test_days_of_waiting_lead_nothing_to_the_dead_letter_queue(receives: int, visibility: int) -> None:
    """Nor are slots left idle meanwhile, nor is a message received without need."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(most_receives=receives, dead=MemorySqs())
        for number in range(90):
            sqs.put(body(f"job-{number}"))
        world = QueueWorld(sqs, slots={MEMBERSHIP: 5}, job_seconds=HOUR, visibility=visibility)
        async with world.running_source():
            await world.until(lambda: len(world.submitted) == 90, within=0.8 * DAY)
            await world.until(lambda: not sqs.messages, within=HOUR)
        assert sorted(world.submitted) == sorted(f"job-{number}" for number in range(90))
        assert sqs.dead is not None
        assert not sqs.dead.messages
        assert sqs.most_received <= receives
        assert sqs.most_received < 60
        assert not sqs.expired

    run()


def test_a_backlog_longer_than_the_retention_is_kept_by_sending_it_again() -> None:
    """What is renewed in time does not expire."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(retention_seconds=int(DAY), dead=MemorySqs())
        for number in range(40):
            sqs.put(body(f"job-{number}"))
        world = QueueWorld(sqs, slots={MEMBERSHIP: 1}, job_seconds=HOUR)
        async with world.running_source():
            await world.until(lambda: len(world.submitted) == 40, within=2 * DAY)
        assert not sqs.expired
        assert world.counters.renewed

    run()


@pytest.mark.parametrize("most_held", [5000, 50])
def test_a_full_lane_holds_up_no_other_however_many_messages_stand_before(most_held: int) -> None:
    """All are held; beyond the bound some go back for a while, so that others may come."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs()
        for number in range(300):
            sqs.put(body(f"job-{number}"))
        sqs.put(body("other", OTHER_MEMBERSHIP))
        slots = {MEMBERSHIP: 5, OTHER_MEMBERSHIP: 5}
        world = QueueWorld(sqs, slots=slots, job_seconds=10 * HOUR, most_held=most_held)
        async with world.running_source() as source:
            await world.until(lambda: "other" in world.submitted, within=200)
            assert len(source.held) <= most_held
            await world.until(lambda: len(world.submitted) == 1 + 2 * 5, within=11 * HOUR)

    run()


def test_an_hour_with_full_lanes_spends_no_receive_and_few_calls() -> None:
    """5,000 messages are held, as many as may be."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(most_receives=3, dead=MemorySqs())
        for number in range(5000):
            sqs.put(body(f"job-{number}", OTHER_MEMBERSHIP if number % 2 else MEMBERSHIP))
        world = QueueWorld(sqs, slots={}, job_seconds=DAY, most_held=5001)
        async with world.running_source() as source:
            await world.until(lambda: len(source.held) == 5000, within=HOUR)
            calls = sqs.calls
            await asyncio.sleep(HOUR)
            assert len(source.held) == 5000
            assert sqs.calls - calls <= 4 * HOUR
            assert sqs.most_received == 1
        assert sqs.dead is not None
        assert not sqs.dead.messages
        assert len(sqs.messages) == 5000

    run()


def test_a_wait_of_days_spends_no_receive() -> None:
    """At SQS's limit of 12 hours a message is sent again in place of the old one."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(most_receives=2, dead=MemorySqs())
        for number in range(30):
            sqs.put(body(f"job-{number}"))
        world = QueueWorld(sqs, slots={}, job_seconds=DAY)
        async with world.running_source() as source:
            await asyncio.sleep(38 * HOUR)
            assert len(source.held) == 30
            assert sqs.most_received == 1
            assert world.counters.renewed == 3 * 30

    run()


def test_what_a_bound_of_held_messages_put_back_spends_few_receives() -> None:
    """Ten at a time, for three visibility timeouts at most: they are seen soon after their worker was killed."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs()
        for number in range(300):
            sqs.put(body(f"job-{number}"))
        world = QueueWorld(sqs, slots={MEMBERSHIP: 1}, job_seconds=DAY, most_held=100)
        async with world.running_source() as source:
            await asyncio.sleep(6 * HOUR)
            assert 90 <= len(source.held) <= 100
            assert sqs.most_received <= 6 * HOUR / (3 * 300) + 2
            hidden = [each.visible_at - running_loop().time() for each in sqs.messages.values()]
            assert max(hidden) <= 3 * 300

    run()


def test_a_freed_slot_is_filled_from_what_is_held() -> None:
    """At once."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs()
        for number in range(200):
            sqs.put(body(f"job-{number}"))
        slots = {MEMBERSHIP: 0}
        world = QueueWorld(sqs, slots=slots, job_seconds=1)
        async with world.running_source():
            await asyncio.sleep(3 * HOUR)
            slots[MEMBERSHIP] = 200
            world._fill()
            assert len(world.submitted) == 200

    run()


def test_an_idle_source_polls_once_a_long_poll_and_does_nothing_else() -> None:
    """Twenty seconds each."""

    @virtually
    async def run() -> None:
        world = QueueWorld(MemorySqs(), slots={}, job_seconds=1)
        async with world.running_source():
            await asyncio.sleep(DAY)
        assert world.sqs.polls == pytest.approx(DAY / 20, abs=2)

    run()


def test_a_job_whose_fate_is_unknown_is_handed_out_to_be_looked_up() -> None:
    """As one whose worker died. Then it is acknowledged without a call, or sent after all."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs()
        world = QueueWorld(sqs, slots={MEMBERSHIP: 1}, job_seconds=10)
        await world.leave_unknown("found", "absent")
        sqs.put(body("other"))
        world.lookups |= {"found": Action.NOTHING, "absent": Action.SUBMIT}
        async with world.running_source():
            await world.until(lambda: not sqs.messages, within=200)
        assert sorted(world.submitted) == ["absent", "other"]
        assert world.counters.undecided == 0

    run()


@pytest.mark.parametrize(("receives", "visibility"), [(1000, 300), (3, 60)])
def test_a_job_that_no_lookup_decides_goes_back_for_long_and_never_to_the_dead_letters(
    receives: int, visibility: int
) -> None:
    """It is looked up again each time it comes, so that a corrected role is enough; others are not held up."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(most_receives=receives, dead=MemorySqs())
        world = QueueWorld(sqs, slots={MEMBERSHIP: 1}, job_seconds=10, visibility=visibility)
        await world.leave_unknown("unknown")
        sqs.put(body("other"))
        async with world.running_source() as source:
            await asyncio.sleep(2 * DAY)
            assert world.submitted == ["other"]
            assert len(source.held) == 0
            assert sqs.dead is not None
            assert not sqs.dead.messages
            assert len(sqs.messages) == 1
            assert 2 * 24 <= world.counters.undecided <= 2 * 24 * 4 + 2
            world.lookups["unknown"] = Action.NOTHING
            await world.until(lambda: not sqs.messages, within=1.1 * HOUR)
        assert world.submitted == ["other"]

    run()


def test_a_backlog_that_outlasts_the_retention_is_warned_of() -> None:
    """By the throughput of now; without any, nothing can be said."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(retention_seconds=int(DAY))
        for number in range(400):
            sqs.put(body(f"job-{number}"))
        slots = {MEMBERSHIP: 0}
        world = QueueWorld(sqs, slots=slots, job_seconds=HOUR)
        with capture_logs() as logs:
            async with world.running_source():
                await asyncio.sleep(HOUR)
                assert not [each for each in logs if each["event"] == "queue.overdue"]
                slots[MEMBERSHIP] = 1
                world._fill()
                await asyncio.sleep(HOUR / 2)
        [warned] = [each for each in logs if each["event"] == "queue.overdue"]
        assert (warned["messages"], warned["needed"], warned["kept"]) == (399, "1 d 9 h", "1 d")

    run()


async def _first(sqs: MemorySqs, name: str) -> Any:  # noqa: ANN401 (a message)
    (message,) = await sqs.receive(1, visibility_seconds=1, wait_seconds=0)
    assert name in message.body
    return message


def test_what_can_never_work_is_moved_once_and_a_redelivery_of_it_is_not_moved_again() -> None:
    """Written down with its message's id."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(dead=MemorySqs())
        world = QueueWorld(sqs, slots={}, job_seconds=1)
        sqs.put("no JSON")
        sqs.put(body("job").replace("ml.m5.large", "ml.none"))
        async with world.running_source():
            await world.until(lambda: not sqs.messages, within=HOUR)
        assert [each.code for each in world.ledger.failed] == ["NotJson", "InvalidRequest"]
        assert "message-0" in world.ledger.failed[0].message
        assert world.ledger.failed[1].name == "job"
        assert sqs.dead is not None
        assert len(sqs.dead.messages) == 2

    run()


def test_a_dead_letter_that_another_worker_wrote_down_is_moved_after_a_while() -> None:
    """It died before it could; had it not, the message would not come again."""

    @virtually
    async def run() -> None:
        sqs = MemorySqs(dead=MemorySqs())
        world = QueueWorld(sqs, slots={}, job_seconds=1)
        sqs.put("no JSON")
        async with world.running_source():
            await world.until(lambda: not sqs.messages, within=HOUR)
        again = QueueWorld(sqs, slots={}, job_seconds=1)
        again.ledger = world.ledger
        sqs.messages.clear()
        sqs._numbers = iter(range(9))
        sqs.put("no JSON")
        async with again.running_source():
            await asyncio.sleep(200)
            assert sqs.dead is not None
            assert len(sqs.dead.messages) == 1
            await again.until(lambda: not sqs.messages, within=HOUR)
        assert len(sqs.dead.messages) == 2
        assert len(world.ledger.failed) == 1

    run()


class UndeletableSqs(MemorySqs):
    """The role may not delete."""

    async def delete(self, receipts: Sequence[str]) -> list[str | None]:
        """Refuse."""
        raise QueueDeniedError(f"the role may not call sqs:DeleteMessage for {len(receipts)}")


def test_a_worker_that_may_not_delete_messages_stops() -> None:
    """They would come again until they are dead letters, although their jobs run."""

    @virtually
    async def run() -> None:
        sqs = UndeletableSqs()
        sqs.put(body("job"))
        world = QueueWorld(sqs, slots={MEMBERSHIP: 1}, job_seconds=1)
        async with world.running_source():
            await world.until(lambda: bool(world.troubles), within=60)
        assert world.submitted == ["job"]
        assert "sqs:DeleteMessage" in str(world.troubles[0])

    run()


class UnsendableSqs(MemorySqs):
    """The role may not send."""

    async def send(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Refuse."""
        raise QueueDeniedError(f"the role may not call sqs:SendMessage for {len(messages)}")


def test_a_worker_that_may_not_send_messages_goes_on_without_renewing_them() -> None:
    """What it says of that once is no reason to stop."""

    @virtually
    async def run() -> None:
        sqs = UnsendableSqs(retention_seconds=int(DAY))
        for number in range(16):
            sqs.put(body(f"job-{number}"))
        world = QueueWorld(sqs, slots={MEMBERSHIP: 1}, job_seconds=HOUR)
        with capture_logs() as logs:
            async with world.running_source():
                await world.until(lambda: len(world.submitted) == 16, within=DAY)
        assert not world.troubles
        assert [each["event"] for each in logs].count("queue.renewal_denied") == 1

    run()


class UnreachableSqs(MemorySqs):
    """Its polls are repeated without end."""

    async def receive(
        self, count: int, *, visibility_seconds: int, wait_seconds: int, is_over: Callable[[], bool] = bool
    ) -> list[Message]:
        """Repeat until there is no need to."""
        del count, visibility_seconds, wait_seconds
        while not is_over():  # noqa: ASYNC110 (the pauses between calls)
            await asyncio.sleep(1)
        raise QueueBusyError


def test_a_worker_ends_soon_although_sqs_cannot_be_reached() -> None:
    """The poll that is repeated is not repeated any more."""

    @virtually
    async def run() -> None:
        world = QueueWorld(UnreachableSqs(), slots={}, job_seconds=1)
        async with world.running_source():
            await asyncio.sleep(HOUR)
        assert running_loop().time() < HOUR + 5
        assert not world.troubles

    run()
