"""Keeps what this worker holds: heartbeats, the 12-hour limit, and jobs whose fate somebody else finds out.

It runs beside the intake. Nothing that it fails to do makes a job wrong: a message that shows too early is delivered
again, and its job is recognised by key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from batchsubmit.core.states import Action
from batchsubmit.queue.acks import delay_seconds, put_back
from batchsubmit.queue.client import QueueBusyError
from batchsubmit.queue.held import Extension, HeldJob, Place
from batchsubmit.queue.manifest_message import ManifestMessage
from batchsubmit.queue.message import Message
from batchsubmit.queue.open import QueueParts
from batchsubmit.queue.send import MOST_ENTRIES
from batchsubmit.queue.settings import overdue

_GONE_CODES = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"})
_MOST_RECHECK_SECONDS = 5.0
_LEAST_PAUSE_SECONDS = 0.1
_WATCH_SECONDS = 300.0
_WHY = {
    Place.UNKNOWN: "message.undecided",
    Place.OVER_QUOTA: "message.over_quota",
    Place.NOT_READY: "message.not_ready",
}


class Heartbeat:
    """Watches over one stock."""

    def __init__(self, site: QueueParts, expansions: dict[str, ManifestMessage]) -> None:
        self._site = site
        self._stock = site.stock
        self._expansions = expansions
        self._wake = asyncio.Event()
        self._closing = False
        self._log = structlog.get_logger("batchsubmit").bind(queue=site.queue.url)

    def wake(self) -> None:
        """Something was taken in."""
        self._wake.set()

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._wake.set()

    async def run(self, on_decided: Callable[[HeldJob], Awaitable[None]], on_ready: Callable[[HeldJob], None]) -> None:
        """Keep, until closed.

        `on_decided` takes a holding whose job turned out to be decided, `on_ready` one whose job may be sent.
        Raises StoppedError where queue or ledger can no longer be relied on.
        """
        recheck_at = 0.0
        watch = _BacklogWatch(self._site)
        while not self._closing:
            self._wake.clear()  # whoever wakes us from here on has come too late for this turn
            await self._extend()
            await self._return_what_ends()
            await self._return_what_is_set_aside()
            await self._move_what_is_denied()
            now = self._site.clock.monotonic()
            if now >= recheck_at:
                await self._recheck(on_decided, on_ready)
                recheck_at = self._site.clock.monotonic() + self._recheck_seconds
            await watch.look()
            await self._pause(recheck_at)

    @property
    def _recheck_seconds(self) -> float:
        return min(_MOST_RECHECK_SECONDS, self._stock.custody.visibility_seconds / 4)

    async def _pause(self, recheck_at: float) -> None:
        """Sleep until something is due; without anything held, until something is taken in."""
        wake_at = self._stock.custody.wake_at()
        if self._expansions or self._stock.held_back():
            wake_at = min(recheck_at, recheck_at if wake_at is None else wake_at)
        wait = None if wake_at is None else max(wake_at - self._site.clock.monotonic(), _LEAST_PAUSE_SECONDS)
        if not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _extend(self) -> None:
        due = self._stock.custody.due(self._site.clock.monotonic())
        for start in range(0, len(due), MOST_ENTRIES):
            await self._extend_batch(due[start : start + MOST_ENTRIES])

    async def _extend_batch(self, batch: list[Extension]) -> None:
        at = self._site.clock.monotonic()
        try:
            failures = await self._site.queue.hide(batch)
        except QueueBusyError as exc:
            self._site.counters.extension_failures += len(batch)
            self._log.warning("queue.extension_failed", messages=len(batch), reason=str(exc))
            return
        for extension, code in zip(batch, failures, strict=True):
            if code is None:
                self._site.counters.extended += 1
                self._stock.custody.extended(extension, at)
            elif code in _GONE_CODES:
                self._site.counters.lost += 1
                self._stock.lose(extension.id)
                self._log.warning("message.lost", message=extension.id, code=code)
            else:
                self._site.counters.extension_failures += 1

    async def _return_what_ends(self) -> None:
        """Send what waits and can hardly be held longer again; what is under way stays to its end.

        On a FIFO queue, where a new message would stand behind its group, it is made visible instead: one receive.
        """
        now, today = self._site.clock.monotonic(), self._site.clock.now().timestamp()
        returns = []
        for message in self._stock.custody.ending(now):
            holding = self._stock.of_message(message)
            if holding is not None and holding.place is Place.TAKEN:
                if self._stock.custody.is_over(message, now):
                    self._stock.custody.let_go(message)
                continue
            lost = self._stock.lose(message)
            if lost is not None:
                back = put_back(lost, 0, terms=self._site.terms, now=today)
                returns.append(replace(back, renew=back.renew or not self._site.terms.is_fifo))
        if returns:
            self._log.info("queue.limit_reached", messages=len(returns))
            await self._site.hand_back.send(returns)

    async def _move_what_is_denied(self) -> None:
        """Record the messages of denied jobs and move them, each with its reason."""
        for holding in self._stock.denied():
            poison = holding.poison
            for message in self._stock.drop(holding):
                if poison is not None:
                    await self._site.poison.dispose(message, poison)

    async def _return_what_is_set_aside(self) -> None:
        """Hand back for long what can be neither sent nor decided now; when it comes again, that is tried again."""
        site = self._site
        today, now = site.clock.now().timestamp(), site.clock.monotonic()
        for holding in self._stock.set_aside():
            place = holding.place
            messages = self._stock.drop(holding)
            away = [(each, self._seconds_away(place, each)) for each in messages]
            returns = [put_back(each, seconds, terms=site.terms, now=today) for each, seconds in away]
            site.counters.undecided += len(returns) if place is Place.UNKNOWN else 0
            site.counters.over_quota += len(returns) if place is Place.OVER_QUOTA else 0
            log = self._log.info if place is Place.NOT_READY else self._log.warning
            log(_WHY[place], job=holding.key, messages=len(returns), seconds=max(seconds for _, seconds in away))
            await site.hand_back.set_aside(returns, now)

    def _seconds_away(self, place: Place, message: Message) -> int:
        worker = self._site.settings.worker
        first, most = worker.visibility_timeout_seconds, worker.max_delay_seconds
        if place is Place.NOT_READY:
            return delay_seconds(message, first=first, most=max(first, most))
        return max(first, most)

    async def _recheck(
        self, on_decided: Callable[[HeldJob], Awaitable[None]], on_ready: Callable[[HeldJob], None]
    ) -> None:
        """Look again at jobs that somebody else had in hand, and at manifests whose rows are all taken."""
        held_back = self._stock.held_back()
        if held_back:
            actions = await self._site.books.standing([each.key for each in held_back])
            for holding, action in zip(held_back, actions, strict=True):
                if holding.place is not Place.HELD_BACK:
                    continue
                if action in {Action.SUBMIT, Action.LOOK_UP}:
                    on_ready(holding)
                else:
                    await on_decided(holding)
        for key, expansion in list(self._expansions.items()):
            is_decided = await expansion.is_decided(self._site.books)
            is_over = is_decided or (expansion.has_unknown and not expansion.is_busy)
            if not is_over or self._expansions.get(key) is not expansion:
                continue
            del self._expansions[key]
            await expansion.close()
            pointer = self._stock.get(key)
            if pointer is not None and is_decided:
                await on_decided(pointer)
            elif pointer is not None:
                pointer.place = Place.UNKNOWN
                self.wake()


class _BacklogWatch:
    """Warns now and then where the backlog outlasts the queue's retention. An idle worker has none to look at."""

    def __init__(self, site: QueueParts) -> None:
        self._site = site
        self._looked_at = site.clock.monotonic()
        self._deleted = site.counters.deleted
        self._log = structlog.get_logger("batchsubmit").bind(queue=site.queue.url)

    async def look(self) -> None:
        """Compare, if it is time. Raises QueueError."""
        now, deleted = self._site.clock.monotonic(), self._site.counters.deleted
        if now < self._looked_at + _WATCH_SECONDS:
            return
        seconds, decided = now - self._looked_at, deleted - self._deleted
        self._looked_at, self._deleted = now, deleted
        try:
            terms = await self._site.queue.terms()
        except QueueBusyError:
            return
        self._site.counters.backlog = terms.backlog
        kept = terms.retention_seconds
        words = overdue(backlog=terms.backlog, decided=decided, seconds=seconds, retention_seconds=kept)
        if words:
            self._log.warning("queue.overdue", reason=words)
