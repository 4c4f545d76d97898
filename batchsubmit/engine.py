"""Many jobs: takes them from the source lane by lane, and keeps as many calls under way as slots and settings allow.

It decides nothing about a single job (`submitter` does) nor about who goes next (`slots` does); it only brings the two
together, and ends when nothing is left or the run is asked to stop.
"""

import asyncio
from contextlib import suppress
from typing import assert_never

from batchsubmit.clock import Clock
from batchsubmit.errors import StoppedError
from batchsubmit.slots import Lanes, Ticket
from batchsubmit.sources.delivery import Delivery, Source
from batchsubmit.stopping import Stop, StopReason
from batchsubmit.submitter import Submitter, Verdict


class Engine:
    """One run over one source."""

    def __init__(
        self,
        *,
        source: Source,
        submitter: Submitter,
        lanes: Lanes,
        stop: Stop,
        clock: Clock,
        concurrency: int,
    ) -> None:
        self._source = source
        self._submitter = submitter
        self._lanes = lanes
        self._stop = stop
        self._clock = clock
        self._concurrency = concurrency
        self._changed = asyncio.Event()
        self.under_way = 0
        stop.on_request(self._changed.set)

    def __repr__(self) -> str:
        return f"<Engine {self.under_way} under way, {self._source.waiting_jobs()} waiting, {self._stop!r}>"

    async def run(self) -> None:
        """Submit until nothing is left or the run stops; calls under way are awaited either way."""
        async with asyncio.TaskGroup() as calls:
            while not self._is_over:
                self._changed.clear()
                self._begin_calls(calls)
                await self._wait_for_change()

    @property
    def _is_over(self) -> bool:
        return self._stop.requested or not (self.under_way or self._source.waiting())

    def _begin_calls(self, calls: asyncio.TaskGroup) -> None:
        while self.under_way < self._concurrency and not self._stop.requested:
            ticket = self._lanes.next(self._source.waiting(), self._clock.monotonic())
            if ticket is None:
                return
            delivery = self._take(ticket)
            if delivery is not None:
                self.under_way += 1
                calls.create_task(self._carry(delivery, ticket), name=f"submit {delivery.job.key}")

    def _take(self, ticket: Ticket) -> Delivery | None:
        try:
            return self._source.take(ticket.membership)
        except StoppedError as exc:
            self._lanes.ended(ticket)
            self._stop.request(StopReason.MANIFEST, str(exc))
            return None

    async def _wait_for_change(self) -> None:
        """Sleep until a call ends, a closed lane opens or the run is asked to stop."""
        if self._is_over:
            return
        wake_at = None
        if self.under_way < self._concurrency:
            wake_at = self._lanes.wake_at(self._source.waiting())
        wait = None if wake_at is None else max(wake_at - self._clock.monotonic(), 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()

    async def _carry(self, delivery: Delivery, ticket: Ticket) -> None:
        """See one job through and tell lanes and source what became of it."""
        try:
            verdict = await self._submitter.submit(delivery.job)
        except StoppedError as exc:
            self._stop.request(StopReason.LEDGER, str(exc))
            verdict = Verdict.WITHDRAWN
        finally:
            self.under_way -= 1
            self._changed.set()
        match verdict:
            case Verdict.SUBMITTED:
                self._lanes.accepted(ticket)
                delivery.done()
            case Verdict.FAILED:
                self._lanes.ended(ticket)
                delivery.failed()
            case Verdict.UNKNOWN:
                # Kept by the ledger: the lookup, not the source, decides what becomes of it.
                self._lanes.ended(ticket)
            case Verdict.NO_SLOT:
                self._lanes.refused(ticket, self._clock.monotonic())
                delivery.released()
            case Verdict.WITHDRAWN:
                self._lanes.ended(ticket)
                delivery.released()
            case _:
                assert_never(verdict)
