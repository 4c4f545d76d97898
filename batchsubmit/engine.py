"""Many jobs: takes them from the source lane by lane, and keeps as many calls under way as slots and settings allow.

It decides nothing about a single job (`submitter` does), nor about who goes next and when to look (`slots` does), nor
about a job whose fate is unknown (`lookup` does), nor what a look has seen (`watch` does); it brings them together, and
ends when nothing is left or the run is asked to stop.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, assert_never

from batchsubmit.claiming import Claims, Held
from batchsubmit.clock import Clock
from batchsubmit.durations import JobClass
from batchsubmit.errors import StoppedError
from batchsubmit.jobs import Accepted, Job, QuotaExceeded, Rejected, Uncertain
from batchsubmit.ledger import Taken
from batchsubmit.logger import get_logger
from batchsubmit.lookup import Finding, Found, Lookup, NotThere, Undecided
from batchsubmit.slots import Look, RunningJob, Slots, Ticket
from batchsubmit.sources.delivery import Delivery, Source
from batchsubmit.states import Action, JobState
from batchsubmit.stopping import Stop, StopReason
from batchsubmit.submitter import GivenUp, Submission, Submitter, Withdrawn
from batchsubmit.watch import Watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far an engine goes: calls under way at once, tries of a job whose calls bring no answer, a user's word."""

    concurrency: int
    max_attempts: int
    resubmit_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Those who do the work of an engine, each one part of it."""

    submitter: Submitter
    lookup: Lookup
    watcher: Watcher
    claims: Claims


class Engine:
    """One run over one source."""

    def __init__(
        self,
        *,
        source: Source,
        crew: Crew,
        slots: Slots,
        stop: Stop,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._source = source
        self._submitter = crew.submitter
        self._lookup = crew.lookup
        self._watcher = crew.watcher
        self._claims = crew.claims
        self._slots = slots
        self._stop = stop
        self._clock = clock
        self._limits = limits
        self._changed = asyncio.Event()
        self._blocked: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()
        self.under_way = 0
        self.looking_up = 0
        self.undecided: dict[str, str] = {}
        self._held_by_others: set[str] = set()
        stop.on_request(self._changed.set)

    def __repr__(self) -> str:
        return f"<Engine {self.under_way} under way, {self._source.waiting_jobs()} waiting, {self._stop!r}>"

    async def run(self, left_unknown: Iterable[JobState] = ()) -> None:
        """Look up what an earlier run left unknown, and submit until nothing is left or the run stops.

        A lane with unknown jobs waits for their lookup; calls under way are awaited in any case.
        """
        self._source.listen(self._changed.set)
        async with asyncio.TaskGroup() as tasks:
            for state in left_unknown:
                self._blocked[state.membership] += 1
                tasks.create_task(self._settle(state, tasks), name=f"settle {state.job}")
            while not self._is_over:
                self._changed.clear()
                # One moment for all questions of a turn: what came due between two of them would be overlooked.
                now = self._clock.monotonic()
                self._begin_calls(tasks, now)
                self._begin_looks(tasks, now)
                await self._wait_for_change(now)

    @property
    def _is_over(self) -> bool:
        return self._stop.requested or not (
            self.under_way
            or self.looking_up
            or self._blocked
            or self._open_lanes()
            or self._is_following
            or self._source.is_open
        )

    @property
    def _is_following(self) -> bool:
        return self._watcher.follows and self._slots.has_ours_running

    def _open_lanes(self) -> Collection[str]:
        waiting = self._source.waiting()
        return [name for name in waiting if name not in self._blocked] if self._blocked else waiting

    def _begin_calls(self, tasks: asyncio.TaskGroup, now: float) -> None:
        while self.under_way < self._limits.concurrency and not self._stop.requested:
            ticket = self._slots.next(self._open_lanes(), now)
            if ticket is None:
                return
            delivery = self._take(ticket)
            if delivery is not None:
                self.under_way += 1
                tasks.create_task(self._carry(delivery, ticket, tasks), name=f"submit {delivery.job.key}")

    def _take(self, ticket: Ticket) -> Delivery | None:
        delivery = None
        try:
            delivery = self._source.take(ticket.membership)
        except StoppedError as exc:
            self._stop.request(StopReason.MANIFEST, str(exc))
        if delivery is None:
            self._slots.ended(ticket)
        return delivery

    def _begin_looks(self, tasks: asyncio.TaskGroup, now: float) -> None:
        while (look := self._slots.next_look(now)) is not None:
            tasks.create_task(self._look(look), name=f"look at {look.membership}")

    async def _look(self, look: Look) -> None:
        with self._stopping_on_ledger_trouble():
            await self._watcher.look(look, self._changed.set)
        self._changed.set()

    async def _wait_for_change(self, now: float) -> None:
        """Sleep until a call ends, a look or a try comes due, or the run is asked to stop."""
        if self._is_over:
            return
        wake_at = self._slots.wake_at(now)
        wait = None if wake_at is None else max(wake_at - self._clock.monotonic(), 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()

    async def _carry(self, delivery: Delivery, ticket: Ticket, tasks: asyncio.TaskGroup) -> None:
        """Claim a job, see it through, and let it go."""
        key, held = delivery.job.key, await self._claim(delivery.job.key)
        if held == Held(Action.SUBMIT):
            with self._letting_go(key):
                await self._submit(delivery, ticket, tasks)
            return
        self.under_way -= 1
        self._slots.ended(ticket)
        self._changed.set()
        if isinstance(held, Held):
            with self._letting_go(key):
                await self._leave_or_look_up(delivery, held.action, tasks)
        else:
            await self._come_back_later(delivery, held)

    async def _claim(self, key: str) -> Held | Taken | None:
        """Take a job in hand; None where the ledger cannot be relied on, and the run stops."""
        held: Held | Taken | None = None
        with self._stopping_on_ledger_trouble():
            held = await self._claims.take(key)
        return held  # noqa: RET504 (mypy does not see that the block above may be left early)

    @contextmanager
    def _letting_go(self, key: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._claims.let_go(key)

    async def _leave_or_look_up(self, delivery: Delivery, action: Action, tasks: asyncio.TaskGroup) -> None:
        """Deal with a job that another run has dealt with since the source looked."""
        match action:
            case Action.NOTHING:
                self._watcher.follow(delivery.job.key)
                delivery.done()
            case Action.LEAVE_FAILED:
                delivery.failed()
            case _:
                await self._look_up(delivery, tasks)

    async def _come_back_later(self, delivery: Delivery, taken: Taken | None) -> None:
        """Give a job that another run has in hand back to its lane after a while."""
        self.looking_up += 1
        await self._stop.pause(taken.retry_after_seconds if taken else 0)
        self.looking_up -= 1
        delivery.released()
        self._changed.set()

    async def _submit(self, delivery: Delivery, ticket: Ticket, tasks: asyncio.TaskGroup) -> None:
        """Submit a job in hand, and tell slots and source what became of it."""
        submission: Submission = Withdrawn()
        with self._stopping_on_ledger_trouble():
            submission = await self._submitter.submit(delivery.job)
        self.under_way -= 1
        self._changed.set()
        match submission:
            case Accepted(arn):
                now = self._clock.monotonic()
                self._slots.accepted(ticket, _running(delivery.job, arn, now), now)
                delivery.done()
            case GivenUp():
                self._slots.ended(ticket)
                delivery.failed()
            case Uncertain():
                self._slots.ended(ticket)
                await self._look_up(delivery, tasks)
            case QuotaExceeded():
                self._slots.refused(ticket, submission, self._clock.monotonic())
                self._tell_of_others()
                delivery.released()
            case Withdrawn():
                self._slots.ended(ticket)
                delivery.released()
            case _:
                assert_never(submission)

    def _tell_of_others(self) -> None:
        """Log once that others seem to use a quota up, and again only after it was otherwise."""
        held = {each.membership: str(each) for each in self._slots.held_by_others()}
        for membership in held.keys() - self._held_by_others:
            log = get_logger()
            log.warning("slots.held_by_others", membership=membership or None, slots=held[membership])
        self._held_by_others = set(held)

    async def _look_up(self, delivery: Delivery, tasks: asyncio.TaskGroup) -> None:
        """Find out what became of a call without an answer, and go on from there."""
        job = delivery.job
        match await self._find(job.key, job.request, tasks):
            case Found(arn):
                self._slots.runs(job.membership, _running(job, arn, self._clock.monotonic()))
                delivery.done()
            case NotThere():
                await self._try_again(delivery)
            case Undecided() if self._limits.resubmit_unknown and not self._stop.requested:
                self._claims.send_again(job.key)
                await self._try_again(delivery)
            case Undecided(is_lost=True):
                delivery.released()  # another worker has it: ask that one, in a while, what became of it
            case Undecided(reason):
                self.undecided[job.key] = reason

    async def _try_again(self, delivery: Delivery) -> None:
        """Hand a job back, unless its calls have brought no answer too often already."""
        job = delivery.job
        self._unanswered[job.key] += 1
        if self._unanswered[job.key] < self._limits.max_attempts:
            delivery.released()
            return
        message = f"{self._limits.max_attempts} calls brought no answer, and none of them was accepted"
        with self._stopping_on_ledger_trouble():
            is_ours = await self._submitter.fail(job, Rejected("NoAnswer", message))
            (delivery.failed if is_ours else delivery.released)()

    async def _settle(self, state: JobState, tasks: asyncio.TaskGroup) -> None:
        """Look up a job that an earlier run left unknown; its lane waits until all of these are settled."""
        try:
            request = self._source.request_of(state.job)
        except StoppedError as exc:
            self._stop.request(StopReason.MANIFEST, str(exc))
            request = None
        held = await self._claim(state.job)
        while isinstance(held, Taken) and not self._stop.requested:
            await self._stop.pause(held.retry_after_seconds)
            held = await self._claim(state.job)
        if isinstance(held, Held):
            with self._letting_go(state.job):
                await self._settle_in_hand(state.job, held.action, request, tasks)
        else:
            self.undecided[state.job] = f"in the hands of {held.by}" if held else "the ledger cannot be relied on"
        self._blocked[state.membership] -= 1
        if not self._blocked[state.membership]:
            del self._blocked[state.membership]
        self._changed.set()

    async def _settle_in_hand(
        self, key: str, action: Action, request: Mapping[str, Any] | None, tasks: asyncio.TaskGroup
    ) -> None:
        finding: Finding = NotThere()
        if action is Action.LOOK_UP:
            finding = await self._find(key, request, tasks)
        elif action is not Action.SUBMIT:
            self._watcher.follow(key)
            return
        match finding:
            case Found():
                self._watcher.follow(key)
            case NotThere():
                self._source.reinstate(key)
            case Undecided() if self._limits.resubmit_unknown and not self._stop.requested:
                self._claims.send_again(key)
                self._source.reinstate(key)
            case Undecided(reason):
                self.undecided[key] = reason

    async def _find(self, key: str, request: Mapping[str, Any] | None, tasks: asyncio.TaskGroup) -> Finding:
        self.looking_up += 1
        finding: Finding = Undecided("the ledger cannot be written")
        with self._stopping_on_ledger_trouble():
            finding = await self._lookup.resolve(key, request, tasks)
        self.looking_up -= 1
        self._changed.set()
        return finding

    @contextmanager
    def _stopping_on_ledger_trouble(self) -> Iterator[None]:
        """End the run in good order where an event cannot be written down."""
        try:
            yield
        except StoppedError as exc:
            self._stop.request(StopReason.LEDGER, str(exc))


def _running(job: Job, arn: str, now: float) -> RunningJob:
    """A job that was accepted just now, as the slots know it."""
    kind = JobClass(job.trained_model, job.instance_type)
    return RunningJob(arn=arn, key=job.key, kind=kind, began_at=now, seen_at=now)
