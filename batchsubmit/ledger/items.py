"""The items of the table: jobs, runs, claimed ARNs, sessions of workers, and what one job's write is.

A job is one item: its folded state, its owner, and the lines of its events. Past a few kilobytes the older lines move
to pages, items of their own that never change: a page's name says which lines it holds, so every writer of it writes
the same. A page counts once the job's item lists it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec

from batchsubmit.core.jobs import (
    Duplicate,
    Event,
    Finished,
    Intent,
    JobEvent,
    JobRejected,
    RunEnded,
    RunStarted,
    Submitted,
    Unknown,
)
from batchsubmit.core.states import UNDECIDED, JobState, Phase, fold
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.codec import decode_line, encode_line
from batchsubmit.ledger.table import Address, Change, ConflictError, Item, MissingTableError, Table, Value, version_of

PAGE_CHARACTERS = 16_384
"""Lines of a job's own item before they move to a page. DynamoDB bills a write by the item's size and refuses an item
above 400 KB; an ordinary job ends with about 1 KB."""

_LONGEST_TEXT = 8_192
JOB = "job"
"""The sort key of a job's own item, which no other item has."""

_DECIDED = frozenset({Phase.SUBMITTED, Phase.FINISHED, Phase.FAILED})
_HAS_ARN = frozenset({Phase.SUBMITTED, Phase.FINISHED})

_encode_state = msgspec.json.Encoder().encode
_state_decoder = msgspec.json.Decoder(JobState)


RUNS = "runs"
TABLE_ADDRESS = Address("ledger", "ledger")
"""What is true of the whole table: its format, and its first run, against the service or a sandbox like all others."""

_FORMAT = 1


def job_address(key: str) -> Address:
    """The address of a job."""
    return Address(f"job#{key}", JOB)


def page_address(key: str, start: int, end: int) -> Address:
    """The address of a job's lines from `start` up to `end`."""
    return Address(f"job#{key}", f"lines#{start:08d}-{end:08d}")


def arn_address(arn: str) -> Address:
    """The address of an ARN, whose item has its job."""
    return Address(f"arn#{arn}", "arn")


def session_address(owner: str) -> Address:
    """The address of a worker's lease."""
    return Address(f"session#{owner}", "session")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job's item. `pages` are the ends of its pages, `lines` what came after the last of them."""

    key: str
    version: int = 0
    owner: str = ""
    state: JobState | None = None
    pages: tuple[int, ...] = ()
    lines: tuple[str, ...] = ()

    @classmethod
    def read(cls, key: str, item: Item | None) -> "JobRow":
        """Read an item; none is a job that nobody ever claimed."""
        if item is None:
            return cls(key=key)
        raw: Any = item
        return cls(
            key=key,
            version=version_of(item),
            owner=raw.get("owner", ""),
            state=_read_state(key, raw["state"]) if "state" in raw else None,
            pages=tuple(raw.get("pages", ())),
            lines=tuple(raw.get("lines", ())),
        )

    @property
    def count(self) -> int:
        """How many events the job has."""
        return (self.pages[-1] if self.pages else 0) + len(self.lines)

    @property
    def has_arn(self) -> bool:
        """Whether the job is submitted, and needs no owner any more."""
        return self.state is not None and self.state.phase in _HAS_ARN

    def has(self, lines: Sequence[str], at: int) -> bool:
        """Whether the lines from `at` on are these."""
        start = at - (self.count - len(self.lines))
        return start >= 0 and self.lines[start : start + len(lines)] == tuple(lines)

    def full_page(self) -> Address | None:
        """The address of the page that the lines are to move to, if they are many."""
        if sum(map(len, self.lines)) < PAGE_CHARACTERS:
            return None
        return page_address(self.key, self.count - len(self.lines), self.count)


def _read_state(key: str, text: str) -> JobState:
    try:
        return _state_decoder.decode(text)
    except msgspec.MsgspecError as exc:
        raise StoppedError(f"job {key} in the table was written by a version that this one cannot read: {exc}") from exc


Write: TypeAlias = tuple[Change, JobRow]
"""A change of a job's item, and the row after it."""


def to_own(row: JobRow, owner: str) -> Write:
    """Make a job this owner's."""
    return Change(set={"owner": owner}), replace(row, version=row.version + 1, owner=owner)


def to_append(row: JobRow, events: Sequence[JobEvent], *, is_leaving: bool = False) -> Write:
    """Add events to a job, and take its owner away where it leaves, or is decided and needs none.

    The row's lines must be in a page already if `full_page` names one.
    """
    state, lines = row.state, tuple(map(line_of, events))
    for event in events:
        state = fold(state, event)
    moves = bool(lines) and row.full_page() is not None
    is_free = is_leaving or (bool(lines) and state is not None and state.phase in _DECIDED)
    pages = (*row.pages, row.count) if moves else row.pages
    written: dict[str, Value] = {}
    if lines and state is not None:
        written = {"phase": str(state.phase), "state": _encode_state(_bounded(state)).decode()}
    if moves:
        written |= {"pages": list(pages), "lines": list(lines)}
    change = Change(
        set=written,
        append={"lines": list(lines)} if lines and not moves else {},
        remove=("owner",) if is_free and row.owner else (),
    )
    after = replace(
        row,
        version=row.version + 1,
        owner="" if is_free else row.owner,
        state=state,
        pages=pages,
        lines=lines if moves else (*row.lines, *lines),
    )
    return change, after


def may_append(row: JobRow, event: JobEvent, owner: str) -> bool:
    """Whether a worker that is (or was) the owner may still add this event.

    An intent needs ownership: it leads to a call. What the service proved, any worker may write down.
    """
    if row.owner == owner and owner:
        return True
    match event:
        case Intent():
            return False
        case Finished() | Duplicate():
            return row.has_arn
        case Submitted():
            state = row.state
            return state is not None and state.phase in UNDECIDED and state.attempt == event.attempt
        case _:
            return not row.owner and not row.has_arn


def line_of(event: Event) -> str:
    """An event's line, checksum and all, with texts that no item could hold cut short."""
    match event:
        case JobRejected() | Finished() if len(event.message) > _LONGEST_TEXT:
            event = msgspec.structs.replace(event, message=_cut(event.message))
        case Unknown() if len(event.reason) > _LONGEST_TEXT:
            event = msgspec.structs.replace(event, reason=_cut(event.reason))
        case _:
            pass
    return encode_line(event).decode().removesuffix("\n")


def events_of(lines: Sequence[str]) -> list[Event]:
    """Decode lines. Raises LineDamagedError."""
    return [decode_line(line.encode()) for line in lines]


def read_run(item: Item) -> list[RunStarted | RunEnded]:
    """The lines of a run's item: its beginning, and its end if it has come."""
    lines = [str(item[name]) for name in ("started", "ended") if name in item]
    return [event for event in events_of(lines) if isinstance(event, RunStarted | RunEnded)]


def _bounded(state: JobState) -> JobState:
    return msgspec.structs.replace(state, message=_cut(state.message)) if len(state.message) > _LONGEST_TEXT else state


def _cut(text: str) -> str:
    return f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters)"


class Runs:
    """Writes the beginnings and ends of runs, each in one item of the partition `RUNS`, by its beginning."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._current: RunStarted | None = None

    async def write(self, event: RunStarted | RunEnded) -> bool:
        """Write a run's beginning, or the end of the run that was begun last; False where it is there already."""
        if isinstance(event, RunStarted):
            self._current = event
            await self._mark_first(event)
        run = self._current
        if run is None or run.run != event.run:
            return False
        name, follows = ("started", 0) if isinstance(event, RunStarted) else ("ended", 1)
        try:
            await self._table.write(Address(RUNS, f"{run.at}#{run.run}"), follows, Change(set={name: line_of(event)}))
        except ConflictError:
            return False
        return True

    async def first(self) -> RunStarted | None:
        """The run that was begun first."""
        item = await self._table.get(TABLE_ADDRESS)
        runs = read_run(item) if item else []
        return runs[0] if runs and isinstance(runs[0], RunStarted) else None

    async def _mark_first(self, started: RunStarted) -> None:
        """Note on the table what its first run was; the others are made against the same service."""
        item = await self._table.get(TABLE_ADDRESS)
        if item is not None and "started" in item:
            return
        change = Change(set={"format": _FORMAT, "started": line_of(started)})
        with suppress(ConflictError):
            await self._table.write(TABLE_ADDRESS, version_of(item), change)


async def check_format(table: Table, name: str) -> None:
    """Mark a new table as a ledger.

    Raises UsageError where there is no such table, LedgerError for one that this version does not understand.
    """
    try:
        item = await table.get(TABLE_ADDRESS)
        if item is None:
            await table.write(TABLE_ADDRESS, 0, Change(set={"format": _FORMAT}))
            return
    except MissingTableError as exc:
        raise UsageError(str(exc)) from exc
    except ConflictError as exc:
        item = exc.item
    if item is not None and item.get("format") != _FORMAT:
        raise LedgerError(f"the ledger {name} was made by another version of batchsubmit; update this one")
