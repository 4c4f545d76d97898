"""A queue as a source of jobs: receives messages, hands out their jobs, and takes back how each ended.

What is received is held and kept hidden until its job is decided, however long its lane is full: a wait spends no
receives. Only at `worker.max_held_messages` do some of the fullest lane go back, in case other lanes stand behind them.
One long poll at a time. A poll under way is never cancelled: what it brings after the end is handed back at once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.core.job_states import Action
from batchsubmit.core.jobs import Job
from batchsubmit.core.source import Delivery, Ending
from batchsubmit.errors import StoppedError
from batchsubmit.manifest.file import FetchError
from batchsubmit.queue.acks import Acks, QueueLedger, Why
from batchsubmit.queue.client import MOST_ENTRIES, Queue, QueueBusyError
from batchsubmit.queue.held import HeldJob, HeldJobs
from batchsubmit.queue.manifest_message import ManifestMessage, open_manifest_message
from batchsubmit.queue.message import DeadLetter, Message, MessageReader
from batchsubmit.queue.s3_event import Pointer

_EXCHANGE_SECONDS = 5.0
"""How often ten messages are exchanged while as many are held as may be: 0.4 calls a second beside the heartbeat."""

_EXCHANGE_VISIBILITIES = 3
"""What is put back stays hidden when its worker is killed, while slots may be free: hence not for much longer than what
it held, and long enough that messages of other lanes come from behind."""


class SqsSource:
    """The jobs of a queue, received and given back while `receiving` is entered.

    A message is deleted once its job is decided and the ledger has that on the disk, and not before. `on_trouble` is
    called where queue or ledger can no longer be relied on.
    """

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        *,
        region: str,
        ledger: QueueLedger,
        clock: Clock,
        on_trouble: Callable[[StoppedError], None],
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._region = region
        self._ledger = ledger
        self._clock = clock
        self._on_trouble = on_trouble
        self._reader = MessageReader(settings, region=region)
        self.held = HeldJobs(settings.worker.visibility_timeout_seconds)
        self._acks = Acks(queue, self.held, settings.worker, ledger, clock)
        self._manifests: dict[str, ManifestMessage] = {}
        self._tell_change: Callable[[], None] = lambda: None
        self._wake = asyncio.Event()
        self._trouble = ("", 0.0)
        self._log = structlog.get_logger("batchsubmit").bind(queue=queue.url)
        self.is_open = True
        """Whether more jobs may come."""

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator["SqsSource"]:
        """Receive; at the end await the poll under way, hand back what was not taken and delete what is done."""
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(self._guarded(self._receive()), name="queue receiver")
            beating = tasks.create_task(self._guarded(self._acks.run(self._recheck)), name="queue heartbeat")
            yield self
            self.close()
            await polling
            await self._guarded(self._give_back(self.held.jobs.values()))
            for manifest in self._manifests.values():
                await manifest.file.aclose()
            self._acks.close()
            await beating
            await self._guarded(self._acks.flush())

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoppedError as exc:
            self._on_trouble(exc)

    def close(self) -> None:
        """Receive no more; what waits goes back to the queue once the poll under way is over."""
        self.is_open = False
        self._wake.set()

    def listen(self, callback: Callable[[], None]) -> None:
        """Call this whenever there may be something new to take or to look up."""
        self._tell_change = callback

    def _changed(self) -> None:
        self._acks.wake.set()
        self._tell_change()

    async def _receive(self) -> None:
        """Receive, then hand back what waits. Raises StoppedError where queue or ledger cannot be used."""
        try:
            while self.is_open:
                room = self._settings.worker.max_held_messages - len(self.held)
                if room > 0:
                    await self._poll(min(room, MOST_ENTRIES))
                else:
                    await self._make_room()
            await self._give_back(each for each in self.held.jobs.values() if not each.is_taken)
        finally:
            self.close()
            self._changed()

    async def _give_back(self, jobs: Iterable[HeldJob], seconds: int = 0) -> None:
        """Let the messages of jobs be seen again in so many seconds, so that others may have them."""
        await self._acks.give_back([each for job in list(jobs) for each in self.held.drop(job)], seconds)

    async def _make_room(self) -> None:
        """Wait for a job to be decided; after a while put the last messages of the fullest lane back instead."""
        self._wake.clear()
        try:
            async with asyncio.timeout(_EXCHANGE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            if not self._queue.attributes.is_fifo:  # a message that goes back there blocks all of its group
                seconds = min(_EXCHANGE_VISIBILITIES * self.held.visibility_seconds, self._acks.longest_seconds)
                await self._give_back(self.held.last_of_fullest(MOST_ENTRIES), seconds)

    async def _poll(self, count: int) -> None:
        worker, counters, began = self._settings.worker, self._queue.counters, self._clock.monotonic()
        try:
            messages = await self._queue.receive(
                count,
                visibility_seconds=worker.visibility_timeout_seconds,
                wait_seconds=worker.wait_seconds,
                is_over=lambda: not self.is_open,
            )
        except QueueBusyError:
            return  # closing: there is no need to wait until SQS answers again
        counters.polls += 1
        counters.received += len(messages)
        counters.redelivered += sum(each.receives > 1 for each in messages)
        if self.is_open:
            await self._sort(messages, began)
        else:
            await self._acks.give_back(messages)

    async def _sort(self, messages: list[Message], at: float) -> None:
        """Put each message where it belongs."""
        jobs: list[tuple[Message, Job]] = []
        for message in messages:
            match self._reader.parse(message):
                case Job() as job:
                    jobs.append((message, job))
                case Pointer() as pointer:
                    await self._open(pointer, message, at)
                case DeadLetter() as letter:
                    await self._acks.dead_letter(message, letter)
                case None:
                    self._acks.delete(message)
        actions = await self._ledger.actions([job.key for _, job in jobs])
        for (message, job), action in zip(jobs, actions, strict=True):
            self._place(message, job, action, at)
        self._changed()

    def _place(self, message: Message, job: Job, action: Action, at: float) -> None:
        """Hold a job, or acknowledge one that is decided."""
        held = self.held.jobs.get(job.key)
        if held is not None:
            self._queue.counters.copies += message.id not in held.messages
            self.held.add(held, message, at)
        elif action is Action.NOTHING:
            self._queue.counters.recognised += 1
            self._log.info("message.recognised", job=job.key, message=message.id)
            self._acks.delete(message)
        else:
            held = HeldJob(job.key, job.membership, job)
            self.held.add(held, message, at)
            # Where the service has a job that is to be looked up, its slot is taken already: find out soon.
            self.held.put_in_lane(held, first=action is Action.LOOK_UP)

    async def _open(self, pointer: Pointer, message: Message, at: float) -> None:
        """Open the manifest of a pointer, or hold its message with those of the manifest if that is open."""
        key = repr(pointer)
        held = self.held.jobs.get(key) or HeldJob(key)
        self.held.add(held, message, at)
        if key in self._manifests:
            if self._manifests[key].is_busy:
                return
            # Its rows are all taken, and some are not decided: they are taken again.
            await self._manifests.pop(key).file.aclose()
        try:
            found = await open_manifest_message(
                pointer, self._settings, region=self._region, ledger=self._ledger, let_go=self._let_go
            )
        except FetchError as exc:
            self._log.warning("manifest.not_fetched", message=message.id, reason=str(exc))
            # The worker is not ready until it tried again, or another surely has.
            self._trouble = (str(exc), self._clock.monotonic() + 2 * self.held.visibility_seconds)
            await self._give_back([held], self.held.visibility_seconds)
            return
        self._trouble = ("", 0.0)
        if isinstance(found, DeadLetter):
            self._acks.later(held, found)
            return
        self._manifests[key] = found
        self._log.info("manifest.opened", message=message.id, jobs=found.waiting_jobs())
        if not found.waiting_jobs():
            reason = "all its rows were decided before, in this batch; name another batch to run them again"
            self._log.warning("manifest.nothing_new", message=message.id, rows=found.rows, reason=reason)

    def _let_go(self, key: str) -> None:
        self.held.taken.discard(key)
        self._changed()

    def trouble(self) -> str:
        """Say what keeps manifests from being read on this machine, if anything does."""
        words, until = self._trouble
        return words if self._clock.monotonic() < until else ""

    async def _recheck(self) -> None:
        """Ask the ledger again about manifests whose rows are all taken."""
        for key, manifest in list(self._manifests.items()):
            is_decided = await manifest.is_decided(self._ledger)
            is_over = is_decided or (manifest.has_unknown and not manifest.is_busy)
            if not is_over or self._manifests.get(key) is not manifest:
                continue
            del self._manifests[key]
            await manifest.file.aclose()
            pointer = self.held.jobs.get(key)
            if pointer is not None and is_decided:
                self._delete(pointer)
            elif pointer is not None:
                self._acks.later(pointer, "undecided")

    def _delete(self, job: HeldJob) -> None:
        """Delete the messages of a job, or of a manifest, that is decided."""
        for message in self.held.drop(job):
            self._acks.delete(message)
        self._wake.set()  # there may be room for another

    def waiting(self) -> Collection[str]:
        """The memberships that have a job to take now."""
        return {*self.held.lanes, *(lane for each in self._manifests.values() for lane in each.waiting())}

    def waiting_jobs(self) -> int:
        """Count the jobs that were received and not taken."""
        in_manifests = sum(each.waiting_jobs() for each in self._manifests.values())
        return sum(map(len, self.held.lanes.values())) + in_manifests

    def take(self, membership: str) -> Delivery | None:
        """Take the next job; None where the next needs no call any more. Raises StoppedError."""
        if membership in self.held.lanes:
            held = self.held.next(membership)
            if held.job is not None and self._may_start(held.key):
                return _MessageDelivery(held.job, held, self)
            self._acks.later(held, "duplicate")
            return None
        manifest = next(each for each in self._manifests.values() if membership in each.waiting())
        row = manifest.take(membership)
        if self._may_start(row.job.key):
            return row
        # A message of the same job came first. Whether all are decided is asked when no row is left.
        manifest.under_way -= 1
        return None

    def _may_start(self, key: str) -> bool:
        if key in self.held.taken or self._ledger.action_now(key) is Action.NOTHING:
            return False
        self.held.taken.add(key)
        return True

    def request_of(self, key: str) -> None:
        """Nothing is known of a job whose message was not delivered yet; a delivered one is looked up when taken."""

    def requeue(self, key: str) -> None:
        """Nothing to do: its message is delivered again, or asked about again by the heartbeat."""

    def ended(self, held: HeldJob, how: Ending | Why | DeadLetter) -> None:
        """Take a job back: it is decided, waits again in its lane, or its messages go away for long."""
        self.held.taken.discard(held.key)
        if how is Ending.DECIDED:
            self._delete(held)
        elif how is Ending.RELEASED:
            self.held.put_in_lane(held, first=True)
        elif self.is_open:  # else it goes back with all others
            if isinstance(how, Ending):
                how = "over_quota" if how is Ending.HELD else "undecided"
            self._acks.later(held, how)


@dataclass(frozen=True, slots=True)
class _MessageDelivery:
    """The job of one message, or of several."""

    job: Job
    _held: HeldJob
    _source: SqsSource

    def ended(self, how: Ending) -> None:
        self._source.ended(self._held, how)

    def denied(self, code: str, message: str) -> bool:
        """To the dead-letter queue. The ledger has the message as failed, and not the job: moved back, it is tried."""
        self._source.ended(self._held, DeadLetter(code, message, self.job.membership, self.job.name))
        return True

    def put_aside(self) -> None:
        self._source.ended(self._held, "not_ready")
