"""`batchsubmit submit`."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from batchsubmit.app.after_run import AfterRun, AfterRunResult, follow_up, notify_failure
from batchsubmit.app.run import SubmitOptions
from batchsubmit.app.submit import Approve
from batchsubmit.app.submit import submit as submit_manifest
from batchsubmit.cli.confirm import NotAgreedError, confirm_plan, is_at_terminal, only_warn
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import (
    allow_duplicates_option,
    config_option,
    json_option,
    read_settings,
    run_command,
    sandbox_job_seconds_option,
    sending_options,
    telling_problems,
)
from batchsubmit.cli.output import say
from batchsubmit.cli.request import read_request
from batchsubmit.config import Settings
from batchsubmit.errors import BatchsubmitError
from batchsubmit.log import configure_logging
from batchsubmit.observers.base import LogObserver
from batchsubmit.observers.progress import showing
from batchsubmit.report.summary import Summary, closing_words


@click.command(
    epilog=manual(
        ("submit, and go on where it ended when run again", "batchsubmit submit jobs.csv"),
        ("a round of its own of the same rows", "batchsubmit submit jobs.csv --batch-id 2026-w48 --rate 5"),
        (
            "follow the jobs to their end, and send nothing after six",
            "batchsubmit submit jobs.csv --wait --deadline 06:00",
        ),
        ("rehearse without AWS", "batchsubmit submit jobs.csv --sandbox"),
        (
            "a night by settings, from cron",
            "batchsubmit submit s3://bucket/jobs.csv --config nightly.toml --batch-id 'nightly-{date}'",
        ),
    )
)
@click.argument("manifest", type=click.Path(allow_dash=True))
@click.option(
    "--ledger",
    type=click.Path(),
    metavar="LEDGER",
    help="The ledger's file, or dynamodb://TABLE. [default: <manifest stem>.ledger.jsonl in the current folder; "
    "for a pipe <batch id>.ledger.jsonl]",
)
@click.option(
    "--batch-id",
    metavar="TEXT",
    help="A word for this round of work; part of every job's key. {date} and {time} are filled in.",
)
@config_option
@click.option("--sandbox", is_flag=True, help="Rehearse against a local Clean Rooms ML in this process.")
@sandbox_job_seconds_option
@click.option("--wait/--no-wait", default=None, help="Follow every job to its end, and exit 1 where one ends badly.")
@sending_options
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Send the first N rows alone; the rest follows only once all of them have finished well.",
)
@click.option("--max-failures", metavar="N|N%", help="Stop once more jobs than this have failed.")
@click.option("--deadline", metavar="TIME", help="Send nothing after this: 06:00, or an RFC 3339 moment.")
@click.option(
    "--time-zone",
    metavar="ZONE",
    help="Zone of {date}, {time} and the deadline, as in Europe/Berlin.  [default: UTC; local time for the deadline]",
)
@click.option("--report", type=click.Path(), metavar="FILE", help="Write the report page here at the end.")
@click.option("--export", type=click.Path(), metavar="FILE", help="Write one row a job here at the end, CSV or JSONL.")
@click.option("--upload", metavar="S3URL", help="Copy ledger, report and export to s3://bucket/prefix/ at the end.")
@click.option(
    "--upload-overwrite", is_flag=True, default=None, help="Replace objects there that this ledger did not grow from."
)
@click.option(
    "--notify", multiple=True, metavar="TARGET", help="Tell sns:ARN or an https:// URL of the end; repeatable."
)
@click.option("--skip-invalid", is_flag=True, help="Submit the good rows and record the others as failed.")
@allow_duplicates_option
@click.option("--retry-failed", is_flag=True, help="Try jobs again that an earlier run recorded as failed.")
@click.option(
    "--resubmit-unknown",
    is_flag=True,
    help="Send unknown jobs again. A job that does run is then started twice, and paid twice.",
)
@click.option("--yes", is_flag=True, help="Ask nothing. Without a terminal nothing is ever asked.")
@json_option
def submit(
    config: Path | None,
    *,
    as_json: bool,
    sending: Mapping[str, Mapping[str, Any]],
    notify: tuple[str, ...],
    **given: Any,  # noqa: ANN401 (click's)
) -> int:
    """Submit the jobs of MANIFEST, a CSV or JSONL file: a path, "-" or an s3:// URL.

    Every row is checked before anything is sent. What was submitted is in the ledger, and a second run goes on
    where the first one ended.

    In the paths of --ledger, --report, --export and --upload, {batch}, {date} and {time} are filled in. Most options
    may stand in the settings instead; batchsubmit schema --settings lists them.
    """
    settings = read_settings(
        config,
        sending,
        submit={name: given[name] for name in _IN_SUBMIT},
        night={**{name: given[name] for name in _IN_NIGHT}, "notify": notify or None},
    )
    configure_logging(settings.log.format, settings.log.level)
    options, after = read_request(given, settings, datetime.now(UTC))
    approve = confirm_plan if not given["yes"] and is_at_terminal() else only_warn
    try:
        summary = run_command(
            _run(options, settings, approve),
            "run the same command again to go on, calls cut short are looked up first",
        )
    except NotAgreedError:
        raise  # who said no knows it: nobody is notified
    except BatchsubmitError as exc:
        _notify_of_failure(exc, options, after)
        raise
    return _conclude(summary, after, as_json=as_json)


_IN_SUBMIT = ("batch_id", "ledger", "wait", "max_failures", "deadline", "time_zone")
_IN_NIGHT = ("report", "export", "upload", "upload_overwrite")


async def _run(options: SubmitOptions, settings: Settings, approve: Approve) -> Summary:
    console = Console(stderr=True)
    with telling_problems():
        return await submit_manifest(
            options,
            settings,
            observers=[LogObserver()],
            display=lambda run: showing(run, console),
            approve=approve,
        )


def _conclude(summary: Summary, after: AfterRun, *, as_json: bool) -> int:
    """Print how the run ended, do what follows it, and choose the exit status."""
    for line in closing_words(summary):
        say(line)
    content, status = summary.as_dict(), summary.exit_status
    if not after.is_nothing:
        done = asyncio.run(follow_up(summary, after))
        _print_done(done)
        status = done.exit_status(status)
        content |= {"afterwards": done.as_dict(), "exit_status": status}
    if as_json:
        click.echo(json.dumps(content))
    return status


def _print_done(done: AfterRunResult) -> None:
    for place in (*done.written, *done.uploaded):
        say(f"  written: {place}")
    for problem in (*done.problems, *done.not_notified):
        say(f"  problem: {problem}")
    if done.problems:
        say("  next: the ledger is whole; fix that and run the same command again")


def _notify_of_failure(error: BatchsubmitError, options: SubmitOptions, after: AfterRun) -> None:
    """Nobody watches a nightly run: an overlapping start or a bad manifest must be reported as well."""
    if after.targets:
        notices = notify_failure(error, after, batch=options.batch, manifest=options.manifest)
        for problem in asyncio.run(notices):
            say(f"  problem: {problem}")
