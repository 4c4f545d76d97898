"""The loop of a run: takes jobs from the source lane by lane, and keeps as many calls under way as may be.

A single job is run by `job_run`; `slots` decides who goes next and when to poll, and `poller` makes the polls. The loop
ends when nothing is left or the run is asked to stop.
"""

import asyncio
import math
from collections.abc import Collection, Iterable
from contextlib import suppress

from batchsubmit.core.source import Delivery
from batchsubmit.core.states import JobState
from batchsubmit.errors import StoppedError
from batchsubmit.slots import Poll, Ticket
from batchsubmit.submit.job_run import JobRunner
from batchsubmit.submit.stopping import StopReason


class Engine:
    """One run over one source."""

    def __init__(self, runner: JobRunner, *, most_in_progress: int) -> None:
        self._runner = runner
        self._source = runner.source
        self._poller = runner.poller
        self._inputs = runner.inputs
        self._slots = runner.slots
        self._stop = runner.stop
        self._clock = runner.clock
        self._in_progress = runner.in_progress
        self._holds = runner.holds
        self._most_in_progress = most_in_progress

    def __repr__(self) -> str:
        return f"<Engine {self.under_way} under way, {self._source.waiting_jobs()} waiting, {self._stop!r}>"

    @property
    def under_way(self) -> int:
        """Jobs in progress: calls, and attempts that wait for their turn."""
        return self._in_progress.jobs

    @property
    def looked_up(self) -> int:
        """Unknown jobs that are being looked up."""
        return self._in_progress.blocked.total() + self._in_progress.lookups

    @property
    def undecided(self) -> dict[str, str]:
        """The jobs that stay unknown, by key, and why."""
        return self._in_progress.undecided

    def held_lanes(self) -> dict[str, str]:
        """The lanes that a quota other than that of slots holds: its name and value by membership."""
        return self._holds.words

    @property
    def waits_for(self) -> dict[str, str]:
        """The inputs that jobs still waited for at the end, and their status."""
        return self._inputs.unfinished if self._inputs else {}

    async def run(self, left_unknown: Iterable[JobState] = ()) -> None:
        """Look up what an earlier run left unknown, and submit until nothing is left or the run stops.

        A lane with unknown jobs waits for their lookup; calls under way are awaited in any case.
        """
        self._source.listen(self._in_progress.changed.set)
        async with asyncio.TaskGroup() as tasks:
            for state in left_unknown:
                self._in_progress.blocked[state.membership] += 1
                tasks.create_task(self._runner.settle(state, tasks), name=f"settle {state.job}")
            while not self._is_over:
                self._in_progress.changed.clear()
                # One moment for all questions of a turn: what came due between two of them would be overlooked.
                now = self._clock.monotonic()
                self._begin_calls(tasks, now)
                self._begin_polls(tasks, now)
                await self._wait_for_change(now)
        await self._runner.settle_at_end()
        self._stop_where_held()

    @property
    def _is_over(self) -> bool:
        return self._stop.requested or not (
            self._in_progress.is_anything or self._open_lanes() or self._is_following or self._source.is_open
        )

    def _stop_where_held(self) -> None:
        """Say why, where only jobs are left that a quota holds."""
        waiting = self._source.waiting()
        held = [f"{quota} in membership {name}" for name, quota in self._holds.words.items() if name in waiting]
        if held:
            words = f"all that is left is held by a quota that is not one of slots: {', '.join(held)}"
            self._stop.request(StopReason.HELD, words)

    @property
    def _is_following(self) -> bool:
        return self._poller.follows and self._slots.running_of_ours() > 0

    def _open_lanes(self, now: float = -math.inf) -> Collection[str]:
        """The lanes that go on: at a given time those of which it is time to try the quota that holds them, too."""
        waiting = self._source.waiting()
        if not (self._in_progress.blocked or self._holds):
            return waiting
        return [name for name in waiting if name not in self._in_progress.blocked and self._holds.may_call(name, now)]

    def _begin_calls(self, tasks: asyncio.TaskGroup, now: float) -> None:
        if self._runner.denials.stops_run:
            if not self._in_progress.is_anything:  # else a call under way may yet show that it was the rows
                self._runner.stop_for_denials()
            return
        while self._in_progress.jobs < self._most_in_progress and not self._stop.requested:
            ticket = self._slots.next(self._open_lanes(now), now) if self._may_take else None
            if ticket is None:
                return
            delivery = self._take(ticket)
            if delivery is not None and self._has_to_wait(delivery, ticket, tasks):
                return
            if delivery is not None:
                self._in_progress.jobs += 1
                self._holds.called(ticket.membership)
                work = self._runner.run(delivery, ticket, tasks)
                tasks.create_task(work, name=f"submit {delivery.job.key}")

    @property
    def _may_take(self) -> bool:
        return self._inputs is None or self._inputs.has_room

    def _has_to_wait(self, delivery: Delivery, ticket: Ticket, tasks: asyncio.TaskGroup) -> bool:
        """Keep a job whose input is not ready. Others run before the next one is taken: there may be very many."""
        if self._inputs is None or not self._inputs.keep(delivery, tasks, self._in_progress):
            return False
        self._slots.ended(ticket)
        asyncio.get_running_loop().call_soon(self._in_progress.changed.set)
        return True

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
        await self._in_progress.unless_ledger_fails(self._poller.poll(poll, self._in_progress.changed.set))
        self._in_progress.changed.set()

    async def _wait_for_change(self, now: float) -> None:
        """Sleep until a call ends, a poll or a try comes due, or the run is asked to stop."""
        if self._is_over:
            return
        moments = (self._slots.wake_at(now), self._holds.wake_at(self._source.waiting(), now))
        if self._runner.denials.stops_run:
            moments = (None, None)  # nothing begins before the calls under way are answered
        wake_at = min((each for each in moments if each is not None), default=None)
        wait = None if wake_at is None else max(wake_at - self._clock.monotonic(), 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._in_progress.changed.wait()
