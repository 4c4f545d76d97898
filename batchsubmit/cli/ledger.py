"""`batchsubmit ledger`: the table that a fleet shares, and the way into it and out of it, event by event.

An import can be repeated: a job that went on in the table is left alone; one of which the table has the first events
gets the others; one whose events in the table are others is refused. An export is what one run would have written.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from batchsubmit.aws import resolve_region
from batchsubmit.cli.help import EXITS, manual
from batchsubmit.cli.options import command, conclude, settings_and_json
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Event, JobEvent, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.base import ClaimedArnError
from batchsubmit.ledger.dynamodb import open_table
from batchsubmit.ledger.file import keep_runs_off, write_ledger
from batchsubmit.ledger.items import (
    ConflictError,
    JobRow,
    Table,
    append_event,
    check_format,
    claim_arn,
    line_of,
    write_run,
)
from batchsubmit.ledger.lines import Chain, encode_line
from batchsubmit.ledger.location import Location, TableLocation, parse_location
from batchsubmit.ledger.read import read_events, read_ledger
from batchsubmit.text import counted

_JOBS_AT_ONCE = 32
_TRIES = 5

_EXITS = {
    0: EXITS[0],
    2: "usage or settings wrong, or there is no such table or file",
    3: "DynamoDB does not answer, or workers are at the table: run it again",
    4: "the ledger is in use or damaged, or the two contradict each other",
}

_CREATE = ("make a table, then share it", "batchsubmit ledger create-table batchsubmit-jobs")
_IMPORT = (
    "bring a ledger file into it; may be repeated",
    "batchsubmit ledger import jobs.ledger.jsonl dynamodb://batchsubmit-jobs",
)
_EXPORT = ("and a copy of it into a file", "batchsubmit ledger export dynamodb://batchsubmit-jobs copy.ledger.jsonl")


@command(_CREATE, exits=_EXITS, name="create-table")
@click.argument("table")
@settings_and_json
def create_table(table: str, settings: Settings, *, as_json: bool) -> int:
    """Make the table, billed by request.

    Waits until it can be used as --ledger dynamodb://TABLE.
    """
    location = _table(parse_location(table if "://" in table else f"dynamodb://{table}"))
    asyncio.run(_make_table(location, resolve_region(settings.aws)))
    return conclude([f"{location} is ready"], {"ledger": str(location)}, as_json=as_json)


@command(_IMPORT, exits=_EXITS, name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("table", type=parse_location)
@settings_and_json
def import_table(file: Path, table: Location, settings: Settings, *, as_json: bool) -> int:
    """Write a ledger file's events into a table.

    Run it again to go on after an interruption: what the table has already is left alone. Let the runs on the file end
    first.
    """
    location = _table(table)
    written, known = asyncio.run(_import_file(file, location, settings))
    words = f"{location}: {counted(written, 'job')} written, {known:,} had nothing new"
    return conclude([words], {"ledger": str(location), "written": written, "known": known}, as_json=as_json)


@command(_EXPORT, exits=_EXITS, name="export")
@click.argument("table", type=parse_location)
@click.argument("file", type=click.Path(path_type=Path))
@settings_and_json
def export_table(table: Location, file: Path, settings: Settings, *, as_json: bool) -> int:
    """Write a table's events into a new file.

    They stand there by time and each job's in their order, checksums and all.
    """
    events = read_ledger(_table(table), region=resolve_region(settings.aws))
    written = export_events(events, file)
    words = f"{file}: {counted(written, 'event')}"
    return conclude([words], {"ledger": str(file), "events": written}, as_json=as_json)


ledger = click.Group(
    "ledger",
    commands=(create_table, import_table, export_table),
    help="Make the DynamoDB table of a shared ledger, and move ledgers between files and tables.",
    epilog=manual(_CREATE, _IMPORT, _EXPORT, exits=_EXITS),
)


def _table(location: Location) -> TableLocation:
    if isinstance(location, Path):
        raise UsageError(f"{location} is no table; write dynamodb:// and the table's name")
    return location


async def _make_table(location: TableLocation, region: str | None) -> None:
    """Make a table and mark it as a ledger. Raises UsageError, StoppedError."""
    async with open_table(location.table, region=region, concurrency=1) as table:
        await table.create()
        await check_format(table, str(location))


async def _import_file(path: Path, location: TableLocation, settings: Settings) -> tuple[int, int]:
    """Write a file's events into a table, as `import_events` does. Raises UsageError, LedgerError, StoppedError."""
    region, concurrency = resolve_region(settings.aws), settings.submit.concurrency
    with keep_runs_off(path) as file:
        async with open_table(location.table, region=region, concurrency=concurrency) as table:
            await check_format(table, str(location))
            return await import_events(read_events(file, path, Chain()), table)


async def import_events(events: Iterable[Event], table: Table) -> tuple[int, int]:
    """Write events into a table; count the jobs written, and those with nothing new. Raises as `_import_file` does."""
    run: RunStarted | None = None
    by_job: dict[str, list[JobEvent]] = {}
    for event in events:
        if isinstance(event, RunStarted | RunEnded):
            run = event if isinstance(event, RunStarted) else run
            await write_run(table, run, event)
        else:
            by_job.setdefault(event.job, []).append(event)
    jobs, written = list(by_job.items()), 0
    for start in range(0, len(jobs), _JOBS_AT_ONCE):
        some = (_import_job(key, of_job, table) for key, of_job in jobs[start : start + _JOBS_AT_ONCE])
        written += sum(await asyncio.gather(*some))
    return written, len(jobs) - written


async def _import_job(key: str, events: Sequence[JobEvent], table: Table) -> bool:
    """Write what the table lacks of a job; say whether that was anything."""
    row, is_written, lines = JobRow(key=key), False, list(map(line_of, events))
    for _ in range(_TRIES + len(events)):
        _refuse_contradiction(row, lines)
        if row.count >= len(events):
            return is_written
        try:
            await claim_arn(table, events[row.count])
            row, is_written = await append_event(table, row, events[row.count]), True
        except ConflictError as exc:
            row = JobRow.read(key, exc.item)
        except ClaimedArnError as exc:
            raise LedgerError(f"the table has {exc.arn} as that of job {exc.owner}, the file as that of {key}") from exc
    raise LedgerError(f"job {key} changes while it is imported; let the workers on the table end first")


def _refuse_contradiction(row: JobRow, lines: Sequence[str]) -> None:
    start, both = row.count - len(row.lines), min(row.count, len(lines))
    if row.lines[: max(both - start, 0)] != tuple(lines[start:both]):
        raise LedgerError(
            f"the table and the file have different events of job {row.key} from event {start + 1} on; "
            "nothing was written about it. The file is not where the table's jobs came from"
        )
    if row.owner and row.count < len(lines):
        raise LedgerError(f"job {row.key} is claimed by {row.owner}; let the workers on the table end first")


def export_events(events: Iterable[Event], path: Path) -> int:
    """Write events into a new file, and count them. Raises UsageError where there is one or none can be made."""
    if path.exists():
        raise UsageError(f"{path} exists; name a new file")
    lines = list(map(encode_line, events))
    try:
        write_ledger(path, lines)
    except OSError as exc:
        raise UsageError(f"the ledger cannot be written to {path}: {exc.strerror}") from exc
    return len(lines)
