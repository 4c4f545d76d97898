"""Several workers on one shared ledger, under every interleaving, delay, loss and death that Hypothesis thinks of.

The model is the world around the ledger: a table whose answers are late, lost or never come although the write did, or
comes later; workers that are killed or stand still; and a service that makes a job of each call it accepts. Whatever
happens, the service makes one job, and once the trouble is over someone has made it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from hypothesis import given
from hypothesis import strategies as st
from memory_table import MemoryTable
from shared_ledger_events import AT, events_in, intent, submitted

from batchsubmit.core.job_states import Action, decide
from batchsubmit.core.jobs import Absent, Intent, JobSubmitted, JobUnknown, Refused
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import LostJobError, Mine, Taken
from batchsubmit.ledger.items import Address, ConflictError, Item
from batchsubmit.ledger.shared import LeaseTerms, SharedLedger, open_shared
from batchsubmit.verify import Audit

KEY = "k"
TERMS = LeaseTerms(lease_seconds=12, call_seconds=4)
MEMBERS = {"at": AT, "job": KEY, "membership": "m", "name": "n"}


class State(StrEnum):
    """What becomes of one operation on the table."""

    DONE = "done"
    SLOW = "slow"  # done, but the worker stands still and takes its time to learn it
    LOST = "lost"  # done, but the answer never came and the client gave up
    DROPPED = "dropped"
    LATE = "late"  # the client gave up, and then it was done


@dataclass(eq=False)
class Pending:
    """An operation on its way, or a sleep."""

    worker: str
    decided: "asyncio.Future[State]"


@dataclass
class World:
    """Everything outside the workers. Time is the world's; each worker's clock has an offset of its own."""

    choose: Callable[[int], int]
    table: MemoryTable = field(default_factory=MemoryTable)
    now: float = 0.0
    pending: list[Pending] = field(default_factory=list)
    late: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    sleepers: list[tuple[float, str, "asyncio.Future[None]"]] = field(default_factory=list)
    stands_still_until: dict[str, float] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    accepted: list[float] = field(default_factory=list)
    is_calm: bool = False

    async def sleep_until(self, worker: str, moment: float) -> None:
        """Wait for the world's time."""
        future = asyncio.get_running_loop().create_future()
        self.sleepers.append((moment, worker, future))
        await future

    def advance(self, seconds: float) -> None:
        """Let time pass; those who slept so long wake up, unless they stand still for good."""
        self.now += seconds
        for sleeper in [sleeper for sleeper in self.sleepers if sleeper[0] <= self.now and self.moves(sleeper[1])]:
            self.sleepers.remove(sleeper)
            if not sleeper[2].done():
                sleeper[2].set_result(None)

    def moves(self, worker: str) -> bool:
        """Whether a worker is neither dead nor stands still."""
        return worker not in self.dead and self.stands_still_until.get(worker, 0.0) <= self.now

    def jobs(self) -> int:
        """How many jobs the service has made."""
        return sum(moment <= self.now for moment in self.accepted)


@dataclass
class Wire:
    """One worker's way to the table."""

    world: World
    worker: str

    async def _fate(self) -> State:
        pending = Pending(self.worker, asyncio.get_running_loop().create_future())
        self.world.pending.append(pending)
        return await pending.decided

    async def get(self, address: Address) -> Item | None:
        """Read, or not."""
        if await self._fate() not in {State.DONE, State.SLOW}:
            raise StoppedError("no answer")
        return await self.world.table.get(address)

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Nobody asks."""
        raise NotImplementedError

    async def write(self, address: Address, follows: int, values: Item) -> Item:
        """Write now, later or never."""
        match await self._fate():
            case State.DONE:
                return await self._apply(address, follows, values)
            case State.SLOW:
                item = await self._apply(address, follows, values)
                self.world.stands_still_until[self.worker] = self.world.now + 10 * self.world.choose(4)
                await self._fate()
                return item
            case State.LOST:
                with suppress(ConflictError):
                    await self._apply(address, follows, values)
            case State.LATE:
                self.world.late.append(lambda: self._apply(address, follows, values))
            case State.DROPPED:
                pass
        raise StoppedError("no answer")

    async def _apply(self, address: Address, follows: int, values: Item) -> Item:
        before = await self.world.table.get(address)
        item = await self.world.table.write(address, follows, values)
        if any('"intent"' in line for line in set(values.get("lines", ())).difference((before or {}).get("lines", ()))):
            assert before is not None, "an intent without a claim"
            assert before["owner"] == self.worker, "an intent of someone who does not own the job"
        return item


@dataclass
class Clock:
    """A worker's clock: its own beginning, the world's pace."""

    world: World
    worker: str
    offset: float

    def now(self) -> datetime:
        """Nobody's business here."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return self.world.now + self.offset

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.world.sleep_until(self.worker, self.world.now + seconds)


async def work(world: World, worker: str, offset: float) -> None:
    """One process: begin a session, and see the job through; end where the ledger cannot be relied on."""
    clock = Clock(world, worker, offset)
    with suppress(StoppedError):
        async with open_shared(Wire(world, worker), worker, worker, clock=clock, terms=TERMS) as ledger:
            while True:
                match await ledger.claim(KEY):
                    case Taken(_, seconds):
                        await clock.sleep(seconds)
                    case Mine(state):
                        action = decide(state)
                        if action is Action.NOTHING:
                            return
                        with suppress(LostJobError):
                            attempt = state.attempt if state else 0
                            if action is Action.LOOK_UP:
                                await look_up(world, ledger, attempt)
                            else:
                                await submit(world, ledger, worker, attempt + 1)
                        ledger.release(KEY)


async def submit(world: World, ledger: SharedLedger, worker: str, attempt: int) -> None:
    """Make a call between an intent and its outcome."""
    await ledger.put(intent(KEY, attempt=attempt))
    if not ledger.holds(KEY):
        ledger.note(Refused(**MEMBERS, code="Withdrawn", attempt=attempt))
        return
    ends_at = world.now + world.choose(int(TERMS.call_seconds) + 1)
    is_accepted = world.is_calm or world.choose(5) == 1
    if is_accepted:
        world.accepted.append(ends_at)
    await world.sleep_until(worker, ends_at)
    if not world.is_calm and world.choose(3) == 0:
        await ledger.put(JobUnknown(**MEMBERS, reason="", attempt=attempt))
    elif is_accepted:
        await ledger.put(submitted(KEY, attempt=attempt))
    else:
        ledger.note(Refused(**MEMBERS, code="c", attempt=attempt))


async def look_up(world: World, ledger: SharedLedger, attempt: int) -> None:
    """Find out what the service has; a call still in the air would be missed."""
    if world.jobs():
        await ledger.put(JobSubmitted(**MEMBERS, arn=f"arn-{KEY}", attempt=attempt, via="lookup"))
    else:
        await ledger.put(Absent(**MEMBERS, attempt=attempt))


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(15):
        await asyncio.sleep(0)


async def trouble(world: World, workers: dict[str, "asyncio.Task[None]"]) -> None:
    """One thing happens."""
    kind = world.choose(12)
    open_ones = [each for each in world.pending if world.moves(each.worker)]
    if kind == 0 and len(world.dead) < 3:
        world.dead.add(list(workers)[world.choose(len(workers))])
    elif kind == 1 and world.late:
        with suppress(ConflictError):
            await world.late.pop(world.choose(len(world.late)))()
    elif kind <= 4:
        world.advance(float(world.choose(8)))
    elif open_ones:
        operation = open_ones[world.choose(len(open_ones))]
        world.pending.remove(operation)
        fates = [State.DONE] * 7 + [State.SLOW] * 3 + [State.LOST, State.DROPPED, State.LATE]
        if not operation.decided.done():
            operation.decided.set_result(fates[world.choose(len(fates))])


async def calm(world: World) -> None:
    """Everything works and time passes."""
    world.is_calm = True
    world.stands_still_until.clear()
    for operation in world.pending:
        if operation.worker not in world.dead and not operation.decided.done():
            operation.decided.set_result(State.DONE)
    world.pending.clear()
    await settle()
    world.advance(1.0)
    await settle()


async def play(world: World) -> None:
    """Trouble for a while, with new workers for those that ended; then calm until all is done."""
    workers: dict[str, asyncio.Task[None]] = {}

    def hire() -> None:
        living = [name for name, task in workers.items() if name not in world.dead and not task.done()]
        for _ in range(2 - len(living)):
            name = f"w{len(workers)}"
            workers[name] = asyncio.create_task(work(world, name, 1000.0 * world.choose(3)), name=name)

    try:
        for _ in range(world.choose(100) + 10):
            hire()
            await settle()
            await trouble(world, workers)
            await settle()
            assert world.jobs() <= 1, "two jobs run"
        for _ in range(120):
            if not any(isinstance(event, JobSubmitted) for event in events_in(world.table)):
                hire()
            await calm(world)
        assert world.jobs() == 1, f"{world.jobs()} jobs run"
        hold_sound(world)
    finally:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:  # those that are cancelled begin to close their ledgers, and are cancelled again
                task.cancel()
            await settle()


def hold_sound(world: World) -> None:
    """The events make sense in their order, and say what is true."""
    events = events_in(world.table)
    assert not Audit(events).faults
    assert sum(isinstance(event, JobSubmitted) for event in events) == 1
    attempts = [event.attempt for event in events if isinstance(event, Intent)]
    assert attempts == sorted(set(attempts))


@given(st.data())
def test_whatever_happens_the_service_makes_one_job(data: st.DataObject) -> None:
    """Two workers at a time, killed and replaced, on a table that does not keep its answers' promises."""
    asyncio.run(play(World(lambda many: data.draw(st.integers(0, many - 1)))))
