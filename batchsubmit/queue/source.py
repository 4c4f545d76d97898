"""A queue as a source of jobs: what the engine sees of it. The work is done by `intake`, `keeper` and `removal`.

A message is deleted once its job is decided and the ledger has that on the disk, and not before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from batchsubmit.core.jobs import Job
from batchsubmit.core.source import Delivery
from batchsubmit.core.states import Action
from batchsubmit.errors import StoppedError
from batchsubmit.queue.heartbeat import Heartbeat
from batchsubmit.queue.held import HeldJob, Place
from batchsubmit.queue.manifest_message import ManifestMessage
from batchsubmit.queue.message import MessageReader, Poison
from batchsubmit.queue.open import QueueParts
from batchsubmit.queue.receive import Receiver
from batchsubmit.schema.arns import account_of_membership


class SqsSource:
    """Hands out the jobs of a queue; use `open`, which also drains it."""

    def __init__(self, site: QueueParts, judge: MessageReader, on_trouble: Callable[[StoppedError], None]) -> None:
        self._site = site
        self._stock = site.stock
        self._on_trouble = on_trouble
        self._listeners: list[Callable[[], None]] = []
        self._taken: set[str] = set()
        self._expansions: dict[str, ManifestMessage] = {}
        self._intake = Receiver(site, judge, self._expansions, self._changed)
        self._keeper = Heartbeat(site, self._expansions)

    def __repr__(self) -> str:
        return f"<SqsSource {self.waiting_jobs()} waiting, {len(self._taken)} taken, {len(self._stock.custody)} held>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls, site: QueueParts, judge: MessageReader, on_trouble: Callable[[StoppedError], None]
    ) -> AsyncIterator["SqsSource"]:
        """Begin to receive; at the end await the poll under way, hand back what was not taken and delete what is done.

        `on_trouble` is told where queue or ledger can no longer be relied on.
        """
        source = cls(site, judge, on_trouble)
        async with asyncio.TaskGroup() as tasks:
            removing = tasks.create_task(site.removal.run(), name="queue removal")
            receiving = tasks.create_task(source._receive(), name="queue intake")
            tasks.create_task(source._keep(), name="queue keeper")
            yield source
            source.close()
            await receiving
            await source._drain()
            source._keeper.close()
            site.removal.close()
            await removing

    async def _receive(self) -> None:
        try:
            await self._intake.run()
        except StoppedError as exc:
            self._on_trouble(exc)
        finally:
            self._intake.close()
            self._changed()

    async def _keep(self) -> None:
        try:
            await self._keeper.run(self._finish, self._ready)
        except StoppedError as exc:
            self._on_trouble(exc)

    async def _drain(self) -> None:
        try:
            await self._intake.hand_back_all(also_taken=True)
        except StoppedError as exc:
            self._on_trouble(exc)
        for expansion in self._expansions.values():
            await expansion.close()

    def close(self) -> None:
        """Receive no more; what waits goes back to the queue once the poll under way is over."""
        self._intake.close()

    @property
    def is_open(self) -> bool:
        """Whether more jobs may come."""
        return not self._intake.is_closing

    def listen(self, callback: Callable[[], None]) -> None:
        """Call this whenever there may be something new to take or to look up."""
        self._listeners.append(callback)

    def _changed(self) -> None:
        self._keeper.wake()
        for callback in self._listeners:
            callback()

    def waiting(self) -> Collection[str]:
        """The memberships that have a job to take now."""
        lanes: Collection[str] = self._stock.lanes.keys()
        for expansion in self._expansions.values():
            lanes = {*lanes, *expansion.waiting()}
        return lanes

    def waiting_jobs(self) -> int:
        """Jobs in hand that were not taken."""
        return len(self._stock) + sum(each.waiting_jobs() for each in self._expansions.values())

    def oldest_seconds(self) -> float:
        """For how long the oldest message in hand has been in its queue."""
        now = self._site.clock.now().timestamp()
        sent = (message.sent_at for holding in self._stock for message in holding.messages.values())
        return max(now - min(sent, default=now), 0.0)

    def account_of(self, membership: str) -> str:
        """The account of a membership that has a job here, by the ARNs that are of the membership."""
        lane = self._stock.lanes.get(membership)
        if lane and lane[0].job is not None and (account := account_of_membership(lane[0].job.request)):
            return account
        found = (each.accounts.get(membership) for each in self._expansions.values())
        return next(filter(None, found), "")

    @property
    def held(self) -> int:
        """Messages in hand."""
        return len(self._stock.custody)

    def waiting_by_lane(self) -> dict[str, int]:
        """How many messages' jobs of each membership wait."""
        return self._stock.waiting()

    def held_back(self) -> Collection[str]:
        """The keys of jobs that a message asks for and that another of this worker's messages or rows has in hand."""
        return [each.key for each in self._stock.held_back()]

    def take(self, membership: str) -> Delivery | None:
        """Take the next job; None where the one whose turn it was needs no call any more. Raises StoppedError."""
        if membership in self._stock.lanes:
            return self._take_message(membership)
        expansion = next(each for each in self._expansions.values() if membership in each.waiting())
        row = expansion.take(membership)
        if self._may_start(row.job.key):
            self._taken.add(row.job.key)
            return _RowDelivery(self, expansion, row)
        # A message of the same job came first; whether all are decided is looked at when no row is left.
        expansion.under_way -= 1
        return None

    def _take_message(self, membership: str) -> "_MessageDelivery | None":
        holding = self._stock.next(membership)
        if self._may_start(holding.key) and holding.job is not None:
            self._taken.add(holding.key)
            return _MessageDelivery(self, holding, holding.job)
        holding.place = Place.HELD_BACK  # the keeper finds out what became of the job
        self._keeper.wake()
        return None

    def _may_start(self, key: str) -> bool:
        return key not in self._taken and self._site.books.standing_now(key) in {Action.SUBMIT, Action.LOOK_UP}

    def request_of(self, key: str) -> Mapping[str, Any] | None:
        """Give the request of a job that is held back, if one of the messages in hand has it."""
        holding = self._stock.get(key)
        if holding is not None and holding.job is not None:
            return holding.job.request
        found = (expansion.request_of(key) for expansion in self._expansions.values())
        return next((request for request in found if request is not None), None)

    def reinstate(self, key: str) -> None:
        """Let a job be taken that was held back; one whose message is not in hand comes with its next delivery."""
        holding = self._stock.get(key)
        if holding is not None and holding.place is Place.HELD_BACK:
            self._ready(holding)
            return
        for expansion in self._expansions.values():
            expansion.reinstate(key)

    def _ready(self, holding: HeldJob) -> None:
        if holding.key not in self._taken:
            self._stock.shelve(holding, first=True)
            self._changed()

    async def _finish(self, holding: HeldJob) -> None:
        """Take leave of a job that somebody else decided."""
        self._site.counters.recognised += holding.job is not None
        self._delete(holding)

    def _delete(self, holding: HeldJob) -> None:
        for message in self._stock.drop(holding):
            self._site.removal.add(message.receipt)

    def decided(self, job: Job) -> None:
        """A job that was taken is durably decided."""
        self._taken.discard(job.key)
        holding = self._stock.get(job.key)
        if holding is not None:
            self._delete(holding)
        self._intake.wake()

    def put_back(self, holding: HeldJob) -> None:
        """A job that was taken goes back to the head of its lane."""
        self._taken.discard(holding.key)
        self._stock.shelve(holding, first=True)

    def set_aside(self, holding: HeldJob, place: Place) -> None:
        """A job that was taken can be neither sent nor decided now: its messages go back for long, or with all."""
        self._taken.discard(holding.key)
        if not self._intake.is_closing:
            holding.place = place
            self._keeper.wake()

    def dead_letter(self, holding: HeldJob, code: str, message: str) -> None:
        """The service denied a job that was taken: its messages go to the dead-letter queue, or back for long."""
        self._taken.discard(holding.key)
        job = holding.job
        if job is not None and not self._intake.is_closing:
            holding.place, holding.poison = Place.DENIED, Poison(code, message, job.membership, job.name)
            self._keeper.wake()

    def let_go(self, key: str) -> None:
        """A row that was taken is no longer under way."""
        self._taken.discard(key)
        self._keeper.wake()


class _MessageDelivery:
    """The job of one message, or of several."""

    def __init__(self, source: SqsSource, holding: HeldJob, job: Job) -> None:
        self.job = job
        self._source = source
        self._holding = holding

    def done(self) -> None:
        """Delete the messages."""
        self._source.decided(self.job)

    def failed(self) -> None:
        """Delete the messages: the ledger has the failure, and another delivery would change nothing."""
        self._source.decided(self.job)

    def released(self) -> None:
        """Back to the head of its lane."""
        self._source.put_back(self._holding)

    def held(self) -> None:
        """Back to the queue for a long while."""
        self._source.set_aside(self._holding, Place.OVER_QUOTA)

    def denied(self, code: str, message: str) -> bool:
        """To the dead-letter queue. The ledger has the message as failed, and not the job: moved back, it is tried."""
        self._source.dead_letter(self._holding, code, message)
        return True

    def put_aside(self) -> None:
        """Back to the queue, for longer each time."""
        self._source.set_aside(self._holding, Place.NOT_READY)

    def left_unknown(self) -> None:
        """Back to the queue for a long while."""
        self._source.set_aside(self._holding, Place.UNKNOWN)


class _RowDelivery:
    """The job of one row of a manifest that a message points to."""

    def __init__(self, source: SqsSource, expansion: ManifestMessage, row: Delivery) -> None:
        self.job = row.job
        self._source = source
        self._expansion = expansion
        self._row = row

    def done(self) -> None:
        """The manifest's message goes once all rows are decided."""
        self._row.done()
        self._end()
        self._source.decided(self.job)

    def failed(self) -> None:
        """The same."""
        self._row.failed()
        self._end()
        self._source.decided(self.job)

    def released(self) -> None:
        """Back to the head of its lane."""
        self._row.released()
        self._end()

    def held(self) -> None:
        """Back to the head of its lane, which nobody takes from for a while."""
        self.released()

    def denied(self, code: str, message: str) -> bool:
        """The row is recorded as failed like that of a file; the manifest's other rows go on."""
        del code, message
        return False

    def put_aside(self) -> Callable[[], None]:
        """Keep the row; the manifest's message stays in hand meanwhile."""
        put_back = self._row.put_aside()

        def release() -> None:
            if put_back is not None:
                put_back()
            self._end()

        return release

    def left_unknown(self) -> None:
        """The manifest's message goes back for a long while, once its other rows are decided."""
        self._row.left_unknown()
        self._expansion.has_unknown = True
        self._end()

    def _end(self) -> None:
        self._expansion.under_way -= 1
        self._source.let_go(self.job.key)
