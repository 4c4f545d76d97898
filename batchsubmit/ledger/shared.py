"""The ledger of a fleet: the `Ledger` that several workers share, over a table.

A job is claimed by compare-and-swap before its first event. Its events are written one write at a time in the
background, those that gather meanwhile together; a worker has in memory only the jobs in its hands. What a dead worker
left open is taken over once its lease is over (`leases`), and then stands as any unknown job does: to be looked up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress

from batchsubmit.clock import Clock
from batchsubmit.core.jobs import Event, Intent, RunEnded, RunStarted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import Claim, Mine, Taken
from batchsubmit.ledger.items import JobRow, Runs, arn_address, job_address, to_own
from batchsubmit.ledger.job_writer import Entry, JobEntry, JobWriter
from batchsubmit.ledger.leases import LeaseTerms, Session, Watch, keep_renewing, seconds_awake_and_asleep
from batchsubmit.ledger.table import ConflictError, Table

_CLAIM_TRIES = 5
_ASK_AGAIN_SECONDS = 1.0
_KEYS_A_READ = 1_000


class SharedLedger:
    """Records events in a table; use `open_shared`, which also ends the session.

    `on_loss` is called when another worker has ended the session: nothing more can be begun, only ended.
    """

    is_shared = True

    def __init__(self, table: Table, session: Session, watch: Watch, *, keeps_all: bool = False) -> None:
        self.book = LedgerState(packs=keeps_all)
        self._table = table
        self._session = session
        self._watch = watch
        self._keeps_all = keeps_all
        self._hands: dict[str, JobWriter] = {}
        self._writers: set[asyncio.Task[None]] = set()
        self._runs = Runs(table)
        self.failure: StoppedError | None = None
        self.on_loss: Callable[[StoppedError], None] = lambda _: None

    def __repr__(self) -> str:
        return f"<SharedLedger {len(self._hands)} jobs in hand, {self._session!r}>"

    @property
    def owner(self) -> str:
        """The name that this worker claims jobs with."""
        return self._session.owner

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be relied on, now or any more. That single jobs were lost to others is none."""
        return str(self.failure or "") or self._session.trouble

    async def claim(self, key: str) -> Claim:
        """Take a job in hand, from a dead worker if need be."""
        self._require_reliance()
        hand = self._hands.get(key)
        if hand is not None and hand.writer is not None and not hand.is_claimed:
            await asyncio.wait([hand.writer])
            hand = self._hands.get(key)
        if hand is not None:
            return Taken("this worker", _ASK_AGAIN_SECONDS)
        hand = self._hands[key] = JobWriter(key, self._session.owner, is_claimed=True)
        claim: Claim | None = None
        try:
            claim = await self._take(hand)
        finally:
            match claim:
                case Mine(state):
                    self.book.restore(key, state)
                case Taken():
                    del self._hands[key]
                case None:  # cancelled, or the table does not answer: the claim may have arrived all the same
                    hand.row = None
                    self.let_go(key)
        return claim

    async def _take(self, hand: JobWriter) -> Claim:
        row = JobRow(key=hand.key)
        for _ in range(_CLAIM_TRIES):
            change, after = to_own(row, hand.owner)
            try:
                await self._table.write(job_address(hand.key), row.version, change)
            except ConflictError as exc:
                row = JobRow.read(hand.key, exc.item)
            else:
                hand.row = after
                return Mine(after.state)
            if row.has_arn:
                hand.row = row
                return Mine(row.state)
            if row.owner not in {"", hand.owner}:
                taken = await self._watch.judge(row.owner)
                if taken is not None:
                    return taken
        return Taken("several workers at this moment", _ASK_AGAIN_SECONDS)

    def holds(self, key: str) -> bool:
        """Whether a call for this job may begin now."""
        hand = self._hands.get(key)
        return hand is not None and hand.is_owned and self._session.may_send

    def let_go(self, key: str) -> None:
        """Give up a job; the next worker may have it as soon as that is written."""
        hand = self._hands.get(key)
        if hand is not None:
            hand.is_claimed, hand.is_leaving = False, True
            self._start_writer(hand)

    async def recall(self, keys: Iterable[str]) -> None:
        """Bring what the table knows of these jobs into the book."""
        async for key, state in self._read(keys):
            self.book.restore(key, state)

    async def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Where these jobs stand: by the book those in hand, by the table all others."""
        found = {key: state async for key, state in self._read(keys) if state is not None}
        return found | {key: state for key in keys if (state := self.book.get(key)) is not None}

    async def _read(self, keys: Iterable[str]) -> AsyncIterator[tuple[str, JobState | None]]:
        """Read from the table what it has of these jobs, but for those in hand, of which the book knows more."""
        wanted = [key for key in keys if key not in self._hands]
        for start in range(0, len(wanted), _KEYS_A_READ):
            addresses = {job_address(key): key for key in wanted[start : start + _KEYS_A_READ]}
            for address, item in (await self._table.get_many(addresses)).items():
                key = addresses[address]
                if key not in self._hands:
                    yield key, JobRow.read(key, item).state

    async def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Whose these ARNs are, by the table and by what is on its way there."""
        addresses = {arn_address(arn): arn for arn in arns}
        found = await self._table.get_many(addresses)
        return self.book.claims(arns) | {addresses[address]: str(item["job"]) for address, item in found.items()}

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; the returned future resolves once the table has it."""
        durable = asyncio.get_running_loop().create_future()
        if isinstance(event, RunStarted | RunEnded):
            self.book.apply(event)
            self._track(asyncio.create_task(self._write_run(Entry(event, durable)), name="ledger run"))
            return durable
        if isinstance(event, Intent):
            self._require_reliance()
        self._start_writer(self._gather(Entry(event, durable)))
        return durable

    def note(self, event: Event) -> None:
        """Record an event with the next of its job, or the next renewal, without waiting for it."""
        if isinstance(event, RunStarted | RunEnded):
            self.put(event)
            return
        hand = self._gather(Entry(event))
        if not hand.is_claimed:
            self._start_writer(hand)

    def _gather(self, entry: JobEntry) -> JobWriter:
        key = entry.event.job
        hand = self._hands.setdefault(key, JobWriter(key, self._session.owner, is_leaving=True))
        hand.pending.append(entry)
        self.book.apply(entry.event)
        return hand

    def _start_writer(self, hand: JobWriter) -> None:
        if hand.writer is None:
            hand.writer = asyncio.create_task(self._write(hand), name=f"ledger {hand.key}")
            self._track(hand.writer)

    def _track(self, writer: asyncio.Task[None]) -> None:
        self._writers.add(writer)
        writer.add_done_callback(self._writers.discard)

    async def _write(self, hand: JobWriter) -> None:
        """Write what is pending for a job until nothing is; then forget the job if it was let go."""
        try:
            while hand.has_work:
                batch, hand.pending = hand.pending, []
                await self._write_batch(hand, batch)
        finally:
            hand.writer = None
            if not hand.is_claimed:
                self._hands.pop(hand.key, None)
                if not self._keeps_all:
                    self.book.restore(hand.key, None)

    async def _write_batch(self, hand: JobWriter, batch: list[JobEntry]) -> None:
        try:
            refused = await hand.write(self._table, batch)
        except StoppedError as exc:
            self.failure = exc
            refused = [(entry, StoppedError(str(exc))) for entry in batch]
            hand.is_leaving = False  # not tried again: with the session's end the job is free
        if refused:
            self._restore(hand, [entry for entry, _ in refused])
        for entry, error in refused:
            entry.settle(error)

    def _restore(self, hand: JobWriter, refused: list[JobEntry]) -> None:
        """Let the book say what the table says; but of a table out of reach, take back intents alone.

        An intent that was not written leads to no call. What a call brought is true also where it cannot be written.
        """
        if self.failure is None or any(isinstance(entry.event, Intent) for entry in refused):
            self.book.restore(hand.key, hand.state())

    def _require_reliance(self) -> None:
        if self.failure is not None:
            raise StoppedError(str(self.failure))
        if self._session.loss is not None:
            raise StoppedError(str(self._session.loss))

    async def _write_run(self, entry: Entry[RunStarted | RunEnded]) -> None:
        """Write a run's beginning or end."""
        error: StoppedError | None = None
        try:
            await self._runs.write(entry.event)
        except StoppedError as exc:
            self.failure, error = exc, StoppedError(str(exc))
        entry.settle(error)

    async def recall_first_run(self) -> None:
        """Bring the table's first run into the book, which says what all of them are made against."""
        first = await self._runs.first()
        if first is not None:
            self.book.apply(first)

    def write_what_is_noted(self) -> None:
        """Start writing the events that nobody waits for."""
        for hand in list(self._hands.values()):
            if hand.pending:
                self._start_writer(hand)

    def tell_of_loss(self, exc: StoppedError) -> None:
        """Another worker has ended the session."""
        self.on_loss(exc)

    async def flush(self) -> None:
        """Wait until all that was put or noted is written, or cannot be."""
        self.write_what_is_noted()
        while self._writers:
            await asyncio.wait(self._writers)


@asynccontextmanager
async def open_shared(
    table: Table,
    owner: str,
    holder: str,
    *,
    clock: Clock,
    terms: LeaseTerms,
    seconds: Callable[[], float] = seconds_awake_and_asleep,
    keeps_all: bool = False,
) -> AsyncIterator[SharedLedger]:
    """Begin a session on a table, and renew it until the end; then write out what is left and end it.

    With `keeps_all` the book keeps jobs that were let go. Raises StoppedError.
    """
    session = Session(table, owner, terms, seconds=seconds)
    await session.begin(holder)
    ledger = SharedLedger(table, session, Watch(table, owner, clock), keeps_all=keeps_all)
    renewals = keep_renewing(session, clock, ledger.write_what_is_noted, ledger.tell_of_loss)
    renewing = asyncio.create_task(renewals, name=f"lease of {owner}")
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
