"""What every ledger promises: the file, the one in memory, and the shared one on a table."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from memory_ledger import MemoryLedger
from memory_table import MemoryTable
from shared_ledger_events import AT, events_in, intent, submitted

from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import Duplicate, Event, Refused, RunEnded, RunStarted
from batchsubmit.ledger.base import Ledger, Mine, Taken
from batchsubmit.ledger.dynamodb import open_table
from batchsubmit.ledger.file import open_ledger
from batchsubmit.ledger.lines import decode_line
from batchsubmit.ledger.location import TableLocation
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import read_ledger
from batchsubmit.ledger.shared import LeaseTerms, open_shared

Lines: TypeAlias = Callable[[], list[Event]]
OpenOne: TypeAlias = Callable[[Path], AbstractAsyncContextManager[tuple[Ledger, Lines]]]


def own(key: str, events: Iterable[Event]) -> list[Event]:
    """The events of the job with this key."""
    return [event for event in events if getattr(event, "job", "") == key]


def decoded(content: bytes) -> list[Event]:
    """The events in a ledger's bytes."""
    return [decode_line(line) for line in content.splitlines(keepends=True)]


@asynccontextmanager
async def in_a_file(folder: Path) -> AsyncIterator[tuple[Ledger, Lines]]:
    """The real side."""
    path = folder / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        yield ledger, lambda: decoded(path.read_bytes())


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[tuple[Ledger, Lines]]:
    """The side for tests and simulations."""
    ledger = MemoryLedger()
    yield ledger, lambda: decoded(ledger.lines())


@asynccontextmanager
async def on_a_table(folder: Path) -> AsyncIterator[tuple[Ledger, Lines]]:
    """The shared one, on a table in memory."""
    table = MemoryTable()
    async with open_shared(table, "w", "process 1", clock=SystemClock(), terms=LeaseTerms()) as ledger:
        yield ledger, lambda: events_in(table)


@asynccontextmanager
async def on_dynamodb(folder: Path) -> AsyncIterator[tuple[Ledger, Lines]]:
    """The shared one, on a real table."""
    name = f"ledger-{folder.name}"
    async with open_table(name, region="us-east-1", concurrency=16) as table:
        await table.create()
    location = TableLocation(name)
    async with open_for_writing(location, Settings(), region="us-east-1") as ledger:
        yield ledger, lambda: list(read_ledger(location, region="us-east-1"))


@pytest.fixture(params=[in_a_file, in_memory, on_a_table, on_dynamodb])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Ledger, Lines]]:
    """A new ledger, and a way to read what it holds."""
    if request.param is on_dynamodb:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", request.getfixturevalue("aws").url)
    async with request.param(tmp_path) as ledger_and_lines:
        yield ledger_and_lines


async def test_what_was_put_is_durable_once_it_was_awaited(opened: tuple[Ledger, Lines]) -> None:
    """Not later."""
    ledger, lines = opened
    await ledger.claim("a")
    await ledger.put(intent("a"))
    assert lines() == [intent("a")]
    await ledger.put(submitted("a"))
    assert lines() == [intent("a"), submitted("a")]


async def test_the_state_has_an_event_at_once(opened: tuple[Ledger, Lines]) -> None:
    """So that two tasks never decide on different knowledge."""
    ledger, _ = opened
    await ledger.claim("a")
    waiting = ledger.put(intent("a"))
    state = ledger.state.get("a")
    assert state is not None
    assert state.phase is Phase.INTENT
    await waiting
    ledger.note(submitted("a"))
    state = ledger.state.get("a")
    assert state is not None
    assert state.phase is Phase.SUBMITTED


async def test_the_events_of_a_job_stand_in_the_order_in_which_they_were_given(opened: tuple[Ledger, Lines]) -> None:
    """Noted and put ones, whoever waits for them."""
    ledger, lines = opened
    expected: list[Event] = []
    waiting: list[Awaitable[None]] = []
    await asyncio.gather(*(ledger.claim(str(job)) for job in range(10)))
    for number in range(300):
        event = intent(str(number % 10), attempt=number)
        expected.append(event)
        if number % 3 and number < 290:
            ledger.note(event)
        else:
            waiting.append(ledger.put(event))
    await asyncio.gather(*waiting)
    for job in map(str, range(10)):
        assert own(job, lines()) == own(job, expected)


@pytest.mark.parametrize("open_one", [in_a_file, in_memory])
async def test_events_stand_in_the_order_in_which_they_were_given(open_one: OpenOne, tmp_path: Path) -> None:
    """Of a ledger with one writer, those of all jobs."""
    expected: list[Event] = []
    waiting: list[Awaitable[None]] = []
    async with open_one(tmp_path) as (ledger, lines):
        for number in range(300):
            event = intent(str(number))
            expected.append(event)
            if number % 3:
                waiting.append(ledger.put(event))
            else:
                ledger.note(event)
        await asyncio.gather(*waiting)
        assert lines() == expected


async def test_a_noted_event_is_durable_with_the_next_of_its_job_that_is_awaited(opened: tuple[Ledger, Lines]) -> None:
    """Nobody waits for a refusal."""
    ledger, lines = opened
    refused = Refused(at=AT, job="a", membership="m", name="n", code="c", attempt=1)
    await ledger.claim("a")
    ledger.note(refused)
    await ledger.put(intent("a"))
    assert lines() == [refused, intent("a")]


async def test_a_waiter_that_is_cancelled_loses_nothing(opened: tuple[Ledger, Lines]) -> None:
    """Neither its own event nor those of the others."""
    ledger, lines = opened
    jobs = [str(number) for number in range(5)]
    await asyncio.gather(*map(ledger.claim, jobs))

    async def record(event: Event) -> None:
        await ledger.put(event)

    tasks = [asyncio.create_task(record(intent(job))) for job in jobs]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(ledger.put(submitted(job)) for job in jobs))
    events = lines()
    assert [own(job, events) for job in jobs] == [[intent(job), submitted(job)] for job in jobs]


async def test_runs_begin_and_end_in_the_ledger(opened: tuple[Ledger, Lines]) -> None:
    """They are of no job."""
    ledger, lines = opened
    started = RunStarted(at=AT, run="r", batch="", manifest="m", manifest_sha256="", version="1", holder="h")
    ended = RunEnded(at=AT, run="r", exit_status=3, reason="", counts={})
    await ledger.put(started)
    await ledger.put(ended)
    assert lines() == [started, ended]
    assert ledger.state.runs == [started]
    assert ledger.state.work.end == ended


async def test_a_claimed_job_is_nobody_elses(opened: tuple[Ledger, Lines]) -> None:
    """Not even of another task of the same process, as when a queue delivers a message twice."""
    ledger, _ = opened
    assert await ledger.claim("a") == Mine(None)
    assert ledger.holds("a")
    assert isinstance(await ledger.claim("a"), Taken)
    ledger.release("a")
    assert await ledger.claim("a") == Mine(None)


async def test_a_claim_tells_where_the_job_stands(opened: tuple[Ledger, Lines]) -> None:
    """What was put before it was released counts, waited for or not."""
    ledger, _ = opened
    await ledger.claim("a")
    await ledger.put(intent("a"))
    ledger.note(Refused(at=AT, job="a", membership="m", name="n", code="c", attempt=1))
    ledger.release("a")
    claim = await ledger.claim("a")
    assert isinstance(claim, Mine)
    assert claim.state is not None
    assert claim.state.phase is Phase.REFUSED
    await ledger.put(intent("a", attempt=2))
    await ledger.put(submitted("a", attempt=2))
    ledger.release("a")
    claim = await ledger.claim("a")
    assert isinstance(claim, Mine)
    assert claim.state is not None
    assert (claim.state.phase, claim.state.arn) == (Phase.SUBMITTED, "arn-a")


async def test_the_ledger_knows_whose_an_arn_is(opened: tuple[Ledger, Lines]) -> None:
    """That of a duplicate, too."""
    ledger, _ = opened
    for job in ("a", "b"):
        await ledger.claim(job)
        await ledger.put(intent(job))
        await ledger.put(submitted(job))
    await ledger.put(Duplicate(at=AT, job="b", membership="m", name="n", arn="second", of="arn-b"))
    assert await ledger.claims({"arn-a", "second", "third"}) == {"arn-a": "a", "second": "b"}


async def test_many_tasks_may_write_at_once(opened: tuple[Ledger, Lines]) -> None:
    """Every line is whole, and each task's own stand in its order."""
    ledger, lines = opened

    async def one_job(key: str) -> None:
        await ledger.claim(key)
        await ledger.put(intent(key))
        await asyncio.sleep(0)
        await ledger.put(submitted(key))

    await asyncio.gather(*(one_job(str(number)) for number in range(200)))
    events = lines()
    assert len(events) == 400
    for number in range(200):
        assert own(str(number), events) == [intent(str(number)), submitted(str(number))]
    assert Counter(each.phase for each in ledger.state) == {Phase.SUBMITTED: 200}


async def test_a_file_is_whole_when_it_is_closed_and_is_read_back(tmp_path: Path) -> None:
    """Also what was only noted."""
    path = tmp_path / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.put(intent("a"))
        ledger.note(submitted("a"))
    async with open_ledger(path) as ledger:
        assert Counter(each.phase for each in ledger.state) == {Phase.SUBMITTED: 1}
    assert decoded(path.read_bytes()) == [intent("a"), submitted("a")]


async def test_those_who_wait_at_one_moment_share_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group commit: a thousand lines are not a thousand fsyncs."""
    synced: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), sync(descriptor))[1])
    async with open_ledger(tmp_path / "ledger.jsonl") as ledger:
        await asyncio.gather(*(ledger.put(intent(str(number))) for number in range(1000)))
    assert 1 <= len(synced) < 20
