"""Receives messages and sorts them: a job into its lane, a manifest opened, what can never work to the dead letters.

What is received is held and kept hidden until its job is decided, however long its lane is full: a wait spends no
receives. Only at `worker.max_held_messages` do some of the fullest lane go back, in case other lanes stand behind them.
One long poll at a time. A poll under way is never cancelled: what it brings after the end is handed back at once.
"""

import asyncio
from collections.abc import Callable

import structlog

from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Job
from batchsubmit.core.states import Action
from batchsubmit.manifest.file import FetchError
from batchsubmit.queue.acks import Acks, QueueLedger
from batchsubmit.queue.client import MOST_ENTRIES, QueueBusyError, ReachedQueue
from batchsubmit.queue.held import HeldJob, HeldJobs, HeldStatus
from batchsubmit.queue.manifest_message import ManifestMessage, open_manifests
from batchsubmit.queue.message import DeadLetter, Message, MessageReader, Pointer

_EXCHANGE_SECONDS = 5.0
"""How often ten messages are exchanged while as many are held as may be: 0.4 calls a second beside the heartbeat."""


class QueueParts:
    """What receiver, heartbeat and source share; `manifests` are those whose rows are being submitted, by key."""

    def __init__(
        self, reached: ReachedQueue, settings: Settings, *, region: str, ledger: QueueLedger, clock: Clock
    ) -> None:
        self.queue, self.attributes, self.counters = reached.queue, reached.attributes, reached.queue.counters
        self.settings = settings
        self.region = region
        self.ledger = ledger
        self.clock = clock
        self.held = HeldJobs(settings.worker.visibility_timeout_seconds)
        self.acks = Acks(reached, settings.worker, ledger, clock)
        self.manifests: dict[str, ManifestMessage] = {}


class Receiver:
    """The receiving loop. `on_change` is called when there is something to take or to look up."""

    def __init__(self, parts: QueueParts, reader: MessageReader, on_change: Callable[[], None]) -> None:
        self._parts = parts
        self._held = parts.held
        self._acks = parts.acks
        self._reader = reader
        self._on_change = on_change
        self._wake = asyncio.Event()
        self.is_closing = False
        self._trouble = ("", 0.0)
        self._log = structlog.get_logger("batchsubmit").bind(queue=parts.queue.url)

    def wake(self) -> None:
        """Look again whether another message may be held."""
        self._wake.set()

    def close(self) -> None:
        """Receive no more: the poll under way is the last."""
        self.is_closing = True
        self._wake.set()

    async def run(self) -> None:
        """Receive until closed, then hand back what waits. Raises StoppedError where queue or ledger cannot be used."""
        while not self.is_closing:
            room = self._parts.settings.worker.max_held_messages - len(self._held)
            if room > 0:
                await self._poll(min(room, MOST_ENTRIES))
            else:
                await self._make_room()
        await self.hand_back_all()

    async def _make_room(self) -> None:
        """Wait for a job to be decided; after a while put the last messages of the fullest lane back instead."""
        self._wake.clear()
        if self.is_closing:
            return
        try:
            async with asyncio.timeout(_EXCHANGE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            if not self._parts.attributes.is_fifo:  # a message that goes back there blocks all of its group
                jobs = self._held.last_of_fullest(MOST_ENTRIES)
                await self._acks.hide([each for job in jobs for each in self._held.drop(job)], longest=False)

    async def _poll(self, count: int) -> None:
        parts, worker = self._parts, self._parts.settings.worker
        began = parts.clock.monotonic()
        try:
            messages = await parts.queue.receive(
                count,
                visibility_seconds=worker.visibility_timeout_seconds,
                wait_seconds=worker.wait_seconds,
                is_over=lambda: self.is_closing,
            )
        except QueueBusyError:
            return  # closing: there is no need to wait until SQS answers again
        parts.counters.received += len(messages)
        parts.counters.redelivered += sum(each.receives > 1 for each in messages)
        if self.is_closing:
            await self._acks.hand_back(messages)
        else:
            await self._sort(messages, began)

    async def _sort(self, messages: list[Message], at: float) -> None:
        """Put each message where it belongs."""
        jobs: list[tuple[Message, Job]] = []
        for message in messages:
            self._acks.received(message)
            match self._reader.parse(message):
                case Job() as job:
                    jobs.append((message, job))
                case Pointer() as pointer:
                    await self._open(pointer, message, at)
                case DeadLetter() as letter:
                    await self._acks.dead_letter(message, letter)
                case None:
                    self._acks.delete(message)
        actions = await self._parts.ledger.actions([job.key for _, job in jobs])
        for (message, job), action in zip(jobs, actions, strict=True):
            self._place(message, job, action, at)
        self._on_change()

    def _place(self, message: Message, job: Job, action: Action, at: float) -> None:
        """Hold a job, or acknowledge one that is decided."""
        held = self._held.jobs.get(job.key)
        if held is not None:
            self._parts.counters.copies += message.id not in held.messages
            self._held.add(held, message, at)
        elif action in {Action.NOTHING, Action.LEAVE_FAILED}:
            self._parts.counters.recognised += 1
            self._log.info("message.recognised", job=job.key, message=message.id)
            self._acks.delete(message)
        else:
            held = HeldJob(job.key, job.membership, job)
            self._held.add(held, message, at)
            # Where the service has a job that is to be looked up, its slot is taken already: find out soon.
            self._held.put_in_lane(held, first=action is Action.LOOK_UP)

    async def _open(self, pointer: Pointer, message: Message, at: float) -> None:
        """Open the manifests of a pointer, or hold its message with those of the manifests that are open."""
        manifests = self._parts.manifests
        held = self._held.jobs.get(pointer.key) or HeldJob(pointer.key, status=HeldStatus.MANIFEST)
        self._held.add(held, message, at)
        if pointer.key in manifests:
            if manifests[pointer.key].is_busy:
                return
            # Its rows are all taken, and some are not decided: they are taken again.
            await manifests.pop(pointer.key).files.aclose()
        found = await self._fetch(pointer, message)
        if found is None:
            await self._acks.hide(self._held.drop(held), longest=False)
            return
        self._trouble = ("", 0.0)
        if isinstance(found, DeadLetter):
            for each in self._held.drop(held):
                await self._acks.dead_letter(each, found)
        else:
            manifests[pointer.key] = found
            self._log.info("manifest.opened", message=message.id, jobs=found.waiting_jobs())
            if not found.waiting_jobs():
                reason = "all its rows were decided before, in this batch; name another batch to run them again"
                self._log.warning("manifest.nothing_new", message=message.id, rows=found.rows, reason=reason)

    async def _fetch(self, pointer: Pointer, message: Message) -> ManifestMessage | DeadLetter | None:
        """Read the manifests; None where they cannot be had now: the worker is not ready until it tried again."""
        parts = self._parts
        try:
            return await open_manifests(
                pointer, parts.settings, region=parts.region, ledger=parts.ledger, let_go=self._let_go
            )
        except FetchError as exc:
            self._log.warning("manifest.not_fetched", message=message.id, reason=str(exc))
            until = parts.clock.monotonic() + 2 * parts.settings.worker.visibility_timeout_seconds
            self._trouble = (str(exc), until)
            return None

    def _let_go(self, key: str) -> None:
        self._held.taken.discard(key)
        self._on_change()

    def trouble(self) -> str:
        """Say why a manifest could not be had, until it was or another worker has surely tried."""
        words, until = self._trouble
        return words if self._parts.clock.monotonic() < until else ""

    async def hand_back_all(self, *, also_taken: bool = False) -> None:
        """Make every message visible again, except those with the engine, so that others may have it at once."""
        jobs = [each for each in self._held.jobs.values() if also_taken or each.status is not HeldStatus.TAKEN]
        await self._acks.hand_back([each for job in jobs for each in self._held.drop(job)])
        await self._acks.hand_back_hidden()
