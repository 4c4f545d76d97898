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
from batchsubmit.cli.output import say
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
            3: "the service does not answer: run it again",
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
    help="Another ledger with jobs in the same memberships; may be repeated.",
)
@click.option(
    "--manifest",
    default="",
    metavar="MANIFEST",
    help="The manifest, to know lost jobs from another ledger's.  [default: that of the ledger's last run]",
)
@click.option("--batch-id", "batch", metavar="TEXT", help="Its batch id.  [default: that of the ledger's last run]")
@click.option("--offline", is_flag=True, help="Check the ledger alone; no call is made.")
@click.option("--repair", is_flag=True, help="Append what the service proves; nothing is ever removed.")
@config_option
@json_option
def verify(ledger: "Location", config: Path | None, *, as_json: bool, **how: Any) -> int:  # noqa: ANN401 (click's)
    """Check LEDGER in itself and against the service: ghosts, orphans, duplicates, unknown jobs.

    Exit status 0 only where nothing is wrong or all of it was repaired, 1 where the service says otherwise, 4 where the
    file itself is unsound.

    After LEDGER was restored from an older copy, run this with --repair before the next submit, with the manifest and
    the --config of that submit. A job that the copy does not have is recorded where its tag is the key of one of the
    manifest's rows, so that it is not started again. Where the manifest cannot be read, jobs after the ledger's last
    line are counted but not judged, and --repair then ends with 1.

    While a run writes to LEDGER, its calls under way are not judged, and nothing can be repaired.
    """
    from batchsubmit.app.verify import inspect  # noqa: PLC0415 (help is fast without)
    from batchsubmit.outputs.templates import batch_now  # noqa: PLC0415

    if how["offline"] and how["repair"]:
        raise click.UsageError("--repair needs the service: leave out --offline, or --repair")
    settings = read_settings(config, {"submit__batch_id": how["batch"]})
    how["batch"] = None if how["batch"] is None else batch_now(settings.submit)
    found = asyncio.run(inspect(ledger, settings, **how))
    if as_json:
        click.echo(json.dumps(_as_dict(ledger, found)))
    else:
        # What was paid twice first, then kind by kind.
        grouped = sorted(found.discrepancies, key=lambda each: (each.kind != "duplicate", str(each.kind)))
        for line in (*(f"{ledger}: {fault}" for fault in found.faults), *map(str, grouped)):
            say(line, to_stdout=True)
    say(_verdict(ledger, found, "itself" if how["offline"] else "itself and the service"))
    for line in _advice(ledger, found):
        say(f"  {line}")
    if found.faults:
        return EXIT_LEDGER
    return 0 if found.is_clean else EXIT_FAILED


def _verdict(ledger: "Location", found: "Verification", against: str) -> str:
    if not (found.faults or found.discrepancies):
        return f"{ledger}: {counted(found.jobs, 'job')}, sound against {against}"
    wrong = len(found.faults) + len(found.discrepancies)
    kinds = Counter(str(each.kind).replace("_", " ") for each in found.discrepancies)
    of_kinds = f" ({', '.join(f'{count:,} {kind}' for kind, count in kinds.items())})" if kinds else ""
    repaired = f", {found.repaired:,} repaired" if found.repaired else ""
    return f"{ledger}: {counted(found.jobs, 'job')}, {wrong:,} wrong against {against}{of_kinds}{repaired}"


def _advice(ledger: "Location", found: "Verification") -> Iterator[str]:
    if found.active_run:
        yield (
            f"in use by {found.active_run}: {counted(found.under_way, 'job')} under way not judged; "
            "verify again when it has ended"
        )
    if found.later:
        yield (
            f"{counted(found.later, 'job')} started after the ledger's last line not judged: of other ledgers, "
            "or lost from this one if it was restored from a copy"
        )
    if found.manifest_trouble and (found.later or found.discrepancies or found.is_repair):
        yield f"the manifest's rows are not known: {found.manifest_trouble}"
    if found.is_repair:
        return
    if any(each.kind == "orphan" and not each.repair for each in found.discrepancies):
        yield "where another ledger started the orphans, name it: --known-ledger LEDGER"
    if any(each.repair for each in found.discrepancies):
        yield f"next: batchsubmit verify {ledger} --repair records what the service proves"


def _as_dict(ledger: "Location", found: "Verification") -> dict[str, Any]:
    counts = ("jobs", "faults", "repaired", "active_run", "under_way", "later", "manifest_trouble")
    texts = ("job", "membership", "name", "arn", "detail")
    return {
        "ledger": str(ledger),
        "clean": found.is_clean,
        **{name: getattr(found, name) for name in counts},
        "discrepancies": [
            {
                "kind": str(each.kind),
                **{name: getattr(each, name) for name in texts},
                "repairable": each.repair is not None,
            }
            for each in found.discrepancies
        ],
    }
