"""One job in the hands of a worker: its events on their way into the table, in order, one write at a time.

It decides what a write that met a conflict means; whose turn it is and who waits is decided in `shared`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from batchsubmit.core.jobs import Duplicate, Event, Finished, Intent, JobEvent, Submitted
from batchsubmit.core.states import JobState, Phase, fold
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import ClaimedArnError, LostJobError
from batchsubmit.ledger.items import JobRow, arn_address, job_address, line_of, may_append, to_append
from batchsubmit.ledger.table import Address, Change, ConflictError, Table

if TYPE_CHECKING:
    import asyncio


E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[E_co]):
    """An event, and who waits for it."""

    event: E_co
    durable: "asyncio.Future[None] | None" = None

    def settle(self, error: StoppedError | None = None) -> None:
        """Tell whoever waits."""
        if self.durable is None or self.durable.done():
            return
        if error is None:
            self.durable.set_result(None)
        else:
            self.durable.set_exception(error)


JobEntry: TypeAlias = Entry[JobEvent]
Refusal: TypeAlias = tuple[JobEntry, StoppedError]


@dataclass(slots=True, eq=False)
class JobWriter:
    """What this worker knows of one job. `row` is None until it was read; `pending` is not yet on its way."""

    key: str
    owner: str
    row: JobRow | None = None
    pending: list[JobEntry] = field(default_factory=list)
    writer: "asyncio.Task[None] | None" = None
    is_claimed: bool = False
    is_leaving: bool = False

    @property
    def is_owned(self) -> bool:
        """Whether the table, when it was last seen, had the job as ours."""
        return self.row is not None and self.row.owner == self.owner

    @property
    def has_work(self) -> bool:
        """Whether something is to be written, be it only that we let go."""
        return bool(self.pending) or (self.is_leaving and (self.row is None or self.is_owned))

    def state(self) -> JobState | None:
        """Where the job stands with what is pending."""
        state = self.row.state if self.row else None
        for entry in self.pending:
            state = fold(state, entry.event)
        return state

    async def write(self, table: Table, batch: list[JobEntry]) -> list[Refusal]:
        """Write a batch of events, or as many of them as are still ours to write; give the others.

        Raises StoppedError.
        """
        if self.row is None:
            self.row = JobRow.read(self.key, await table.get(job_address(self.key)))
        refused: list[Refusal] = []
        while True:
            batch = _sift(self.row, batch, self.owner, refused)
            batch = await self._with_arns(table, batch, refused)
            is_leaving = self.is_leaving and not self.pending and self.is_owned
            if not (batch or is_leaving):
                return refused
            try:
                await self._append(table, self.row, batch, is_leaving=is_leaving)
            except ConflictError as exc:
                batch = self._after_conflict(self.row, exc, batch, refused)
            else:
                _settle(batch)
                return refused

    async def _append(self, table: Table, row: JobRow, batch: list[JobEntry], *, is_leaving: bool) -> None:
        page = row.full_page() if batch else None
        if page is not None:
            await write_page(table, page, row.lines)
        change, after = to_append(row, [entry.event for entry in batch], is_leaving=is_leaving)
        await table.write(job_address(self.key), row.version, change)
        self.row = after

    def _after_conflict(
        self, before: JobRow, exc: ConflictError, batch: list[JobEntry], refused: list[Refusal]
    ) -> list[JobEntry]:
        """Take in what the table has instead; give what is still to be written of the batch."""
        self.row = JobRow.read(self.key, exc.item)
        if not self.row.has([line_of(entry.event) for entry in batch], before.count):
            return batch
        # Our own write had arrived, its answer had not, and others have written since.
        lost = LostJobError(f"job {self.key} was taken over by {self.row.owner or 'another worker'}")
        taken = [entry for entry in batch if isinstance(entry.event, Intent) and not self.is_owned]
        refused += [(entry, lost) for entry in taken]
        _settle([entry for entry in batch if entry not in taken])
        return []

    async def _with_arns(self, table: Table, batch: list[JobEntry], refused: list[Refusal]) -> list[JobEntry]:
        """Claim the ARNs that the events name, before the events; leave out those that other jobs have."""
        kept: list[JobEntry] = []
        for entry in batch:
            event = entry.event
            if isinstance(event, Submitted | Duplicate):
                other = await claim_arn(table, event.arn, event.job)
                if other:
                    refused.append((entry, ClaimedArnError(event.arn, other)))
                    continue
            kept.append(entry)
        return kept


async def claim_arn(table: Table, arn: str, key: str) -> str:
    """Write down whose an ARN is; give the other job that has it already, if one has."""
    try:
        await table.write(arn_address(arn), 0, Change(set={"job": key}))
    except ConflictError as exc:
        owner = str(exc.item["job"]) if exc.item else ""
        return "" if owner == key else owner
    return ""


async def write_page(table: Table, page: Address, lines: Sequence[str]) -> None:
    """Write a page, if nobody has: it can have no other content."""
    try:
        await table.write(page, 0, Change(set={"lines": list(lines)}))
    except ConflictError:
        return


def _sift(row: JobRow, batch: Sequence[JobEntry], owner: str, refused: list[Refusal]) -> list[JobEntry]:
    """Keep the events that may follow what the table has."""
    kept: list[JobEntry] = []
    for entry in batch:
        if _has_end(row, entry.event):
            entry.settle()  # several workers saw the same end
        elif may_append(row, entry.event, owner):
            kept.append(entry)
        else:
            where = f"in the hands of {row.owner}" if row.owner else "nobody's; it was not claimed, or is decided"
            refused.append((entry, LostJobError(f"job {row.key} is {where}; {_what_is_lost(entry.event)}")))
    return kept


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


def _settle(batch: Sequence[JobEntry]) -> None:
    for entry in batch:
        entry.settle()
