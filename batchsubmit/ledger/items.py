"""The table of a shared ledger: versioned items, each changed by compare-and-swap alone, and what the items are.

That every write names the version it follows makes late and repeated writes harmless. A job is one item: its folded
state, its owner, and the lines of its events. Past a few kilobytes the older lines move to pages, items of their own
that never change: a page's name says which lines it holds, so every writer of it writes the same. A page counts once
the job's item lists it. The other items are runs, claimed ARNs and the sessions of workers (`shared`).
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from batchsubmit.core import jobs
from batchsubmit.core.job_states import JobState, Phase, fold
from batchsubmit.errors import LedgerError, StoppedError
from batchsubmit.ledger.base import ClaimedArnError
from batchsubmit.ledger.lines import LineDamagedError, decode_line, encode_line

Item: TypeAlias = dict[str, Any]
"""The attributes of one item, without its address. `version` counts its writes and is the table's own."""


class Address(NamedTuple):
    """An item's partition key and sort key."""

    pk: str
    sk: str


class ConflictError(Exception):
    """The item does not have the version that a write was to follow; nothing was written. `item` is what there is."""

    def __init__(self, address: Address, item: Item | None) -> None:
        super().__init__(f"{address.pk} was changed by another")
        self.item = item


class MissingTableError(StoppedError):
    """There is no such table any more."""


class Table(Protocol):
    """Versioned items. All raise UsageError where there is no table, StoppedError where it cannot be relied on."""

    async def get(self, address: Address) -> Item | None:
        """Read an item as it is now."""

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Read those of the items that exist, each as it is now."""

    def scan(self) -> AsyncIterator[dict[Address, Item]]:
        """Read all items, some at a time."""

    async def write(self, address: Address, follows: int, values: Item) -> Item:
        """Set attributes of an item that has this version, 0 for one that does not exist; give it as it is then.

        Durable on return. Raises ConflictError.
        """


PAGE_CHARACTERS = 16_384
"""Lines of a job's own item before they move to a page. DynamoDB bills a write by the item's size and refuses an item
above 400 KB; an ordinary job ends with about 1 KB."""

_LONGEST_TEXT = 8_192
JOB = "job"
"""The sort key of a job's own item, which no other item has."""

RUNS = "runs"
TABLE_ADDRESS = Address("ledger", "ledger")
"""What is true of the whole table: its format, and its first run, against the service or a sandbox like all others."""

_FORMAT = 1
_DECIDED = frozenset({Phase.SUBMITTED, Phase.FINISHED, Phase.REJECTED})


def job_address(key: str) -> Address:
    """The address of a job."""
    return Address(f"job#{key}", JOB)


def page_address(key: str, start: int, end: int) -> Address:
    """The address of a job's lines from `start` up to `end`."""
    return Address(f"job#{key}", f"lines#{start:08d}-{end:08d}")


def arn_address(arn: str) -> Address:
    """The address of an ARN, whose item has its job."""
    return Address(f"arn#{arn}", "arn")


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job's item. `pages` are the ends of its pages, `lines` what came after the last of them."""

    key: str
    version: int = 0
    owner: str = ""
    state: JobState | None = None
    pages: tuple[int, ...] = ()
    lines: tuple[str, ...] = ()

    @classmethod
    def read(cls, key: str, item: Item | None) -> "JobRow":
        """Read an item; none is a job that nobody ever claimed. Raises StoppedError."""
        members = {**(item or {}), "key": key}
        try:
            if "state" in members:
                members["state"] = msgspec.json.decode(members["state"])
            return msgspec.convert(members, cls)
        except (msgspec.MsgspecError, TypeError) as exc:
            raise StoppedError(
                f"job {key} in the table is damaged, or was written by a version that this one cannot read: {exc}"
            ) from exc

    @property
    def count(self) -> int:
        """How many events the job has."""
        return (self.pages[-1] if self.pages else 0) + len(self.lines)

    @property
    def has_arn(self) -> bool:
        """Whether the job is submitted, and needs no owner any more."""
        return self.state is not None and self.state.phase in {Phase.SUBMITTED, Phase.FINISHED}


async def set_owner(table: Table, row: JobRow, owner: str) -> JobRow:
    """Claim a job, or with no owner give it up. Raises ConflictError where the job is not as `row` has it."""
    return JobRow.read(row.key, await table.write(job_address(row.key), row.version, {"owner": owner}))


async def append_event(table: Table, row: JobRow, event: jobs.JobEvent) -> JobRow:
    """Add an event to a job, and take its owner away where it is decided. Raises as `set_owner` does."""
    state, lines = fold(row.state, event), [*row.lines, line_of(event)]
    values: Item = {"phase": str(state.phase), "state": msgspec.json.encode(_bounded(state)).decode(), "lines": lines}
    if sum(map(len, row.lines)) >= PAGE_CHARACTERS:
        with suppress(ConflictError):  # the page is there: it can have no other content
            page = page_address(row.key, row.count - len(row.lines), row.count)
            await table.write(page, 0, {"lines": row.lines})
        values |= {"lines": lines[-1:], "pages": [*row.pages, row.count]}
    if state.phase in _DECIDED and row.owner:
        values["owner"] = ""
    return JobRow.read(row.key, await table.write(job_address(row.key), row.version, values))


async def claim_arn(table: Table, event: jobs.JobEvent) -> None:
    """Write down whose the ARN is that an event names, if it names one. Raises ClaimedArnError."""
    if not isinstance(event, jobs.JobSubmitted | jobs.Duplicate):
        return
    try:
        await table.write(arn_address(event.arn), 0, {"job": event.job})
    except ConflictError as exc:
        owner = str((exc.item or {}).get("job", ""))
        if owner not in {"", event.job}:
            raise ClaimedArnError(event.arn, owner) from exc


def line_of(event: jobs.Event) -> str:
    """An event's line, checksum and all, with texts that no item could hold cut short."""
    return encode_line(_bounded(event)).decode().removesuffix("\n")


def _bounded(value: Any) -> Any:  # noqa: ANN401 (an event or a state)
    texts = {name: getattr(value, name, "") for name in ("message", "reason")}
    long = {name: text for name, text in texts.items() if len(text) > _LONGEST_TEXT}
    cut = {name: f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters)" for name, text in long.items()}
    return msgspec.structs.replace(value, **cut) if cut else value


def run_events(item: Item, of: str) -> list[jobs.Event]:
    """Decode a run's item: its beginning, and its end if it has come. Raises LedgerError."""
    return events_of([str(item[name]) for name in ("started", "ended") if name in item], of)


def events_of(lines: Sequence[str], of: str) -> list[jobs.Event]:
    """Decode the lines of a job or a run. Raises LedgerError."""
    events: list[jobs.Event] = []
    for line in lines:
        try:
            events.append(decode_line(line.encode()))
        except LineDamagedError as exc:
            raise LedgerError(f"the ledger is damaged at event {len(events) + 1} of {of}: {exc}") from exc
    return events


async def write_run(table: Table, run: jobs.RunStarted | None, event: jobs.RunStarted | jobs.RunEnded) -> None:
    """Write the beginning of `run`, or its end, unless that is there already."""
    if run is None or run.run != event.run:
        return
    if event is run:
        item = await table.get(TABLE_ADDRESS) or {"version": 0}
        if "started" not in item:
            with suppress(ConflictError):
                await table.write(TABLE_ADDRESS, item["version"], {"format": _FORMAT, "started": line_of(run)})
    name, follows = ("started", 0) if event is run else ("ended", 1)
    with suppress(ConflictError):
        await table.write(Address(RUNS, f"{run.at}#{run.run}"), follows, {name: line_of(event)})


async def check_format(table: Table, name: str) -> list[jobs.Event]:
    """Mark a new table as a ledger; give the beginning of its first run, which says what all are made against.

    Raises UsageError where there is no such table, LedgerError for one that this version does not understand.
    """
    try:
        item = await table.get(TABLE_ADDRESS)
        item = item or await table.write(TABLE_ADDRESS, 0, {"format": _FORMAT})
    except ConflictError as exc:
        item = exc.item or {}
    if item.get("format") != _FORMAT:
        raise LedgerError(f"the ledger {name} was made by another version of batchsubmit; update this one")
    return run_events(item, f"the first run in {name}")
