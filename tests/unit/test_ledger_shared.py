"""The shared ledger step by step: leases, takeovers, what a woken worker may still say, and what it keeps in memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

import pytest
from conftest import FakeClock
from memory_table import MemoryTable
from shared_ledger_events import AT, events_in, intent, submitted

from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import Absent, JobFinished, JobRejected, JobSubmitted, JobUnknown, Refused
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.base import ClaimedArnError, LostJobError, Mine, Taken
from batchsubmit.ledger.items import PAGE_CHARACTERS, Address
from batchsubmit.ledger.shared import LeaseTerms, SharedLedger, open_shared, session_address
from batchsubmit.verify import Audit

TERMS = LeaseTerms(lease_seconds=12, call_seconds=4)
MEMBERS = {"at": AT, "job": "a", "membership": "m", "name": "n"}


class ManualClock(FakeClock):
    """A clock on which nobody who sleeps wakes up by himself: a worker that stands still renews nothing."""

    async def sleep(self, seconds: float) -> None:
        """Wait until the test is over."""
        del seconds
        await asyncio.Event().wait()


@dataclass
class Fleet:
    """Workers on one table, whose sleeping and waking is the test's."""

    table: MemoryTable = field(default_factory=MemoryTable)
    clock: ManualClock = field(default_factory=ManualClock)

    def worker(self, name: str, *, keeps_all: bool = False) -> AbstractAsyncContextManager[SharedLedger]:
        """One more."""
        return open_shared(
            self.table,
            name,
            f"process of {name}",
            clock=self.clock,
            terms=TERMS,
            keeps_all=keeps_all,
        )


@dataclass
class Pair:
    """Two workers, the first of which has claimed a job that may have been sent."""

    fleet: Fleet
    first: SharedLedger
    second: SharedLedger

    async def take_over(self) -> Mine:
        """Let the first be silent for its lease, and the second notice it."""
        assert isinstance(await self.second.claim("a"), Taken)
        self.fleet.clock.seconds += TERMS.lease_seconds
        await self.second._session.renew()
        claim = await self.second.claim("a")
        assert isinstance(claim, Mine)
        return claim


async def nothing(_: Address) -> None:
    """An answer that says of every item that it is not there."""


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A table and a clock."""
    return Fleet()


@pytest.fixture
async def pair(fleet: Fleet) -> AsyncIterator[Pair]:
    """The first has put an intent."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(fleet.worker("first"))
        second = await stack.enter_async_context(fleet.worker("second"))
        await first.claim("a")
        await first.put(intent("a"))
        yield Pair(fleet, first, second)


async def test_a_job_of_a_living_worker_is_taken_for_what_is_left_of_its_lease(pair: Pair) -> None:
    """By the clock of the one who asks, from the moment at which it first saw the lease stand so."""
    assert await pair.second.claim("a") == Taken("first (process of first)", 12)
    pair.fleet.clock.seconds += 5
    assert await pair.second.claim("a") == Taken("first (process of first)", 7)


async def test_a_silent_workers_open_intent_is_found_as_such(pair: Pair) -> None:
    """To be looked up; and a new worker does not believe the first one's clock, but watches for itself."""
    claim = await pair.take_over()
    assert claim.state is not None
    assert claim.state.phase is Phase.INTENT
    assert pair.second.holds("a")


@pytest.mark.parametrize("renewals", [0, 1])
async def test_the_jobs_of_a_worker_whose_session_is_missing_are_not_free_at_once(pair: Pair, renewals: int) -> None:
    """It may be alive: its session is ended first, so that it cannot go on, and its calls have time to end."""
    for _ in range(renewals):
        await pair.first._session.renew()
    del pair.fleet.table.items[session_address("first")]
    assert await pair.second.claim("a") == Taken("first (its session was missing)", TERMS.lease_seconds)
    assert pair.first.holds("a")
    with pytest.raises(StoppedError, match="were given up by second"):
        await pair.first._session.renew()
    pair.fleet.clock.seconds += TERMS.lease_seconds
    assert isinstance(await pair.second.claim("a"), Mine)


async def test_a_session_that_is_missing_only_for_one_read_keeps_its_jobs(pair: Pair) -> None:
    """An answer that was wrong ends nobody: the session is ended by a write that finds it there."""
    table = pair.fleet.table
    real, table.get = table.get, nothing
    claim = await pair.second.claim("a")
    table.get = real
    assert isinstance(claim, Taken)
    assert pair.first.holds("a")
    await pair.first._session.renew()


async def test_no_call_begins_that_could_outlive_its_lease(pair: Pair) -> None:
    """The lease less the longest call, counted from the last renewal."""
    pair.fleet.clock.seconds += TERMS.lease_seconds - TERMS.call_seconds - 0.1
    assert pair.first.holds("a")
    pair.fleet.clock.seconds += 0.2
    assert not pair.first.holds("a")


async def test_a_worker_that_wakes_up_may_not_go_on(pair: Pair) -> None:
    """Neither with its jobs nor, once it knows, with new ones."""
    await pair.first.claim("b")
    await pair.take_over()
    with pytest.raises(LostJobError, match="claimed by second"):
        await pair.first.put(intent("a", attempt=2))
    assert [type(event).__name__ for event in events_in(pair.fleet.table)] == ["Intent"]
    assert not pair.first.holds("a")


async def test_what_a_woken_worker_learned_is_written_down_all_the_same(pair: Pair) -> None:
    """That the service has the job is proof, whoever brings it; the new owner's lookup then has nothing to say."""
    await pair.take_over()
    await pair.first.put(submitted("a"))
    with pytest.raises(LostJobError):
        await pair.second.put(Absent(**MEMBERS, attempt=1))
    pair.second.release("a")
    claim = await pair.second.claim("a")
    assert isinstance(claim, Mine)
    assert claim.state is not None
    assert claim.state.phase is Phase.SUBMITTED


async def test_a_refusal_by_a_woken_worker_is_not_believed(pair: Pair) -> None:
    """The new owner may have sent the job again."""
    await pair.take_over()
    with pytest.raises(LostJobError):
        await pair.first.put(Refused(**MEMBERS, code="c", attempt=1))


async def test_a_session_that_was_ended_cannot_be_renewed(pair: Pair) -> None:
    """And its worker claims nothing any more."""
    await pair.take_over()
    session = pair.first._session
    with pytest.raises(StoppedError, match="silent for longer than its lease"):
        await session.renew()
    with pytest.raises(StoppedError, match="silent for longer than its lease"):
        await pair.first.claim("b")


async def test_a_job_lost_to_another_is_no_trouble_of_the_ledger(pair: Pair) -> None:
    """One that stood still for so long, or was not renewed for long, is; and a renewal ends that."""
    assert pair.first.trouble == ""
    await pair.take_over()
    assert "was silent for longer" not in pair.first.trouble
    assert "the lease of 12 s was last renewed 12 s ago" in pair.first.trouble
    with pytest.raises(StoppedError):
        await pair.first._session.renew()
    assert "was silent for longer than its lease" in pair.first.trouble
    with pytest.raises(LostJobError):
        await pair.first.put(Refused(**MEMBERS, code="late", attempt=1))
    assert pair.first.failure is None
    assert pair.second.trouble == ""


async def test_a_missed_renewal_is_trouble_until_one_arrives(pair: Pair) -> None:
    """Not one that is merely late."""
    pair.fleet.clock.seconds += 1.4 * TERMS.renewal_seconds
    assert pair.first.trouble == ""
    pair.fleet.clock.seconds += 1.4 * TERMS.renewal_seconds
    assert "was last renewed 6 s ago" in pair.first.trouble
    await pair.first._session.renew()
    assert pair.first.trouble == ""


async def test_a_lost_lease_is_told_also_to_a_worker_that_has_nothing_to_do() -> None:
    """It need not wait for its next claim to learn that it must be started again."""
    table, clock, told = MemoryTable(), FakeClock(), asyncio.Event()
    opening = open_shared(table, "w", "process 1", clock=clock, terms=TERMS)
    async with opening as ledger:
        ledger.on_loss = lambda _: told.set()
        session = session_address("w")
        await table.write(session, int(str(table.items[session]["version"])), {"ended": "another"})
        await told.wait()
        assert "given up by another" in ledger.trouble


async def test_one_end_is_written_once_whoever_sees_it(fleet: Fleet) -> None:
    """Two workers look at the same moment; another end of the job is another event."""
    ended = JobFinished(**MEMBERS, arn="arn-a", status="ACTIVE", message="")
    async with fleet.worker("first") as first, fleet.worker("second") as second:
        await first.claim("a")
        await first.put(intent("a"))
        await first.put(submitted("a"))
        first.release("a")
        await first.flush()
        first.note(ended)
        second.note(ended)
        await asyncio.gather(first.flush(), second.flush())
        first.note(ended)
    assert [event for event in events_in(fleet.table) if isinstance(event, JobFinished)] == [ended]


async def test_a_renewal_keeps_the_jobs(pair: Pair) -> None:
    """However often someone asks."""
    for _ in range(5):
        assert isinstance(await pair.second.claim("a"), Taken)
        pair.fleet.clock.seconds += TERMS.lease_seconds - 1
        await pair.first._session.renew()
    assert pair.first.holds("a")


async def test_the_jobs_of_a_worker_that_ended_well_are_free_at_once(fleet: Fleet) -> None:
    """Nobody waits for its lease."""
    async with fleet.worker("first") as first:
        await first.claim("a")
        first.note(Refused(**MEMBERS, code="c", attempt=0))
    async with fleet.worker("second") as second:
        claim = await second.claim("a")
    assert isinstance(claim, Mine)
    assert claim.state is not None


async def test_an_intent_needs_a_claim(fleet: Fleet) -> None:
    """Nobody may send a job that he did not claim."""
    async with fleet.worker("first") as first:
        with pytest.raises(LostJobError, match="was not claimed"):
            await first.put(intent("a"))
    assert not events_in(fleet.table)


async def test_one_arn_is_one_jobs(fleet: Fleet) -> None:
    """The second one learns whose it is, and may then be unknown."""
    async with fleet.worker("first") as first, fleet.worker("second") as second:
        for ledger, key in ((first, "a"), (second, "b")):
            await ledger.claim(key)
            await ledger.put(intent(key))
        await second.put(submitted("b", arn="arn"))
        with pytest.raises(ClaimedArnError) as caught:
            await first.put(submitted("a", arn="arn"))
        assert caught.value.owner == "b"
        await first.put(JobUnknown(**MEMBERS, reason="r", attempt=1))
        state = first.state.get("a")
        assert state is not None
        assert (state.phase, state.arn) == (Phase.UNKNOWN, "")


async def test_only_claimed_jobs_are_kept_in_memory(fleet: Fleet) -> None:
    """A worker runs for ever."""
    async with fleet.worker("first") as first:
        for number in range(50):
            key = str(number)
            await first.claim(key)
            await first.put(intent(key))
            await first.put(submitted(key))
            first.release(key)
        await first.flush()
        assert len(first.state) == 0
        assert not first._jobs


async def test_a_batch_keeps_all_it_saw(fleet: Fleet) -> None:
    """It accounts for every row, also those that it only loaded."""
    async with fleet.worker("first") as first:
        await first.claim("a")
        await first.put(intent("a"))
        await first.put(submitted("a"))
    async with fleet.worker("second", keeps_all=True) as second:
        await second.load(["a", "b"])
        await second.claim("b")
        await second.put(intent("b"))
        second.release("b")
        await second.flush()
        assert Counter(each.phase for each in second.state) == {Phase.SUBMITTED: 1, Phase.INTENT: 1}


async def test_a_job_with_many_events_moves_them_to_pages(fleet: Fleet) -> None:
    """Its own item stays small, and all events are read in order."""
    async with fleet.worker("first") as first:
        await first.claim("a")
        for attempt in range(1, 300):
            await first.put(intent("a", attempt=attempt))
            first.note(Refused(**MEMBERS, code="c", attempt=attempt))
        await first.put(intent("a", attempt=300))
        await first.put(submitted("a", attempt=300))
    assert len(str(fleet.table.items[Address("job#a", "job")])) < 2 * PAGE_CHARACTERS
    events = events_in(fleet.table)
    assert len(events) == 600
    assert not Audit(events).faults
    assert [event.attempt for event in events] == sorted(event.attempt for event in events)


async def test_a_text_that_no_item_could_hold_is_cut(fleet: Fleet) -> None:
    """With a word about how long it was."""
    async with fleet.worker("first") as first:
        await first.put(JobRejected(**MEMBERS, code="c", message="x" * 1_000_000, attempt=0))
    (event,) = events_in(fleet.table)
    assert isinstance(event, JobRejected)
    assert len(event.message) < 9_000
    assert event.message.endswith("(1,000,000 characters)")


async def test_what_a_lookup_proves_needs_no_claim(pair: Pair) -> None:
    """`verify --repair` writes it down."""
    await pair.second.put(JobSubmitted(**MEMBERS, arn="arn", attempt=1, via="lookup"))
    assert len(events_in(pair.fleet.table)) == 2


def test_a_lease_that_a_call_could_outlive_is_refused() -> None:
    """With the setting and what it must be."""
    with pytest.raises(UsageError, match=r"ledger\.lease_seconds to at least 133"):
        LeaseTerms(lease_seconds=120, call_seconds=100)
