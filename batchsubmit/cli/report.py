"""`batchsubmit report`."""

import json
import time
from pathlib import Path
from typing import Any

import click

from batchsubmit.cli.export import read_timeline
from batchsubmit.cli.help import READ_EXITS
from batchsubmit.cli.options import command, settings_and_json
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.outputs.files import saving
from batchsubmit.report.page import make_page


@command(
    ("a page to open in a browser", "batchsubmit report jobs.ledger.jsonl"),
    ("where it is wanted", "batchsubmit report jobs.ledger.jsonl --output out/jobs.html"),
    ("for programs", "batchsubmit report jobs.ledger.jsonl --json | jq '.counts, .left'"),
    exits=READ_EXITS,
)
@click.argument("ledger", type=parse_location)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page.  [default: <ledger stem>.html in the current folder]",
)
@settings_and_json
def report(ledger: Location, output: Path | None, settings: Settings, *, as_json: bool) -> int:
    """Write LEDGER as one HTML page that opens from the disk: what ran, what failed and why, what is left.

    The page is one file, asks nothing of the network, and appears whole or not at all. It may be written while a run
    is under way. Its path is printed on standard output; with --json, the path, the headline and the figures are.
    """
    name = str(ledger).rstrip("/").rpartition("/")[2].removesuffix(".jsonl").removesuffix(".ledger")
    output = output or Path(f"{name or 'report'}.html")
    figures = write_report(ledger, output, settings)
    say(json.dumps({"page": str(output), **figures}) if as_json else output, to_stdout=True)
    return 0


def write_report(ledger: Location, output: Path, settings: Settings) -> dict[str, Any]:
    """Write the page; give its headline and figures. Raises UsageError, LedgerError."""
    timeline, remarks = read_timeline(ledger, settings)
    names, prices, left_out = settings.names, settings.prices, tuple(remarks)
    page = make_page(timeline, ledger=str(ledger), made_at=time.time(), remarks=left_out, names=names, prices=prices)
    with saving(output, inputs=[ledger], kind="html") as file:
        for part in page.parts():
            file.write(part.encode(errors="replace"))
    return page.as_dict()
