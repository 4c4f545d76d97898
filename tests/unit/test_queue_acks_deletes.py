"""Messages are deleted in batches, again where SQS fails some, and given up in the end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast
from unittest.mock import AsyncMock

import pytest
from memory_sqs import MemorySqs
from virtual_time import VirtualClock, running_loop, virtually

from batchsubmit.config import WorkerSettings
from batchsubmit.queue import acks as acks_module
from batchsubmit.queue.acks import Acks, QueueLedger
from batchsubmit.queue.held import HeldJobs
from batchsubmit.queue.message import DeadLetter

if TYPE_CHECKING:
    from batchsubmit.queue.client import Queue


class HalfFailing(MemorySqs):
    """Fails every second entry at its first try, and one receipt each time."""

    never = ""
    failed: frozenset[str] = frozenset()

    async def delete(self, receipts: list[str]) -> list[str | None]:  # type: ignore[override]
        """Delete some."""
        first = {receipt for number, receipt in enumerate(receipts) if number % 2} - self.failed
        kept = first | ({self.never} & set(receipts))
        self.failed |= kept
        answers = iter(await super().delete([each for each in receipts if each not in kept] or ["none"]))
        return ["InternalError" if each in kept else next(answers) for each in receipts]


def test_what_fails_is_deleted_again_and_what_never_works_is_given_up() -> None:
    """It is delivered again, and then recognised."""

    @virtually
    async def run() -> None:
        sqs = HalfFailing()
        acks = Acks(
            cast("Queue", sqs), HeldJobs(300), WorkerSettings(), cast("QueueLedger", None), VirtualClock(running_loop())
        )
        for number in range(25):
            sqs.put(str(number))
        for _ in range(3):
            for message in await sqs.receive(10, visibility_seconds=60, wait_seconds=0):
                acks.delete(message)
                sqs.never = message.receipt
        await acks.flush()
        assert [f"{each}/1" for each in sqs.messages] == [sqs.never]
        assert (sqs.counters.deleted, sqs.counters.delete_failures) == (24, 1)

    run()


class DeadLetterKept(MemorySqs):
    """Moves a message, and does not delete it at first."""

    is_failing = True

    async def delete(self, receipts: Sequence[str]) -> list[str | None]:
        """Fail all."""
        return ["InternalError"] * len(receipts) if self.is_failing else await super().delete(receipts)


def test_a_dead_letter_that_was_not_deleted_is_moved_only_once() -> None:
    """It comes again, and is deleted then."""

    @virtually
    async def run() -> None:
        sqs = DeadLetterKept(dead=MemorySqs())
        ledger = AsyncMock(record=AsyncMock(side_effect=[True, False]))
        acks = Acks(cast("Queue", sqs), HeldJobs(300), WorkerSettings(), ledger, VirtualClock(running_loop()))
        sqs.put("poison")
        for _ in range(2):
            [message] = await sqs.receive(10, visibility_seconds=1, wait_seconds=5)
            await acks.dead_letter(message, DeadLetter("NotJson", "no JSON"))
            sqs.is_failing = False
        await acks.flush()
        assert sqs.dead is not None
        assert (len(sqs.messages), len(sqs.dead.messages)) == (0, 1)

    run()


def test_few_dead_letters_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs for months does not grow with them."""
    monkeypatch.setattr(acks_module, "_MOST_REMEMBERED", 3)

    @virtually
    async def run() -> None:
        sqs = MemorySqs(dead=MemorySqs())
        acks = Acks(cast("Queue", sqs), HeldJobs(300), WorkerSettings(), AsyncMock(), VirtualClock(running_loop()))
        for number in range(9):
            sqs.put(str(number))
        for message in await sqs.receive(10, visibility_seconds=60, wait_seconds=0):
            await acks.dead_letter(message, DeadLetter("NotJson", "no JSON"))
        assert len(acks._letters) == 4

    run()
