"""Begins what may begin: takes jobs from the source lane by lane, and keeps as many calls under way as may be.

It decides nothing about a single job (`carrying` sees it through), nor about who goes next and when to poll (`slots`
does), nor what a poll has seen (`watch` does); it ends when nothing is left or the run is asked to stop.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress

from batchsubmit.clock import Clock
from batchsubmit.engine.carrying import Carrier
from batchsubmit.engine.crew import Crew, Limits
from batchsubmit.engine.settling import Settler
from batchsubmit.engine.underway import UnderWay
from batchsubmit.errors import StoppedError
from batchsubmit.slots import Poll, Slots, Ticket
from batchsubmit.sources.delivery import Delivery, Source
from batchsubmit.states import JobState
from batchsubmit.stopping import Stop, StopReason


class Engine:
    """One run over one source."""

    def __init__(self, *, source: Source, crew: Crew, slots: Slots, stop: Stop, clock: Clock, limits: Limits) -> None:
        self._source = source
        self._watcher = crew.watcher
        self._slots = slots
        self._stop = stop
        self._clock = clock
        self._most_in_hand = limits.in_hand
        self._doing = doing = UnderWay(stop)
        carrier = Carrier(crew=crew, slots=slots, stop=stop, clock=clock, limits=limits, under_way=doing)
        self._carrier = carrier
        self._settler = Settler(source=source, crew=crew, carrier=carrier, stop=stop, limits=limits, under_way=doing)

    def __repr__(self) -> str:
        return f"<Engine {self.under_way} under way, {self._source.waiting_jobs()} waiting, {self._stop!r}>"

    @property
    def under_way(self) -> int:
        """Jobs taken in hand: calls, and tries that wait for their turn."""
        return self._doing.in_hand

    @property
    def undecided(self) -> dict[str, str]:
        """The jobs that stay unknown, by key, and why."""
        return self._doing.undecided

    async def run(self, left_unknown: Iterable[JobState] = ()) -> None:
        """Poll up what an earlier run left unknown, and submit until nothing is left or the run stops.

        A lane with unknown jobs waits for their lookup; calls under way are awaited in any case.
        """
        self._source.listen(self._doing.ring)
        async with asyncio.TaskGroup() as tasks:
            for state in left_unknown:
                self._doing.block(state.membership)
                tasks.create_task(self._settler.settle(state, tasks), name=f"settle {state.job}")
            while not self._is_over:
                self._doing.hear()
                # One moment for all questions of a turn: what came due between two of them would be overlooked.
                now = self._clock.monotonic()
                self._begin_calls(tasks, now)
                self._begin_polls(tasks, now)
                await self._wait_for_change(now)

    @property
    def _is_over(self) -> bool:
        return self._stop.requested or not (
            self._doing.is_anything or self._open_lanes() or self._is_following or self._source.is_open
        )

    @property
    def _is_following(self) -> bool:
        return self._watcher.follows and self._slots.has_ours_running

    def _open_lanes(self) -> Collection[str]:
        waiting = self._source.waiting()
        if not self._doing.has_blocked_lanes:
            return waiting
        return [name for name in waiting if not self._doing.is_blocked(name)]

    def _begin_calls(self, tasks: asyncio.TaskGroup, now: float) -> None:
        while self._doing.in_hand < self._most_in_hand and not self._stop.requested:
            ticket = self._slots.next(self._open_lanes(), now)
            if ticket is None:
                return
            delivery = self._take(ticket)
            if delivery is not None:
                self._doing.in_hand += 1
                work = self._carrier.carry(delivery, ticket, tasks)
                tasks.create_task(work, name=f"submit {delivery.job.key}")

    def _take(self, ticket: Ticket) -> Delivery | None:
        delivery = None
        try:
            delivery = self._source.take(ticket.membership)
        except StoppedError as exc:
            self._stop.request(StopReason.MANIFEST, str(exc))
        if delivery is None:
            self._slots.ended(ticket)
        return delivery

    def _begin_polls(self, tasks: asyncio.TaskGroup, now: float) -> None:
        for poll in self._slots.due_polls(now):
            tasks.create_task(self._poll(poll), name=f"poll {poll.membership}")

    async def _poll(self, poll: Poll) -> None:
        with self._doing.stopping_on_ledger_trouble():
            await self._watcher.poll(poll, self._doing.ring)
        self._doing.ring()

    async def _wait_for_change(self, now: float) -> None:
        """Sleep until a call ends, a poll or a try comes due, or the run is asked to stop."""
        if self._is_over:
            return
        wake_at = self._slots.wake_at(now)
        wait = None if wake_at is None else max(wake_at - self._clock.monotonic(), 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._doing.wait()
