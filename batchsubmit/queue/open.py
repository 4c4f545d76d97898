"""What the parts of one queue source share, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.queue.acks import MessageDeletes, MessageReturns
from batchsubmit.queue.client import Queue, QueueBusyError, QueueCounters, QueueError, QueueGoneError, open_queue
from batchsubmit.queue.dead_letters import DeadLetterMover
from batchsubmit.queue.held import HeldJobs, HeldMessages
from batchsubmit.queue.ledger import QueueLedger
from batchsubmit.queue.settings import Terms, advice


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedQueue:
    """A queue that was found to exist: its settings, and its dead-letter queue where that can be reached."""

    queue: Queue
    terms: Terms
    dead_letters: Queue | None
    counters: QueueCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueParts:
    """The collaborators of intake, keeper and source."""

    queue: Queue
    terms: Terms
    settings: Settings
    region: str
    books: QueueLedger
    clock: Clock
    counters: QueueCounters
    stock: HeldJobs
    removal: MessageDeletes
    hand_back: MessageReturns
    poison: DeadLetterMover


def make_parts(
    served: ReachedQueue, settings: Settings, *, region: str, books: QueueLedger, clock: Clock
) -> QueueParts:
    """Put the parts together."""
    visibility = settings.worker.visibility_timeout_seconds
    removal = MessageDeletes(served.queue, served.counters)
    hand_back = MessageReturns(served.queue, removal, served.counters, visibility)
    poison = DeadLetterMover(
        dead_letters=served.dead_letters,
        books=books,
        hand_back=hand_back,
        removal=removal,
        counters=served.counters,
        visibility_seconds=visibility,
    )
    return QueueParts(
        queue=served.queue,
        terms=served.terms,
        settings=settings,
        region=region,
        books=books,
        clock=clock,
        counters=served.counters,
        stock=HeldJobs(HeldMessages(visibility)),
        removal=removal,
        hand_back=hand_back,
        poison=poison,
    )


@asynccontextmanager
async def open_served(url: str, settings: Settings, *, region: str) -> AsyncIterator[tuple[ReachedQueue, list[str]]]:
    """Open a queue; gives it with the advice on its settings.

    Raises UsageError where there is no such queue, StoppedError where it cannot be reached or used.
    """
    counters = QueueCounters()
    async with open_queue(url, settings.aws, region=region, counters=counters) as queue:
        try:
            terms = await queue.terms()
        except QueueGoneError as exc:
            raise UsageError(str(exc)) from exc
        except QueueBusyError as exc:
            raise StoppedError(f"the queue cannot be reached: {exc}") from exc
        dead_letters, words = await _dead_letters(queue, terms)
        dead_terms = await dead_letters.terms() if dead_letters is not None else None
        visibility = settings.worker.visibility_timeout_seconds
        words += advice(terms, visibility_seconds=visibility, dead_letter=dead_terms)
        yield ReachedQueue(queue=queue, terms=terms, dead_letters=dead_letters, counters=counters), words


async def _dead_letters(queue: Queue, terms: Terms) -> tuple[Queue | None, list[str]]:
    """Find the dead-letter queue; without it poison is left to the redrive policy."""
    if not terms.dead_letter_arn:
        return None, []
    try:
        found = await queue.dead_letter_queue(terms.dead_letter_arn)
        await found.terms()
    except (QueueBusyError, QueueError) as exc:
        word = (
            f"the dead-letter queue {terms.dead_letter_arn} cannot be reached ({exc}); messages that can never work "
            "are left to the redrive policy"
        )
        return None, [word]
    return found, []
