"""Ends that a fleet sees, in virtual time: whoever looks records them, once and with few reads."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from conftest import OTHER_MEMBERSHIP, job_named
from memory_cleanrooms import MemoryCleanRooms
from memory_table import MemoryTable
from shared_ledger_events import AT, events_in
from strategies import MEMBERSHIP
from virtual_time import VirtualClock, running_loop, virtually
from world import World

from batchsubmit.core.jobs import Accepted, Intent, Job, JobFinished, JobSubmitted
from batchsubmit.ledger.items import Address, Item
from batchsubmit.ledger.shared import LeaseTerms, SharedLedger, open_shared
from batchsubmit.sandbox import SandboxService
from batchsubmit.slots import Poll
from batchsubmit.submit.poller import Poller

RUNS_SECONDS = 60


class CountingTable(MemoryTable):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Address] = []

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Read those that exist."""
        self.read += addresses
        return await super().get_many(addresses)


class Town(World):
    """A service, whose clock may be behind, and a table."""

    def __init__(self, *, behind_seconds: float = 0) -> None:
        clock = VirtualClock(running_loop())
        super().__init__(
            clock, settings={"slots": {}, "retry": {}}, job_seconds=RUNS_SECONDS, failing_names=frozenset({"bad"})
        )
        self.service = SandboxService(self.service.settings, lambda: clock.service_time() - behind_seconds)
        self.table = CountingTable()

    def shared_ledger(self, name: str) -> AbstractAsyncContextManager[SharedLedger]:
        """A worker's."""
        terms = LeaseTerms(lease_seconds=1e4)
        return open_shared(self.table, name, name, clock=self.clock, terms=terms)

    def poller(self, ledger: SharedLedger) -> Poller:
        """A worker's eyes."""
        self.ledger, self.api = ledger, MemoryCleanRooms(self.service)
        return self.engine().poller

    async def submit(self, ledger: SharedLedger, *jobs: Job) -> None:
        """Start jobs and let them go, as a worker does."""
        for job in jobs:
            stamp = job.stamp(AT)
            await ledger.claim(job.key)
            await ledger.put(Intent(**stamp, attempt=1, trained_model=job.trained_model))
            outcome = await MemoryCleanRooms(self.service).start(job)
            assert isinstance(outcome, Accepted)
            await ledger.put(JobSubmitted(**stamp, arn=outcome.arn, attempt=1, via="start"))
            ledger.release(job.key)
        await ledger.flush()

    def ends(self) -> dict[str, str]:
        """Statuses by name; fails where one end was recorded twice."""
        events = [event for event in events_in(self.table) if isinstance(event, JobFinished)]
        assert len({event.job for event in events}) == len(events)
        return {event.name: event.status for event in events}


def whole() -> Poll:
    """At all of a membership."""
    return Poll(MEMBERSHIP)


@virtually
async def test_a_worker_records_the_ends_of_jobs_that_another_started() -> None:
    """Seen running before or not, and with the service's words; jobs of nobody we know are nobody's business."""
    town = Town()
    async with town.shared_ledger("first") as first:
        await town.submit(first, job_named("a"), job_named("bad"), job_named("c", membership=OTHER_MEMBERSHIP))
        await MemoryCleanRooms(town.service).start(job_named("stranger"))
    async with town.shared_ledger("second") as second:
        poller = town.poller(second)
        await poller.poll(whole(), bool)
        await town.submit(second, job_named("late"))
        await town.clock.sleep(RUNS_SECONDS + 1)
        await poller.poll(whole(), bool)
        await second.flush()
    assert town.ends() == {"a": "ACTIVE", "bad": "CREATE_FAILED", "late": "ACTIVE"}


@virtually
async def test_an_end_that_came_while_nobody_looked_is_recorded_by_the_first_look() -> None:
    """As after a night in which all workers were away."""
    town = Town()
    async with town.shared_ledger("first") as first:
        await town.submit(first, job_named("a"))
    await town.clock.sleep(10 * RUNS_SECONDS)
    async with town.shared_ledger("second") as second, town.shared_ledger("third") as third:
        await town.poller(second).poll(whole(), bool)
        await town.poller(third).poll(whole(), bool)
    assert town.ends() == {"a": "ACTIVE"}


@virtually
async def test_ends_are_recorded_where_our_clock_is_ahead() -> None:
    """By as much as AWS lets a signature be off: what ended just now is no old news."""
    town = Town(behind_seconds=timedelta(minutes=14).total_seconds())
    async with town.shared_ledger("first") as first, town.shared_ledger("second") as second:
        poller = town.poller(second)
        for name in "abc":
            await poller.poll(whole(), bool)
            await town.submit(first, job_named(name))
            await town.clock.sleep(RUNS_SECONDS + 1)
        await poller.poll(whole(), bool)
        await second.flush()
    assert town.ends() == {"a": "ACTIVE", "b": "ACTIVE", "c": "ACTIVE"}


@virtually
async def test_looks_do_not_ask_the_table_for_what_ended_long_ago() -> None:
    """However many jobs List shows, and however often."""
    town = Town()
    async with town.shared_ledger("first") as ledger:
        old = [job_named(f"old-{number}") for number in range(300)]
        for job in old:
            await MemoryCleanRooms(town.service).start(job)
        await town.clock.sleep(RUNS_SECONDS + 1)
        poller = town.poller(ledger)
        await poller.poll(whole(), bool)
        assert len(town.table.read) == 200
        await town.clock.sleep(timedelta(minutes=10).total_seconds())
        await town.submit(ledger, job_named("new"))
        await town.clock.sleep(RUNS_SECONDS + 1)
        town.table.read.clear()
        for _ in range(50):
            await poller.poll(whole(), bool)
            await town.clock.sleep(timedelta(minutes=1).total_seconds())
        await ledger.flush()
    assert town.ends() == {"new": "ACTIVE"}
    assert len(town.table.read) <= 300 + 2 * 50  # the old ones once, for they were news to the first look
