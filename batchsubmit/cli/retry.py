"""`batchsubmit retry`: a submit of the failed jobs of a ledger, whose last run names the manifest with the requests."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchsubmit.app.run import submit_options
from batchsubmit.aws import resolve_region
from batchsubmit.cli.options import command, run_options, settings_option
from batchsubmit.cli.submit import send
from batchsubmit.config import Settings
from batchsubmit.core.job_states import Retry, State
from batchsubmit.core.jobs import RunStarted
from batchsubmit.errors import UsageError
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.outputs.templates import placeholders_at


@command(
    ("send again all that failed, after a look and a question", "batchsubmit retry jobs.ledger.jsonl"),
    ("only what the service rejected, which costs nothing twice", "batchsubmit retry LEDGER --status rejected"),
    ("only some, in a script", "batchsubmit retry LEDGER --code INTERNAL_ERROR --name 'churn-*' --yes --json"),
)
@click.argument("ledger", type=parse_location)
@click.option("--status", "statuses", multiple=True, type=click.Choice(["rejected", "failed"]), help="Only such jobs.")
@click.option("--code", "codes", multiple=True, metavar="CODE", help="Only jobs that failed so; may be repeated.")
@click.option("--name", "names", multiple=True, metavar="GLOB", help="Only jobs of such names; may be repeated.")
@click.option("--message", "messages", multiple=True, metavar="GLOB", help="Only jobs with such messages; the same.")
@click.option(
    "--manifest", type=click.Path(), metavar="FILE", help="Where the requests are. [default: the last run's manifest]"
)
@click.option("--batch-id", "batch", metavar="TEXT", help="Whose jobs. [default: the last run's batch]")
@settings_option
@run_options
def retry(ledger: Location, settings: Settings, *, yes: bool, as_json: bool, **given: Any) -> int:  # noqa: ANN401
    """Send the jobs of LEDGER again that were rejected, and those that ran and failed, which are paid again.

    Each is a new round of the same job, with a tag of its own, and is sent exactly once. The ledger has no requests:
    they come from the manifest of its last run. Interrupted, run it again: it goes on with the same jobs.
    """
    chosen = Retry(
        statuses=frozenset(given.pop("statuses") or (State.REJECTED, State.FAILED)),
        codes=frozenset(given.pop("codes")),
        names=given.pop("names"),
        messages=given.pop("messages"),
    )
    run = _last_run(ledger, settings, given["batch"])
    given |= {"manifest": given["manifest"] or _manifest_of(run, ledger), "batch": run.batch}
    options = submit_options(
        settings,
        datetime.now(UTC),
        ledger=ledger,
        moment=placeholders_at(datetime.fromisoformat(run.at), settings.submit),
        sandbox=run.sandbox,
        # A row that an earlier run recorded as invalid or identical is none of the jobs that are sent again.
        skip_invalid=True,
        allow_duplicates=True,
        known_only=True,
        retry=chosen,
        **given,
    )
    return send(options, settings, yes=yes, as_json=as_json)


def _last_run(ledger: Location, settings: Settings, batch: str | None) -> RunStarted:
    """Find the last run of a ledger, or of a batch in it. Raises UsageError, LedgerError."""
    runs = fold_ledger(ledger, region=resolve_region(settings.aws)).runs
    run = next((run for run in reversed(runs) if batch is None or run.batch == batch), None)
    if run is None:
        known = ", ".join(sorted({repr(run.batch) for run in runs})) or "none"
        raise UsageError(f"the ledger {ledger} has no run of batch {batch or ''!r}; its batches: {known}")
    return run


def _manifest_of(run: RunStarted, ledger: Location) -> str:
    """Find the manifest where the run had it, or beside the ledger."""
    name = run.manifest
    if not name or name == "stdin":
        raise UsageError(f"the jobs of {ledger} came by a pipe or a queue: give the file that has them with --manifest")
    places = [Path(name), *([ledger.parent / name] if isinstance(ledger, Path) else [])]
    found = [str(place) for place in places if place.exists()]
    if not found and "://" not in name:
        raise UsageError(f"the manifest {name} of the last run is not there: say with --manifest where it is now")
    return found[0] if found else name
