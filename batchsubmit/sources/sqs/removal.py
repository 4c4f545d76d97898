"""Deletes messages whose outcome is durable, ten at a time, and again where SQS failed some of them.

A message that cannot be deleted is given up after several tries: it is delivered again, and then recognised.
"""

import asyncio
from collections import deque

import structlog

from batchsubmit.queue.client import Queue
from batchsubmit.queue.send import MOST_ENTRIES
from batchsubmit.sources.sqs.counters import QueueCounters
from batchsubmit.sources.sqs.trouble import QueueBusyError, QueueError

_MOST_TRIES = 5
_PAUSE_SECONDS = 0.2
_GONE_CODES = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue"})
"""The receipt is of an earlier delivery and has expired: the message is to be had again, or is deleted already."""


class Removal:
    """The messages that are to be deleted, and the loop that does it."""

    def __init__(self, queue: Queue, counters: QueueCounters) -> None:
        self._queue = queue
        self._counters = counters
        self._waiting: deque[tuple[str, int]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, receipt: str) -> None:
        """Delete a message soon."""
        self._waiting.append((receipt, 1))
        self._wake.set()

    def close(self) -> None:
        """Let `run` end once nothing is left."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Delete batch after batch; what gathers during one makes the next."""
        while not (self._closing and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MOST_ENTRIES, len(self._waiting)))]
                await self._delete(batch)

    async def _delete(self, batch: list[tuple[str, int]]) -> None:
        try:
            failures = await self._queue.delete([receipt for receipt, _ in batch])
        except (QueueBusyError, QueueError) as exc:
            self._give_up(len(batch), str(exc))
            return
        again = False
        for (receipt, tries), code in zip(batch, failures, strict=True):
            if code is None:
                self._counters.deleted += 1
            elif code in _GONE_CODES or tries == _MOST_TRIES:
                self._give_up(1, code)
            else:
                self._log.info("queue.delete_again", code=code, attempt=tries)
                self._waiting.append((receipt, tries + 1))
                again = True
        if again:
            await asyncio.sleep(_PAUSE_SECONDS)

    def _give_up(self, count: int, reason: str) -> None:
        self._counters.delete_failures += count
        self._log.warning("queue.delete_failed", messages=count, reason=reason)
