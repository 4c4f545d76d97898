"""Receives messages, and gives each its place: in its lane, with a job in hand, back to the queue, or among the poison.

One long poll at a time. A poll under way is never cancelled: what it brings after the end is handed back at once.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from batchsubmit.sources.spool import FetchError
from batchsubmit.sources.sqs.expansion import Expansion, expand
from batchsubmit.sources.sqs.message import Judge, Message, Nothing, Pointer, Poison, Request
from batchsubmit.sources.sqs.returns import MOST_REMEMBERED, Return, delay_seconds, give_up, is_old, put_back
from batchsubmit.sources.sqs.site import Site
from batchsubmit.sources.sqs.stock import Holding, Place
from batchsubmit.sources.sqs.trouble import QueueBusyError
from batchsubmit.states import Action


class Intake:
    """The receiving loop. `on_change` is called when there is something to take or to look up."""

    def __init__(
        self, site: Site, judge: Judge, expansions: dict[str, Expansion], on_change: Callable[[], None]
    ) -> None:
        self._site = site
        self._judge = judge
        self._on_change = on_change
        self._away = site.away
        self._wake = asyncio.Event()
        self._expansions = expansions
        self.is_closing = False
        self._log = structlog.get_logger("batchsubmit").bind(queue=site.queue.url)

    def wake(self) -> None:
        """A lane has more room."""
        self._wake.set()

    def close(self) -> None:
        """Receive no more: the poll under way is the last."""
        self.is_closing = True
        self._wake.set()

    async def run(self) -> None:
        """Receive until closed, then hand back what waits. Raises StoppedError, where queue or ledger give out."""
        while not self.is_closing:
            await self._call_back()
            now = self._site.clock.monotonic()
            if len(self._away) >= MOST_REMEMBERED:
                self._away.forget_past(now)
            may_search = len(self._away) < MOST_REMEMBERED
            count = self._site.appetite.wanted(self._waiting(), now, may_search=may_search)
            if count:
                await self._poll(count)
            else:
                await self._pause()
        await self.hand_back_all()

    async def _pause(self) -> None:
        """Wait for room in a lane, or for the next search."""
        wait = max(self._site.appetite.wake_at() - self._site.clock.monotonic(), 0.05)
        self._wake.clear()
        if not self.is_closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def _waiting(self) -> dict[str, int]:
        """Jobs waiting by lane; rows of a manifest fill their lane as far as the appetite is concerned."""
        site = self._site
        waiting = site.stock.waiting()
        now = site.clock.monotonic()
        for expansion in self._expansions.values():
            for lane in expansion.waiting():
                waiting[lane] = waiting.get(lane, 0) + site.appetite.target(lane, now)
        return waiting

    async def _call_back(self) -> None:
        """Make messages of lanes that run dry visible again, which were put back with a delay."""
        now = self._site.clock.monotonic()
        hungry = self._site.appetite.hungry(self._waiting(), now)
        called = [each for lane, count in hungry.items() for each in self._away.call_back(lane, count, now)]
        if called:
            await self._site.hand_back.send([Return(each, 0) for each in called])

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
        site.appetite.searched(site.clock.monotonic(), found=len(messages))

    async def _sort(self, messages: list[Message], at: float) -> None:
        """Give each message its place."""
        requests: list[tuple[Message, Request]] = []
        for message in messages:
            self._away.came(message.id)
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
        """Put a job where it belongs; gives the message back where its lane is full."""
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
        holding = Holding(job.key, job.membership, job)
        if action is Action.LOOK_UP:
            site.stock.shelve(holding, first=True)  # its slot, if the service has it, is taken already: find out soon
        elif site.hand_back.may_renew and is_old(message, site.terms, site.clock.now().timestamp()):
            return Return(message, 0, renew=True)
        elif site.terms.is_fifo or site.appetite.has_room(job.membership, self._waiting(), at):
            site.stock.shelve(holding)
        else:
            return self._send_away(message, job.membership)
        site.stock.take_in(holding, message, at)
        return None

    def _send_away(self, message: Message, lane: str) -> Return:
        """Choose how long a message of a full lane is away, and remember it, to call it back if need be."""
        site, now = self._site, self._site.clock.monotonic()
        worker = site.settings.worker
        seconds = delay_seconds(
            message,
            first=worker.visibility_timeout_seconds,
            most=max(worker.max_delay_seconds, 1),
        )
        back = put_back(message, seconds, terms=site.terms, now=site.clock.now().timestamp())
        if not (back.renew and site.hand_back.may_renew):
            self._away.went(lane, message, now + seconds)
        return back

    async def _open(self, pointer: Pointer, message: Message, at: float) -> None:
        """Open the manifests of a pointer, or add the message to those that are open."""
        site = self._site
        holding = site.stock.get(pointer.key) or Holding(pointer.key, "", None, Place.EXPANDED)
        site.stock.take_in(holding, message, at)
        former = self._expansions.get(pointer.key)
        if former is not None and former.is_busy:
            return
        if former is not None:
            # Its rows are all taken, and some are not decided: what became of those is looked at anew.
            await self._expansions.pop(pointer.key).close()
        try:
            found = await expand(pointer, site.settings, region=site.region, books=site.books)
        except FetchError as exc:
            self._log.warning("manifest.not_fetched", message=message.id, reason=str(exc))
            seconds = delay_seconds(
                message,
                first=site.settings.worker.visibility_timeout_seconds,
                most=site.settings.worker.max_delay_seconds,
            )
            site.stock.drop(holding)
            await site.hand_back.send([Return(message, seconds)])
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
        await self._give_up([*messages, *self._away.call_back_all(self._site.clock.monotonic())])

    async def _give_up(self, messages: list[Message]) -> None:
        now = self._site.clock.now().timestamp()
        await self._site.hand_back.send([give_up(each, terms=self._site.terms, now=now) for each in messages])
