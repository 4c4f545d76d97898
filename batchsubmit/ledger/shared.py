"""The ledger of a fleet: the `Ledger` that several workers share, over a table.

A job is claimed by compare-and-swap before its first event. Its events are written one after another in the
background; a worker has in memory only the jobs that it has claimed. What a dead worker left open is taken over once
its lease is over, and is then unknown like any other: to be looked up.

A lease is one item of a worker, the session, whose version the worker keeps counting up; it covers all jobs that name
the worker as owner. No two clocks are compared. A worker that sees another's version unchanged for as long as that
lease says, by its own clock, ends the session with a compare-and-swap, and only then takes jobs over. The other
cannot count up an ended session, and begins no call in the time that a call may take before its lease is over: so its
calls have ended too when the first job is taken.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from batchsubmit.clock import Clock
from batchsubmit.core.job_states import UNDECIDED, JobState, Phase, fold
from batchsubmit.core.jobs import Duplicate, Event, Intent, JobEvent, JobFinished, JobSubmitted, RunEnded, RunStarted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger import base
from batchsubmit.ledger.items import (
    Address,
    ConflictError,
    Item,
    JobRow,
    MissingTableError,
    Table,
    append_event,
    arn_address,
    claim_arn,
    job_address,
    line_of,
    set_owner,
    write_run,
)

_RENEWALS_PER_LEASE = 6
_MISSED_RENEWALS = 2.5
"""So many renewals without an answer are reported as trouble; one that comes late is not."""

_LEAST_SENDING_SHARE = 0.25
"""The part of a lease in which calls may begin: less would leave no time for a renewal that must be repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How long a silent worker keeps its jobs, and how long one of its calls may take at the most."""

    lease_seconds: float = 120.0
    call_seconds: float = 70.0

    def __post_init__(self) -> None:
        """Refuse terms under which a call could outlast its lease."""
        least = self.call_seconds / (1 - _LEAST_SENDING_SHARE)
        if self.lease_seconds < least:
            raise UsageError(
                f"a lease of {self.lease_seconds:g} s is too short for calls that may take {self.call_seconds:g} s: "
                f"set ledger.lease_seconds to at least {least:.0f}, or shorten aws.read_timeout_seconds"
            )

    @property
    def renewal_seconds(self) -> float:
        """How often a lease is renewed."""
        return self.lease_seconds / _RENEWALS_PER_LEASE


def session_address(owner: str) -> Address:
    """The address of a worker's lease."""
    return Address(f"session#{owner}", "session")


class Session:
    """This worker's own lease, and the others' as it sees them. `loss` says why it can no longer be renewed."""

    def __init__(self, table: Table, owner: str, terms: LeaseTerms, clock: Clock) -> None:
        self.owner = owner
        self.terms = terms
        self._table = table
        self._clock = clock
        self._version = 0
        self._renewed_at = 0.0
        self.loss: StoppedError | None = None
        self._seen: dict[str, tuple[int, float]] = {}  # of each other, its version and when that was first seen

    @property
    def may_send(self) -> bool:
        """Whether a call that begins now has ended before anyone can take the lease."""
        silent = self._clock.monotonic() - self._renewed_at
        return self.loss is None and silent < self.terms.lease_seconds - self.terms.call_seconds

    @property
    def trouble(self) -> str:
        """What is wrong with the lease, if anything: it is lost, or it was not renewed for too long."""
        if self.loss is not None:
            return str(self.loss)
        silent = self._clock.monotonic() - self._renewed_at
        if silent < _MISSED_RENEWALS * self.terms.renewal_seconds:
            return ""
        return f"the lease of {self.terms.lease_seconds:g} s was last renewed {silent:.0f} s ago"

    async def end(self) -> None:
        """Free all that this worker still owns, at once."""
        if self.loss is None:
            await self.renew(ended=self.owner)
            self.loss = StoppedError(f"worker {self.owner} has ended")

    async def renew(self, **values: str | int) -> None:
        """Count the lease up. Raises StoppedError; `loss` says whether another worker ended it."""
        if self.loss is not None:
            raise self.loss
        before, item = self._clock.monotonic(), None
        while item is None:
            try:
                item = await self._table.write(session_address(self.owner), self._version, values)
            except ConflictError as exc:
                # Nobody but us counts up: an earlier renewal, given up for want of an answer, has arrived after all.
                self._version = self._own(exc.item)["version"]
        if "ended" not in values:
            self._own(item)  # a missing session that another ended has version 1, as ours may have
        self._version, self._renewed_at = item["version"], before

    def _own(self, item: Item | None) -> Item:
        """Notice that the session is gone, or was ended by another. Raises StoppedError."""
        if item is not None and "ended" not in item:
            return item
        self.loss = StoppedError(
            f"worker {self.owner} was silent for longer than its lease of {self.terms.lease_seconds:g} s, and its jobs "
            f"were given up by {item['ended'] if item else 'an unknown worker'}; start it again"
        )
        raise self.loss

    async def check(self, other: str) -> base.Taken | None:
        """Say how long to wait for another worker; None where it has ended, or is dead, and its jobs are free."""
        item = await self._table.get(session_address(other)) or await self._end(other, 0)
        if "ended" in item and "lease_ms" in item:
            return None
        # A session that was missing is ended without the terms of its lease. Its worker may live, and have calls in
        # progress until it notices: its jobs are free after a lease like ours.
        lease_seconds = item["lease_ms"] / 1000 if "lease_ms" in item else self.terms.lease_seconds
        now, version = self._clock.monotonic(), 0 if "ended" in item else item["version"]
        if other not in self._seen or self._seen[other][0] != version:
            self._seen[other] = version, now
        left = self._seen[other][1] + lease_seconds - now
        if left > 0:
            return base.Taken(f"{other} ({item.get('holder', 'its session was missing')})", left)
        if "ended" not in item:
            item = await self._end(other, version)  # unless it is renewed at this very moment
        return None if "ended" in item else base.Taken(other, lease_seconds)

    async def _end(self, other: str, version: int) -> Item:
        """End another's session if it has this version; give what there is then."""
        try:
            return await self._table.write(session_address(other), version, {"ended": self.owner})
        except ConflictError as exc:
            return exc.item or {}


_CLAIM_TRIES = 5


@dataclass(slots=True, eq=False)
class _Job:
    """What this worker knows of one job.

    `row` is None until it was read; `waiting` are the events that the table does not have yet, each with the future of
    the task that waits for it.
    """

    key: str
    row: JobRow | None = None
    waiting: "list[tuple[JobEvent, asyncio.Future[None]]]" = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    is_claimed: bool = False


class SharedLedger(base.Ledger):
    """Records events in a table; use `open_shared`, which also ends the session.

    `on_loss` is called when another worker has ended the session: nothing more can be begun, only ended.
    """

    is_shared = True

    def __init__(self, table: Table, session: Session, *, keeps_all: bool) -> None:
        super().__init__(LedgerState())
        self._table = table
        self._session = session
        self._keeps_all = keeps_all
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_loss: Callable[[StoppedError], None] = lambda _: None

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be relied on, now or any more. That single jobs were lost to others is none."""
        return super().trouble or self._session.trouble

    async def claim(self, key: str) -> base.Claim:
        """Claim a job, from a dead worker if need be."""
        self._require_reliance()
        job = self._jobs.get(key)
        if job is not None and job.task is not None and not job.is_claimed:
            await asyncio.wait([job.task])
            job = self._jobs.get(key)
        if job is not None:
            return base.Taken("this worker", base.ASK_AGAIN_SECONDS)
        job = self._jobs[key] = _Job(key, is_claimed=True)
        try:
            claim = await self._take(job)
        except BaseException:  # cancelled, or the table does not answer: the claim may have arrived all the same
            self.release(key)
            raise
        if isinstance(claim, base.Mine):
            self.state.restore(key, claim.state)
        else:
            del self._jobs[key]
        return claim

    async def _take(self, job: _Job) -> base.Claim:
        row, owner = JobRow(key=job.key), self._session.owner
        for _ in range(_CLAIM_TRIES):
            try:
                job.row = await set_owner(self._table, row, owner)
            except ConflictError as exc:
                row = JobRow.read(job.key, exc.item)
            else:
                return base.Mine(job.row.state)
            if row.has_arn and not (row.state and row.state.bad_end):  # one that failed may be sent again
                job.row = row
                return base.Mine(row.state)
            if row.owner not in {"", owner}:
                taken = await self._session.check(row.owner)
                if taken is not None:
                    return taken
        return base.Taken("several workers at this moment", base.ASK_AGAIN_SECONDS)

    def holds(self, key: str) -> bool:
        """Whether a call for this job may begin now."""
        job = self._jobs.get(key)
        return job is not None and self._owns(job) and self._session.may_send

    def _owns(self, job: _Job) -> bool:
        """Whether the table, when it was last seen, had the job as ours."""
        return job.row is not None and job.row.owner == self._session.owner

    def release(self, key: str) -> None:
        """Give up a job; the next worker may have it as soon as that is written."""
        job = self._jobs.get(key)
        if job is not None:
            job.is_claimed = False
            self._start_writing(job)

    async def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Read these jobs: from the table, but for the claimed ones, of which `state` knows more."""
        addresses = {job_address(key): key for key in keys if key not in self._jobs}
        items = await self._table.get_many(addresses)
        rows = [JobRow.read(addresses[address], item) for address, item in items.items()]
        found = {row.key: row.state for row in rows if row.state is not None}
        return found | {key: state for key in keys if (state := self.state.get(key)) is not None}

    async def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the table has, or are on their way there, and the keys of their jobs."""
        addresses = {arn_address(arn): arn for arn in arns}
        found = await self._table.get_many(addresses)
        return self.state.claims(arns) | {addresses[address]: str(item["job"]) for address, item in found.items()}

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; what is returned resolves once the table has it."""
        if isinstance(event, RunStarted | RunEnded):
            self.state.apply(event)
            # Shielded, as a future is: it is written also where nobody waits any more.
            return asyncio.shield(self._track(self._write_run(event), "ledger run"))
        if isinstance(event, Intent):
            self._require_reliance()
        durable = asyncio.get_running_loop().create_future()
        job = self._jobs.setdefault(event.job, _Job(event.job))
        job.waiting.append((event, durable))
        self.state.apply(event)
        self._start_writing(job)
        return durable

    def _start_writing(self, job: _Job) -> None:
        if job.task is None:
            job.task = self._track(self._write(job), f"ledger {job.key}")

    def _track(self, writing: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        task = asyncio.create_task(writing, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _write(self, job: _Job) -> None:
        """Write the events of a job until none waits, and that it is released; then forget it."""
        try:
            while job.waiting or self._is_leaving(job):
                await self._write_next(job)
        finally:
            job.task = None
            if not job.is_claimed:
                self._jobs.pop(job.key, None)
                if not self._keeps_all:
                    self.state.restore(job.key, None)

    def _is_leaving(self, job: _Job) -> bool:
        """Whether it is to be written that a job is released. After a failure it is not: the session's end frees it."""
        return not job.is_claimed and self.failure is None and (job.row is None or self._owns(job))

    async def _write_next(self, job: _Job) -> None:
        """Write the first event that waits; where none does, that the job is released."""
        done = job.waiting[:1]
        error: StoppedError | None = None
        try:
            await self._append(job, done[0][0] if done else None)
        except (base.LostJobError, base.ClaimedArnError) as exc:
            error = exc
        except StoppedError as exc:
            error = self.failure = exc
            done = job.waiting[:]
        del job.waiting[: len(done)]
        # An intent that was not written leads to no call: it is undone. What a call brought is true also where the
        # table is out of reach; else the table knows better.
        if error and (self.failure is None or any(isinstance(event, Intent) for event, _ in done)):
            state = job.row.state if job.row else None
            for event, _ in job.waiting:
                state = fold(state, event)
            self.state.restore(job.key, state)
        for _, durable in done:
            base.resolve(durable, error)

    async def _append(self, job: _Job, event: JobEvent | None) -> None:
        """Write an event into its job's item, or with None that the job is released. Raises as `put` does."""
        if job.row is None:
            job.row = JobRow.read(job.key, await self._table.get(job_address(job.key)))
        while True:
            try:
                job.row = await self._follow(job.row, event)
            except ConflictError as exc:
                job.row = row = JobRow.read(job.key, exc.item)
            else:
                return
            if event is not None and line_of(event) in row.lines:
                # Our own write had arrived, its answer had not, and others have written since.
                if isinstance(event, Intent) and not self._owns(job):
                    raise base.LostJobError(f"job {job.key} was taken over by {row.owner or 'another worker'}")
                return

    async def _follow(self, row: JobRow, event: JobEvent | None) -> JobRow:
        """Make the one write that follows this row. Raises as `_append` does, and ConflictError."""
        if event is None:
            return await set_owner(self._table, row, "") if row.owner == self._session.owner else row
        end = row.state and (row.state.phase, row.state.arn, row.state.status)
        if isinstance(event, JobFinished) and end == (Phase.FINISHED, event.arn, event.status):
            return row  # several workers may have seen it
        _require_right(row, event, self._session.owner)
        await claim_arn(self._table, event)
        return await append_event(self._table, row, event)

    def _require_reliance(self) -> None:
        reason = self.failure or self._session.loss
        if reason is not None:
            raise StoppedError(str(reason))

    async def _write_run(self, event: RunStarted | RunEnded) -> None:
        """Write a run's beginning or end."""
        try:
            await write_run(self._table, self.state.runs[-1], event)
        except StoppedError as exc:
            self.failure = exc
            raise

    async def keep_lease(self, clock: Clock) -> None:
        """Renew the lease until it is lost, or its table is. A table that does not answer is asked again."""
        session = self._session
        while session.loss is None:
            await clock.sleep(session.terms.renewal_seconds)
            try:
                await session.renew()
            except MissingTableError as exc:
                self.failure = session.loss = exc
            except StoppedError:
                pass  # the trouble may pass
        self.on_loss(session.loss)

    async def flush(self) -> None:
        """Wait until all that was put or noted is written, or cannot be."""
        while self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def open_shared(
    table: Table, owner: str, holder: str, *, clock: Clock, terms: LeaseTerms, keeps_all: bool = False
) -> AsyncIterator[SharedLedger]:
    """Begin a session on a table, and renew it until the end; then write out what is left. Raises StoppedError.

    `holder` names the process for people. With `keeps_all`, `state` keeps jobs that were released.
    """
    session = Session(table, owner, terms, clock)
    await session.renew(holder=holder, lease_ms=round(terms.lease_seconds * 1000))
    ledger = SharedLedger(table, session, keeps_all=keeps_all)
    renewing = asyncio.create_task(ledger.keep_lease(clock), name=f"lease of {owner}")
    try:
        yield ledger
    finally:
        # Shielded: a second signal cancels us here, and what has happened must still be written down.
        await asyncio.shield(asyncio.create_task(_close(ledger, session, renewing), name="ledger close"))


async def _close(ledger: SharedLedger, session: Session, renewing: "asyncio.Task[None]") -> None:
    await ledger.flush()
    renewing.cancel()
    with suppress(asyncio.CancelledError):
        await renewing
    with suppress(StoppedError):
        await session.end()


def _require_right(row: JobRow, event: JobEvent, owner: str) -> None:
    """Refuse an event of a worker that may not add it. Raises LostJobError.

    An intent needs ownership: it leads to a call. What the service proved, any worker may write down.
    """
    state, may_write = row.state, row.owner == owner
    match event:
        case Intent():
            pass
        case JobFinished() | Duplicate():
            may_write |= row.has_arn
        case JobSubmitted():
            may_write |= state is not None and state.phase in UNDECIDED and state.attempt == event.attempt
        case _:
            may_write |= not row.owner and not row.has_arn
    if not may_write:
        holder = f"claimed by {row.owner}" if row.owner else "nobody's; it was not claimed, or is decided"
        what = (
            f"that it runs as {event.arn}" if isinstance(event, JobSubmitted) else f"its event {type(event).__name__}"
        )
        raise base.LostJobError(f"job {row.key} is {holder}; {what} was not written down")
