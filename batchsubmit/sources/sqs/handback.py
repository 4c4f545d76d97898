"""Sends messages back to their queue, hidden for a while or at once to be had, or anew in their old one's place."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice

import structlog

from batchsubmit.sources.sqs.counters import QueueCounters
from batchsubmit.sources.sqs.custody import Extension
from batchsubmit.sources.sqs.outgoing import MOST_ENTRIES, Outgoing, batches
from batchsubmit.sources.sqs.queue import Queue
from batchsubmit.sources.sqs.removal import Removal
from batchsubmit.sources.sqs.returns import Return
from batchsubmit.sources.sqs.trouble import QueueBusyError, QueueDeniedError

_MOST_DELAY_SECONDS = 900
"""SQS's bound of what a new message may be delayed by."""

_CONCURRENCY = 8
_VISIBILITIES_AWAY = 10
"""A renewed message counts no receives, so its absence cannot grow with them; nor can it be called back before."""


class HandBack:
    """Carries out what `returns` decided."""

    def __init__(self, queue: Queue, removal: Removal, counters: QueueCounters, visibility_seconds: int) -> None:
        self._queue = queue
        self._renewal_seconds = min(_VISIBILITIES_AWAY * visibility_seconds, _MOST_DELAY_SECONDS)
        self._removal = removal
        self._counters = counters
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)
        self.may_renew = True

    async def send(self, returns: Sequence[Return]) -> None:
        """Send all of these back. A message that cannot be reached comes back by itself. Raises QueueError."""
        refused = await self._renew([each for each in returns if each.renew])
        hidden = _tens([*refused, *(each for each in returns if not each.renew)])
        while some := list(islice(hidden, _CONCURRENCY)):
            await asyncio.gather(*map(self._hide, some))

    async def _hide(self, batch: list[Return]) -> None:
        extensions = [Extension(each.message.id, each.message.receipt, each.seconds) for each in batch]
        try:
            failures = await self._queue.hide(extensions)
        except QueueBusyError as exc:
            self._log.warning("queue.hand_back_failed", messages=len(batch), reason=str(exc))
            return
        self._counters.handed_back += failures.count(None)
        self._counters.lost += len(failures) - failures.count(None)

    async def _renew(self, returns: list[Return]) -> list[Return]:
        """Send messages anew, then delete the old ones; gives those that could not be sent."""
        if not self.may_renew:
            return returns
        by_id = {each.message.id: each for each in returns}
        refused: list[Return] = []
        for batch in batches(map(self._anew, returns)):
            try:
                failures = await self._queue.send(batch)
            except QueueDeniedError as exc:
                self.may_renew = False
                self._log.warning("queue.renewal_denied", reason=str(exc))
                failures = ["AccessDenied"] * len(batch)
            except QueueBusyError as exc:
                failures = [str(exc)] * len(batch)
            for sent, code in zip(batch, failures, strict=True):
                if code is None:
                    self._counters.renewed += 1
                    self._removal.add(by_id[sent.id].message.receipt)
                else:
                    refused.append(by_id[sent.id])
        return refused

    def _anew(self, each: Return) -> Outgoing:
        """The same message again. A FIFO queue needs another deduplication id, else SQS drops it as a repetition."""
        return Outgoing(
            id=each.message.id,
            body=each.message.body,
            attributes=each.message.wire_attributes,
            delay_seconds=self._renewal_seconds if each.seconds else 0,
            group=each.message.group,
            deduplication=each.message.id,
        )


def _tens(returns: list[Return]) -> Iterator[list[Return]]:
    rest = iter(returns)
    while batch := list(islice(rest, MOST_ENTRIES)):
        yield batch
