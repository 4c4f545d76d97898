"""Returns messages to their queue: visible at once, hidden for a while, or sent again in place of the old one.

Each receive counts towards `maxReceiveCount`, whatever came of it. So a message that has spent half of its receives, or
most of its time in the queue, is sent again as a new message before the old one is deleted. Both have one key: a crash
between the two makes a redelivery, not a second job.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog

from batchsubmit.queue.client import Queue, QueueBusyError, QueueCounters, QueueDeniedError, QueueError
from batchsubmit.queue.held import LIMIT_SECONDS, Extension
from batchsubmit.queue.message import Message
from batchsubmit.queue.send import MOST_ENTRIES, Outgoing, batches
from batchsubmit.queue.settings import Terms

_MOST_TRIES = 5
_PAUSE_SECONDS = 0.2
_GONE_CODES = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue"})
"""The receipt is of an earlier delivery and has expired: the message is to be had again, or is deleted already."""


class MessageDeletes:
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


_MOST_DELAY_SECONDS = 900
"""SQS's bound of what a new message may be delayed by."""

_CONCURRENCY = 8
_VISIBILITIES_AWAY = 10
"""A renewed message counts no receives, so its delay cannot grow with them."""

_MOST_REMEMBERED = 10_000
_AGED = 0.75
_LEEWAY_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Return:
    """Hide a message for so many seconds, or, where it is to be renewed, send it again with that delay."""

    message: Message
    seconds: int
    renew: bool = False


def delay_seconds(message: Message, *, first: int, most: int) -> int:
    """How long a message that has no use now should be hidden: twice as long after each receive."""
    return int(max(1, min(most, first * 2 ** min(message.receives - 1, 30))))


def put_back(message: Message, seconds: int, *, terms: Terms, now: float) -> Return:
    """Return a message that cannot be held here. `now` is Unix time, as the message's own."""
    spent = terms.most_receives is not None and message.receives > terms.most_receives // 2
    return Return(message, seconds, renew=spent or is_old(message, terms, now))


def give_up(message: Message, *, terms: Terms, now: float) -> Return:
    """Make a message visible at once, as a worker does that ends; renewed only where its last receive was this one."""
    last = terms.most_receives is not None and message.receives >= terms.most_receives
    return Return(message, 0, renew=last or is_old(message, terms, now))


def is_old(message: Message, terms: Terms, now: float) -> bool:
    """Whether the queue might drop a message before it can have been held for as long as SQS allows."""
    kept = terms.retention_seconds
    last = max(kept / 2, min(_AGED * kept, kept - LIMIT_SECONDS - _LEEWAY_SECONDS))
    return message.sent_at > 0 and now - message.sent_at > last


class MessageReturns:
    """Carries the returns out."""

    def __init__(self, queue: Queue, removal: MessageDeletes, counters: QueueCounters, visibility_seconds: int) -> None:
        self._queue = queue
        self._renewal_seconds = min(_VISIBILITIES_AWAY * visibility_seconds, _MOST_DELAY_SECONDS)
        self._removal = removal
        self._counters = counters
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)
        self.may_renew = True
        self._aside: dict[str, tuple[Message, float]] = {}

    async def set_aside(self, returns: Iterable[Return], now: float) -> None:
        """Hide messages for long, and remember them until `received`. `now` is monotonic. Raises QueueError."""
        listed = list(returns)
        for each in listed:
            if not (each.renew and self.may_renew):
                self._aside[each.message.id] = each.message, now + each.seconds
        while len(self._aside) > _MOST_REMEMBERED:
            del self._aside[next(iter(self._aside))]
        await self.send(listed)

    def received(self, message: str) -> None:
        """A message was delivered again: its old receipt is no longer of use."""
        self._aside.pop(message, None)

    def set_aside_until_after(self, now: float) -> list[Message]:
        """Give the messages that are still hidden, and forget them: a worker that ends makes them visible."""
        hidden = [message for message, until in self._aside.values() if until > now]
        self._aside.clear()
        return hidden

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
        """Send messages again, then delete the old ones; gives those that could not be sent."""
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
