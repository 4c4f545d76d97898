"""`batchsubmit submit`."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.options import allow_duplicates_option, config_option, json_option, read_settings, telling_problems
from batchsubmit.errors import StoppedError

if TYPE_CHECKING:
    from batchsubmit.config import Settings
    from batchsubmit.report.summary import Summary
    from batchsubmit.run import SubmitOptions


@click.command(
    epilog="Example: batchsubmit submit jobs.csv --batch-id nightly-2026-11-23 --rate 5. "
    "Run the same command again to go on after any interruption."
)
@click.argument("manifest")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The ledger file. [default: <manifest stem>.ledger.jsonl in the current folder]",
)
@click.option("--batch-id", default="", metavar="TEXT", help="A word for this round of work; part of every job's key.")
@config_option
@click.option("--sandbox", is_flag=True, help="Rehearse against a local Clean Rooms ML in this process.")
@click.option(
    "--sandbox-job-seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the sandbox's jobs run.",
)
@click.option("--wait", is_flag=True, help="Follow every job to its end, and exit 1 where one ends badly.")
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Send the first N rows alone; the rest follows only once all of them have finished well.",
)
@click.option("--rate", type=float, metavar="N", help="Calls a second, 0 for no limit.  [default: 10]")
@click.option("--concurrency", type=int, metavar="N", help="Calls under way at once.  [default: 32]")
@click.option("--max-failures", metavar="N|N%", help="Stop once more jobs than this have failed.")
@click.option("--deadline", metavar="TIME", help="Send nothing after this: 06:00 (local time), or an RFC 3339 moment.")
@click.option("--skip-invalid", is_flag=True, help="Submit the good rows and record the others as failed.")
@allow_duplicates_option
@click.option("--retry-failed", is_flag=True, help="Try jobs again that an earlier run recorded as failed.")
@click.option(
    "--resubmit-unknown",
    is_flag=True,
    help="Send jobs again whose fate is unknown. A job that does run is then started twice, and paid twice.",
)
@click.option("--yes", is_flag=True, help="Ask nothing.")
@json_option
def submit(config: Path | None, *, rate: float | None, concurrency: int | None, as_json: bool, **given: Any) -> int:  # noqa: ANN401 (click's)
    """Submit the jobs of MANIFEST, a CSV or JSONL file: a path, "-" or an s3:// URL.

    Every row is checked before anything is sent. What was submitted stands in the ledger, and a second run goes on
    where the first one ended.
    """
    from batchsubmit.cli.logging import configure_logging  # noqa: PLC0415 (help is fast without)

    settings = read_settings(config, rate={"max_per_second": rate}, submit={"concurrency": concurrency})
    configure_logging(settings.log)
    try:
        summary = asyncio.run(_run(_options(given), settings))
    except asyncio.CancelledError:
        raise StoppedError(
            "ended at once by a second signal; run the same command again to go on, calls cut short are looked up first"
        ) from None
    return _tell(summary, as_json=as_json)


def _options(given: dict[str, Any]) -> "SubmitOptions":
    from datetime import datetime  # noqa: PLC0415 (help is fast without)

    from batchsubmit.run import SubmitOptions  # noqa: PLC0415
    from batchsubmit.stopping import NO_LIMIT, FailureLimit, parse_deadline  # noqa: PLC0415

    limit, deadline = given["max_failures"], given["deadline"]
    return SubmitOptions(
        manifest=given["manifest"],
        ledger=given["ledger"],
        batch=given["batch_id"],
        sandbox=given["sandbox"],
        sandbox_job_seconds=given["sandbox_job_seconds"],
        wait=given["wait"],
        canary=given["canary"],
        skip_invalid=given["skip_invalid"],
        allow_duplicates=given["allow_duplicates"],
        retry_failed=given["retry_failed"],
        resubmit_unknown=given["resubmit_unknown"],
        failure_limit=FailureLimit.parse(limit) if limit is not None else NO_LIMIT,
        deadline=parse_deadline(deadline, datetime.now().astimezone()) if deadline else None,
    )


async def _run(options: "SubmitOptions", settings: "Settings") -> "Summary":
    from rich.console import Console  # noqa: PLC0415 (help is fast without)

    from batchsubmit.app import submit as submit_manifest  # noqa: PLC0415
    from batchsubmit.observers.logs import LogObserver  # noqa: PLC0415
    from batchsubmit.observers.progress import showing  # noqa: PLC0415

    console = Console(stderr=True)
    with telling_problems():
        return await submit_manifest(
            options, settings, observers=[LogObserver()], display=lambda view: showing(view, console)
        )


def _tell(summary: "Summary", *, as_json: bool) -> int:
    from batchsubmit.cli.words import closing_words  # noqa: PLC0415 (help is fast without)

    for line in closing_words(summary):
        click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    return summary.exit_status
