"""Messages are deleted in batches, again where SQS fails some, and given up in the end."""

from typing import TYPE_CHECKING, cast

from memory_sqs import MemorySqs
from virtual_time import VirtualClock, running_loop, virtually

from batchsubmit.config import WorkerSettings
from batchsubmit.queue.acks import Acks, QueueLedger
from batchsubmit.queue.held import HeldJobs

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
            for message in await sqs.receive(10, visibility_seconds=60, wait_seconds=0, is_over=bool):
                acks.delete(message)
                sqs.never = message.receipt
        await acks.flush()
        assert [f"{each}/1" for each in sqs.messages] == [sqs.never]
        assert (sqs.counters.deleted, sqs.counters.delete_failures) == (24, 1)

    run()
