"""`export --failed-manifest`: the rows of a manifest whose jobs failed, as a manifest to fix and submit.

The ledger has no request bodies, so the rows come from the manifest that was submitted, byte for byte, under its own
header. They are found by their keys, which are made again from request, batch and ordinal.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO

from batchsubmit.aws import resolve_region
from batchsubmit.config import Settings
from batchsubmit.errors import UsageError
from batchsubmit.manifest.check import Terms, open_reader, take_inventory
from batchsubmit.manifest.file import Format, ManifestFile, open_manifest
from batchsubmit.manifest.rows import Reader
from batchsubmit.outputs.templates import placeholders_at
from batchsubmit.report.timeline import RunSpan, Timeline
from batchsubmit.schema import RequestChecker
from batchsubmit.schema.arns import region_in


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRows:
    """What there is to fix: how many rows, and the failed jobs (key to name) without a row in the manifest.

    `has_changed`: the manifest is not the one that the ledger's run was given. `parts` is the new manifest.
    """

    batch: str
    format: Format
    rows: int
    parts: Iterator[bytes]
    without_row: Mapping[str, str]
    has_changed: bool


@asynccontextmanager
async def failed_rows(
    timeline: Timeline, manifest: str, settings: Settings, *, batch: str | None = None
) -> AsyncIterator[FailedRows]:
    """Find the rows of the failed jobs of one batch: a named one, or the manifest's last.

    Raises UsageError where the manifest or its header cannot be read.
    """
    models = (history.state.trained_model for history in timeline.histories())
    region = resolve_region(settings.aws) or region_in(next(filter(None, models), "")) or None
    async with open_manifest(manifest, region=region) as spooled:
        run = _run_of(timeline, spooled)
        if batch is None:
            batch = run.started.batch if run else ""
        checker = RequestChecker(region=region, own_tag=settings.submit.tag_jobs)
        moment = placeholders_at(datetime.fromisoformat(run.started.at), settings.submit) if run else {}
        terms = Terms(batch=batch, keep_invalid=True, foreign_arns=settings.checks.foreign_arns, moment=moment)
        reader = open_reader(spooled, defaults=settings.defaults, checker=checker, run=terms.run)
        failed = {
            history.state.job: history.state.name
            for history in timeline.histories()
            if history.has_failed and timeline.batch_of(history) == batch
        }
        lines = await asyncio.to_thread(_lines_of, reader, failed, terms)
        kept = set(lines.values())
        yield FailedRows(
            batch=batch,
            format=spooled.format,
            rows=len(kept),
            parts=_parts(spooled.file, reader, kept),
            without_row={key: name for key, name in failed.items() if key not in lines},
            has_changed=run is None or run.started.manifest_sha256 != spooled.sha256,
        )


def _run_of(timeline: Timeline, spooled: ManifestFile) -> RunSpan | None:
    """The last run over this very manifest; else over one of its name; else the last of all."""
    runs = list(reversed(timeline.runs))
    same = [run for run in runs if run.started.manifest_sha256 == spooled.sha256]
    named = [run for run in runs if run.started.manifest == spooled.label]
    return next(iter([*same, *named, *runs]), None)


def _lines_of(reader: Reader, failed: Mapping[str, str], terms: Terms) -> dict[str, int]:
    """Find the line of each failed job's row, as far as the manifest has it.

    Whether the run let identical rows be jobs (--allow-duplicates) or recorded them as invalid is not in the ledger,
    so what is not found in one way is looked for in the other.
    """
    lines: dict[str, int] = {}
    for allow_duplicates in (True, False):
        if len(lines) < len(failed):
            asked = replace(terms, allow_duplicates=allow_duplicates)
            lines |= {key: line for key, line in _keys(reader, asked) if key in failed}
    return lines


def _keys(reader: Reader, terms: Terms) -> Iterator[tuple[str, int]]:
    inventory = take_inventory(reader, terms)
    if not inventory.is_readable:
        raise UsageError(f"{inventory.problems[0]}; no run submitted a manifest like this")
    yield from zip(inventory.index, inventory.index.lines, strict=True)
    yield from ((event.job, line) for line, event in inventory.invalid.items())


def _parts(file: BinaryIO, reader: Reader, lines: set[int]) -> Iterator[bytes]:
    """Give what stands before the first row, then each wanted row up to the next one."""
    begin, is_wanted = 0, True
    for row in reader.rows():
        if is_wanted:
            yield _bytes_at(file, begin, row.offset - begin)
        begin, is_wanted = row.offset, row.line in lines
    if is_wanted:
        yield _bytes_at(file, begin, -1)


def _bytes_at(file: BinaryIO, begin: int, count: int) -> bytes:
    file.seek(begin)
    return file.read(count)
