"""`batchsubmit export`."""

import asyncio
import codecs
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click

from batchsubmit.app.failed_rows import FailedRows, failed_rows
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, read_settings, region_for
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.errors import EXIT_FAILED, UsageError
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.read import read_entries
from batchsubmit.outputs.files import ENDINGS, ending, saving
from batchsubmit.outputs.templates import batch_now
from batchsubmit.report.export import FORMATS, export_rows
from batchsubmit.report.timeline import Timeline
from batchsubmit.text import agreeing, counted

_MOST_NAMED = 10


@click.command(
    epilog=manual(
        ("a table for a spreadsheet", "batchsubmit export jobs.ledger.jsonl --output jobs.csv"),
        ("and for a database", "batchsubmit export jobs.ledger.jsonl --output jobs.parquet"),
        (
            "what failed, to be fixed and submitted again",
            "batchsubmit export jobs.ledger.jsonl --failed-manifest jobs.csv --output fix.csv",
        ),
        exits={
            0: "written, whatever the jobs' state",
            1: "with --failed-manifest: a failed job has no row in the manifest any more",
            2: "ledger or manifest cannot be read, or the file not written",
            3: "",
            4: "the ledger is damaged before its end",
        },
    )
)
@click.argument("ledger", type=LEDGER)
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
@config_option
def export(
    ledger: Location,
    as_format: str | None,
    output: Path | None,
    manifest: str | None,
    batch_id: str | None,
    config: Path | None,
    *,
    excel: bool,
) -> int:
    """Write LEDGER as a table, one row a job: where it stands, its times, what it waited for, why it failed.

    CSV cells that a spreadsheet might run get an apostrophe in front. A file appears whole or not at all; one whose
    name ends in .gz is compressed. With --failed-manifest, exit status 1 where a failed job has no row in MANIFEST.
    """
    if output == Path("-"):
        output = None
    if manifest is not None:
        if as_format:
            raise UsageError("--failed-manifest writes the manifest's own format; leave --format out")
        settings = read_settings(config, submit={"batch_id": batch_id})
        given = None if batch_id is None else batch_now(settings.submit)
        return asyncio.run(_write_failed_rows(ledger, manifest, output, given, settings, excel=excel))
    if batch_id is not None or config is not None:
        raise UsageError("--batch-id and --config go with --failed-manifest")
    as_format = as_format or format_of(output)
    if excel and as_format != "csv":
        raise UsageError("--excel writes CSV; leave --format out, or give --output a name that ends in .csv")
    if as_format == "parquet" and not output:
        raise UsageError("Parquet cannot be written to standard output; give --output FILE")
    count = write_export(ledger, output, as_format, excel=excel)
    if output:
        say(f"{output}: {counted(count, 'job')} of {ledger}")
    return 0


def write_export(ledger: Location, output: Path | None, as_format: str | None = None, *, excel: bool = False) -> int:
    """Write the table, in the format of its suffix where none is given; give the number of jobs.

    Raises UsageError, LedgerError.
    """
    as_format = as_format or format_of(output)
    timeline = read_timeline(ledger)
    with _opened(output, as_format, ledger) as file:
        if excel:
            file.write(codecs.BOM_UTF8)
        FORMATS[as_format](file, export_rows(timeline))
    return len(timeline)


def read_timeline(ledger: Location, note: Callable[[str], object] = lambda _: None) -> Timeline:
    """Read a whole ledger; say to the user and to `note` what had to be left out. Raises UsageError, LedgerError."""

    def warn(words: str) -> None:
        note(words)
        say(f"{ledger}: {words}")

    return Timeline.of(read_entries(ledger, region=region_for(ledger), warn=warn))


def format_of(path: Path | None) -> str:
    """The format that a name asks for; CSV where it says nothing."""
    return next((name for name in FORMATS if path and ending(path) in ENDINGS[name]), "csv")


def _opened(output: Path | None, kind: str, *inputs: Location | str) -> AbstractContextManager[BinaryIO]:
    return saving(output, inputs=inputs, kind=kind) if output else nullcontext(sys.stdout.buffer)


async def _write_failed_rows(
    ledger: Location, manifest: str, output: Path | None, batch: str | None, settings: Settings, *, excel: bool
) -> int:
    async with failed_rows(read_timeline(ledger), manifest, settings, batch=batch) as failed:
        kind = failed.format if output and ending(output) != ending(manifest) else ""
        if excel and failed.format != "csv":
            raise UsageError(f"--excel writes CSV, and {manifest} is JSONL; leave it out")
        if failed.rows:
            with _opened(output, kind, ledger, manifest) as file:
                if excel:
                    file.write(codecs.BOM_UTF8 + next(failed.parts, b"").removeprefix(codecs.BOM_UTF8))
                file.writelines(failed.parts)
    for line in _words(failed, ledger, manifest, output):
        say(line)
    return EXIT_FAILED if failed.without_row else 0


def _words(failed: FailedRows, ledger: Location, manifest: str, output: Path | None) -> Iterator[str]:
    of_batch = f" of batch {failed.batch}" if failed.batch else ""
    if failed.has_changed:
        yield f"{manifest} is not the file that {ledger} was written from (its SHA-256 differs): rows go by their keys"
    if not (failed.rows or failed.without_row):
        yield f"no job{of_batch} in {ledger} failed; there is nothing to fix"
        return
    if failed.rows:
        rows = f"{counted(failed.rows, 'row')} whose {agreeing(failed.rows, 'job', 'jobs')} failed"
        yield f"{output or 'standard output'}: {rows}{of_batch}"
    names = list(failed.without_row.values())
    for name in names[:_MOST_NAMED]:
        yield f"  without a row in {manifest}: {name!r}; it was edited or removed since, or other [defaults] made it"
    if len(names) > _MOST_NAMED:
        yield f"  ... and {len(names) - _MOST_NAMED:,} more without a row"
    if failed.rows:
        yield (
            "  next: fix them and submit the file with this --ledger; a row that needs no change goes out again with "
            "--retry-failed, or with another --batch-id where its job ran and failed"
        )
