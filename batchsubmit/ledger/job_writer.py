"""Writes one job's events into the table, in order, one write at a time.

It decides what a write that met a conflict means; when to write is decided in `shared`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from batchsubmit.core.jobs import Duplicate, Event, Finished, Intent, JobEvent, Submitted
from batchsubmit.core.states import JobState, Phase, fold
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import ClaimedArnError, LostJobError
from batchsubmit.ledger.items import JobRow, arn_address, job_address, line_of, may_append, to_append
from batchsubmit.ledger.table import Change, ConflictError, Table

if TYPE_CHECKING:
    import asyncio


E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Pending(Generic[E_co]):
    """An event that is to be written, and the future of the task that waits for it."""

    event: E_co
    durable: "asyncio.Future[None] | None" = None

    def resolve(self, error: StoppedError | None = None) -> None:
        """Answer the task that waits."""
        if self.durable is None or self.durable.done():
            return
        if error is None:
            self.durable.set_result(None)
        else:
            self.durable.set_exception(error)


PendingOfJob: TypeAlias = Pending[JobEvent]
Refusal: TypeAlias = tuple[PendingOfJob, StoppedError]


@dataclass(slots=True, eq=False)
class JobWriter:
    """What this worker knows of one job. `row` is None until it was read; `pending` is not yet on its way."""

    key: str
    owner: str
    row: JobRow | None = None
    pending: list[PendingOfJob] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    is_claimed: bool = False
    is_leaving: bool = False

    @property
    def is_owned(self) -> bool:
        """Whether the table, when it was last seen, had the job as ours."""
        return self.row is not None and self.row.owner == self.owner

    @property
    def has_work(self) -> bool:
        """Whether something is to be written, if only that the job is released."""
        return bool(self.pending) or (self.is_leaving and (self.row is None or self.is_owned))

    def state(self) -> JobState | None:
        """The job's state with what is pending."""
        state = self.row.state if self.row else None
        for each in self.pending:
            state = fold(state, each.event)
        return state

    async def write(self, table: Table, batch: list[PendingOfJob]) -> list[Refusal]:
        """Write a batch of events, or those of them that are still ours to write; return the others.

        Raises StoppedError.
        """
        if self.row is None:
            self.row = JobRow.read(self.key, await table.get(job_address(self.key)))
        refused: list[Refusal] = []
        while True:
            batch = self._allowed(self.row, batch, refused)
            batch = await _with_arns(table, batch, refused)
            is_leaving = self.is_leaving and not self.pending and self.is_owned
            if not (batch or is_leaving):
                return refused
            try:
                await self._append(table, self.row, batch, is_leaving=is_leaving)
            except ConflictError as exc:
                batch = self._after_conflict(self.row, exc, batch, refused)
            else:
                _confirm(batch)
                return refused

    def _allowed(self, row: JobRow, batch: Sequence[PendingOfJob], refused: list[Refusal]) -> list[PendingOfJob]:
        """Keep the events that may follow what the table has."""
        kept: list[PendingOfJob] = []
        for each in batch:
            if _has_end(row, each.event):
                each.resolve()  # several workers saw the same end
            elif may_append(row, each.event, self.owner):
                kept.append(each)
            else:
                owner = f"claimed by {row.owner}" if row.owner else "nobody's; it was not claimed, or is decided"
                refused.append((each, LostJobError(f"job {row.key} is {owner}; {_what_is_lost(each.event)}")))
        return kept

    async def _append(self, table: Table, row: JobRow, batch: list[PendingOfJob], *, is_leaving: bool) -> None:
        if batch:
            await write_page(table, row)
        change, after = to_append(row, [each.event for each in batch], is_leaving=is_leaving)
        await table.write(job_address(self.key), row.version, change)
        self.row = after

    def _after_conflict(
        self, before: JobRow, exc: ConflictError, batch: list[PendingOfJob], refused: list[Refusal]
    ) -> list[PendingOfJob]:
        """Read what the table has instead; return what is still to be written of the batch."""
        self.row = JobRow.read(self.key, exc.item)
        if not self.row.has([line_of(each.event) for each in batch], before.count):
            return batch
        # Our own write had arrived, its answer had not, and others have written since.
        lost = LostJobError(f"job {self.key} was taken over by {self.row.owner or 'another worker'}")
        taken = [each for each in batch if isinstance(each.event, Intent) and not self.is_owned]
        refused += [(each, lost) for each in taken]
        _confirm([each for each in batch if each not in taken])
        return []


async def _with_arns(table: Table, batch: list[PendingOfJob], refused: list[Refusal]) -> list[PendingOfJob]:
    """Claim the ARNs that the events name, before the events; leave out those that other jobs have."""
    kept: list[PendingOfJob] = []
    for each in batch:
        try:
            await claim_arn(table, each.event)
        except ClaimedArnError as exc:
            refused.append((each, exc))
        else:
            kept.append(each)
    return kept


async def claim_arn(table: Table, event: JobEvent) -> None:
    """Write down whose the ARN is that an event names, if it names one. Raises ClaimedArnError."""
    if not isinstance(event, Submitted | Duplicate):
        return
    try:
        await table.write(arn_address(event.arn), 0, Change(set={"job": event.job}))
    except ConflictError as exc:
        owner = str(exc.item["job"]) if exc.item else ""
        if owner not in {"", event.job}:
            raise ClaimedArnError(event.arn, owner) from exc


async def write_page(table: Table, row: JobRow) -> None:
    """Move a job's lines to a page, where they are many. The page may be there: it can have no other content."""
    page = row.full_page()
    if page is None:
        return
    try:
        await table.write(page, 0, Change(set={"lines": list(row.lines)}))
    except ConflictError:
        return


def _has_end(row: JobRow, event: JobEvent) -> bool:
    state = row.state
    return (
        isinstance(event, Finished)
        and state is not None
        and (state.phase, state.arn, state.status) == (Phase.FINISHED, event.arn, event.status)
    )


def _what_is_lost(event: JobEvent) -> str:
    if isinstance(event, Submitted):
        return f"that it runs as {event.arn} was not written down"
    return f"its event {type(event).__name__} was not written down"


def _confirm(batch: Sequence[PendingOfJob]) -> None:
    for each in batch:
        each.resolve()
