"""The heartbeat: keeps what is held hidden, ends what reaches SQS's limit, and returns what cannot be decided now.

It runs beside the receiver. Nothing that it fails to do makes a job wrong: a message that shows too early is delivered
again, and its job is recognised by key.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from batchsubmit.core.states import Action
from batchsubmit.queue.client import GONE_CODES, QueueBusyError, tens
from batchsubmit.queue.held import HeldJob, HeldMessage, HeldStatus
from batchsubmit.queue.open import QueueParts

_MOST_PAUSE_SECONDS = 5.0
_BACKLOG_SECONDS = 300.0
_RETURNED = {
    HeldStatus.UNKNOWN: "message.undecided",
    HeldStatus.OVER_QUOTA: "message.over_quota",
    HeldStatus.NOT_READY: "message.not_ready",
}
"""The jobs that can be neither sent nor decided now, and the log event of their return."""


class Heartbeat:
    """The loop over all that is held. `on_change` is called when there is something to take again."""

    def __init__(self, parts: QueueParts, on_change: Callable[[], None]) -> None:
        self._parts = parts
        self._held = parts.held
        self._acks = parts.acks
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._closing = False
        # Messages are extended when a third of their time is left: half of that third is soon enough.
        self._pause_seconds = min(_MOST_PAUSE_SECONDS, parts.held.visibility_seconds / 6)
        self._recheck_at = 0.0
        self._backlog_at = parts.clock.monotonic()
        self._deleted = 0
        self._log = structlog.get_logger("batchsubmit").bind(queue=parts.queue.url)

    def wake(self) -> None:
        """Look at once: something new is held, or its status changed."""
        self._wake.set()

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Work until closed. Raises StoppedError where queue or ledger can no longer be relied on."""
        while not self._closing:
            self._wake.clear()  # a wake from here on is for the next turn
            for batch in tens(self._held.due(self._parts.clock.monotonic())):
                await self._extend(batch)
            await self._return_undecided()
            await self._renew_ending()
            if self._parts.clock.monotonic() >= self._recheck_at:
                await self._recheck()
                self._recheck_at = self._parts.clock.monotonic() + self._pause_seconds
            if self._parts.clock.monotonic() >= self._backlog_at + _BACKLOG_SECONDS:
                await self._check_backlog()
            await self._pause()

    async def _pause(self) -> None:
        """Sleep for a while; without anything held, until something is received."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds if len(self._held) or self._parts.manifests else None):
                await self._wake.wait()

    async def _extend(self, batch: Sequence[tuple[HeldMessage, int]]) -> None:
        at, counters = self._parts.clock.monotonic(), self._parts.counters
        try:
            failures = await self._parts.queue.hide([(held.message.receipt, seconds) for held, seconds in batch])
        except QueueBusyError as exc:
            counters.extension_failures += len(batch)
            self._log.warning("queue.extension_failed", messages=len(batch), reason=str(exc))
            return
        for (held, seconds), code in zip(batch, failures, strict=True):
            if code is None:
                counters.extended += 1
                held.hidden_until = at + seconds
            elif code in GONE_CODES:
                counters.lost += 1
                self._held.lose(held)
                self._log.warning("message.lost", message=held.message.id, code=code)
            else:
                counters.extension_failures += 1

    async def _renew_ending(self) -> None:
        """Send again what waits and can hardly be held or kept longer; what is under way stays to its end."""
        ending = self._held.ending(self._parts.clock.monotonic(), sent_before=self._acks.renews_before())
        if ending:
            self._log.info("queue.limit_reached", messages=len(ending))
            for each in ending:
                self._held.lose(each)
            await self._acks.renew([each.message for each in ending])

    async def _return_undecided(self) -> None:
        """Return for long what can be neither sent nor decided now: it is tried again when it comes again.

        The messages of denied jobs are recorded and moved, each with its reason.
        """
        for job in self._held.with_status(HeldStatus.DENIED, *_RETURNED):
            status, messages = job.status, self._held.drop(job)
            if job.denial is not None:
                for message in messages:
                    await self._acks.dead_letter(message, job.denial)
                continue
            self._parts.counters.undecided += len(messages) * (status is HeldStatus.UNKNOWN)
            self._parts.counters.over_quota += len(messages) * (status is HeldStatus.OVER_QUOTA)
            seconds = await self._acks.hide(messages, longest=status is not HeldStatus.NOT_READY)
            log = self._log.info if status is HeldStatus.NOT_READY else self._log.warning
            log(_RETURNED[status], job=job.key, messages=len(messages), seconds=seconds)

    async def _recheck(self) -> None:
        """Ask the ledger again about jobs that another had, and about manifests whose rows are all taken."""
        duplicates = self._held.with_status(HeldStatus.DUPLICATE)
        actions = await self._parts.ledger.actions([each.key for each in duplicates]) if duplicates else ()
        for job, action in zip(duplicates, actions, strict=True):
            if job.status is not HeldStatus.DUPLICATE:
                continue  # lost or dropped meanwhile
            if action not in {Action.SUBMIT, Action.LOOK_UP}:
                self._acknowledge(job)
            elif job.key not in self._held.taken:
                self._held.put_in_lane(job, first=True)
                self._on_change()
        await self._recheck_manifests()

    def _acknowledge(self, job: HeldJob) -> None:
        """Delete the messages of a job, or of a manifest, that others decided."""
        self._parts.counters.recognised += job.job is not None
        for message in self._held.drop(job):
            self._acks.delete(message)

    async def _recheck_manifests(self) -> None:
        manifests = self._parts.manifests
        for key, manifest in list(manifests.items()):
            is_decided = await manifest.is_decided(self._parts.ledger)
            is_over = is_decided or (manifest.has_unknown and not manifest.is_busy)
            if not is_over or manifests.get(key) is not manifest:
                continue
            del manifests[key]
            await manifest.files.aclose()
            pointer = self._held.jobs.get(key)
            if pointer is not None and is_decided:
                self._acknowledge(pointer)
            elif pointer is not None:
                pointer.status = HeldStatus.UNKNOWN
                self.wake()

    async def _check_backlog(self) -> None:
        """Warn where the backlog outlasts the queue's retention. Raises QueueError."""
        now, deleted = self._parts.clock.monotonic(), self._parts.counters.deleted
        seconds, decided = now - self._backlog_at, deleted - self._deleted
        self._backlog_at, self._deleted = now, deleted
        with suppress(QueueBusyError):
            if reason := (await self._parts.queue.attributes()).overdue(decided=decided, seconds=seconds):
                self._log.warning("queue.overdue", reason=reason)
