"""`batchsubmit verify`."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, json_option, read_settings
from batchsubmit.errors import EXIT_FAILED, EXIT_LEDGER
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.app.verify import Verification
    from batchsubmit.ledger.base import Location


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
@click.option(
    "--manifest",
    default="",
    metavar="MANIFEST",
    help="The manifest whose rows tell lost jobs from another ledger's.  [default: that of the ledger's last run]",
)
@click.option("--batch-id", "batch", metavar="TEXT", help="Its batch id.  [default: that of the ledger's last run]")
@click.option("--offline", is_flag=True, help="Check the ledger alone; no call is made.")
@click.option("--repair", is_flag=True, help="Append what the service proves; nothing is ever removed.")
@config_option
@json_option
def verify(ledger: "Location", config: Path | None, *, as_json: bool, **how: Any) -> int:  # noqa: ANN401 (click's)
    """Hold LEDGER against itself and against the service: ghosts, orphans, duplicates, unknown jobs.

    Exit status 0 only where nothing is wrong or all of it was repaired, 1 where the service says otherwise, 4 where the
    file itself is unsound.

    After LEDGER was restored from an older copy, run this with --repair before the next submit, with the manifest and
    the --config of that submit. A job that the copy does not have is recorded where its tag is the key of one of the
    manifest's rows, so that it is not started again. Where the manifest cannot be read, jobs after the ledger's last
    line are counted but not judged, and --repair then ends with 1.

    While a run writes to LEDGER, its calls under way are not judged, and nothing can be repaired.
    """
    from batchsubmit.app.verify import VerifyOptions, inspect  # noqa: PLC0415 (help is fast without)

    if how["offline"] and how["repair"]:
        raise click.UsageError("--repair needs the service: leave out --offline, or --repair")
    inspection = asyncio.run(inspect(ledger, read_settings(config), VerifyOptions(**how)))
    if as_json:
        click.echo(json.dumps(_as_dict(ledger, inspection)))
    else:
        for fault in inspection.faults:
            click.echo(f"{ledger}: {fault}")
        for discrepancy in inspection.discrepancies:
            click.echo(str(discrepancy))
    for line in _words(ledger, inspection):
        click.echo(line, err=True)
    if inspection.faults:
        return EXIT_LEDGER
    return 0 if inspection.is_clean else EXIT_FAILED


def _words(ledger: "Location", inspection: "Verification") -> Iterator[str]:
    yield _verdict(ledger, inspection)
    if inspection.active_run:
        yield (
            f"  in use by {inspection.active_run}: {counted(inspection.under_way, 'job')} under way not judged; "
            "verify again when it has ended"
        )
    if inspection.later:
        yield (
            f"  {counted(inspection.later, 'job')} started after the ledger's last line not judged: of other ledgers, "
            "or lost from this one if it was restored from a copy"
        )
    if inspection.manifest_trouble and (inspection.later or inspection.discrepancies or inspection.is_repair):
        yield f"  the manifest's rows are not known: {inspection.manifest_trouble}"
    if not inspection.is_repair and any(each.kind == "orphan" and not each.repair for each in inspection.discrepancies):
        yield "  where another ledger started the orphans, name it: --known-ledger LEDGER"
    if not inspection.is_repair and any(each.repair for each in inspection.discrepancies):
        yield f"  next: batchsubmit verify {ledger} --repair records what the service proves"


def _verdict(ledger: "Location", inspection: "Verification") -> str:
    against = "itself" if inspection.is_offline else "itself and the service"
    if not (inspection.faults or inspection.discrepancies):
        return f"{ledger}: {counted(inspection.jobs, 'job')}, sound against {against}"
    wrong = len(inspection.faults) + len(inspection.discrepancies)
    kinds = Counter(str(each.kind).replace("_", " ") for each in inspection.discrepancies)
    of_kinds = f" ({', '.join(f'{count:,} {kind}' for kind, count in kinds.items())})" if kinds else ""
    repaired = f", {inspection.repaired:,} repaired" if inspection.repaired else ""
    return f"{ledger}: {counted(inspection.jobs, 'job')}, {wrong:,} wrong against {against}{of_kinds}{repaired}"


def _as_dict(ledger: "Location", inspection: "Verification") -> dict[str, Any]:
    return {
        "ledger": str(ledger),
        "jobs": inspection.jobs,
        "clean": inspection.is_clean,
        "faults": inspection.faults,
        "repaired": inspection.repaired,
        "active_run": inspection.active_run,
        "under_way": inspection.under_way,
        "later": inspection.later,
        "manifest_trouble": inspection.manifest_trouble,
        "discrepancies": [
            {
                "kind": str(each.kind),
                "job": each.job,
                "membership": each.membership,
                "name": each.name,
                "arn": each.arn,
                "detail": each.detail,
                "repairable": each.repair is not None,
            }
            for each in inspection.discrepancies
        ],
    }
