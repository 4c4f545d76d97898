"""`batchsubmit status`."""

import json
import os
import re
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.advice import codes_words
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import LEDGER, json_option, region_for
from batchsubmit.cli.output import say
from batchsubmit.core.states import LOG_GROUP, UNDECIDED, Phase, end_words
from batchsubmit.errors import UsageError
from batchsubmit.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchsubmit.core.jobs import RunStarted
    from batchsubmit.core.ledger_state import LedgerState
    from batchsubmit.core.states import JobState
    from batchsubmit.ledger.base import Location
    from batchsubmit.observers.live import Feed


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
def status(ledger: "Location", *, watching: bool, interval: float, as_json: bool) -> int:
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
    if as_json:
        click.echo(json.dumps(_as_dict(ledger, state)))
    else:
        _print(ledger, state)
    return 0


def _read(ledger: "Location") -> "LedgerState":
    from batchsubmit.ledger.read import fold_ledger  # noqa: PLC0415 (help is fast without)

    return fold_ledger(ledger, region=region_for(ledger))


def _watch(ledger: "Location", interval: float, *, as_json: bool) -> "LedgerState":
    from rich.console import Console  # noqa: PLC0415 (help is fast without)

    from batchsubmit.observers.live import watch  # noqa: PLC0415

    feed, refresh = _feed(ledger, interval)
    console = Console(stderr=as_json)
    try:
        live = watch(
            feed,
            console,
            interval_seconds=interval,
            refresh_seconds=refresh,
            has_died=lambda live: live.run is not None and has_died(live.run),
        )
    except KeyboardInterrupt:
        return _read(ledger)
    state, run = live.ledger_state, live.run
    if run and not live.is_over and (as_json or not isinstance(ledger, Path)):  # of a file, it is printed below
        say(f"Run {run.run} has died ({run.holder}): run the same submit again to go on")
    elif state.last_end:
        say(f"Run {state.last_end.run} ended with exit status {state.last_end.exit_status}")
    return state


def _feed(ledger: "Location", interval: float) -> "tuple[Feed, float]":
    """Where a ledger's events come from, and how often a terminal is updated: each read of a table costs money."""
    from batchsubmit.ledger.codec import require_ledger  # noqa: PLC0415 (help is fast without)
    from batchsubmit.ledger.read import TableFollower, Tail  # noqa: PLC0415

    if not isinstance(ledger, Path):
        return TableFollower(ledger, region_for(ledger)), interval
    require_ledger(ledger)
    return Tail(ledger), min(interval, _REFRESH_SECONDS)


def last_run_words(state: "LedgerState") -> "Iterator[str]":
    """Say what a person should know of the last run; nothing where it has ended with nothing left."""
    if not state.runs:
        return
    run, end = state.runs[-1], state.last_end
    if end is None:
        to_do = f", {run.to_do:,} of its {run.rows:,} rows to do when it began" if run.rows else ""
        if has_died(run):
            yield f"the last run has died ({printable(run.holder)}){to_do}: run the same command again to go on"
        else:
            yield f"the last run is under way ({printable(run.holder)}){to_do}"
    elif left := end.counts.get("left", 0):
        why = f" ({printable(end.reason)})" if end.reason else ""
        rows = end.counts.get("rows", 0)
        yield f"the last run ended{why} with {left:,} of its {rows:,} rows left: run the same command again to go on"


def has_died(run: "RunStarted") -> bool:
    """Whether the process that had the ledger is gone; one on another machine is believed to live."""
    holder = re.fullmatch(r"process (\d+) on (.+)", run.holder)
    if holder is None or holder[2] != socket.gethostname():
        return False
    try:
        os.kill(int(holder[1]), 0)  # signal 0 is none: it only asks whether there is such a process
    except ProcessLookupError:
        return True
    except OSError:
        pass  # there is one, of another user
    return False


def _to_look_at(state: "LedgerState") -> "dict[str, tuple[list[JobState], Callable[[JobState], str]]]":
    """The jobs that a person has to look at, each kind with how its reason reads."""
    return {
        "unknown": (
            [job for job in state if job.phase in UNDECIDED],
            lambda job: job.message or "a call was about to be made",
        ),
        "failed": ([job for job in state if job.phase is Phase.FAILED], lambda job: f"{job.code}: {job.message}"),
        "finished badly": ([job for job in state if job.bad_end], end_words),
    }


def _print(ledger: "Location", state: "LedgerState") -> None:
    say(f"{ledger}: {counted(len(state), 'job')} in {counted(len(state.runs), 'run')}", to_stdout=True)
    counts = state.account()
    finished = counts.pop("finished", 0)
    for phase, count in counts.items():
        say(f"  {count:>9,} {_PHASES.get(phase, phase)}", to_stdout=True)
        if phase == "submitted" and finished:
            say(f"  {finished:>9,} of these seen to end", to_stdout=True)
    if isinstance(ledger, Path):  # of a table's many runs, the last to begin says nothing of the others
        for line in last_run_words(state):
            say(f"  {line}", to_stdout=True)
    for word, (jobs, reason) in _to_look_at(state).items():
        for job in jobs[:_MOST_LISTED]:
            say(f"{word}: {job.name} in membership {job.membership}: {reason(job)}", to_stdout=True)
        if len(jobs) > _MOST_LISTED:
            say(f"... and {len(jobs) - _MOST_LISTED:,} more {word}", to_stdout=True)
    if codes := Counter(job.bad_end for job in state if job.bad_end):
        say(f"codes of those that finished badly: {codes_words(codes)}", to_stdout=True)
        say(f"their logs: CloudWatch log group {LOG_GROUP}", to_stdout=True)


def _as_dict(ledger: "Location", state: "LedgerState") -> dict[str, Any]:
    kinds = _to_look_at(state)
    return {
        "ledger": str(ledger),
        "jobs": len(state),
        "runs": len(state.runs),
        "counts": state.account(),
        "failed": [{**_job(each), "code": each.code, "message": each.message} for each in kinds["failed"][0]],
        "unknown": [{**_job(each), "reason": each.message} for each in kinds["unknown"][0]],
        "finished_badly": [
            {**_job(each), "status": each.status, "code": each.code, "message": each.message, "logs": each.logs}
            for each in kinds["finished badly"][0]
        ],
    }


def _job(state: "JobState") -> dict[str, str]:
    return {"job": state.job, "membership": state.membership, "name": state.name}
