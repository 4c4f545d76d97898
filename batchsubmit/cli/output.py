"""What is written from a ledger, by the commands `report` and `export` and after a run alike."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.options import region_for

if TYPE_CHECKING:
    from batchsubmit.ledger.base import Location
    from batchsubmit.report.timeline import TimelineBuilder

FORMATS = ("csv", "jsonl", "parquet")
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}


def format_of(path: Path | None) -> str:
    """The format that a file's suffix stands for; CSV where it stands for none."""
    return _SUFFIXES.get(path.suffix.lower() if path else "", "csv")


def read_chronicle(ledger: "Location", note: Callable[[str], object] = lambda _: None) -> "TimelineBuilder":
    """Read a whole ledger; people and `note` are told what had to be left out. Raises UsageError, LedgerError."""
    from batchsubmit.ledger.read import read_entries  # noqa: PLC0415 (help is fast without)
    from batchsubmit.report.timeline import TimelineBuilder  # noqa: PLC0415

    def warn(words: str) -> None:
        note(words)
        click.echo(f"{ledger}: {words}", err=True)

    return TimelineBuilder.of(read_entries(ledger, region=region_for(ledger), warn=warn))


def inputs_of(*locations: "Location | str") -> list[Path]:
    """Those of them that are files, which must not be written over."""
    return [Path(each) for each in locations if isinstance(each, Path | str)]


def write_report(ledger: "Location", output: Path) -> dict[str, Any]:
    """Write the page; give its headline and figures. Raises UsageError, LedgerError."""
    from batchsubmit.clock import SystemClock  # noqa: PLC0415 (help is fast without)
    from batchsubmit.outputs.files import saving  # noqa: PLC0415
    from batchsubmit.report.page import Setting, make_page  # noqa: PLC0415

    remarks: list[str] = []
    chronicle = read_chronicle(ledger, remarks.append)
    setting = Setting(ledger=str(ledger), made_at=SystemClock().now().timestamp(), remarks=tuple(remarks))
    page = make_page(chronicle, setting)
    with saving(output, inputs=inputs_of(ledger)) as file:
        for part in page.parts():
            file.write(part.encode(errors="replace"))
    return page.in_short()


def write_export(ledger: "Location", output: Path, as_format: str | None = None) -> int:
    """Write the table, in the format of its suffix where none is given; give the number of jobs.

    Raises UsageError, LedgerError.
    """
    from batchsubmit.outputs.files import saving  # noqa: PLC0415
    from batchsubmit.report.export import FORMATS as WRITERS  # noqa: PLC0415
    from batchsubmit.report.export import export_rows  # noqa: PLC0415 (help is fast without)

    chronicle = read_chronicle(ledger)
    with saving(output, inputs=inputs_of(ledger)) as file:
        return WRITERS[as_format or format_of(output)](file, export_rows(chronicle))
