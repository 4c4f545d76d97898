"""Opens a queue, and puts together the parts that one queue source is made of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.queue.acks import Acks, QueueLedger
from batchsubmit.queue.client import (
    Queue,
    QueueBusyError,
    QueueCounters,
    QueueError,
    QueueGoneError,
    ReachedQueue,
    open_queue,
)
from batchsubmit.queue.held import HeldJobs
from batchsubmit.queue.manifest_message import ManifestMessage
from batchsubmit.queue.settings import QueueAttributes, advice


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueParts:
    """What receiver, heartbeat and source share; `manifests` are those whose rows are being submitted, by key."""

    reached: ReachedQueue
    settings: Settings
    region: str
    ledger: QueueLedger
    clock: Clock
    held: HeldJobs
    acks: Acks
    manifests: dict[str, ManifestMessage] = field(default_factory=dict)

    @property
    def queue(self) -> Queue:
        """The queue itself."""
        return self.reached.queue

    @property
    def counters(self) -> QueueCounters:
        """Its counters."""
        return self.reached.counters


def make_parts(
    reached: ReachedQueue, settings: Settings, *, region: str, ledger: QueueLedger, clock: Clock
) -> QueueParts:
    """Put the parts together."""
    return QueueParts(
        reached=reached,
        settings=settings,
        region=region,
        ledger=ledger,
        clock=clock,
        held=HeldJobs(settings.worker.visibility_timeout_seconds),
        acks=Acks(reached, settings.worker, ledger, clock),
    )


@asynccontextmanager
async def open_reached(url: str, settings: Settings, *, region: str) -> AsyncIterator[tuple[ReachedQueue, list[str]]]:
    """Open a queue; gives it with the advice on its settings.

    Raises UsageError where there is no such queue, StoppedError where it cannot be reached or used.
    """
    counters = QueueCounters()
    async with open_queue(url, settings.aws, region=region, counters=counters) as queue:
        try:
            attributes = await queue.attributes()
        except QueueGoneError as exc:
            raise UsageError(str(exc)) from exc
        except QueueBusyError as exc:
            raise StoppedError(f"the queue cannot be reached: {exc}") from exc
        dead_letters = await _reach_dead_letters(queue, attributes)
        words = [dead_letters] if isinstance(dead_letters, str) else []
        visibility = settings.worker.visibility_timeout_seconds
        found, its_attributes = (None, None) if isinstance(dead_letters, str) else dead_letters
        words += advice(attributes, visibility_seconds=visibility, dead_letters=its_attributes)
        yield ReachedQueue(queue=queue, attributes=attributes, dead_letters=found, counters=counters), words


async def _reach_dead_letters(
    queue: Queue, attributes: QueueAttributes
) -> tuple[Queue | None, QueueAttributes | None] | str:
    """Find the dead-letter queue, if one is configured; gives a sentence where it cannot be reached."""
    arn = attributes.dead_letter_arn
    if not arn:
        return None, None
    try:
        found = await queue.dead_letter_queue(arn)
        return found, await found.attributes()
    except (QueueBusyError, QueueError) as exc:
        return (
            f"the dead-letter queue {arn} cannot be reached ({exc}); messages that can never work are left to the "
            "redrive policy"
        )
