"""A queue as a source of jobs: what the engine sees of it. Receiver, heartbeat and acknowledgements do the work.

A message is deleted once its job is decided and the ledger has that on the disk, and not before.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from batchsubmit.core.jobs import Job
from batchsubmit.core.source import Delivery
from batchsubmit.core.states import Action
from batchsubmit.errors import StoppedError
from batchsubmit.manifest.source import ManifestDelivery
from batchsubmit.queue.heartbeat import Heartbeat
from batchsubmit.queue.held import HeldJob, HeldStatus
from batchsubmit.queue.manifest_message import ManifestMessage
from batchsubmit.queue.message import DeadLetter, MessageReader
from batchsubmit.queue.open import QueueParts
from batchsubmit.queue.receive import Receiver
from batchsubmit.schema.arns import account_of_membership


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

    def account_of(self, membership: str) -> str:
        """The account of a membership that has a job here, by the ARNs that are of the membership."""
        lane = self._held.lanes.get(membership)
        if lane and lane[0].job is not None and (account := account_of_membership(lane[0].job.request)):
            return account
        return next(filter(None, (each.accounts.get(membership) for each in self._manifests.values())), "")

    def take(self, membership: str) -> Delivery | None:
        """Take the next job; None where the next needs no call any more. Raises StoppedError."""
        if membership in self._held.lanes:
            return self._take_message(membership)
        manifest = next(each for each in self._manifests.values() if membership in each.waiting())
        row = manifest.take(membership)
        if self._may_start(row.job.key):
            return _RowDelivery(self, manifest, row)
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

    def decided(self, key: str) -> None:
        """Delete the messages of a job that was taken and is durably decided."""
        self._held.taken.discard(key)
        if held := self._held.jobs.get(key):
            for message in self._held.drop(held):
                self._parts.acks.delete(message)
        self._receiver.wake()

    def put_back(self, held: HeldJob) -> None:
        """Put a job that was taken back to the head of its lane."""
        self._held.taken.discard(held.key)
        self._held.put_in_lane(held, first=True)

    def set_aside(self, held: HeldJob, status: HeldStatus) -> None:
        """Let the heartbeat return a job that was taken and can be neither sent nor decided now."""
        if self.is_open:  # else it goes back with all others
            held.status = status
        self.let_go(held.key)

    def let_go(self, key: str) -> None:
        """A job that was taken is no longer under way."""
        self._held.taken.discard(key)
        self._heartbeat.wake()


class _MessageDelivery:
    """The job of one message, or of several."""

    def __init__(self, source: SqsSource, held: HeldJob, job: Job) -> None:
        self.job = job
        self._source = source
        self._held = held

    def done(self) -> None:
        self._source.decided(self.job.key)

    def failed(self) -> None:
        """Delete the messages: the ledger has the failure, and another delivery would change nothing."""
        self._source.decided(self.job.key)

    def released(self) -> None:
        self._source.put_back(self._held)

    def held(self) -> None:
        self._source.set_aside(self._held, HeldStatus.OVER_QUOTA)

    def denied(self, code: str, message: str) -> bool:
        """To the dead-letter queue. The ledger has the message as failed, and not the job: moved back, it is tried."""
        self._held.denial = DeadLetter(code, message, self.job.membership, self.job.name)
        self._source.set_aside(self._held, HeldStatus.DENIED)
        return True

    def put_aside(self) -> None:
        self._source.set_aside(self._held, HeldStatus.NOT_READY)

    def left_unknown(self) -> None:
        self._source.set_aside(self._held, HeldStatus.UNKNOWN)


class _RowDelivery:
    """The job of one row of a manifest, whose message is deleted once all rows are decided, and held meanwhile."""

    def __init__(self, source: SqsSource, manifest: ManifestMessage, row: ManifestDelivery) -> None:
        self.job = row.job
        self._source = source
        self._manifest = manifest
        self._row = row

    def done(self) -> None:
        self._end(self._row.done)

    def failed(self) -> None:
        self._end(self._row.failed)

    def released(self) -> None:
        self._end(self._row.released)

    def held(self) -> None:
        """Back to the head of its lane, which is not taken from for a while."""
        self.released()

    def denied(self, code: str, message: str) -> bool:
        """The row is recorded as failed like that of a file; the manifest's other rows go on."""
        del code, message
        return False

    def put_aside(self) -> Callable[[], None]:
        put_back = self._row.put_aside()
        return lambda: self._end(put_back)

    def left_unknown(self) -> None:
        """The manifest's message goes back for a long while, once its other rows are decided."""
        self._manifest.has_unknown = True
        self._end(self._row.left_unknown)

    def _end(self, report: Callable[[], None]) -> None:
        report()
        self._manifest.under_way -= 1
        self._source.let_go(self.job.key)
