"""A queue as a source of jobs: what the engine sees of it, and the heartbeat that runs beside the receiver.

A message is deleted once its job is decided and the ledger has that on the disk, and not before.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from batchsubmit.core.jobs import Job
from batchsubmit.core.source import Delivery, Ending
from batchsubmit.core.states import Action
from batchsubmit.errors import StoppedError
from batchsubmit.queue.client import GONE_CODES, QueueBusyError, tens
from batchsubmit.queue.held import HeldJob, HeldMessage, HeldStatus
from batchsubmit.queue.message import DeadLetter, MessageReader
from batchsubmit.queue.receive import QueueParts, Receiver

_MOST_PAUSE_SECONDS = 5.0
_BACKLOG_SECONDS = 300.0
_RETURNED = {
    HeldStatus.UNKNOWN: "message.undecided",
    HeldStatus.OVER_QUOTA: "message.over_quota",
    HeldStatus.NOT_READY: "message.not_ready",
}
"""The jobs that can be neither sent nor decided now, and the log event of their return."""


_STATUS_OF_ENDING = {Ending.HELD: HeldStatus.OVER_QUOTA, Ending.UNKNOWN: HeldStatus.UNKNOWN}


class Heartbeat:
    """Keeps what is held hidden, ends what reaches SQS's limit, and returns what cannot be decided now.

    `on_change` is called when there is something to take again. Nothing that this fails to do makes a job wrong: a
    message that shows too early is delivered again, and its job is recognised by key.
    """

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


class SqsSource:
    """Hands out the jobs of a queue; use `open`, which also drains it."""

    def __init__(self, parts: QueueParts, reader: MessageReader, on_trouble: Callable[[StoppedError], None]) -> None:
        self._parts = parts
        self._held = parts.held
        self._manifests = parts.manifests
        self._on_trouble = on_trouble
        self._listeners: list[Callable[[], None]] = []
        self._receiver = Receiver(parts, reader, self._changed)
        self._heartbeat = Heartbeat(parts, self._changed)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, parts: QueueParts, reader: MessageReader, on_trouble: Callable[[StoppedError], None]
    ) -> AsyncIterator["SqsSource"]:
        """Begin to receive; at the end await the poll under way, hand back what was not taken and delete what is done.

        `on_trouble` is called where queue or ledger can no longer be relied on.
        """
        source = cls(parts, reader, on_trouble)
        async with asyncio.TaskGroup() as tasks:
            deleting = tasks.create_task(parts.acks.run(), name="queue deletes")
            receiving = tasks.create_task(source._receive(), name="queue receiver")
            tasks.create_task(source._guarded(source._heartbeat.run()), name="queue heartbeat")
            yield source
            source.close()
            await receiving
            await source._guarded(source._receiver.hand_back_all(also_taken=True))
            for manifest in source._manifests.values():
                await manifest.files.aclose()
            source._heartbeat.close()
            parts.acks.close()
            await deleting

    async def _receive(self) -> None:
        await self._guarded(self._receiver.run())
        self.close()
        self._changed()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoppedError as exc:
            self._on_trouble(exc)

    def close(self) -> None:
        """Receive no more; what waits goes back to the queue once the poll under way is over."""
        self._receiver.close()

    @property
    def is_open(self) -> bool:
        """Whether more jobs may come."""
        return not self._receiver.is_closing

    def listen(self, callback: Callable[[], None]) -> None:
        """Call this whenever there may be something new to take or to look up."""
        self._listeners.append(callback)

    def _changed(self) -> None:
        self._heartbeat.wake()
        for callback in self._listeners:
            callback()

    def trouble(self) -> str:
        """Say what keeps manifests from being read on this machine, if anything does."""
        return self._receiver.trouble()

    def waiting(self) -> Collection[str]:
        """The memberships that have a job to take now."""
        return {*self._held.lanes, *(lane for each in self._manifests.values() for lane in each.waiting())}

    def waiting_jobs(self) -> int:
        """Count the jobs that were received and not taken."""
        in_manifests = sum(each.waiting_jobs() for each in self._manifests.values())
        return sum(map(len, self._held.lanes.values())) + in_manifests

    def waiting_by_lane(self) -> dict[str, int]:
        """How many messages' jobs of each membership wait."""
        return {lane: len(jobs) for lane, jobs in self._held.lanes.items()}

    @property
    def held(self) -> int:
        """Messages that are held."""
        return len(self._held)

    def oldest_seconds(self) -> float | None:
        """How long the oldest message that is held has been in its queue."""
        sent_at = self._held.oldest_sent_at()
        return None if sent_at is None else max(self._parts.clock.now().timestamp() - sent_at, 0.0)

    def take(self, membership: str) -> Delivery | None:
        """Take the next job; None where the next needs no call any more. Raises StoppedError."""
        if membership in self._held.lanes:
            return self._take_message(membership)
        manifest = next(each for each in self._manifests.values() if membership in each.waiting())
        row = manifest.take(membership)
        if self._may_start(row.job.key):
            return row
        # A message of the same job came first. Whether all are decided is asked when no row is left.
        manifest.under_way -= 1
        return None

    def _take_message(self, membership: str) -> "_MessageDelivery | None":
        held = self._held.next(membership)
        if held.job is not None and self._may_start(held.key):
            return _MessageDelivery(self, held, held.job)
        held.status = HeldStatus.DUPLICATE
        self._heartbeat.wake()
        return None

    def _may_start(self, key: str) -> bool:
        if key in self._held.taken or self._parts.ledger.action_now(key) not in {Action.SUBMIT, Action.LOOK_UP}:
            return False
        self._held.taken.add(key)
        return True

    def request_of(self, key: str) -> None:
        """Nothing is known of a job whose message was not delivered yet; a delivered one is looked up when taken."""

    def requeue(self, key: str) -> None:
        """Nothing to do: its message is delivered again, or asked about again by the heartbeat."""

    def ended(self, held: HeldJob, how: Ending | HeldStatus) -> None:
        """Take a job back: it is decided, waits again in its lane, or the heartbeat returns its messages."""
        self._held.taken.discard(held.key)
        if how is Ending.DECIDED:
            for message in self._held.drop(held):
                self._parts.acks.delete(message)
            self._receiver.wake()
        elif how is Ending.RELEASED:
            self._held.put_in_lane(held, first=True)
        elif self.is_open:  # else it goes back with all others
            held.status = _STATUS_OF_ENDING[how] if isinstance(how, Ending) else how
            self._heartbeat.wake()


class _MessageDelivery:
    """The job of one message, or of several."""

    def __init__(self, source: SqsSource, held: HeldJob, job: Job) -> None:
        self.job = job
        self._source = source
        self._held = held

    def ended(self, how: Ending) -> None:
        self._source.ended(self._held, how)

    def denied(self, code: str, message: str) -> bool:
        """To the dead-letter queue. The ledger has the message as failed, and not the job: moved back, it is tried."""
        self._held.denial = DeadLetter(code, message, self.job.membership, self.job.name)
        self._source.ended(self._held, HeldStatus.DENIED)
        return True

    def put_aside(self) -> None:
        self._source.ended(self._held, HeldStatus.NOT_READY)
