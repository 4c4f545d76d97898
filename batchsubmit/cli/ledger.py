"""`batchsubmit ledger`: the table that a fleet shares, and the way into it and out of it."""

import asyncio
import json
from pathlib import Path

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, json_option, read_settings, region_for
from batchsubmit.cli.output import say
from batchsubmit.errors import UsageError
from batchsubmit.ledger.base import Location, TableLocation, parse_location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.ledger.transfer import export_events, import_file, make_table
from batchsubmit.text import counted

_EXITS = {
    0: "done, or there was nothing to do",
    1: "",
    2: "usage or settings wrong, or there is no such table or file",
    3: "DynamoDB does not answer, or workers are at the table: run it again",
    4: "the ledger is in use or damaged, or the two contradict each other",
}


_EXAMPLES = {
    "create-table": ("make a table, then share it", "batchsubmit ledger create-table batchsubmit-jobs"),
    "import": (
        "bring a ledger file into it; may be repeated",
        "batchsubmit ledger import jobs.ledger.jsonl dynamodb://batchsubmit-jobs",
    ),
    "export": (
        "and a copy of it into a file",
        "batchsubmit ledger export dynamodb://batchsubmit-jobs copy.ledger.jsonl",
    ),
}


@click.group(epilog=manual(*_EXAMPLES.values(), exits=_EXITS))
def ledger() -> None:
    """Make the DynamoDB table of a shared ledger, and move ledgers between files and tables."""


@ledger.command("create-table", epilog=manual(_EXAMPLES["create-table"], exits=_EXITS))
@click.argument("table")
@config_option
@json_option
def create_table(table: str, config: Path | None, *, as_json: bool) -> int:
    """Make the table, billed by request.

    Waits until it can be used as --ledger dynamodb://TABLE.
    """
    location = _table(parse_location(table if "://" in table else f"dynamodb://{table}"))
    asyncio.run(make_table(location, region_for(location, config)))
    say(f"{location} is ready")
    if as_json:
        click.echo(json.dumps({"ledger": str(location)}))
    return 0


@ledger.command("import", epilog=manual(_EXAMPLES["import"], exits=_EXITS))
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("table", type=LEDGER)
@config_option
@json_option
def import_table(file: Path, table: Location, config: Path | None, *, as_json: bool) -> int:
    """Write a ledger file's events into a table.

    Run it again to go on after an interruption: what the table has already is left alone. Let the runs on the file end
    first.
    """
    settings, location = read_settings(config), _table(table)
    written, known = asyncio.run(import_file(file, location, settings, region_for(location, config)))
    say(f"{location}: {counted(written, 'job')} written, {known:,} had nothing new")
    if as_json:
        click.echo(json.dumps({"ledger": str(location), "written": written, "known": known}))
    return 0


@ledger.command("export", epilog=manual(_EXAMPLES["export"], exits=_EXITS))
@click.argument("table", type=LEDGER)
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@json_option
def export_table(table: Location, file: Path, config: Path | None, *, as_json: bool) -> int:
    """Write a table's events into a new file.

    They stand there by time and each job's in their order, checksums and all.
    """
    location = _table(table)
    written = export_events(read_ledger(location, region=region_for(location, config)), file)
    say(f"{file}: {counted(written, 'event')}")
    if as_json:
        click.echo(json.dumps({"ledger": str(file), "events": written}))
    return 0


def _table(location: Location) -> TableLocation:
    if isinstance(location, Path):
        raise UsageError(f"{location} is no table; write dynamodb:// and the table's name")
    return location
