"""Keeps the messages that are held hidden, and sends those again whose time is nearly over.

Nothing that this fails to do makes a job wrong: a message that shows too early is delivered again, and its job is
recognised by key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from batchsubmit.clock import Clock
from batchsubmit.queue.acks import Acks
from batchsubmit.queue.client import GONE_CODES, Queue, QueueBusyError
from batchsubmit.queue.held import HeldJobs, HeldMessage

_MOST_PAUSE_SECONDS = 5.0
_BACKLOG_SECONDS = 300.0


class Heartbeat:
    """The loop beside the receiver. `recheck` is called at intervals while anything is held."""

    def __init__(
        self, queue: Queue, held: HeldJobs, acks: Acks, clock: Clock, recheck: Callable[[], Awaitable[None]]
    ) -> None:
        self._queue = queue
        self._counters = queue.counters
        self._held = held
        self._acks = acks
        self._monotonic = clock.monotonic
        self._recheck = recheck
        self._closing = False
        self._backlog_at = clock.monotonic()
        self._deleted = 0
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._acks.wake.set()

    async def run(self) -> None:
        """Work until closed. Raises StoppedError where queue or ledger can no longer be relied on."""
        # Messages are extended when a third of their time is left: half of that third is soon enough.
        pause_seconds = min(_MOST_PAUSE_SECONDS, self._held.visibility_seconds / 6)
        recheck_at = 0.0
        while not self._closing:
            self._acks.wake.clear()  # a wake from here on is for the next turn
            await self._acks.flush()
            await self._extend(self._held.due(self._monotonic()))
            await self._renew_ending()
            if self._monotonic() >= recheck_at:
                await self._recheck()
                recheck_at = self._monotonic() + pause_seconds
            if self._monotonic() >= self._backlog_at + _BACKLOG_SECONDS:
                await self._check_backlog()
            with suppress(TimeoutError):  # without anything held, sleep until something is received
                async with asyncio.timeout(pause_seconds if self._held.jobs else None):
                    await self._acks.wake.wait()

    async def _extend(self, due: Sequence[tuple[HeldMessage, int]]) -> None:
        at, failed = self._monotonic(), []
        codes = await self._queue.hide([(held.message.receipt, seconds) for held, seconds in due])
        for (held, seconds), code in zip(due, codes, strict=True):
            if code is None:
                self._counters.extended += 1
                held.hidden_until = at + seconds
            elif code in GONE_CODES:
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
        ending = self._held.ending(self._monotonic(), sent_before=self._acks.renews_before())
        if ending:
            self._log.info("queue.limit_reached", messages=len(ending))
            for each in ending:
                self._held.lose(each)
            await self._acks.give_back([each.message for each in ending], renew=True)

    async def _check_backlog(self) -> None:
        """Warn where the backlog outlasts the queue's retention. Raises QueueError."""
        now, deleted = self._monotonic(), self._counters.deleted
        seconds, decided = now - self._backlog_at, deleted - self._deleted
        self._backlog_at, self._deleted = now, deleted
        with suppress(QueueBusyError):
            if reason := (await self._queue.read_attributes()).overdue(decided=decided, seconds=seconds):
                self._log.warning("queue.overdue", reason=reason)
