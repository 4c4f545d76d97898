"""`batchsubmit ledger`: the table that a fleet shares, and the way into it and out of it."""

import asyncio
from pathlib import Path

import click

from batchsubmit.aws import resolve_region
from batchsubmit.cli.help import EXITS, manual
from batchsubmit.cli.options import command, conclude, settings_and_json
from batchsubmit.config import Settings
from batchsubmit.errors import UsageError
from batchsubmit.ledger.base import Location, TableLocation, parse_location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.ledger.transfer import export_events, import_file, make_table
from batchsubmit.text import counted

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
    asyncio.run(make_table(location, resolve_region(settings.aws)))
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
    written, known = asyncio.run(import_file(file, location, settings, resolve_region(settings.aws)))
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
