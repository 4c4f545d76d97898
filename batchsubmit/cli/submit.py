"""`batchsubmit submit`."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import (
    allow_duplicates_option,
    config_option,
    json_option,
    read_settings,
    sandbox_job_seconds_option,
    telling_problems,
    wait_for_inputs_option,
)
from batchsubmit.errors import BatchsubmitError, StoppedError
from batchsubmit.text import printable

if TYPE_CHECKING:
    from batchsubmit.app.after_run import AfterRun, AfterRunResult, Writer
    from batchsubmit.app.run import SubmitOptions
    from batchsubmit.app.submit import Approve
    from batchsubmit.config import Settings
    from batchsubmit.report.summary import Summary


def _writers() -> "dict[str, Writer]":
    """What `--report` and `--export` are written by."""
    from batchsubmit.cli.export import write_export  # noqa: PLC0415 (help is fast without)
    from batchsubmit.cli.report import write_report  # noqa: PLC0415

    return {"report": write_report, "export": write_export}


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
    help="The ledger's file, or dynamodb://TABLE. [default: <manifest stem>.ledger.jsonl in the current folder]",
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
@wait_for_inputs_option
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Send the first N rows alone; the rest follows only once all of them have finished well.",
)
@click.option("--rate", type=float, metavar="N", help="Calls a second, 0 for no limit.  [default: 1]")
@click.option("--concurrency", type=int, metavar="N", help="Calls under way at once.  [default: 32]")
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
    help="Send jobs again whose fate is unknown. A job that does run is then started twice, and paid twice.",
)
@click.option("--yes", is_flag=True, help="Ask nothing. Without a terminal nothing is ever asked.")
@json_option
def submit(config: Path | None, *, as_json: bool, rate: float | None, notify: tuple[str, ...], **given: Any) -> int:  # noqa: ANN401 (click's)
    """Submit the jobs of MANIFEST, a CSV or JSONL file: a path, "-" or an s3:// URL.

    Every row is checked before anything is sent. What was submitted stands in the ledger, and a second run goes on
    where the first one ended.

    In the paths of --ledger, --report, --export and --upload, {batch}, {date} and {time} are filled in. Most options
    may stand in the settings instead; batchsubmit schema --settings lists them.
    """
    from datetime import UTC, datetime  # noqa: PLC0415 (help is fast without)

    from batchsubmit.cli.confirm import NotAgreedError, ask_to_go_on, only_warn, somebody_is_there  # noqa: PLC0415
    from batchsubmit.cli.request import read_request  # noqa: PLC0415
    from batchsubmit.log import configure_logging  # noqa: PLC0415

    settings = read_settings(
        config,
        rate={"max_per_second": rate},
        submit={name: given[name] for name in _IN_SUBMIT},
        night={**{name: given[name] for name in _IN_NIGHT}, "notify": notify or None},
    )
    configure_logging(settings.log.format, settings.log.level)
    options, after = read_request(given, settings, datetime.now(UTC), _writers())
    approve = ask_to_go_on if not given["yes"] and somebody_is_there() else only_warn
    try:
        summary = asyncio.run(_run(options, settings, approve))
    except asyncio.CancelledError:
        raise StoppedError(
            "ended at once by a second signal; run the same command again to go on, calls cut short are looked up first"
        ) from None
    except NotAgreedError:
        raise  # whoever said so knows: nobody is notified
    except BatchsubmitError as exc:
        _tell_of_failure(exc, options, settings, after)
        raise
    return _conclude(summary, settings, after, as_json=as_json)


_IN_SUBMIT = ("concurrency", "batch_id", "ledger", "wait", "max_failures", "deadline", "time_zone", "wait_for_inputs")
_IN_NIGHT = ("report", "export", "upload", "upload_overwrite")


async def _run(options: "SubmitOptions", settings: "Settings", approve: "Approve | None") -> "Summary":
    from rich.console import Console  # noqa: PLC0415 (help is fast without)

    from batchsubmit.app.submit import submit as submit_manifest  # noqa: PLC0415
    from batchsubmit.observers.base import LogObserver  # noqa: PLC0415
    from batchsubmit.observers.progress import showing  # noqa: PLC0415

    console = Console(stderr=True)
    with telling_problems():
        return await submit_manifest(
            options,
            settings,
            observers=[LogObserver()],
            display=lambda run: showing(run, console),
            approve=approve,
        )


def _conclude(summary: "Summary", settings: "Settings", after: "AfterRun", *, as_json: bool) -> int:
    """Tell how the run ended, do what follows it, and choose the exit status."""
    from batchsubmit.report.summary import closing_words  # noqa: PLC0415 (help is fast without)

    for line in closing_words(summary):
        click.echo(line, err=True)
    told, status = summary.as_dict(), summary.exit_status
    if not after.is_nothing:
        from batchsubmit.app.after_run import follow_up  # noqa: PLC0415 (half a second that few need)

        result = asyncio.run(follow_up(summary, _in_region(after, settings)))
        _print_result(result)
        status = result.exit_status(status)
        told |= {"afterwards": result.as_dict(), "exit_status": status}
    if as_json:
        click.echo(json.dumps(told))
    return status


def _print_result(result: "AfterRunResult") -> None:
    for place in (*result.written, *result.uploaded):
        click.echo(f"  written: {place}", err=True)
    for problem in (*result.problems, *result.not_notified):
        click.echo(f"  problem: {printable(problem)}", err=True)
    if result.problems:
        click.echo("  next: the ledger is whole; fix that and run the same command again", err=True)


def _tell_of_failure(
    error: BatchsubmitError, options: "SubmitOptions", settings: "Settings", after: "AfterRun"
) -> None:
    """Nobody sits beside a nightly run: an overlapping start or a bad manifest must be heard of as well."""
    if not after.targets:
        return
    from batchsubmit.app.after_run import notify_failure  # noqa: PLC0415 (half a second that few need)

    notifying = notify_failure(error, _in_region(after, settings), batch=options.batch, manifest=options.manifest)
    for problem in asyncio.run(notifying):
        click.echo(f"  problem: {problem}", err=True)


def _in_region(after: "AfterRun", settings: "Settings") -> "AfterRun":
    from dataclasses import replace  # noqa: PLC0415 (help is fast without)

    from batchsubmit.aws import resolve_region  # noqa: PLC0415

    return replace(after, region=resolve_region(settings.aws))
