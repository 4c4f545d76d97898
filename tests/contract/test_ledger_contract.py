"""What every ledger promises, the file and the one in memory alike."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from batchsubmit.jobs import Event, Intent, Refused, RunEnded, Submitted
from batchsubmit.ledger import Ledger
from batchsubmit.ledger.file import open_ledger
from batchsubmit.ledger.lines import decode_line
from batchsubmit.ledger.memory import MemoryLedger
from batchsubmit.states import Phase

AT = "2026-11-23T00:00:00.000000Z"
Lines: TypeAlias = Callable[[], list[Event]]


def intent(key: str) -> Intent:
    """An intent of the job with this key."""
    return Intent(at=AT, job=key, membership="m", name="n", attempt=1, trained_model="model")


def submitted(key: str) -> Submitted:
    """The acceptance of the job with this key."""
    return Submitted(at=AT, job=key, membership="m", name="n", arn=f"arn-{key}", attempt=1, via="start")


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


@pytest.fixture(params=[in_a_file, in_memory])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Ledger, Lines]]:
    """A new ledger, and a way to read what it holds."""
    async with request.param(tmp_path) as ledger_and_lines:
        yield ledger_and_lines


async def test_what_was_put_is_durable_once_it_was_awaited(opened: tuple[Ledger, Lines]) -> None:
    """Not later."""
    ledger, lines = opened
    await ledger.put(intent("a"))
    assert lines() == [intent("a")]
    await ledger.put(submitted("a"))
    assert lines() == [intent("a"), submitted("a")]


async def test_the_book_has_an_event_at_once(opened: tuple[Ledger, Lines]) -> None:
    """So that two tasks never decide on different knowledge."""
    ledger, _ = opened
    waiting = ledger.put(intent("a"))
    state = ledger.book.get("a")
    assert state is not None
    assert state.phase is Phase.INTENT
    await waiting
    ledger.note(submitted("a"))
    state = ledger.book.get("a")
    assert state is not None
    assert state.phase is Phase.SUBMITTED


async def test_events_stand_in_the_order_in_which_they_were_given(opened: tuple[Ledger, Lines]) -> None:
    """Noted and put ones, whoever waits for them."""
    ledger, lines = opened
    expected: list[Event] = []
    waiting: list[Awaitable[None]] = []
    for number in range(300):
        event = intent(str(number))
        expected.append(event)
        if number % 3:
            waiting.append(ledger.put(event))
        else:
            ledger.note(event)
    await asyncio.gather(*waiting)
    assert lines() == expected


async def test_a_noted_event_is_durable_with_the_next_that_is_awaited(opened: tuple[Ledger, Lines]) -> None:
    """Nobody waits for a refusal."""
    ledger, lines = opened
    refused = Refused(at=AT, job="a", membership="m", name="n", code="c", attempt=1)
    ledger.note(refused)
    await ledger.put(intent("a"))
    assert lines() == [refused, intent("a")]


async def test_a_waiter_that_is_cancelled_loses_nothing(opened: tuple[Ledger, Lines]) -> None:
    """Neither its own event nor those of the others."""
    ledger, lines = opened

    async def record(event: Event) -> None:
        await ledger.put(event)

    tasks = [asyncio.create_task(record(submitted(str(number)))) for number in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await ledger.put(RunEnded(at=AT, run="r", exit_status=3, reason="", counts={}))
    assert lines()[:-1] == [submitted(str(number)) for number in range(5)]


async def test_many_tasks_may_write_at_once(opened: tuple[Ledger, Lines]) -> None:
    """Every line is whole, and each task's own stand in its order."""
    ledger, lines = opened

    async def one_job(key: str) -> None:
        await ledger.put(intent(key))
        await asyncio.sleep(0)
        await ledger.put(submitted(key))

    await asyncio.gather(*(one_job(str(number)) for number in range(200)))
    events = lines()
    assert len(events) == 400
    for number in range(200):
        own = [event for event in events if getattr(event, "job", "") == str(number)]
        assert own == [intent(str(number)), submitted(str(number))]
    assert ledger.book.counts() == {Phase.SUBMITTED: 200}


async def test_a_file_is_whole_when_it_is_closed_and_is_read_back(tmp_path: Path) -> None:
    """Also what was only noted."""
    path = tmp_path / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.put(intent("a"))
        ledger.note(submitted("a"))
    async with open_ledger(path) as ledger:
        assert ledger.book.counts() == {Phase.SUBMITTED: 1}
    assert decoded(path.read_bytes()) == [intent("a"), submitted("a")]


async def test_those_who_wait_at_one_moment_share_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group commit: a thousand lines are not a thousand fsyncs."""
    synced: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), sync(descriptor))[1])
    async with open_ledger(tmp_path / "ledger.jsonl") as ledger:
        await asyncio.gather(*(ledger.put(intent(str(number))) for number in range(1000)))
    assert 1 <= len(synced) < 20
