"""`batchsubmit logs`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, json_option, read_settings
from batchsubmit.cli.output import say
from batchsubmit.core.states import LOG_GROUP
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.app.logs import JobLogs
    from batchsubmit.ledger.base import Location


@click.command(
    epilog=manual(
        ("why did jobs fail?", "batchsubmit logs jobs.ledger.jsonl"),
        ("the last 200 lines of one", "batchsubmit logs jobs.ledger.jsonl churn-001 --lines 200"),
        exits={
            0: "printed, as far as it can be read",
            1: "",
            2: "the ledger cannot be read, or has no such job",
            3: "",
        },
    )
)
@click.argument("ledger", type=LEDGER)
@click.argument("name", required=False)
@click.option("--lines", default=20, show_default=True, metavar="N", help="Lines of each job's log, the last ones.")
@config_option
@json_option
def logs(ledger: "Location", name: str | None, lines: int, config: Path | None, *, as_json: bool) -> int:
    """Print what the service says of the failed jobs of LEDGER, or of job NAME, and the last lines of their logs.

    The lines come from CloudWatch, where the role may read them (logs:FilterLogEvents); else the command that reads
    them is printed.
    """
    from batchsubmit.app.logs import MOST_JOBS, read_logs  # noqa: PLC0415 (help is fast without)

    found = asyncio.run(read_logs(ledger, name, read_settings(config), lines=lines))
    if as_json:
        jobs = [{each: getattr(job, each) for each in job.__slots__} for job in found]
        click.echo(json.dumps({"ledger": str(ledger), "log_group": LOG_GROUP, "jobs": jobs}))
        return 0
    for job in found[:MOST_JOBS]:
        for line in _words(job):
            say(line, to_stdout=True)
    if not found:
        say(f"{ledger}: no job failed")
    elif len(found) > MOST_JOBS:
        say(f"{counted(len(found) - MOST_JOBS, 'more job')} failed: give the name of one")
    return 0


def _words(job: "JobLogs") -> Iterator[str]:
    yield f"{job.name} (membership {job.membership}): {job.said}"
    if job.stream:
        yield f"  log group {LOG_GROUP}, streams that begin with {job.stream}"
    yield from (f"  | {line.rstrip()}" for line in job.lines)
    if job.trouble:
        yield f"  no lines: {job.trouble}" if not job.lines else f"  note: {job.trouble}"
    if job.command and not job.lines:
        yield f"  read them with: {job.command}"
