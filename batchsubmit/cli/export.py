"""`batchsubmit export`: a ledger as a table; or the rows of a manifest whose jobs failed, as a manifest to fix."""

import asyncio
import codecs
import sys
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import click

from batchsubmit.aws import resolve_region
from batchsubmit.cli.help import READ_EXITS
from batchsubmit.cli.options import command, settings_option
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.core.job_states import has_failed
from batchsubmit.core.jobs import RunStarted
from batchsubmit.errors import EXIT_FAILED, UsageError
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.manifest.check import CheckedManifest, Terms, check_manifest
from batchsubmit.manifest.file import ManifestFile, open_manifest
from batchsubmit.manifest.rows import Reader
from batchsubmit.outputs.files import ENDINGS, ending, saving
from batchsubmit.outputs.templates import batch_now, placeholders_at
from batchsubmit.report.export import FORMATS, export_rows
from batchsubmit.report.timeline import Timeline
from batchsubmit.schema.arns import region_in
from batchsubmit.text import agreeing, counted

_MOST_NAMED = 10


@command(
    ("a table for a spreadsheet", "batchsubmit export jobs.ledger.jsonl --output jobs.csv"),
    ("and for a database", "batchsubmit export jobs.ledger.jsonl --output jobs.parquet"),
    (
        "what failed, to be fixed and submitted again",
        "batchsubmit export jobs.ledger.jsonl --failed-manifest jobs.csv --output fix.csv",
    ),
    exits=READ_EXITS | {1: "with --failed-manifest: a failed job has no row in the manifest any more"},
)
@click.argument("ledger", type=parse_location)
@click.option(
    "--format",
    "as_format",
    type=click.Choice(list(FORMATS)),
    help="The format.  [default: by --output's suffix, or csv]",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to.  [default: standard output]")
@click.option(
    "--failed-manifest",
    "manifest",
    metavar="MANIFEST",
    help="Instead, write the rows of this manifest whose jobs failed, to be fixed and submitted again.",
)
@click.option("--batch-id", metavar="TEXT", help="With --failed-manifest: which batch.  [default: the manifest's last]")
@click.option("--excel", is_flag=True, help="CSV with a byte-order mark, by which Excel knows that it is UTF-8.")
@settings_option
def export(ledger: Location, output: Path | None, settings: Settings, *, excel: bool, **given: str | None) -> int:
    """Write LEDGER as a table, one row a job: where it stands, its times, what it waited for, why it failed.

    CSV cells that a spreadsheet might run get an apostrophe in front. A file appears whole or not at all; one whose
    name ends in .gz is compressed. With --failed-manifest, exit status 1 where a failed job has no row in MANIFEST.
    """
    output = None if output == Path("-") else output
    as_format, manifest, batch = given["as_format"], given["manifest"], given["batch_id"]
    if manifest is not None:
        if as_format:
            raise UsageError("--failed-manifest writes the manifest's own format; leave --format out")
        batch = None if batch is None else batch_now(batch, settings.submit)
        return asyncio.run(_write_failed_rows(ledger, manifest, output, batch, settings, excel=excel))
    if batch is not None:
        raise UsageError("--batch-id goes with --failed-manifest")
    as_format = as_format or format_of(output)
    if excel and as_format != "csv":
        raise UsageError("--excel writes CSV; leave --format out, or give --output a name that ends in .csv")
    if as_format == "parquet" and not output:
        raise UsageError("Parquet cannot be written to standard output; give --output FILE")
    count = write_export(ledger, output, settings, as_format, excel=excel)
    if output:
        say(f"{output}: {counted(count, 'job')} of {ledger}")
    return 0


def write_export(
    ledger: Location, output: Path | None, settings: Settings, as_format: str = "", *, excel: bool = False
) -> int:
    """Write the table, by its suffix where no format is given; count the jobs. Raises UsageError, LedgerError."""
    as_format = as_format or format_of(output)
    timeline, _ = read_timeline(ledger, settings)
    with _opened(output, as_format, ledger) as file:
        if excel:
            file.write(codecs.BOM_UTF8)
        FORMATS[as_format](file, export_rows(timeline))
    return len(timeline)


def read_timeline(ledger: Location, settings: Settings) -> tuple[Timeline, list[str]]:
    """Read a whole ledger; say, and give, what had to be left out. Raises UsageError, LedgerError."""
    remarks: list[str] = []
    region = None if isinstance(ledger, Path) else resolve_region(settings.aws)
    timeline = Timeline.of(read_ledger(ledger, region=region, warn=remarks.append))
    say(*(f"{ledger}: {words}" for words in remarks))
    return timeline, remarks


def format_of(path: Path | None) -> str:
    """The format that a name asks for; CSV where it says nothing."""
    return next((name for name in FORMATS if path and ending(path) in ENDINGS[name]), "csv")


def _opened(output: Path | None, kind: str, *inputs: Location | str) -> AbstractContextManager[BinaryIO]:
    return saving(output, inputs=inputs, kind=kind) if output else nullcontext(sys.stdout.buffer)


async def _write_failed_rows(
    ledger: Location, manifest: str, output: Path | None, batch: str | None, settings: Settings, *, excel: bool
) -> int:
    """Write the rows of the failed jobs of one batch: a named one, or the manifest's last. Raises UsageError.

    The ledger has no request bodies: the rows come from the manifest, byte for byte, under its own header. They are
    found by their keys, which are made again from request, batch and ordinal.
    """
    timeline, _ = read_timeline(ledger, settings)
    models = (history.state.trained_model for history in timeline.histories())
    region = resolve_region(settings.aws) or region_in(next(filter(None, models), "")) or None
    async with open_manifest(manifest, region=region) as spooled:
        run = _run_of(timeline, spooled)
        batch = (run.batch if run else "") if batch is None else batch
        failed = {
            history.state.job: history.state.name
            for history in timeline.histories()
            if has_failed(history.state) and history.batch == batch
        }
        moment = placeholders_at(datetime.fromisoformat(run.at), settings.submit) if run else {}
        terms = Terms(batch=batch, allow_duplicates=True, keep_invalid=True, moment=moment)
        inventory = await check_manifest(spooled, settings, region=region, terms=terms)
        lines = _lines_of(inventory, failed)
        if len(lines) < len(failed):
            # Whether the run let identical rows be jobs, or recorded them as invalid, is not in the ledger.
            terms = replace(terms, allow_duplicates=False)
            lines |= _lines_of(await check_manifest(spooled, settings, region=region, terms=terms), failed)
        kind = spooled.format if output and ending(output) != ending(manifest) else ""
        if excel and spooled.format != "csv":
            raise UsageError(f"--excel writes CSV, and {manifest} is JSONL; leave it out")
        if lines:
            with _opened(output, kind, ledger, manifest) as file:
                parts = _parts(spooled.file, inventory.index.reader, set(lines.values()))
                if excel:
                    file.write(codecs.BOM_UTF8 + next(parts, b"").removeprefix(codecs.BOM_UTF8))
                file.writelines(parts)
    if run is None or run.manifest_sha256 != spooled.sha256:
        say(f"{manifest} is not the file that {ledger} was written from (its SHA-256 differs): rows go by their keys")
    without_row = [name for key, name in failed.items() if key not in lines]
    where, of_batch = output or "standard output", f" of batch {batch}" if batch else ""
    if not failed:
        say(f"no job{of_batch} in {ledger} failed; there is nothing to fix")
    say(*_failed_words(len(set(lines.values())), without_row, manifest, f"{where}: ", of_batch))
    return EXIT_FAILED if without_row else 0


def _failed_words(rows: int, without_row: list[str], manifest: str, where: str, of_batch: str) -> Iterator[str]:
    if rows:
        yield f"{where}{counted(rows, 'row')} whose {agreeing(rows, 'job', 'jobs')} failed{of_batch}"
    for name in without_row[:_MOST_NAMED]:
        yield f"  without a row in {manifest}: {name!r}; it was edited or removed since, or other [defaults] made it"
    if len(without_row) > _MOST_NAMED:
        yield f"  ... and {len(without_row) - _MOST_NAMED:,} more without a row"
    if rows:
        yield (
            "  next: fix them and submit the file with this --ledger; a row that needs no change goes out again with "
            "--retry-failed, or with another --batch-id where its job ran and failed"
        )


def _run_of(timeline: Timeline, spooled: ManifestFile) -> RunStarted | None:
    """The last run over this very manifest; else over one of its name; else the last of all."""
    runs = [run.started for run in reversed(timeline.runs)]
    same = [run for run in runs if run.manifest_sha256 == spooled.sha256]
    named = [run for run in runs if run.manifest == spooled.label]
    return next(iter([*same, *named, *runs]), None)


def _lines_of(inventory: CheckedManifest, failed: Container[str]) -> dict[str, int]:
    """Find the rows of the failed jobs, also the invalid ones: their lines by key. Raises UsageError."""
    if not inventory.is_readable:
        raise UsageError(f"{inventory.problems[0]}; no run submitted a manifest like this")
    valid = zip(inventory.index, inventory.index.lines, strict=True)
    invalid = ((event.job, line) for line, event in inventory.invalid.items())
    return {key: line for key, line in chain(valid, invalid) if key in failed}


def _parts(file: BinaryIO, reader: Reader, lines: set[int]) -> Iterator[bytes]:
    """Give what comes before the first row, then each wanted row up to the next one."""
    begin, is_wanted = 0, True
    for row in chain(reader.rows(), (None,)):
        if is_wanted:
            file.seek(begin)
            yield file.read(row.offset - begin if row else -1)
        if row:
            begin, is_wanted = row.offset, row.line in lines
