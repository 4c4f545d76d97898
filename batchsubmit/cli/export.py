"""`batchsubmit export`."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from batchsubmit.cli.options import config_option, read_settings
from batchsubmit.errors import UsageError
from batchsubmit.exits import EXIT_FAILED

if TYPE_CHECKING:
    from batchsubmit.config import Settings
    from batchsubmit.mending import Mending
    from batchsubmit.report.chronicle import Chronicle

_FORMATS = ("csv", "jsonl", "parquet")
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_MOST_NAMED = 10


@click.command(
    epilog="Example: batchsubmit export jobs.ledger.jsonl --output jobs.parquet. And to mend what failed: "
    "batchsubmit export jobs.ledger.jsonl --failed-manifest jobs.csv --output mend.csv"
)
@click.argument("ledger")
@click.option(
    "--format", "as_format", type=click.Choice(_FORMATS), help="The format.  [default: by --output's suffix, or csv]"
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
    ledger: str,
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
    from batchsubmit.report.rows import export_rows  # noqa: PLC0415 (help is fast without)
    from batchsubmit.report.tables import FORMATS  # noqa: PLC0415

    as_format = as_format or _SUFFIXES.get(output.suffix.lower() if output else "", "csv")
    if as_format == "parquet" and output is None:
        raise UsageError("Parquet cannot be written to standard output; give --output FILE")
    chronicle = _read(ledger)
    with _opened(output, ledger) as file:
        count = FORMATS[as_format](file, export_rows(chronicle))
    if output:
        click.echo(f"{output}: {count:,} jobs of {ledger}", err=True)
    return 0


def _read(ledger: str) -> "Chronicle":
    from batchsubmit.ledger.reading import read_ledger  # noqa: PLC0415 (help is fast without)
    from batchsubmit.report.chronicle import Chronicle  # noqa: PLC0415

    return Chronicle.of(read_ledger(ledger, warn=lambda words: click.echo(f"{ledger}: {words}", err=True)))


@contextmanager
def _opened(output: Path | None, *inputs: str) -> Iterator[BinaryIO]:
    if output is None or str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from batchsubmit.saving import saving  # noqa: PLC0415 (help is fast without)

    with saving(output, inputs=[Path(each) for each in inputs]) as file:
        yield file


def _mend(ledger: str, manifest: str, output: Path | None, batch: str | None, config: Path | None) -> int:
    chronicle = _read(ledger)
    mending = asyncio.run(_write_failed(chronicle, ledger, manifest, output, batch, read_settings(config)))
    for line in _words(mending, ledger, manifest, output):
        click.echo(line, err=True)
    return EXIT_FAILED if mending.without_row else 0


async def _write_failed(
    chronicle: "Chronicle", ledger: str, manifest: str, output: Path | None, batch: str | None, settings: "Settings"
) -> "Mending":
    from batchsubmit.mending import failed_rows  # noqa: PLC0415 (help is fast without)

    async with failed_rows(chronicle, manifest, settings, batch=batch) as mending:
        if mending.rows:
            with _opened(output, ledger, manifest) as file:
                file.writelines(mending.parts)
        return mending


def _words(mending: "Mending", ledger: str, manifest: str, output: Path | None) -> Iterator[str]:
    of_batch = f" of batch {mending.batch}" if mending.batch else ""
    if mending.has_changed:
        yield f"{manifest} is not the file that {ledger} was written from (its SHA-256 differs): rows go by their keys"
    if not (mending.rows or mending.without_row):
        yield f"no job{of_batch} in {ledger} failed; there is nothing to mend"
        return
    if mending.rows:
        yield f"{output or 'standard output'}: {mending.rows:,} rows whose jobs failed{of_batch}"
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
