"""Keeps what is held hidden, and ends it: deletes messages, returns or renews them, or moves them to the dead letters.

Nothing that the heartbeat fails to do makes a job wrong: a message that shows too early is delivered again, and its job
is recognised by key. A message is deleted only once the ledger has its job's decision durably, which callers see to.

Each receive counts towards `maxReceiveCount`, whatever it led to. So a message that has spent half of its receives, or
half of its time in the queue, is sent again as a new message before the old one is deleted. Both have one key: a crash
between the two makes a redelivery, not a second job.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import structlog

from batchsubmit.clock import Clock, timestamp
from batchsubmit.config import WorkerSettings
from batchsubmit.core.job_states import Action, decide
from batchsubmit.core.jobs import JobRejected
from batchsubmit.ledger.base import Ledger, LostJobError, Mine
from batchsubmit.queue import client
from batchsubmit.queue.held import HeldJob, HeldJobs, HeldMessage, is_spent, old_before
from batchsubmit.queue.message import DeadLetter, Message
from batchsubmit.text import duration

_MOST_PAUSE_SECONDS = 5.0
_BACKLOG_SECONDS = 300.0
_MOST_TRIES = 5
_PAUSE_SECONDS = 0.2
_MOST_DELAY_SECONDS = 900
"""SQS: a new message is delayed by no more than this."""

_MOST_REMEMBERED = 10_000
_MOST_ATTRIBUTES = 10
_MOST_REASON_CHARACTERS = 256


Why: TypeAlias = Literal["undecided", "over_quota", "not_ready", "duplicate"]
"""No lookup could decide whether a job was submitted, a quota that is not one of slots refused it, its trained model or
channel is still being created, or the same job came with a manifest or to another worker before."""


class QueueLedger:
    """The ledger, as far as messages are concerned; `record` writes an event down durably and tells the observers."""

    def __init__(self, ledger: Ledger, record: Callable[[JobRejected], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._record = record

    async def actions(self, keys: Sequence[str]) -> Sequence[Action]:
        """Decide for each key what may be done with the job, by what is durable. Raises StoppedError."""
        states = await self._ledger.states(keys)
        return [decide(states.get(key)) for key in keys]

    def action_now(self, key: str) -> Action:
        """Decide the same of one key, by what is known in this process."""
        return decide(self._ledger.state.get(key))

    async def record(self, event: JobRejected) -> bool:
        """Write down durably that a message can never work; False where another worker has, or is doing it."""
        claim = await self._ledger.claim(event.job)
        if not isinstance(claim, Mine):
            return False
        try:
            if decide(claim.state) is not Action.SUBMIT:
                return False
            await self._record(event)
        except LostJobError:
            return False
        finally:
            self._ledger.release(event.job)
        return True


class Acks:
    """The loop beside the receiver: heartbeat, deletes, returns; `wake` it where there is something to do."""

    def __init__(
        self, queue: client.Queue, held: HeldJobs, settings: WorkerSettings, ledger: QueueLedger, clock: Clock
    ) -> None:
        self._queue = queue
        self._held = held
        self._counters = queue.counters
        self._ledger = ledger
        self._clock = clock
        self.longest_seconds = max(held.visibility_seconds, settings.max_delay_seconds)
        self.wake = asyncio.Event()
        self._closing = False
        self._may_renew = True
        self._backlog_at, self._deleted = clock.monotonic(), 0
        self._deletes: list[str] = []
        self._returns: list[tuple[str, Sequence[Message], Why | DeadLetter]] = []
        # By message: whether it was moved. One that was not was written down by another worker or an earlier run.
        self._letters: dict[str, bool] = {}
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self.wake.set()

    async def run(self, recheck: Callable[[], Awaitable[None]]) -> None:
        """Work until closed, and call `recheck` at intervals while anything is held.

        Raises StoppedError where queue or ledger can no longer be relied on.
        """
        # Messages are extended when a third of their time is left: half of that third is soon enough.
        pause_seconds, recheck_at = min(_MOST_PAUSE_SECONDS, self._held.visibility_seconds / 6), 0.0
        while not self._closing:
            self.wake.clear()  # a wake from here on is for the next turn
            await self.flush()
            await self._extend(self._held.due(self._clock.monotonic()))
            await self._renew_ending()
            if self._clock.monotonic() >= recheck_at:
                await recheck()
                recheck_at = self._clock.monotonic() + pause_seconds
            if self._clock.monotonic() >= self._backlog_at + _BACKLOG_SECONDS:
                await self._check_backlog()
            with suppress(TimeoutError):  # without anything held, sleep until something is received
                async with asyncio.timeout(pause_seconds if self._held.jobs else None):
                    await self.wake.wait()

    async def _extend(self, due: Sequence[tuple[HeldMessage, int]]) -> None:
        at, failed = self._clock.monotonic(), []
        codes = await self._queue.hide([(held.message.receipt, seconds) for held, seconds in due])
        for (held, seconds), code in zip(due, codes, strict=True):
            if code is None:
                self._counters.extended += 1
                held.hidden_until = at + seconds
            elif code in client.GONE_CODES:
                self._counters.lost += 1
                self._held.lose(held)
                self._log.warning("message.lost", message=held.message.id, code=code)
            else:
                failed.append(code)
        if failed:
            self._counters.extension_failures += len(failed)
            self._log.warning("queue.extension_failed", messages=len(failed), reason=failed[0])

    async def _renew_ending(self) -> None:
        """Send again what waits and can hardly be held or kept longer; what is under way stays to its end."""
        now = self._clock.now().timestamp()
        sent_before = old_before(self._queue.attributes, now) if self._may_renew else 0.0
        ending = self._held.ending(self._clock.monotonic(), sent_before=sent_before)
        if ending:
            self._log.info("queue.limit_reached", messages=len(ending))
            for each in ending:
                self._held.lose(each)
            await self.give_back([each.message for each in ending], renew=True)

    async def _check_backlog(self) -> None:
        """Warn where the backlog, at the present throughput, outlasts the queue's retention. Raises QueueError."""
        now, deleted = self._clock.monotonic(), self._counters.deleted
        seconds, decided = now - self._backlog_at, deleted - self._deleted
        self._backlog_at, self._deleted = now, deleted
        with suppress(client.QueueBusyError):
            queue = await self._queue.read_attributes()
            needed = queue.backlog * seconds / decided if decided else 0.0
            if needed > queue.retention_seconds:
                words = {"needed": duration(needed), "kept": duration(queue.retention_seconds)}
                self._log.warning("queue.overdue", messages=queue.backlog, **words)

    def delete(self, message: Message) -> None:
        """Delete a message soon."""
        self._deletes.append(message.receipt)
        self.wake.set()

    def later(self, job: HeldJob, why: Why | DeadLetter) -> None:
        """Hold a job no longer that can be neither sent nor decided now: its messages are returned soon."""
        self._returns.append((job.key, self._held.drop(job), why))
        self.wake.set()

    async def flush(self) -> None:
        """Return and delete all that is noted. Raises StoppedError."""
        while self._returns:
            await self._return(*self._returns.pop())
        while self._deletes:
            receipts, self._deletes = self._deletes, []
            await self._delete(receipts)

    async def _delete(self, receipts: Sequence[str], tries: int = 1) -> None:
        """Delete messages, and try again what SQS fails; what is given up is delivered again and then recognised."""
        codes = await self._queue.delete(receipts)
        self._counters.deleted += codes.count(None)
        final = {None, client.BUSY, *client.GONE_CODES} if tries < _MOST_TRIES else set(codes)
        again = [receipt for receipt, code in zip(receipts, codes, strict=True) if code not in final]
        if failed := [code for code in codes if code and code in final]:
            self._counters.delete_failures += len(failed)
            self._log.warning("queue.delete_failed", messages=len(failed), reason=failed[0])
        if again:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._delete(again, tries + 1)

    async def _return(self, job: str, messages: Sequence[Message], why: Why | DeadLetter) -> None:
        """Return a job's messages; it is tried again when they come again."""
        if isinstance(why, DeadLetter):
            for message in messages:
                await self.dead_letter(message, why)
            return
        is_long = why in {"undecided", "over_quota"}
        seconds = self.longest_seconds if is_long else self._held.visibility_seconds
        self._counters.undecided += len(messages) * (why == "undecided")
        self._counters.over_quota += len(messages) * (why == "over_quota")
        await self.give_back(messages, seconds)
        log = self._log.warning if is_long else self._log.info
        log(f"message.{why}", job=job, messages=len(messages), seconds=seconds)

    async def give_back(self, messages: Sequence[Message], seconds: int = 0, *, renew: bool = False) -> None:
        """Return messages, to be seen again in so many seconds. Raises QueueError.

        One that is spent is sent again instead, and each with `renew`; but a FIFO queue would put a new message behind
        its group, so there that costs a receive. One that cannot be reached comes back by itself.
        """
        queue, now = self._queue.attributes, self._clock.now().timestamp()
        spent = [each for each in messages if is_spent(each, queue, now) or (renew and not queue.is_fifo)]
        sent = await self._send_again(spent, seconds)
        await self._hide([each for each in messages if each.id not in sent], seconds)

    async def _hide(self, messages: Sequence[Message], seconds: int) -> None:
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
        except client.QueueDeniedError as exc:
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
        if len(self._letters) > _MOST_REMEMBERED:
            del self._letters[next(iter(self._letters))]
        was_moved = self._letters.get(message.id)
        if was_moved:
            self.delete(message)
            return
        if await self._ledger.record(letter.rejected(message, timestamp(self._clock.now()))):
            self._counters.poisoned += 1
            self._log.warning("message.poison", message=message.id, code=letter.code)
        elif was_moved is None:
            # Another worker, or an earlier run, wrote it down and is moving it or died before: wait and see.
            self._letters[message.id] = False
            await self._hide([message], self._held.visibility_seconds)
            return
        failure = await self._move(message, letter)
        if not failure:
            self._letters[message.id] = True
            self._counters.moved += 1
            await self._delete([message.receipt])  # at once: were it seen again, another worker would move it again
            return
        # Left to the redrive policy, if there is one.
        self._log.warning("message.not_moved", message=message.id, reason=failure)
        await self._hide([message], self.longest_seconds)

    async def _move(self, message: Message, letter: DeadLetter) -> str | None:
        """Send a message to the dead-letter queue; gives why that could not be done."""
        queue = self._queue.dead_letters
        try:
            return (await queue.send([_dead_letter(message, letter)]))[0] if queue else "there is no dead-letter queue"
        except client.QueueError as exc:
            return str(exc)


def _dead_letter(message: Message, letter: DeadLetter) -> client.Outgoing:
    reason = f"{letter.code}: {letter.reason}".encode("ascii", "backslashreplace").decode()
    printable = "".join(filter(str.isprintable, reason))[:_MOST_REASON_CHARACTERS]
    # The reason also replaces that of an earlier time.
    attributes = {**message.wire_attributes, **client.text_attributes({"batchsubmit-reason": printable})}
    return _outgoing(message, attributes if len(attributes) <= _MOST_ATTRIBUTES else None)


def _outgoing(message: Message, attributes: Mapping[str, Any] | None = None, *, delay: int = 0) -> client.Outgoing:
    """The same message again. On a FIFO queue its id is the deduplication id: SQS drops a repetition of the old one."""
    return client.Outgoing(
        id=message.id,
        body=message.body,
        attributes=attributes or message.wire_attributes,
        delay_seconds=min(delay, _MOST_DELAY_SECONDS),
        group=message.group,
    )
