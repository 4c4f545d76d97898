"""Ends what was received: deletes messages, returns them to their queue, or moves them to the dead-letter queue.

A message is deleted only once the ledger has its job's decision durably; that is for the callers to see to.

Each receive counts towards `maxReceiveCount`, whatever it led to. So a message that has spent half of its receives, or
most of its time in the queue, is sent again as a new message before the old one is deleted. Both have one key: a crash
between the two makes a redelivery, not a second job.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import structlog

from batchsubmit.clock import Clock, timestamp
from batchsubmit.config import WorkerSettings
from batchsubmit.core.jobs import JobRejected
from batchsubmit.core.states import Action
from batchsubmit.queue.client import (
    BUSY,
    GONE_CODES,
    Outgoing,
    Queue,
    QueueAttributes,
    QueueDeniedError,
    QueueError,
    text_attributes,
)
from batchsubmit.queue.held import LIMIT_SECONDS
from batchsubmit.queue.message import DeadLetter, Message

_MOST_TRIES = 5
_PAUSE_SECONDS = 0.2
_MOST_DELAY_SECONDS = 900
"""SQS: a new message is delayed by no more than this."""

_AGED = 0.75
_LEEWAY_SECONDS = 3600
_MOST_REMEMBERED = 10_000
_MOST_ATTRIBUTES = 10
_MOST_REASON_CHARACTERS = 256


class Wait(StrEnum):
    """Why a job can be neither sent nor decided now."""

    UNDECIDED = "undecided"  # no lookup could decide whether it was submitted
    OVER_QUOTA = "over_quota"  # a quota that is not one of slots refused it
    NOT_READY = "not_ready"  # its trained model or channel is still being created


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


def is_spent(message: Message, queue: QueueAttributes, now: float) -> bool:
    """Whether a message is to be sent again: half of its receives, or most of its time, is over. `now` is Unix time."""
    most = queue.most_receives
    return (most is not None and message.receives > most // 2) or 0 < message.sent_at < _old_before(queue, now)


def _old_before(queue: QueueAttributes, now: float) -> float:
    """The queue might drop a message that was sent before this, while it is held for as long as SQS allows."""
    kept = queue.retention_seconds
    return now - max(kept / 2, min(_AGED * kept, kept - LIMIT_SECONDS - _LEEWAY_SECONDS))


class Acks:
    """Deletes, returns and dead-letters. `wake` is set where `flush` has something to do."""

    def __init__(self, queue: Queue, settings: WorkerSettings, ledger: QueueLedger, clock: Clock) -> None:
        self._queue = queue
        self._counters = queue.counters
        self._ledger = ledger
        self._clock = clock
        self._visibility = settings.visibility_timeout_seconds
        self.longest_seconds = max(self._visibility, settings.max_delay_seconds)
        self.wake = asyncio.Event()
        self._may_renew = True
        self._deletes: list[str] = []
        self._returns: list[tuple[Sequence[Message], Wait | DeadLetter]] = []
        self._hidden: dict[str, tuple[Message, float]] = {}
        # By message: whether it was moved. One that was not was written down by another worker or an earlier run.
        self._letters: dict[str, bool] = {}
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)

    def delete(self, message: Message) -> None:
        """Delete a message soon."""
        self._deletes.append(message.receipt)
        self.wake.set()

    def later(self, messages: Sequence[Message], why: "Wait | DeadLetter") -> None:
        """Return soon messages whose job can be neither sent nor decided now, or dead-letter them."""
        self._returns.append((messages, why))
        self.wake.set()

    async def flush(self) -> None:
        """Return and delete all that is noted. Raises StoppedError."""
        while self._returns:
            messages, why = self._returns.pop()
            if isinstance(why, DeadLetter):
                for message in messages:
                    await self.dead_letter(message, why)
            else:
                await self._return(messages, why)
        while self._deletes:
            receipts, self._deletes = self._deletes, []
            await self._delete(receipts)

    async def _delete(self, receipts: Sequence[str], tries: int = 1) -> None:
        """Delete messages, and try again what SQS fails; what is given up is delivered again and then recognised.

        Raises QueueError.
        """
        codes = await self._queue.delete(receipts)
        self._counters.deleted += codes.count(None)
        final = {None, BUSY, *GONE_CODES} if tries < _MOST_TRIES else set(codes)
        again = [receipt for receipt, code in zip(receipts, codes, strict=True) if code not in final]
        if failed := [code for code in codes if code and code in final]:
            self._counters.delete_failures += len(failed)
            self._log.warning("queue.delete_failed", messages=len(failed), reason=failed[0])
        if again:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._delete(again, tries + 1)

    async def _return(self, messages: Sequence[Message], why: "Wait") -> None:
        """Return messages; each job is tried again when they come again."""
        is_long = why is not Wait.NOT_READY
        seconds = self.longest_seconds if is_long else self._visibility
        self._counters.undecided += len(messages) * (why is Wait.UNDECIDED)
        self._counters.over_quota += len(messages) * (why is Wait.OVER_QUOTA)
        await self.give_back(messages, seconds)
        log = self._log.warning if is_long else self._log.info
        log(f"message.{why}", messages=[each.id for each in messages], seconds=seconds)

    def renews_before(self) -> float:
        """Messages that were sent before this Unix time are to be sent again: the queue would soon drop them."""
        return _old_before(self._queue.attributes, self._clock.now().timestamp()) if self._may_renew else 0.0

    async def give_back(self, messages: Sequence[Message], seconds: int = 0, *, renew: bool = False) -> None:
        """Return messages, to be seen again in so many seconds. Raises QueueError.

        One that is spent is sent again instead, and each with `renew`; but a FIFO queue would put a new message behind
        its group, so there that costs a receive. What is hidden is remembered until `received`, to be made visible when
        this worker ends.
        """
        queue, now = self._queue.attributes, self._clock.now().timestamp()
        spent = [each for each in messages if is_spent(each, queue, now) or (renew and not queue.is_fifo)]
        sent = await self._send_again(spent, seconds)
        kept = [each for each in messages if each.id not in sent]
        for each in kept if seconds else ():
            _remember(self._hidden, each.id, (each, self._clock.monotonic() + seconds))
        await self._hide(kept, seconds)

    def received(self, message: Message) -> None:
        """Forget the old receipt of a message that was delivered again."""
        self._hidden.pop(message.id, None)

    async def give_back_hidden(self) -> None:
        """Make visible what is still hidden of what was given back. Raises QueueError."""
        now = self._clock.monotonic()
        back = [message for message, until in self._hidden.values() if until > now]
        self._hidden.clear()
        self._counters.handed_back -= len(back)  # counted when they were hidden
        await self.give_back(back)

    async def _hide(self, messages: Sequence[Message], seconds: int) -> None:
        """Let messages be seen in so many seconds. One that cannot be reached comes back by itself."""
        codes = await self._queue.hide([(each.receipt, seconds) for each in messages])
        done = codes.count(None)
        self._counters.handed_back += done
        self._counters.lost += len(codes) - done

    async def _send_again(self, messages: Sequence[Message], seconds: int) -> set[str]:
        """Send messages again and delete the old ones; gives the ids of those that were sent."""
        if not self._may_renew:
            return set()
        try:
            codes = await self._queue.send([_outgoing(each, delay=seconds) for each in messages])
        except QueueDeniedError as exc:
            self._may_renew = False
            self._log.warning("queue.renewal_denied", reason=str(exc))
            return set()
        sent = [each for each, code in zip(messages, codes, strict=True) if code is None]
        self._counters.renewed += len(sent)
        for each in sent:
            self.delete(each)
        return {each.id for each in sent}

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
            await self._hide([message], self._visibility)
            return
        failure = await self._move(message, letter)
        if not failure:
            _remember(self._letters, message.id, value=True)
            self._counters.moved += 1
            self.delete(message)
            return
        # Left to the redrive policy, if there is one.
        self._log.warning("message.not_moved", message=message.id, reason=failure)
        await self._hide([message], self.longest_seconds)

    async def _move(self, message: Message, letter: DeadLetter) -> str | None:
        """Send a message to the dead-letter queue; gives why that could not be done."""
        if self._queue.dead_letters is None:
            return "there is no dead-letter queue"
        try:
            (failure,) = await self._queue.dead_letters.send([_dead_letter(message, letter)])
        except QueueError as exc:
            return str(exc)
        return failure


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
