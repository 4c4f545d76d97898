"""`batchsubmit verify`."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.manual import manual
from batchsubmit.cli.options import LEDGER, config_option, json_option, read_settings
from batchsubmit.exits import EXIT_FAILED, EXIT_LEDGER

if TYPE_CHECKING:
    from batchsubmit.inspection import Inspection
    from batchsubmit.ledger.location import Location


@click.command(
    epilog=manual(
        ("the ledger against the service", "batchsubmit verify jobs.ledger.jsonl"),
        ("append what the service proves, after a copy was restored", "batchsubmit verify jobs.ledger.jsonl --repair"),
        ("the file alone, without a call", "batchsubmit verify jobs.ledger.jsonl --offline"),
        exits={
            0: "nothing is wrong, or all of it was repaired",
            1: "the service says otherwise",
            2: "usage or settings wrong",
            3: "the service does not tell: run it again",
            4: "the file is damaged or unsound, or in use (--repair)",
        },
    )
)
@click.argument("ledger", type=LEDGER)
@click.option(
    "--known-ledger",
    "others",
    multiple=True,
    type=LEDGER,
    metavar="LEDGER",
    help="Another ledger that answers for jobs in the same memberships; may be repeated.",
)
@click.option("--offline", is_flag=True, help="Check the ledger alone; no call is made.")
@click.option("--repair", is_flag=True, help="Append what the service proves; nothing is ever removed.")
@config_option
@json_option
def verify(
    ledger: "Location", others: "tuple[Location, ...]", config: Path | None, *, as_json: bool, **how: bool
) -> int:
    """Hold LEDGER against itself and against the service: ghosts, orphans, duplicates, unknown jobs.

    Exit status 0 only where nothing is wrong or all of it was repaired, 1 where the service says otherwise, 4 where the
    file itself is unsound.
    """
    from batchsubmit.inspection import inspect  # noqa: PLC0415 (help is fast without)

    inspection = asyncio.run(inspect(ledger, read_settings(config), others=others, **how))
    if as_json:
        click.echo(json.dumps(_as_dict(ledger, inspection)))
    else:
        for fault in inspection.faults:
            click.echo(f"{ledger}: {fault}")
        for discrepancy in inspection.discrepancies:
            click.echo(str(discrepancy))
    click.echo(_verdict(ledger, inspection), err=True)
    if inspection.faults:
        return EXIT_LEDGER
    return 0 if inspection.is_clean else EXIT_FAILED


def _verdict(ledger: "Location", inspection: "Inspection") -> str:
    against = "itself" if inspection.is_offline else "itself and the service"
    if not (inspection.faults or inspection.discrepancies):
        return f"{ledger}: {inspection.jobs:,} jobs, sound against {against}"
    wrong = len(inspection.faults) + len(inspection.discrepancies)
    repaired = f", {inspection.repaired:,} repaired" if inspection.repaired else ""
    return f"{ledger}: {inspection.jobs:,} jobs, {wrong:,} wrong against {against}{repaired}"


def _as_dict(ledger: "Location", inspection: "Inspection") -> dict[str, Any]:
    return {
        "ledger": str(ledger),
        "jobs": inspection.jobs,
        "clean": inspection.is_clean,
        "faults": inspection.faults,
        "repaired": inspection.repaired,
        "discrepancies": [
            {
                "kind": str(each.kind),
                "job": each.job,
                "membership": each.membership,
                "name": each.name,
                "arn": each.arn,
                "repairable": each.repair is not None,
            }
            for each in inspection.discrepancies
        ],
    }
