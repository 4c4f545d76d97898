"""Ends what was received: deletes messages, returns them to their queue, or moves them to the dead-letter queue.

A message is deleted only once the ledger has its job's decision durably; that is for the callers to see to.

Each receive counts towards `maxReceiveCount`, whatever it led to. So a message that has spent half of its receives, or
most of its time in the queue, is sent again as a new message before the old one is deleted. Both have one key: a crash
between the two makes a redelivery, not a second job.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from batchsubmit.clock import Clock, timestamp
from batchsubmit.config import WorkerSettings
from batchsubmit.core.jobs import JobRejected
from batchsubmit.core.states import Action
from batchsubmit.queue.client import (
    GONE_CODES,
    MOST_ENTRIES,
    Outgoing,
    QueueAttributes,
    QueueBusyError,
    QueueDeniedError,
    QueueError,
    ReachedQueue,
    batches,
    tens,
    text_attributes,
)
from batchsubmit.queue.held import LIMIT_SECONDS
from batchsubmit.queue.message import DeadLetter, Message

_MOST_TRIES = 5
_PAUSE_SECONDS = 0.2
_CONCURRENCY = 8
_MOST_DELAY_SECONDS = 900
"""SQS: a new message is delayed by no more than this."""

_MOST_VISIBILITIES = 3
"""What a worker put back stays hidden when it is killed, while slots may be free: hence not for much longer than what
it held. It grows so far, that messages of other lanes come from behind."""

_AGED = 0.75
_LEEWAY_SECONDS = 3600
_LONGEST_HIDDEN_SECONDS = LIMIT_SECONDS - 600
_MOST_REMEMBERED = 10_000
_MOST_ATTRIBUTES = 10
_MOST_REASON_CHARACTERS = 256


class QueueLedger(Protocol):
    """The ledger, as far as messages are concerned."""

    async def actions(self, keys: Sequence[str]) -> Sequence[Action]:
        """Decide for each key what may be done with the job, by what is durable. Raises StoppedError.

        What is to be looked up goes to the engine too, which claims the job first: another worker may have it.
        """

    def action_now(self, key: str) -> Action:
        """Decide the same of one key, by what is known in this process."""

    async def record(self, event: JobRejected) -> bool:
        """Write down that a message can never work, and wait until that is durable; False where another worker has.

        Raises StoppedError.
        """


@dataclass(frozen=True, slots=True)
class Return:
    """Hide a message for so many seconds or, where it is to be renewed, send it again with a delay."""

    message: Message
    seconds: int
    renew: bool = False


def delay_seconds(message: Message, *, first: int, most: int) -> int:
    """How long a message that is of no use now is hidden: twice as long after each receive."""
    return int(max(1, min(most, first * 2 ** min(message.receives - 1, 30))))


def put_back(message: Message, seconds: int, *, queue: QueueAttributes, now: float) -> Return:
    """Return a message that cannot be held here. `now` is Unix time, as the message's own."""
    is_spent = queue.most_receives is not None and message.receives > queue.most_receives // 2
    return Return(message, seconds, renew=is_spent or 0 < message.sent_at < _old_before(queue, now))


def _old_before(queue: QueueAttributes, now: float) -> float:
    """The queue might drop a message that was sent before this, while it is held for as long as SQS allows."""
    kept = queue.retention_seconds
    return now - max(kept / 2, min(_AGED * kept, kept - LIMIT_SECONDS - _LEEWAY_SECONDS))


class Acks:
    """Deletes, returns and dead-letters; `run` is the loop that deletes."""

    def __init__(self, reached: ReachedQueue, settings: WorkerSettings, ledger: QueueLedger, clock: Clock) -> None:
        self._queue = reached.queue
        self._attributes = reached.attributes
        self._dead_letters = reached.dead_letters
        self._counters = reached.queue.counters
        self._ledger = ledger
        self._clock = clock
        self._visibility = settings.visibility_timeout_seconds
        self._longest = max(self._visibility, settings.max_delay_seconds)
        self._may_renew = True
        self._deletes: deque[tuple[str, int]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._hidden: dict[str, tuple[Message, float]] = {}
        # By message: whether it was moved. One that was not was written down by another worker or an earlier run.
        self._letters: dict[str, bool] = {}
        self._log = structlog.get_logger("batchsubmit").bind(queue=reached.queue.url)

    def delete(self, message: Message) -> None:
        """Delete a message soon."""
        self._deletes.append((message.receipt, 1))
        self._wake.set()

    def close(self) -> None:
        """Let `run` end once nothing is left to delete."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Delete batch after batch; what gathers during one makes the next."""
        while not (self._closing and not self._deletes):
            await self._wake.wait()
            self._wake.clear()
            while self._deletes:
                await self._delete([self._deletes.popleft() for _ in range(min(MOST_ENTRIES, len(self._deletes)))])

    async def _delete(self, batch: list[tuple[str, int]]) -> None:
        try:
            failures = await self._queue.delete([receipt for receipt, _ in batch])
        except (QueueBusyError, QueueError) as exc:
            self._give_up(len(batch), str(exc))
            return
        again = []
        for (receipt, tries), code in zip(batch, failures, strict=True):
            if code is None:
                self._counters.deleted += 1
            elif code in GONE_CODES or tries == _MOST_TRIES:
                self._give_up(1, code)
            else:
                self._log.info("queue.delete_again", code=code, attempt=tries)
                again.append((receipt, tries + 1))
        if again:
            self._deletes.extend(again)
            await asyncio.sleep(_PAUSE_SECONDS)

    def _give_up(self, count: int, reason: str) -> None:
        self._counters.delete_failures += count
        self._log.warning("queue.delete_failed", messages=count, reason=reason)

    def renews_before(self) -> float:
        """Messages that were sent before this Unix time are to be sent again: the queue would soon drop them."""
        return _old_before(self._attributes, self._clock.now().timestamp()) if self._may_renew else 0.0

    async def renew(self, messages: Iterable[Message]) -> None:
        """Send messages again that cannot be held any longer, or make them visible. Raises QueueError.

        A FIFO queue would put a new message behind its group, so there it costs a receive instead.
        """
        if self._attributes.is_fifo:
            await self.hand_back(messages)
        else:
            await self._give_back([Return(each, 0, renew=True) for each in messages])

    async def hide(self, messages: Iterable[Message], *, longest: bool) -> int:
        """Return messages for later: for the longest delay, or for longer after each receive. Gives the most seconds.

        They are remembered until `received`, to be made visible when this worker ends. Raises QueueError.
        """
        first = self._longest if longest else self._visibility
        most = self._longest if longest else min(_MOST_VISIBILITIES * self._visibility, self._longest)
        returns = [self._put_back(each, delay_seconds(each, first=first, most=most)) for each in messages]
        for each in returns:
            if not (each.renew and self._may_renew):
                _remember(self._hidden, each.message.id, (each.message, self._clock.monotonic() + each.seconds))
        await self._give_back(returns)
        return max((each.seconds for each in returns), default=0)

    def received(self, message: Message) -> None:
        """Forget the old receipt of a message that was delivered again."""
        self._hidden.pop(message.id, None)

    async def hand_back(self, messages: Iterable[Message]) -> None:
        """Make messages visible at once, so that others may have them. Raises QueueError."""
        await self._give_back([self._put_back(each, 0) for each in messages])

    async def hand_back_hidden(self) -> None:
        """Make visible what is still hidden of what `hide` returned. Raises QueueError."""
        now, hidden = self._clock.monotonic(), list(self._hidden.values())
        self._hidden.clear()
        back = [message for message, until in hidden if until > now]
        self._counters.handed_back -= len(back)  # counted when they were hidden
        await self.hand_back(back)

    def _put_back(self, message: Message, seconds: int) -> Return:
        return put_back(message, seconds, queue=self._attributes, now=self._clock.now().timestamp())

    async def _give_back(self, returns: Sequence[Return]) -> None:
        """Carry returns out. A message that cannot be reached comes back by itself. Raises QueueError."""
        refused = await self._renew([each for each in returns if each.renew])
        hidden = list(tens([*refused, *(each for each in returns if not each.renew)]))
        for start in range(0, len(hidden), _CONCURRENCY):
            await asyncio.gather(*map(self._hide, hidden[start : start + _CONCURRENCY]))

    async def _hide(self, batch: Sequence[Return]) -> None:
        try:
            failures = await self._queue.hide([(each.message.receipt, each.seconds) for each in batch])
        except QueueBusyError as exc:
            self._log.warning("queue.hand_back_failed", messages=len(batch), reason=str(exc))
            return
        self._counters.handed_back += failures.count(None)
        self._counters.lost += len(failures) - failures.count(None)

    async def _renew(self, returns: list[Return]) -> list[Return]:
        """Send messages again, then delete the old ones; gives those that could not be sent."""
        by_id = {each.message.id: each for each in returns}
        refused: list[Return] = []
        for batch in batches(_outgoing(each.message, delay=each.seconds) for each in returns):
            for sent, code in zip(batch, await self._send(batch), strict=True):
                if code is None:
                    self._counters.renewed += 1
                    self.delete(by_id[sent.id].message)
                else:
                    refused.append(by_id[sent.id])
        return refused

    async def _send(self, batch: list[Outgoing]) -> Sequence[str | None]:
        try:
            if self._may_renew:
                return await self._queue.send(batch)
        except QueueDeniedError as exc:
            self._may_renew = False
            self._log.warning("queue.renewal_denied", reason=str(exc))
        except QueueBusyError:
            pass
        return ["not sent"] * len(batch)

    async def dead_letter(self, message: Message, letter: DeadLetter) -> None:
        """Record and move a message that can never work. Raises StoppedError where the ledger cannot be written."""
        was_moved = self._letters.get(message.id)
        if was_moved:
            self.delete(message)
            return
        if await self._ledger.record(letter.rejected(message, timestamp(self._clock.now()))):
            self._counters.poisoned += 1
            self._log.warning("message.poison", message=message.id, code=letter.code)
        elif was_moved is None:
            # Another worker, or an earlier run, wrote it down and is moving it or died before: wait and see.
            _remember(self._letters, message.id, value=False)
            await self._give_back([Return(message, self._visibility)])
            return
        await self._move(message, letter)

    async def _move(self, message: Message, letter: DeadLetter) -> None:
        if self._dead_letters is not None:
            try:
                (failure,) = await self._dead_letters.send([_dead_letter(message, letter)])
            except (QueueBusyError, QueueError) as exc:
                failure = str(exc)
            if failure is None:
                _remember(self._letters, message.id, value=True)
                self._counters.moved += 1
                self.delete(message)
                return
            self._log.warning("message.not_moved", message=message.id, reason=failure)
        # Left to the redrive policy, if there is one; without one it is seen ever less often.
        seconds = delay_seconds(message, first=self._visibility, most=_LONGEST_HIDDEN_SECONDS)
        await self._give_back([Return(message, seconds)])


def _dead_letter(message: Message, letter: DeadLetter) -> Outgoing:
    reason = f"{letter.code}: {letter.reason}".encode("ascii", "backslashreplace").decode()
    printable = "".join(filter(str.isprintable, reason))[:_MOST_REASON_CHARACTERS]
    # The reason also replaces that of an earlier time.
    attributes = {**message.wire_attributes, **text_attributes({"batchsubmit-reason": printable})}
    return _outgoing(message, attributes if len(attributes) <= _MOST_ATTRIBUTES else None)


def _outgoing(message: Message, attributes: Mapping[str, Any] | None = None, *, delay: int = 0) -> Outgoing:
    """The same message again. On a FIFO queue its id is the deduplication id: SQS drops a repetition of the old one."""
    return Outgoing(
        id=message.id,
        body=message.body,
        attributes=attributes or message.wire_attributes,
        delay_seconds=min(delay, _MOST_DELAY_SECONDS),
        group=message.group,
    )


def _remember(memory: dict[str, Any], message: str, value: object) -> None:
    """Remember a message, and forget the oldest of too many."""
    memory[message] = value
    while len(memory) > _MOST_REMEMBERED:
        del memory[next(iter(memory))]
