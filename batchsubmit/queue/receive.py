"""Receives messages and sorts them: a job into its lane, a manifest opened, what can never work to the dead letters.

What is received is held and kept hidden until its job is decided, however long its lane is full: a wait spends no
receives. Only at `worker.max_held_messages` do some of the fullest lane go back, in case other lanes stand behind them.
One long poll at a time. A poll under way is never cancelled: what it brings after the end is handed back at once.
"""

import asyncio
from collections.abc import Callable

import structlog

from batchsubmit.core.states import Action
from batchsubmit.manifest.file import FetchError
from batchsubmit.queue.acks import Return, delay_seconds, give_up, is_old, put_back
from batchsubmit.queue.client import QueueBusyError
from batchsubmit.queue.held import HeldJob, Place
from batchsubmit.queue.manifest_message import ManifestMessage, expand
from batchsubmit.queue.message import Message, MessageReader, Nothing, Pointer, Poison, Request
from batchsubmit.queue.open import QueueParts
from batchsubmit.queue.send import MOST_ENTRIES

_SEARCH_SECONDS = 5.0
"""How often ten messages are exchanged while as many are held as may be: 0.4 calls a second beside the heartbeat."""


class Receiver:
    """The receiving loop. `on_change` is called when there is something to take or to look up."""

    def __init__(
        self,
        site: QueueParts,
        judge: MessageReader,
        expansions: dict[str, ManifestMessage],
        on_change: Callable[[], None],
    ) -> None:
        self._site = site
        self._judge = judge
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._expansions = expansions
        self.is_closing = False
        self._log = structlog.get_logger("batchsubmit").bind(queue=site.queue.url)

    def wake(self) -> None:
        """A message that was held is gone."""
        self._wake.set()

    def close(self) -> None:
        """Receive no more: the poll under way is the last."""
        self.is_closing = True
        self._wake.set()

    async def run(self) -> None:
        """Receive until closed, then hand back what waits. Raises StoppedError, where queue or ledger give out."""
        while not self.is_closing:
            room = self._site.settings.worker.max_held_messages - len(self._site.stock.custody)
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
            async with asyncio.timeout(_SEARCH_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            site = self._site
            if not site.terms.is_fifo:  # a message that goes back there stands before all of its group
                dropped = [site.stock.drop(each) for each in site.stock.last_of_fullest(MOST_ENTRIES)]
                messages = [each for messages in dropped for each in messages]
                await site.hand_back.set_aside(map(self._delayed, messages), site.clock.monotonic())

    def _delayed(self, message: Message) -> Return:
        worker, terms, now = self._site.settings.worker, self._site.terms, self._site.clock.now().timestamp()
        seconds = delay_seconds(message, first=worker.visibility_timeout_seconds, most=worker.max_delay_seconds)
        return put_back(message, seconds, terms=terms, now=now)

    async def _poll(self, count: int) -> None:
        site = self._site
        began = site.clock.monotonic()
        try:
            messages = await site.queue.receive(
                count,
                visibility_seconds=site.settings.worker.visibility_timeout_seconds,
                wait_seconds=site.settings.worker.wait_seconds,
                is_over=lambda: self.is_closing,
            )
        except QueueBusyError:
            return  # closing: nobody waits for SQS to come round any more
        site.counters.received += len(messages)
        site.counters.redelivered += sum(each.receives > 1 for each in messages)
        if self.is_closing:
            await self._give_up(messages)
            return
        await self._sort(messages, began)

    async def _sort(self, messages: list[Message], at: float) -> None:
        """Give each message its place."""
        requests: list[tuple[Message, Request]] = []
        for message in messages:
            self._site.hand_back.received(message.id)
            match self._judge.judge(message):
                case Request() as request:
                    requests.append((message, request))
                case Pointer() as pointer:
                    await self._open(pointer, message, at)
                case Poison() as poison:
                    await self._site.poison.dispose(message, poison)
                case Nothing():
                    self._site.removal.add(message.receipt)
        actions = await self._site.books.standing([request.job.key for _, request in requests])
        over = [
            each
            for (message, request), action in zip(requests, actions, strict=True)
            if (each := self._place(message, request, action, at)) is not None
        ]
        await self._site.hand_back.send(over)
        self._on_change()

    def _place(self, message: Message, request: Request, action: Action, at: float) -> Return | None:
        """Put a job where it belongs; gives the message back where the queue would soon drop it."""
        site, job = self._site, request.job
        holding = site.stock.get(job.key)
        if holding is not None:
            site.counters.copies += message.id not in holding.messages
            site.stock.take_in(holding, message, at)
            return None
        if action in {Action.NOTHING, Action.LEAVE_FAILED}:
            site.counters.recognised += 1
            self._log.info("message.recognised", job=job.key, message=message.id)
            site.removal.add(message.receipt)
            return None
        holding = HeldJob(job.key, job.membership, job)
        if action is Action.LOOK_UP:
            site.stock.shelve(holding, first=True)  # its slot, if the service has it, is taken already: find out soon
        elif site.hand_back.may_renew and is_old(message, site.terms, site.clock.now().timestamp()):
            return Return(message, 0, renew=True)
        else:
            site.stock.shelve(holding)
        site.stock.take_in(holding, message, at)
        return None

    async def _open(self, pointer: Pointer, message: Message, at: float) -> None:
        """Open the manifests of a pointer, or add the message to those that are open."""
        site = self._site
        holding = site.stock.get(pointer.key) or HeldJob(pointer.key, "", None, Place.EXPANDED)
        site.stock.take_in(holding, message, at)
        former = self._expansions.get(pointer.key)
        if former is not None and former.is_busy:
            return
        if former is not None:
            # Its rows are all taken, and some are not decided: what became of those is looked at again.
            await self._expansions.pop(pointer.key).close()
        try:
            found = await expand(pointer, site.settings, region=site.region, books=site.books)
        except FetchError as exc:
            self._log.warning("manifest.not_fetched", message=message.id, reason=str(exc))
            site.stock.drop(holding)
            await site.hand_back.send([self._delayed(message)])
            return
        if isinstance(found, Poison):
            site.stock.drop(holding)
            await site.poison.dispose(message, found)
            return
        self._expansions[pointer.key] = found
        self._log.info("manifest.opened", message=message.id, jobs=found.waiting_jobs())

    async def hand_back_all(self, *, also_taken: bool = False) -> None:
        """Make every message visible again, but for those with the engine, so that others may have it at once."""
        stock = self._site.stock
        messages = [
            each for holding in stock if also_taken or holding.place is not Place.TAKEN for each in stock.drop(holding)
        ]
        await self._give_up([*messages, *self._site.hand_back.set_aside_until_after(self._site.clock.monotonic())])

    async def _give_up(self, messages: list[Message]) -> None:
        now = self._site.clock.now().timestamp()
        await self._site.hand_back.send([give_up(each, terms=self._site.terms, now=now) for each in messages])
