"""`batchsubmit enqueue`."""

from pathlib import Path
from typing import Any

import click

from batchsubmit.app.enqueue import EnqueueSummary
from batchsubmit.app.enqueue import enqueue as send
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import (
    allow_duplicates_option,
    batch_id_option,
    conclude,
    config_option,
    json_option,
    queue_url_option,
    read_settings,
    run_command,
    tell_warnings,
)
from batchsubmit.log import configure_logging
from batchsubmit.manifest.check import Terms
from batchsubmit.text import agreeing, counted


@click.command(
    epilog=manual(
        (
            "put jobs on a queue, and go on where it ended when run again",
            'batchsubmit enqueue jobs.csv --queue-url "$QUEUE_URL"',
        ),
        (
            "the same rows as a round of their own",
            "batchsubmit enqueue jobs.csv --config worker.toml --batch-id 2026-w48",
        ),
        exits={
            0: "all is on the queue, or there was nothing to do",
            1: "",
            2: "usage, settings or manifest wrong, or there is no such queue: nothing was sent",
            4: "",
        },
    )
)
@click.argument("manifest")
@queue_url_option
@batch_id_option
@click.option(
    "--progress",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="What was sent. [default: <manifest stem>.enqueue.jsonl in the current folder]",
)
@allow_duplicates_option
@config_option
@json_option
def enqueue(
    manifest: str,
    progress: Path | None,
    config: Path | None,
    *,
    allow_duplicates: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 (click's)
) -> int:
    """Put the jobs of MANIFEST on an SQS queue, for batchsubmit worker.

    Every row is checked before anything is sent. A second run goes on where the first one ended, and sends nothing
    twice that SQS is known to have.
    """
    settings = read_settings(config, given)
    configure_logging(settings.log.format, settings.log.level)
    terms = Terms.now(settings.submit, allow_duplicates=allow_duplicates)
    summary = run_command(send(manifest, settings, terms=terms, progress=progress))
    tell_warnings(summary.warnings)
    return conclude([_words(summary)], summary.as_dict(), as_json=as_json)


def _words(summary: EnqueueSummary) -> str:
    jobs = counted(summary.rows, "job")
    before = f", {summary.sent_before:,} by earlier runs" if summary.sent_before else ""
    if not (summary.sent or summary.left):
        were = agreeing(summary.sent_before, "was", "were")
        return f"Nothing to do: {summary.sent_before:,} of {jobs} {were} sent before; see {summary.progress}"
    left = f"; {summary.left:,} left, run the same command again to go on" if summary.left else ""
    return f"{summary.sent:,} of {jobs} sent to the queue in {summary.seconds:.1f} s{before}{left}"
