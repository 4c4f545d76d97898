"""`batchsubmit worker`."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from batchsubmit.app.worker import WorkerSummary, work
from batchsubmit.cli.help import EXITS
from batchsubmit.cli.options import (
    command,
    conclude,
    config_option,
    json_option,
    queue_url_option,
    read_settings,
    run_command,
    sending_options,
    setting_option,
)
from batchsubmit.cli.output import say
from batchsubmit.cli.submit import display_of
from batchsubmit.errors import EXIT_DONE, EXIT_FAILED, BatchsubmitError
from batchsubmit.health import ask_probe
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.log import configure_logging
from batchsubmit.report.summary import held_words, others_words
from batchsubmit.text import counted


def _ask(probe: str, config: Path | None) -> int:
    """Ask a probe. Docker keeps every status but 0 and 1 for itself, so all trouble is a 1."""
    try:
        is_well, words = ask_probe(read_settings(config).worker, f"{probe}z")
    except BatchsubmitError as exc:
        is_well, words = False, str(exc)
    say(words)
    return EXIT_DONE if is_well else EXIT_FAILED


@command(
    ("one worker, with a ledger of its own", 'batchsubmit worker --queue-url "$QUEUE_URL"'),
    ("any number of them", 'batchsubmit worker --queue-url "$QUEUE_URL" --ledger dynamodb://batchsubmit-jobs'),
    exits=EXITS
    | {
        0: "ended by SIGTERM or Ctrl-C, all is recorded or handed back; --check: it is live (or ready)",
        1: "--check: it is not",
        2: "usage or settings wrong, or there is no such queue",
        3: "something else ended it: credentials, a queue that was deleted; fix that and start it again",
    },
)
@queue_url_option
@click.option(
    "--ledger",
    type=parse_location,
    default="worker.ledger.jsonl",
    show_default=True,
    metavar="LEDGER",
    help="The ledger's file, or dynamodb://TABLE for one that several workers share.",
)
@setting_option("--batch-id", "submit.batch_id", "TEXT", words="The batch of messages that name none")
@sending_options
@click.option(
    "--check",
    is_flag=False,
    flag_value="live",
    type=click.Choice(["live", "ready"]),
    help="Only ask the worker of this machine whether it is live (or ready): exit 0 if it is, else 1.",
)
@config_option()
@json_option
def worker(
    ledger: Location,
    config: Path | None,
    *,
    check: str | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 (click's)
) -> int:
    """Submit the jobs that come from an SQS queue, until SIGTERM or Ctrl-C.

    A message is deleted once its job is submitted or failed and the ledger has that. At the end the calls in
    progress are awaited and recorded, and all other messages are handed back to the queue.
    """
    if check is not None:
        return _ask(check, config)
    settings = read_settings(config, given)
    configure_logging(settings.log.format, settings.log.level)
    # Elsewhere standard error is a log, a JSON object a line.
    display = display_of(settings) if sys.stderr.isatty() else lambda *_: nullcontext()
    summary = run_command(
        work(settings, ledger=ledger, advise=lambda words: say(f"batchsubmit: {words}"), display=display),
        "messages that were held are delivered again after their visibility timeout",
    )
    return conclude(_words(summary), summary.as_dict(), as_json=as_json)


def _words(summary: WorkerSummary) -> Iterator[str]:
    """What became of the jobs, then of the messages, in numbers that add up to those received."""
    counts = summary.queue_counts
    jobs = ((summary.rejected, "rejected"), (summary.unknown, "unknown"), (counts["recognised"], "known before"))
    more = "".join(f", {count:,} {words}" for count, words in jobs if count)
    yield f"{counted(summary.submitted, 'job')} submitted{more}, in {summary.seconds:.1f} s"
    gone, back = counts["deleted"], counts["handed_back"]
    parts = [f"{gone:,} deleted", f"{back:,} handed back"]
    if left := max(counts["received"] - gone - back, 0):
        parts.append(f"{left:,} come back by themselves")
    yield f"{counted(counts['received'], 'message')} received: {', '.join(parts)}"
    yield from held_words(summary.held)
    yield from others_words(summary.held_by_others)
    if summary.stop_message:
        yield f"  why it ended: {summary.stop_message}"
