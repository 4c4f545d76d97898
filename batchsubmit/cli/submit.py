"""`batchsubmit submit`."""

import asyncio
import shlex
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from batchsubmit.app.run import Run, SubmitOptions, submit_options
from batchsubmit.app.submit import submit as submit_manifest
from batchsubmit.cli.confirm import approve
from batchsubmit.cli.options import (
    command,
    conclude,
    ledger_option,
    manifest_options,
    run_command,
    run_options,
    sandbox_job_seconds_option,
    setting_option,
)
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.core.job_states import Phase
from batchsubmit.errors import BatchsubmitError, NotAgreedError, UsageError
from batchsubmit.ledger.location import TableLocation
from batchsubmit.log import configure_logging
from batchsubmit.observers.progress import Display, showing
from batchsubmit.outputs.files import refuse_other_kind
from batchsubmit.outputs.templates import expand_path
from batchsubmit.report.summary import Summary, closing_words
from batchsubmit.submit.stopping import StopReason
from batchsubmit.text import agreeing, counted

if TYPE_CHECKING:
    from batchsubmit.app.after_run import AfterRun


@command(
    ("submit, and go on where it ended when run again", "batchsubmit submit jobs.csv"),
    ("a round of its own of the same rows", "batchsubmit submit jobs.csv --batch-id 2026-w48 --rate 5"),
    ("follow the jobs to their end, and send nothing after six", "batchsubmit submit jobs.csv --wait --deadline 06:00"),
    ("rehearse without AWS", "batchsubmit submit jobs.csv --sandbox"),
    (
        "a night by settings, from cron",
        "batchsubmit submit s3://bucket/jobs.csv --config nightly.toml --batch-id 'nightly-{date}'",
    ),
)
@manifest_options
@ledger_option(
    help="The ledger's file, or dynamodb://TABLE. [default: <manifest stem>.ledger.jsonl in the current folder, "
    "with --sandbox <manifest stem>.sandbox.ledger.jsonl; for a pipe <batch id>.ledger.jsonl]",
)
@click.option("--sandbox", is_flag=True, help="Rehearse against a local Clean Rooms ML in this process.")
@sandbox_job_seconds_option
@click.option(
    "--faults", type=click.Path(path_type=Path), metavar="FILE", help="A JSON file of faults that the sandbox injects."
)
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Send the first N rows alone; the rest follows only once all of them have finished well.",
)
@setting_option("--deadline", "submit.deadline", "TIME")
@setting_option("--time-zone", "submit.time_zone", "ZONE")
@setting_option("--report", "night.report", "FILE")
@setting_option("--export", "night.export", "FILE")
@setting_option("--upload", "night.upload", "S3URL")
@setting_option("--upload-overwrite", "night.upload_overwrite")
@setting_option("--notify", "night.notify", "TARGET")
@click.option("--skip-invalid", is_flag=True, help="Submit the good rows and record the others as rejected.")
@click.option("--retry-failed", is_flag=True, help="Send jobs again that were rejected, or ran and failed.")
@click.option(
    "--resubmit-unknown",
    is_flag=True,
    help="Send unknown jobs again. A job that does run is then started twice, and paid twice.",
)
@run_options
def submit(settings: Settings, *, as_json: bool, yes: bool, **given: Any) -> int:  # noqa: ANN401 (click's)
    """Submit the jobs of MANIFEST, a CSV or JSONL file: a path, "-" or an s3:// URL.

    Every row is checked before anything is sent. What was submitted is in the ledger, and a second run goes on
    where the first one ended.

    In the paths of --ledger, --report, --export and --upload, {batch}, {date} and {time} are filled in. Most options
    may be set in the settings instead; batchsubmit schema --settings lists them.
    """
    options = submit_options(settings, datetime.now(UTC), **given)
    if options.faults and not options.sandbox:
        raise UsageError("--faults is for the sandbox: give --sandbox as well")
    return send(options, settings, yes=yes, as_json=as_json)


def send(options: SubmitOptions, settings: Settings, *, yes: bool, as_json: bool) -> int:
    """Run a submission to its end, with all that follows it; give the exit status."""
    configure_logging(settings.log.format, settings.log.level)
    after = after_run_of(settings, options)
    try:
        summary = run_command(
            submit_manifest(options, settings, display=display_of(settings), approve=partial(_approve, yes=yes)),
            "run the same command again to go on, calls cut short are looked up first",
        )
    except NotAgreedError:
        raise  # who said no knows it: nobody is notified
    except BatchsubmitError as exc:
        if after and after.targets:  # nobody watches a nightly run: one that does not begin must be reported as well
            say(*(f"  problem: {problem}" for problem in asyncio.run(after.notify_failure(exc, options))))
        raise
    if not options.sandbox:
        _tell_what_runs_on(summary)
    content = summary.as_dict()
    say(*closing_words(summary))
    if after:
        done = asyncio.run(after.follow_up(summary))
        content |= {"afterwards": done.as_dict(), "exit_status": done.exit_status(summary.exit_status)}
        say(*(f"  written: {place}" for place in (*done.written, *done.uploaded)))
        say(*(f"  problem: {problem}" for problem in (*done.problems, *done.not_notified)))
        if done.problems:
            say("  next: the ledger is whole; fix that and run the same command again")
    return conclude((), content, as_json=as_json)


def after_run_of(settings: Settings, options: SubmitOptions) -> "AfterRun | None":
    """Read what follows a run, if anything. A rehearsal writes files, and its ledger stays on this machine.

    Raises UsageError: mistakes in what only matters at the end of the night are found before anything is sent.
    """
    night = settings.night
    paths = {
        name: expand_path(template, options.moment, batch=options.batch, what=f"--{name}")
        for name in ("report", "export", "upload")
        if (template := getattr(night, name))
    }
    if not (paths or night.notify):
        return None
    # They take a tenth of a second, which a run that nothing follows need not wait for.
    from batchsubmit.app.after_run import AfterRun, Writer  # noqa: PLC0415
    from batchsubmit.cli.export import format_of, write_export  # noqa: PLC0415
    from batchsubmit.cli.report import write_report  # noqa: PLC0415
    from batchsubmit.outputs.notify import read_target  # noqa: PLC0415
    from batchsubmit.outputs.upload import Destination  # noqa: PLC0415

    if night.upload and isinstance(options.ledger, TableLocation):
        raise UsageError("--upload copies a ledger file; a table is copied by batchsubmit ledger export")
    writers: dict[str, Writer] = {"report": write_report, "export": write_export}
    files = {Path(paths[name]): write for name, write in writers.items() if name in paths}
    for file in files:
        refuse_other_kind(file, "html" if str(file) == paths.get("report") else format_of(file))
    destination = Destination.parse(paths["upload"]) if night.upload else None
    targets = tuple(map(read_target, night.notify))
    return AfterRun(
        settings=settings,
        files=files,
        report=paths.get("report", ""),
        destination=None if options.sandbox else destination,
        targets=() if options.sandbox else targets,
    )


def display_of(settings: Settings) -> Display:
    """What shows how a run goes, unless it is to be silent."""
    is_silent = settings.log.level == "error" or not settings.log.progress
    return (lambda *_: nullcontext()) if is_silent else partial(showing, console=Console(stderr=True))


async def _approve(run: Run, *, yes: bool) -> None:
    await approve(run, yes=yes)
    run.stop.on_request(partial(_say_stopping, run))


def _say_stopping(run: Run) -> None:
    """Answer a signal at once: the calls under way may take a minute."""
    if run.stop.reason is StopReason.SIGNAL:
        calls = sum(state.phase is Phase.INTENT for state in run.ledger.state.undecided())
        say(f"Stopping… {counted(calls, 'call')} under way; Ctrl-C again to quit now")


def _tell_what_runs_on(summary: Summary) -> None:
    """Say after a signal what it did not end."""
    counts = summary.counts
    left = counts.submitted - counts.succeeded - counts.failed - counts.cancelled
    if left and summary.stop_reason == StopReason.SIGNAL:
        known = f"{counted(left, 'job')} not seen to end: {agreeing(left, 'it runs', 'they run')} on, and cost"
        say(f"{known}; batchsubmit cancel {shlex.quote(summary.ledger)} cancels what runs on AWS")
