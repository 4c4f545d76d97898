"""`batchsubmit export`."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, read_settings
from batchsubmit.cli.output import FORMATS, format_of, inputs_of, read_chronicle, write_export
from batchsubmit.errors import EXIT_FAILED, UsageError
from batchsubmit.text import agreeing, counted

if TYPE_CHECKING:
    from batchsubmit.app.failed_rows import FailedRows
    from batchsubmit.config import Settings
    from batchsubmit.ledger.base import Location
    from batchsubmit.report.timeline import TimelineBuilder

_MOST_NAMED = 10


@click.command(
    epilog=manual(
        ("a table for a spreadsheet", "batchsubmit export jobs.ledger.jsonl --output jobs.csv"),
        ("and for a database", "batchsubmit export jobs.ledger.jsonl --output jobs.parquet"),
        (
            "what failed, to be mended and submitted again",
            "batchsubmit export jobs.ledger.jsonl --failed-manifest jobs.csv --output mend.csv",
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
    "--format", "as_format", type=click.Choice(FORMATS), help="The format.  [default: by --output's suffix, or csv]"
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to.  [default: standard output]")
@click.option(
    "--failed-manifest",
    "manifest",
    metavar="MANIFEST",
    help="Instead, write the rows of this manifest whose jobs failed, to be mended and submitted again.",
)
@click.option("--batch-id", metavar="TEXT", help="With --failed-manifest: which batch.  [default: the manifest's last]")
@config_option
def export(
    ledger: "Location",
    as_format: str | None,
    output: Path | None,
    manifest: str | None,
    batch_id: str | None,
    config: Path | None,
) -> int:
    """Write LEDGER as a table, one row a job: where it stands, its times, what it waited for, why it failed.

    CSV cells that a spreadsheet might run get an apostrophe in front. A file appears whole or not at all. With
    --failed-manifest, exit status 1 where a failed job has no row in MANIFEST.
    """
    if manifest is not None:
        if as_format:
            raise UsageError("--failed-manifest writes the manifest's own format; leave --format out")
        return _mend(ledger, manifest, output, batch_id, config)
    if batch_id is not None or config is not None:
        raise UsageError("--batch-id and --config go with --failed-manifest")
    to_stdout = output is None or str(output) == "-"
    as_format = as_format or format_of(output)
    if as_format == "parquet" and to_stdout:
        raise UsageError("Parquet cannot be written to standard output; give --output FILE")
    if to_stdout or output is None:
        _print_table(ledger, as_format)
        return 0
    count = write_export(ledger, output, as_format)
    click.echo(f"{output}: {counted(count, 'job')} of {ledger}", err=True)
    return 0


def _print_table(ledger: "Location", as_format: str) -> None:
    from batchsubmit.report.export import FORMATS as WRITERS  # noqa: PLC0415
    from batchsubmit.report.export import export_rows  # noqa: PLC0415 (help is fast without)

    WRITERS[as_format](sys.stdout.buffer, export_rows(read_chronicle(ledger)))
    sys.stdout.buffer.flush()


@contextmanager
def _opened(output: Path | None, *inputs: "Location | str") -> Iterator[BinaryIO]:
    if output is None or str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from batchsubmit.outputs.files import saving  # noqa: PLC0415 (help is fast without)

    with saving(output, inputs=inputs_of(*inputs)) as file:
        yield file


def _mend(ledger: "Location", manifest: str, output: Path | None, batch: str | None, config: Path | None) -> int:
    chronicle = read_chronicle(ledger)
    mending = asyncio.run(_write_failed(chronicle, ledger, manifest, output, batch, read_settings(config)))
    for line in _words(mending, ledger, manifest, output):
        click.echo(line, err=True)
    return EXIT_FAILED if mending.without_row else 0


async def _write_failed(
    chronicle: "TimelineBuilder",
    ledger: "Location",
    manifest: str,
    output: Path | None,
    batch: str | None,
    settings: "Settings",
) -> "FailedRows":
    from batchsubmit.app.failed_rows import failed_rows  # noqa: PLC0415 (help is fast without)

    async with failed_rows(chronicle, manifest, settings, batch=batch) as mending:
        if mending.rows:
            with _opened(output, ledger, manifest) as file:
                file.writelines(mending.parts)
        return mending


def _words(mending: "FailedRows", ledger: "Location", manifest: str, output: Path | None) -> Iterator[str]:
    of_batch = f" of batch {mending.batch}" if mending.batch else ""
    if mending.has_changed:
        yield f"{manifest} is not the file that {ledger} was written from (its SHA-256 differs): rows go by their keys"
    if not (mending.rows or mending.without_row):
        yield f"no job{of_batch} in {ledger} failed; there is nothing to mend"
        return
    if mending.rows:
        rows = f"{counted(mending.rows, 'row')} whose {agreeing(mending.rows, 'job', 'jobs')} failed"
        yield f"{output or 'standard output'}: {rows}{of_batch}"
    names = list(mending.without_row.values())
    for name in names[:_MOST_NAMED]:
        yield f"  without a row in {manifest}: {name!r}; it was edited or removed since, or other [defaults] made it"
    if len(names) > _MOST_NAMED:
        yield f"  ... and {len(names) - _MOST_NAMED:,} more without a row"
    if mending.rows:
        yield (
            "  next: mend them and submit the file with this --ledger; a row that needs no change goes out again with "
            "--retry-failed, or with another --batch-id where its job ran and failed"
        )
