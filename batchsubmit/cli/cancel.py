"""`batchsubmit cancel`."""

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchsubmit.app.cancel import Recall, Survey, recall, survey
from batchsubmit.aws import whose_account
from batchsubmit.cli.confirm import ask
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, config_option, json_option, rate_option, read_settings, run_command
from batchsubmit.cli.output import say
from batchsubmit.core.states import JobState
from batchsubmit.errors import EXIT_STOPPED, UsageError
from batchsubmit.ledger.base import Location
from batchsubmit.schema.arns import region_in
from batchsubmit.submit.stopping import Stop
from batchsubmit.text import agreeing, counted, duration

_NAMES_SHOWN = 10


@click.command(
    epilog=manual(
        ("cancel all that run, after a look and a question", "batchsubmit cancel jobs.ledger.jsonl"),
        ("only see what would be cancelled", "batchsubmit cancel jobs.ledger.jsonl --dry-run"),
        ("only some, in a script", "batchsubmit cancel jobs.ledger.jsonl --name 'churn-*' --yes --json"),
        exits={
            0: "cancelled, or nothing was running",
            1: "some jobs could not be cancelled",
            2: "usage or settings wrong: nothing was cancelled",
            3: "not agreed to, or stopped before the end: run it again to go on",
            4: "the ledger is in use (end the run first) or damaged",
        },
    )
)
@click.argument("ledger", type=LEDGER)
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only in this one; may be repeated.")
@click.option("--name", "names", multiple=True, metavar="GLOB", help="Only jobs of such names; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would be cancelled, and cancel nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the cancelled jobs have ended.")
@rate_option
@config_option
@json_option
def cancel(ledger: Location, config: Path | None, *, as_json: bool, **how: Any) -> int:  # noqa: ANN401 (click's)
    """Cancel the running jobs that LEDGER started, and no others, and record how each ended.

    The service is asked which of the ledger's jobs run; they are shown, and nothing is cancelled before you agree.
    Jobs of others, in the same memberships too, are never touched. A run that still submits must be ended first;
    of a table end all of them, for nobody checks.
    """
    if not (how["yes"] or how["dry_run"] or sys.stdin.isatty()):
        raise UsageError("there is no terminal to ask at: give --yes to cancel, or --dry-run to see what would be")
    settings = read_settings(config, how)
    filters = {name: how[name] for name in ("memberships", "names")}
    found = run_command(survey(ledger, settings, **filters))
    asks = bool(found.running) and not (how["dry_run"] or how["yes"])
    if asks:
        say(run_command(whose_account(region_in(found.running[0].arn), os.environ.get("AWS_PROFILE"))))
    for line in _preview(ledger, found, is_filtered=any(filters.values())):
        say(line)
    if found.running:
        say(_loss(found), is_odd=True)
    status, done = 0, None
    if asks and not run_command(ask("Cancel them?", Stop(), in_full=True)):
        say("Nothing was cancelled.")
        status = EXIT_STOPPED
    elif (found.running or found.cancelling) and not how["dry_run"]:
        done = run_command(recall(ledger, settings, found, wait=not how["no_wait"]))
        status = done.exit_status
        for line in _words(done):
            say(line)
    if as_json:
        click.echo(json.dumps({"ledger": str(ledger), **_as_dict(found, done), "exit_status": status}))
    return status


def _preview(ledger: Location, found: Survey, *, is_filtered: bool) -> Iterator[str]:
    lanes: dict[str, list[JobState]] = {}
    for state in found.running:
        lanes.setdefault(state.membership, []).append(state)
    if found.running:
        where = f" in {counted(len(lanes), 'membership')}"
        yield f"{counted(len(found.running), 'job')} to cancel{where}, which {ledger} started:"
    else:
        asked = " and that --membership or --name chose" if is_filtered else ""
        yield f"Nothing to cancel: no job that {ledger} started{asked} is running"
    for membership, states in lanes.items():
        names = ", ".join(state.name for state in states[:_NAMES_SHOWN])
        more = f" and {len(states) - _NAMES_SHOWN:,} more" if len(states) > _NAMES_SHOWN else ""
        yield f"  membership {membership}: {counted(len(states), 'job')}: {names}{more}"
    yield from _counts(
        (len(found.cancelling), "being cancelled already"),
        (found.unknown, "unknown: they may run, and are not cancelled; batchsubmit submit or verify looks them up"),
        (found.duplicates, "duplicates that the ledger knows of: cancel those by their ARN, they may be another's"),
    )


def _counts(*counts: tuple[int, str]) -> Iterator[str]:
    yield from (f"  {count:>9,} {words}" for count, words in counts if count)


def _loss(found: Survey) -> str:
    now = datetime.now(UTC)
    ages = [(now - datetime.fromisoformat(state.since)).total_seconds() for state in found.running if state.since]
    have = agreeing(len(found.running), "It has", "They have")
    return f"{have} run for {duration(sum(ages))}: paid, without a result"


def _words(done: Recall) -> Iterator[str]:
    yield f"{counted(done.cancelled, 'job')} cancelled"
    yield from _counts(
        (done.ended, "had ended before the cancellation reached them"),
        (done.under_way, "being cancelled; the next submit --wait records how they end"),
        (done.left, "left running"),
    )
    for state, why in done.refused:
        yield f"  not cancelled: {state.name} in membership {state.membership}: {why}"
    if done.stop_message:
        yield f"  why: {done.stop_message}"
        yield "  next: run the same command again to go on"


def _as_dict(found: Survey, done: Recall | None) -> dict[str, Any]:
    """What was done, or what would be."""
    if done is None:
        counts = {"cancelling": len(found.cancelling), "unknown": found.unknown, "duplicates": found.duplicates}
        return {"running": list(map(_job, found.running)), **counts}
    members = {each: getattr(done, each) for each in ("cancelled", "ended", "under_way", "left", "stop_message")}
    return members | {"refused": [{**_job(state), "reason": why} for state, why in done.refused]}


def _job(state: JobState) -> dict[str, str]:
    return {name: getattr(state, name) for name in ("job", "membership", "name", "arn")}
