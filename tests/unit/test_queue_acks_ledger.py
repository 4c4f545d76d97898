"""What a queue's side learns from a ledger that several workers share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from conftest import FakeClock
from memory_table import MemoryTable
from shared_ledger_events import AT, events_in, intent, submitted

from batchsubmit.core.job_states import Action
from batchsubmit.core.jobs import JobRejected
from batchsubmit.ledger.shared import LeaseTerms, SharedLedger, open_shared
from batchsubmit.queue.acks import QueueLedger
from batchsubmit.submit.recorder import Recorder

POISON = JobRejected(at=AT, job="p", membership="", name="", code="NotJson", message="message p: no JSON", attempt=0)


@pytest.fixture
def table() -> MemoryTable:
    """A table that is empty."""
    return MemoryTable()


@asynccontextmanager
async def worker(table: MemoryTable, name: str, clock: FakeClock) -> AsyncIterator[tuple[SharedLedger, QueueLedger]]:
    """One worker's ledger, and its queue's view of that."""
    async with open_shared(table, name, name, clock=clock, terms=LeaseTerms()) as ledger:
        yield ledger, QueueLedger(ledger, Recorder(ledger, clock).record)


async def test_poison_is_recorded_by_one_worker_alone(table: MemoryTable, clock: FakeClock) -> None:
    """The others are told that it is done, so that they do not move its message too."""
    async with worker(table, "a", clock) as (_, first), worker(table, "b", clock) as (_, second):
        assert await first.record(POISON)
        assert not await second.record(POISON)
    assert [event for event in events_in(table) if isinstance(event, JobRejected)] == [POISON]


async def test_poison_in_another_s_hands_is_left_to_that_one(table: MemoryTable, clock: FakeClock) -> None:
    """It may be about to move the message."""
    async with worker(table, "a", clock) as (ledger, _), worker(table, "b", clock) as (_, second):
        await ledger.claim(POISON.job)
        assert not await second.record(POISON)


async def test_what_another_worker_decided_is_recognised_and_not_kept(table: MemoryTable, clock: FakeClock) -> None:
    """By the table; a worker that runs for ever remembers only the jobs in its hands."""
    async with worker(table, "a", clock) as (ledger, _), worker(table, "b", clock) as (other, second):
        await ledger.claim("done")
        await ledger.put(intent("done"))
        await ledger.put(submitted("done"))
        assert await second.actions(["done", "new"]) == [Action.NOTHING, Action.SUBMIT]
        assert other.state.get("done") is None


async def test_what_was_left_open_is_to_be_looked_up_whoever_left_it(table: MemoryTable, clock: FakeClock) -> None:
    """The engine claims it first: it may be in other hands."""
    async with worker(table, "a", clock) as (ledger, own), worker(table, "b", clock) as (_, second):
        await ledger.claim("open")
        await ledger.put(intent("open"))
        assert await own.actions(["open"]) == [Action.LOOK_UP]
        assert await second.actions(["open"]) == [Action.LOOK_UP]
