"""`batchsubmit status`."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from batchsubmit.advice import codes_words
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, json_option, region_for
from batchsubmit.cli.output import say
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import LOG_GROUP, UNDECIDED, JobState, Phase, end_words
from batchsubmit.errors import UsageError
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.codec import require_ledger
from batchsubmit.ledger.read import TableFollower, Tail, fold_ledger
from batchsubmit.observers.live import Feed, has_died, watch
from batchsubmit.text import counted, printable

_MOST_LISTED = 20
_REFRESH_SECONDS = 1.0
_PHASES = {
    "absent": "not accepted, to be sent again",
    "intent": "in a call, or cut short in one and to be looked up",
    "refused": "waiting, refused for the time being",
    "unknown": "unknown: may run or not",
}
"""What the ledger's own words mean, where that is not plain."""


@click.command(
    epilog=manual(
        ("where a batch stands", "batchsubmit status jobs.ledger.jsonl"),
        ("a live view beside a run, until it ends", "batchsubmit status jobs.ledger.jsonl --watch"),
        ("a line every five minutes, into a file", "batchsubmit status jobs.ledger.jsonl --watch --interval 300 > log"),
        ("for programs", "batchsubmit status jobs.ledger.jsonl --json | jq .counts"),
        exits={
            0: "printed, whatever the jobs' state",
            1: "",
            2: "the ledger cannot be read",
            3: "",
            4: "it is damaged",
        },
    )
)
@click.argument("ledger", type=LEDGER)
@click.option("--watch", "watching", is_flag=True, help="Follow a run until it ends, or Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two lines of --watch where there is no terminal, and two looks at a table.",
)
@json_option
def status(ledger: Location, *, watching: bool, interval: float, as_json: bool) -> int:
    """Print where the jobs of LEDGER stand, with the failures and the unknown; also while a run writes to it.

    With --watch, a view that follows the run: per membership the slots used and known, the pace, when all will be
    submitted, the last failures. The ledger is only read and not locked, so the run does not notice. It ends with the
    run, then prints where things stand; where no run is under way it does so at once. Ctrl-C ends the view, not the
    run.
    """
    try:
        state = _watch(ledger, interval, as_json=as_json) if watching else _read(ledger)
    except OSError as exc:
        raise UsageError(f"the ledger {ledger} cannot be read: {exc.strerror}") from exc
    found = {
        "unknown": [job for job in state if job.phase in UNDECIDED],
        "failed": [job for job in state if job.phase is Phase.FAILED],
        "finished badly": [job for job in state if job.bad_end],
    }
    if as_json:
        click.echo(json.dumps(_as_dict(ledger, state, found)))
    else:
        for line in _words(ledger, state, found):
            say(line, to_stdout=True)
    return 0


def _read(ledger: Location) -> LedgerState:
    return fold_ledger(ledger, region=region_for(ledger))


def _watch(ledger: Location, interval: float, *, as_json: bool) -> LedgerState:
    feed: Feed
    if isinstance(ledger, Path):
        require_ledger(ledger)
        feed, refresh = Tail(ledger), min(interval, _REFRESH_SECONDS)
    else:
        feed, refresh = TableFollower(ledger, region_for(ledger)), interval  # each read of a table costs money
    try:
        live = watch(feed, Console(stderr=as_json), interval_seconds=interval, refresh_seconds=refresh)
    except KeyboardInterrupt:
        return _read(ledger)
    state, run = live.ledger_state, live.run
    if run and not live.is_over and (as_json or not isinstance(ledger, Path)):  # of a file, it is printed below
        say(f"Run {run.run} has died ({run.holder}): run the same submit again to go on")
    elif state.last_end:
        say(f"Run {state.last_end.run} ended with exit status {state.last_end.exit_status}")
    return state


def last_run_words(state: LedgerState) -> Iterator[str]:
    """Say what a person should know of the last run; nothing where it has ended with nothing left."""
    run, end = state.open_run, state.last_end
    if run:
        to_do = f", {run.to_do:,} of its {run.rows:,} rows to do when it began" if run.rows else ""
        if has_died(run):
            yield f"the last run has died ({printable(run.holder)}){to_do}: run the same command again to go on"
        else:
            yield f"the last run is under way ({printable(run.holder)}){to_do}"
    elif end and (left := end.counts.get("left", 0)):
        why = f" ({printable(end.reason)})" if end.reason else ""
        rows = end.counts.get("rows", 0)
        yield f"the last run ended{why} with {left:,} of its {rows:,} rows left: run the same command again to go on"


def _words(ledger: Location, state: LedgerState, found: dict[str, list[JobState]]) -> Iterator[str]:
    yield f"{ledger}: {counted(len(state), 'job')} in {counted(len(state.runs), 'run')}"
    counts = state.account()
    finished = counts.pop("finished", 0)
    for phase, count in counts.items():
        yield f"  {count:>9,} {_PHASES.get(phase, phase)}"
        if phase == "submitted" and finished:
            yield f"  {finished:>9,} of these seen to end"
    if isinstance(ledger, Path):  # of a table's many runs, the last to begin says nothing of the others
        yield from (f"  {line}" for line in last_run_words(state))
    for word, jobs in found.items():
        for job in jobs[:_MOST_LISTED]:
            yield f"{word}: {job.name} in membership {job.membership}: {_reason(job)}"
        if len(jobs) > _MOST_LISTED:
            yield f"... and {len(jobs) - _MOST_LISTED:,} more {word}"
    if codes := Counter(job.bad_end for job in found["finished badly"]):
        yield f"codes of those that finished badly: {codes_words(codes)}"
        yield f"their logs: CloudWatch log group {LOG_GROUP}"


def _reason(job: JobState) -> str:
    """Why a person has to look at a job."""
    if job.phase in UNDECIDED:
        return job.message or "a call was about to be made"
    return f"{job.code}: {job.message}" if job.phase is Phase.FAILED else end_words(job)


def _as_dict(ledger: Location, state: LedgerState, found: dict[str, list[JobState]]) -> dict[str, Any]:
    def members(job: JobState, *names: str) -> dict[str, str]:
        return {name: getattr(job, name) for name in ("job", "membership", "name", *names)}

    return {
        "ledger": str(ledger),
        "jobs": len(state),
        "runs": len(state.runs),
        "counts": state.account(),
        "failed": [members(job, "code", "message") for job in found["failed"]],
        "unknown": [{**members(job), "reason": job.message} for job in found["unknown"]],
        "finished_badly": [members(job, "status", "code", "message", "logs") for job in found["finished badly"]],
    }
