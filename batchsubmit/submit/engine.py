"""The loop of a run: takes jobs from the source lane by lane, and keeps as many calls under way as may be.

`build_engine` puts one together, the same for a manifest, a queue and a test.

A single job is run by `job_run`; `slots` decides who goes next and when to poll, and `poller` makes the polls. The loop
ends when nothing is left or the run is asked to stop.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress

from batchsubmit.cleanrooms.api import JobsApi
from batchsubmit.cleanrooms.quotas import AppliedQuotas
from batchsubmit.cleanrooms.reads import Reads
from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.job_states import JobState, Retry
from batchsubmit.core.source import Source
from batchsubmit.pacing import Pace, RateGate
from batchsubmit.slots import Poll, Slots
from batchsubmit.submit.inputs import Inputs
from batchsubmit.submit.job_run import JobRunner
from batchsubmit.submit.lookup import Lookup
from batchsubmit.submit.poller import Poller
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import InProgress, Stop, StopReason
from batchsubmit.submit.submitter import Submitter


class Engine:
    """One run over one source; `gate` is that of its Start calls."""

    def __init__(self, runner: JobRunner, gate: RateGate, *, most_in_progress: int) -> None:
        self.gate = gate
        self.slots = runner.slots
        self.poller = runner.poller
        self.inputs = runner.inputs
        self.in_progress = runner.in_progress
        self.runner = runner
        self._source = runner.source
        self._stop = runner.stop
        self._clock = runner.recorder.clock
        self._most_in_progress = most_in_progress

    async def run(self, left_unknown: Iterable[JobState] = ()) -> None:
        """Look up what an earlier run left unknown, and submit until nothing is left or the run stops.

        A lane with unknown jobs waits for their lookup; calls under way are awaited in any case.
        """
        doing = self.in_progress
        self._source.listen(doing.changed.set)
        async with asyncio.TaskGroup() as tasks:
            for state in left_unknown:
                doing.blocked[state.membership] += 1
                tasks.create_task(self.runner.settle(state, tasks), name=f"settle {state.job}")
            while not self._is_over:
                doing.changed.clear()
                # One moment for all questions of a turn: what came due between two of them would be overlooked.
                now = self._clock.monotonic()
                self._begin_calls(tasks, now)
                for poll in self.slots.due_polls(now):
                    tasks.create_task(self._poll(poll), name=f"poll {poll.membership}")
                await self._wait_for_change(now)
        await self.runner.settle_at_end()
        self._stop_where_held()

    @property
    def _is_over(self) -> bool:
        if self._stop.requested or self.in_progress.is_anything:
            return self._stop.requested
        return self.runner.denials.stops_run or not (
            self._open_lanes(self.slots.other_quotas)
            or (self.slots.follows and any(self.slots.ours().values()))
            or self._source.is_open
        )

    def _stop_where_held(self) -> None:
        """Say why, where only jobs are left that a quota holds."""
        waiting = self._source.waiting()
        held = [f"{quota} in membership {name}" for name, quota in self.slots.other_quotas.items() if name in waiting]
        if held:
            words = f"all that is left is held by a quota that is not one of slots: {', '.join(held)}"
            self._stop.request(StopReason.HELD, words)

    def _open_lanes(self, held: Collection[str] = ()) -> Collection[str]:
        """The lanes with jobs that go on, without those that are `held`."""
        if self.runner.denials.stops_run:
            return ()  # unless a call under way shows that it was the rows
        waiting, closed = self._source.waiting(), {*self.in_progress.blocked, *held}
        return [name for name in waiting if name not in closed] if closed else waiting

    def _begin_calls(self, tasks: asyncio.TaskGroup, now: float) -> None:
        while self.in_progress.jobs < self._most_in_progress and not self._stop.requested:
            ticket = self.slots.next(self._open_lanes(), now) if self.inputs.has_room else None
            if ticket is None:
                return
            delivery = None
            with self._stop.on_error(StopReason.MANIFEST):
                delivery = self._source.take(ticket.membership)
            if delivery is None:
                self.slots.ended(ticket)
            elif self.inputs.keep(delivery, tasks, self.in_progress):
                # Others run before the next one is taken: very many may have to wait for their input.
                self.slots.ended(ticket)
                asyncio.get_running_loop().call_soon(self.in_progress.changed.set)
                return
            else:
                self.in_progress.jobs += 1
                self.slots.called(ticket)
                work = self.runner.run(delivery, ticket, tasks)
                tasks.create_task(work, name=f"submit {delivery.job.key}")

    async def _poll(self, poll: Poll) -> None:
        with self._stop.on_error(StopReason.LEDGER):
            await self.poller.poll(poll, self.in_progress.changed.set)
        self.in_progress.changed.set()

    async def _wait_for_change(self, now: float) -> None:
        """Sleep until a call ends, a poll or a try comes due, or the run is asked to stop."""
        if self._is_over:
            return
        wake_at = self.slots.wake_at(now)
        wait = None if wake_at is None else max(wake_at - self._clock.monotonic(), 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self.in_progress.changed.wait()


def build_engine(  # noqa: PLR0913 (each a collaborator, or an option of a command)
    source: Source,
    *,
    settings: Settings,
    api: JobsApi,
    recorder: Recorder,
    stop: Stop,
    quotas: AppliedQuotas | None = None,
    gate: RateGate | None = None,
    retry: Retry | None = None,
    resubmit_unknown: bool = False,
    follows: bool = False,
) -> Engine:
    """Build an engine for a source.

    `quotas` are those that Service Quotas gave, if it was asked, and `gate` is that of the engine before it in the same
    run. With `follows`, the engine goes on until the last job of ours has ended.
    """
    clock = recorder.clock
    gate = gate or open_gate(Pace(settings.rate.max_per_second), stop, clock)
    reads = open_reads(api, settings, stop, clock)
    quotas = quotas or AppliedQuotas()
    slots = Slots(settings.slots, RunTimes(), follows=follows, hold_seconds=settings.retry.cap_seconds)
    slots.set_known(per_membership=quotas.per_membership, per_account=quotas.per_account, now=clock.monotonic())
    runner = JobRunner(
        source=source,
        slots=slots,
        stop=stop,
        recorder=recorder,
        submitter=Submitter(api=api, recorder=recorder, gate=gate, settings=settings.retry, stop=stop),
        lookup=Lookup(reads=reads, recorder=recorder, settings=settings.lookup, stop=stop),
        poller=Poller(reads=reads, recorder=recorder, slots=slots, stop=stop),
        inputs=Inputs(reads, settings, clock=clock, stop=stop),
        in_progress=InProgress(stop),
        max_attempts=settings.retry.max_attempts,
        retry=retry,
        resubmit_unknown=resubmit_unknown,
    )
    return Engine(runner, gate, most_in_progress=settings.submit.concurrency)


def open_gate(pace: Pace, stop: Stop, clock: Clock) -> RateGate:
    """Open a rate gate; nobody waits at it once the run is asked to stop."""
    gate = RateGate(pace, monotonic=clock.monotonic)
    stop.on_request(gate.close)
    return gate


def open_reads(api: JobsApi, settings: Settings, stop: Stop, clock: Clock) -> Reads:
    """Read the service at its own rate until asked to stop: that is asked between the pages of a list, too."""
    # However often they are throttled: polls and lookups are few, and slots idle while they wait.
    pace = Pace(settings.rate.reads_per_second, least_per_second=2.0)
    return Reads(api, settings.retry, gate=open_gate(pace, stop, clock), sleep=stop.pause)
