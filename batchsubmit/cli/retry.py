"""`batchsubmit retry`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import (
    LEDGER,
    config_option,
    job_minutes_option,
    json_option,
    max_instance_hours_option,
    read_settings,
    sending_options,
)
from batchsubmit.cli.submit import send
from batchsubmit.core.states import Retry, State

if TYPE_CHECKING:
    from batchsubmit.ledger.base import Location


@click.command(
    epilog=manual(
        ("send again all that failed, after a look and a question", "batchsubmit retry jobs.ledger.jsonl"),
        ("only what the service rejected, which costs nothing twice", "batchsubmit retry LEDGER --status rejected"),
        ("only some, in a script", "batchsubmit retry LEDGER --code INTERNAL_ERROR --name 'churn-*' --yes --json"),
    )
)
@click.argument("ledger", type=LEDGER)
@click.option("--status", "statuses", multiple=True, type=click.Choice(["rejected", "failed"]), help="Only such jobs.")
@click.option("--code", "codes", multiple=True, metavar="CODE", help="Only jobs that failed so; may be repeated.")
@click.option("--name", "names", multiple=True, metavar="GLOB", help="Only jobs of such names; may be repeated.")
@click.option("--message", "messages", multiple=True, metavar="GLOB", help="Only jobs with such messages; the same.")
@click.option(
    "--manifest", type=click.Path(), metavar="FILE", help="Where the requests are. [default: the last run's manifest]"
)
@click.option("--batch-id", "batch", metavar="TEXT", help="Whose jobs. [default: the last run's batch]")
@config_option
@click.option("--wait/--no-wait", default=None, help="Follow every job to its end, and exit 1 where one ends badly.")
@sending_options
@click.option("--max-failures", metavar="N|N%", help="Stop once more jobs than this have failed.")
@job_minutes_option
@max_instance_hours_option
@click.option("--yes", is_flag=True, help="Ask nothing. Without a terminal nothing is ever asked.")
@json_option
def retry(
    ledger: "Location",
    config: Path | None,
    *,
    sending: Mapping[str, Mapping[str, Any]],
    yes: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 (click's)
) -> int:
    """Send the jobs of LEDGER again that were rejected, and those that ran and failed, which are paid again.

    Each is a new round of the same job, with a tag of its own, and is sent exactly once. The ledger has no requests:
    they come from the manifest of its last run. Interrupted, run it again: it goes on with the same jobs.
    """
    from batchsubmit.app.retry import retry_options  # noqa: PLC0415 (help is fast without)

    settings = read_settings(config, sending, submit={name: given[name] for name in ("wait", "max_failures")})
    chosen = Retry(
        statuses=frozenset(given["statuses"] or (State.REJECTED, State.FAILED)),
        codes=frozenset(given["codes"]),
        names=given["names"],
        messages=given["messages"],
    )
    estimated = {name: given[name] for name in ("job_minutes", "max_instance_hours")}
    options = retry_options(ledger, settings, chosen, manifest=given["manifest"], batch=given["batch"])
    options = replace(options, **estimated)
    return send(options, settings, yes=yes, as_json=as_json)
