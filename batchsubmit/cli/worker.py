"""`batchsubmit worker`."""

import asyncio
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, json_option, read_settings, wait_for_inputs_option
from batchsubmit.errors import EXIT_DONE, EXIT_FAILED, BatchsubmitError, StoppedError
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.app.worker_run import WorkerSummary
    from batchsubmit.config import Settings
    from batchsubmit.ledger.location import Location


_PROBES = {"live": "livez", "ready": "readyz"}


def check_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--check [live|ready]`: with it, the command does nothing but ask, and exits 0 (well) or 1.

    The command must have `--config`. Docker keeps every other status for itself, so all trouble is a 1.
    """

    @wraps(command)
    def asking_first(*args: Any, check: str | None, **given: Any) -> int:  # noqa: ANN401 (click's)
        return command(*args, **given) if check is None else _ask(check, given.get("config"))

    option = click.option(
        "--check",
        is_flag=False,
        flag_value="live",
        type=click.Choice(sorted(_PROBES)),
        help="Only ask the worker of this machine whether it is live (or ready): exit 0 if it is, else 1.",
    )
    return option(asking_first)


def _ask(probe: str, config: Path | None) -> int:
    from batchsubmit.health.check import ask, probe_url  # noqa: PLC0415 (help is fast without)

    try:
        settings = read_settings(config).worker
    except BatchsubmitError as exc:
        return _print_conditions(str(exc), EXIT_FAILED)
    if not settings.metrics_port:
        return _print_conditions("worker.metrics_port is 0: the worker has no probes to ask", EXIT_FAILED)
    answer = ask(probe_url(settings.metrics_host, settings.metrics_port, _PROBES[probe]))
    return _print_conditions(answer.words, EXIT_DONE if answer.is_well else EXIT_FAILED)


def _print_conditions(words: str, status: int) -> int:
    click.echo(words, err=True)
    return status


@click.command(
    epilog=manual(
        ("one worker, with a ledger of its own", 'batchsubmit worker --queue-url "$QUEUE_URL"'),
        ("any number of them", 'batchsubmit worker --queue-url "$QUEUE_URL" --ledger dynamodb://batchsubmit-jobs'),
        ("is the queue there, and do its settings fit?", 'batchsubmit worker --queue-url "$QUEUE_URL" --check-queue'),
        exits={
            0: "ended by SIGTERM or Ctrl-C, all in hand recorded or handed back; --check: it is live (or ready)",
            1: "--check: it is not",
            2: "usage or settings wrong, or there is no such queue",
            3: "something else ended it: credentials, a queue that was deleted; start it again once that is mended",
        },
    )
)
@click.option("--queue-url", metavar="URL", help="The SQS queue. [default: worker.queue_url of the settings]")
@click.option(
    "--ledger",
    type=LEDGER,
    default="worker.ledger.jsonl",
    show_default=True,
    metavar="LEDGER",
    help="The ledger's file, or dynamodb://TABLE for one that several workers share.",
)
@click.option("--batch-id", default="", metavar="TEXT", help="The batch of messages that name none.")
@click.option("--check-queue", is_flag=True, help="Only check the settings and the queue's; nothing is received.")
@wait_for_inputs_option
@check_option
@config_option
@json_option
def worker(
    queue_url: str | None,
    ledger: "Location",
    batch_id: str,
    config: Path | None,
    *,
    wait_for_inputs: bool | None,
    check_queue: bool,
    as_json: bool,
) -> int:
    """Submit the jobs that come from an SQS queue, until SIGTERM or Ctrl-C.

    A message is deleted once its job is submitted or failed and the ledger has that. At the end the calls under way are
    awaited and recorded, and all other messages are handed back to the queue.
    """
    from batchsubmit.log import configure_logging  # noqa: PLC0415 (help is fast without)

    settings = read_settings(config, worker={"queue_url": queue_url}, submit={"wait_for_inputs": wait_for_inputs})
    configure_logging(settings.log.format, settings.log.level)
    if check_queue:
        return _check(settings, as_json=as_json)
    try:
        summary = asyncio.run(_run(ledger, batch_id, settings))
    except asyncio.CancelledError:
        raise StoppedError(
            "ended at once by a second signal; messages in hand are delivered again after their visibility timeout"
        ) from None
    return _tell(summary, as_json=as_json)


def _check(settings: "Settings", *, as_json: bool) -> int:
    from batchsubmit.app.worker import check  # noqa: PLC0415 (help is fast without)

    words = asyncio.run(check(settings))
    for word in words:
        _advise(word)
    if as_json:
        click.echo(json.dumps({"queue": settings.worker.queue_url, "advice": words}))
    return 0


def _advise(word: str) -> None:
    click.echo(f"batchsubmit: {word}", err=True)


async def _run(ledger: "Location", batch: str, settings: "Settings") -> "WorkerSummary":
    from batchsubmit.app.worker import WorkerOptions, work  # noqa: PLC0415
    from batchsubmit.observers.base import LogObserver  # noqa: PLC0415 (help is fast without)

    options = WorkerOptions(ledger=ledger, batch=batch)
    return await work(options, settings, observers=[LogObserver()], advise=_advise)


def _tell(summary: "WorkerSummary", *, as_json: bool) -> int:
    from batchsubmit.report.summary import held_words, others_words  # noqa: PLC0415 (help is fast without)

    counts = summary.queue_counts
    received = counted(counts["received"], "message")
    click.echo(
        f"{counted(summary.submitted, 'job')} submitted, {summary.failed:,} failed, of {received} received "
        f"in {summary.seconds:.1f} s; {counts['handed_back']:,} handed back",
        err=True,
    )
    for line in (*held_words(summary.held), *others_words(summary.held_by_others)):
        click.echo(line, err=True)
    if summary.stop_message:
        click.echo(f"  why it ended: {summary.stop_message}", err=True)
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    return summary.exit_status
