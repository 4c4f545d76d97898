"""Opens a queue and looks at its settings before the first message is received."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.queue.client import Queue, open_queue
from batchsubmit.queue.open import Served
from batchsubmit.queue.settings import Terms, advice
from batchsubmit.sources.sqs.counters import QueueCounters
from batchsubmit.sources.sqs.trouble import QueueBusyError, QueueError, QueueGoneError


@asynccontextmanager
async def open_served(url: str, settings: Settings, *, region: str) -> AsyncIterator[tuple[Served, list[str]]]:
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
        yield Served(queue=queue, terms=terms, dead_letters=dead_letters, counters=counters), words


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
