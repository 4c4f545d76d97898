"""Moves a ledger from a file into a table and back, event by event, however many there are.

An import can be repeated: a job that went on in the table is left alone; one of which the table has the first events
gets the others; one of which it tells another story is refused. An export is what one run would have written.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, groupby, islice
from pathlib import Path

from batchsubmit.config import Settings
from batchsubmit.core.jobs import Duplicate, Event, JobEvent, RunEnded, RunStarted, Submitted
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.codec import decode_line, encode_line
from batchsubmit.ledger.dynamodb import DynamoTable, MissingTableError, create_table, open_dynamodb, open_table
from batchsubmit.ledger.items import JobRow, Runs, job_address, line_of, to_append
from batchsubmit.ledger.job_writer import claim_arn, write_page
from batchsubmit.ledger.location import TableLocation
from batchsubmit.ledger.open import check_format
from batchsubmit.ledger.read import read_ledger
from batchsubmit.ledger.scan import Keyed, sort_lines
from batchsubmit.ledger.storage import sync_folder
from batchsubmit.ledger.table import ConflictError, Table

_JOBS_AT_ONCE = 32
_CHARACTERS_A_WRITE = 200_000
"""Half of what an item may have: all events of any ordinary job arrive together."""

_TRIES = 5


@dataclass(slots=True)
class Imported:
    """What an import did: jobs that it wrote, and those that had nothing new."""

    written: int = 0
    known: int = 0


async def import_events(events: Iterable[Event], table: Table) -> Imported:
    """Write the events of a file into a table. Raises LedgerError where the two contradict each other, StoppedError."""
    done = Imported()
    stories = _by_job(events)
    runs: Runs | None = Runs(table)
    while some := list(islice(stories, _JOBS_AT_ONCE)):
        if runs is not None and not some[0][0]:
            await runs.import_all(event for event in some.pop(0)[1] if isinstance(event, RunStarted | RunEnded))
        runs = None
        stories_of_jobs = [[event for event in own if not isinstance(event, RunStarted | RunEnded)] for _, own in some]
        for has_written in await asyncio.gather(*(_import_job(story, table) for story in stories_of_jobs)):
            done.written += has_written
            done.known += not has_written
    return done


def _by_job(events: Iterable[Event]) -> Iterator[tuple[str, list[Event]]]:
    """All events of each job together, in their order; the runs, which are of no job, come first."""
    keyed = (
        (getattr(event, "job", ""), number, encode_line(event).removesuffix(b"\n"))
        for number, event in enumerate(events)
    )
    for key, lines in groupby(sort_lines(keyed), key=lambda line: line[0]):
        yield key, [decode_line(line) for _, _, line in lines]


async def _import_job(story: Sequence[JobEvent], table: Table) -> bool:
    """Write what the table lacks of a job; say whether that was anything."""
    key, lines = story[0].job, [line_of(event) for event in story]
    row, has_written = JobRow(key=key), False
    for _ in range(_TRIES):
        _refuse_contradiction(row, lines)
        events = _next_write(story[row.count :])
        if not events:
            return has_written
        await _claim_arns(events, table)
        page = row.full_page()
        if page is not None:
            await write_page(table, page, row.lines)
        change, after = to_append(row, events)
        try:
            await table.write(job_address(key), row.version, change)
        except ConflictError as exc:
            row = JobRow.read(key, exc.item)
        else:
            row, has_written = after, True
    raise LedgerError(f"job {key} changes while it is imported; let the workers on the table end first")


def _refuse_contradiction(row: JobRow, lines: Sequence[str]) -> None:
    start = row.count - len(row.lines)
    both = min(row.count, len(lines))
    if row.lines[: max(both - start, 0)] != tuple(lines[start:both]):
        raise LedgerError(
            f"the table and the file tell different stories of job {row.key} from event {start + 1} on; "
            "nothing was written about it. The file is not where the table's jobs came from"
        )
    if row.owner and row.count < len(lines):
        raise LedgerError(f"job {row.key} is in the hands of {row.owner}; let the workers on the table end first")


def _next_write(events: Sequence[JobEvent]) -> list[JobEvent]:
    size = 0
    taken: list[JobEvent] = []
    for event in events:
        size += len(line_of(event))
        if taken and size > _CHARACTERS_A_WRITE:
            break
        taken.append(event)
    return taken


async def _claim_arns(events: Iterable[JobEvent], table: Table) -> None:
    for event in events:
        if isinstance(event, Submitted | Duplicate):
            other = await claim_arn(table, event.arn, event.job)
            if other:
                raise LedgerError(f"the table has {event.arn} as that of job {other}, the file as that of {event.job}")


def export_events(events: Iterable[Event], path: Path) -> int:
    """Write events into a new file by their time, each job's in their order; give their number.

    The file has its name only once it is whole. Raises UsageError where there is one already or none can be made.
    """
    if path.exists():
        raise UsageError(f"{path} exists; name a new file")
    partial = path.with_name(f"{path.name}.partial")
    written = 0
    try:
        with partial.open("wb") as file:
            for _, _, line in sort_lines(_by_time(events)):
                file.write(line + b"\n")
                written += 1
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        sync_folder(path.parent)
    except OSError as exc:
        raise UsageError(f"the ledger cannot be written to {path}: {exc.strerror}") from exc
    return written


def _by_time(events: Iterable[Event]) -> Iterator[Keyed]:
    """Key each event by its time, but none earlier than the one before it of its job: clocks differ, and step."""
    number = count()
    for _, own in groupby(events, key=lambda event: getattr(event, "job", "")):
        latest = ""
        for event in own:
            is_run = isinstance(event, RunStarted | RunEnded)
            latest = event.at if is_run else max(latest, event.at)
            yield latest, next(number), encode_line(event).removesuffix(b"\n")


async def make_table(location: TableLocation, region: str | None) -> None:
    """Make a table and mark it as a ledger. Raises UsageError, StoppedError."""
    async with open_dynamodb(region=region, concurrency=1) as client:
        await create_table(client, location.table)
        await check_format(DynamoTable(client, location.table), str(location))


async def move_in(file: Path, location: TableLocation, settings: Settings, region: str | None) -> Imported:
    """Write a file's events into a table. Raises UsageError, LedgerError, StoppedError."""
    with _at_rest(file):
        async with open_table(location.table, region=region, concurrency=settings.submit.concurrency) as table:
            try:
                await check_format(table, str(location))
            except MissingTableError as exc:
                raise UsageError(str(exc)) from exc
            return await import_events(read_ledger(file), table)


@contextmanager
def _at_rest(file: Path) -> Iterator[None]:
    """Keep runs off a file while it is read: what they wrote meanwhile would be missing in the table."""
    try:
        with file.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise LedgerError(f"a run writes to {file}; wait for it to end, then import it") from None
    except OSError as exc:
        raise UsageError(f"the ledger {file} cannot be read: {exc.strerror}") from exc
