"""Moves a ledger from a file into a table and back, event by event. The events, as lines, are held in memory.

An import can be repeated: a job that went on in the table is left alone; one of which the table has the first events
gets the others; one whose events in the table are others is refused. An export is what one run would have written.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batchsubmit.config import Settings
from batchsubmit.core.jobs import Event, JobEvent, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.base import ClaimedArnError, TableLocation
from batchsubmit.ledger.codec import encode_line
from batchsubmit.ledger.dynamodb import DynamoTable, create_table, open_dynamodb, open_table
from batchsubmit.ledger.items import JobRow, Runs, check_format, events_of, job_address, line_of, to_append
from batchsubmit.ledger.job_writer import claim_arn, write_page
from batchsubmit.ledger.read import read_events
from batchsubmit.ledger.storage import keep_runs_off, write_ledger
from batchsubmit.ledger.table import ConflictError, Table

_JOBS_AT_ONCE = 32
_EVENTS_A_WRITE = 8
"""An item holds 400 KB, and the longest event takes 33: an ordinary job has all of its events in one write."""

_TRIES = 5


@dataclass(slots=True)
class Imported:
    """What an import did: jobs that it wrote, and those that had nothing new."""

    written: int = 0
    known: int = 0


async def import_events(events: Iterable[Event], table: Table) -> Imported:
    """Write the events of a file into a table. Raises LedgerError where the two contradict each other, StoppedError."""
    runs, lines_by_job = Runs(table), dict[str, list[str]]()
    for event in events:
        if isinstance(event, RunStarted | RunEnded):
            await runs.write(event)
        else:
            lines_by_job.setdefault(event.job, []).append(line_of(event))
    done, jobs = Imported(), iter(lines_by_job.items())
    while some := list(islice(jobs, _JOBS_AT_ONCE)):
        for has_written in await asyncio.gather(*(_import_job(key, lines, table) for key, lines in some)):
            done.written += has_written
            done.known += not has_written
    return done


async def _import_job(key: str, lines: Sequence[str], table: Table) -> bool:
    """Write what the table lacks of a job; say whether that was anything."""
    row, written, tries = JobRow(key=key), False, 0
    while tries < _TRIES:
        _refuse_contradiction(row, lines)
        some = events_of(lines[row.count : row.count + _EVENTS_A_WRITE])
        events = [event for event in some if not isinstance(event, RunStarted | RunEnded)]
        if not events:
            return written
        try:
            row, written = await _append(row, events, table), True
        except ConflictError as exc:
            row, tries = JobRow.read(key, exc.item), tries + 1
    raise LedgerError(f"job {key} changes while it is imported; let the workers on the table end first")


async def _append(row: JobRow, events: Sequence[JobEvent], table: Table) -> JobRow:
    try:
        for event in events:
            await claim_arn(table, event)
    except ClaimedArnError as exc:
        raise LedgerError(f"the table has {exc.arn} as that of job {exc.owner}, the file as that of {row.key}") from exc
    await write_page(table, row)
    change, after = to_append(row, events)
    await table.write(job_address(row.key), row.version, change)
    return after


def _refuse_contradiction(row: JobRow, lines: Sequence[str]) -> None:
    start = row.count - len(row.lines)
    both = min(row.count, len(lines))
    if row.lines[: max(both - start, 0)] != tuple(lines[start:both]):
        raise LedgerError(
            f"the table and the file have different events of job {row.key} from event {start + 1} on; "
            "nothing was written about it. The file is not where the table's jobs came from"
        )
    if row.owner and row.count < len(lines):
        raise LedgerError(f"job {row.key} is claimed by {row.owner}; let the workers on the table end first")


def export_events(events: Iterable[Event], path: Path) -> int:
    """Write events into a new file by their time, each job's in their order; return their number.

    The file has its name only once it is whole. Raises UsageError where there is one already or none can be made.
    """
    if path.exists():
        raise UsageError(f"{path} exists; name a new file")
    lines = sorted(_timed_lines(events), key=lambda line: line[0])
    try:
        write_ledger(path, (line for _, line in lines))
    except OSError as exc:
        raise UsageError(f"the ledger cannot be written to {path}: {exc.strerror}") from exc
    return len(lines)


def _timed_lines(events: Iterable[Event]) -> Iterator[tuple[str, bytes]]:
    """Give each event its time, but none earlier than the one before it of its job: clocks differ, and step."""
    job, latest = "", ""
    for event in events:
        before, job = job, getattr(event, "job", "")
        latest = max(latest, event.at) if job and job == before else event.at
        yield latest, encode_line(event)


async def make_table(location: TableLocation, region: str | None) -> None:
    """Make a table and mark it as a ledger. Raises UsageError, StoppedError."""
    async with open_dynamodb(region=region, concurrency=1) as client:
        await create_table(client, location.table)
        await check_format(DynamoTable(client, location.table), str(location))


async def import_file(path: Path, location: TableLocation, settings: Settings, region: str | None) -> Imported:
    """Write a file's events into a table. Raises UsageError, LedgerError, StoppedError."""
    with keep_runs_off(path) as file:
        async with open_table(location.table, region=region, concurrency=settings.submit.concurrency) as table:
            await check_format(table, str(location))
            return await import_events(read_events(file, path), table)
