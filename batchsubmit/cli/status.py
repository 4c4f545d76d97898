"""`batchsubmit status`, and with --watch the view that follows a run."""

import os
import re
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from batchsubmit.aws import resolve_region
from batchsubmit.cli.help import READ_EXITS
from batchsubmit.cli.options import command, conclude, settings_and_json
from batchsubmit.cli.output import membership_names, say
from batchsubmit.config import Settings
from batchsubmit.core.job_states import LOG_GROUP, UNDECIDED, JobState, State, end_words, has_failed
from batchsubmit.core.jobs import RunStarted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import UsageError
from batchsubmit.ledger.lines import require_ledger
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import TableFollower, Tail, read_ledger
from batchsubmit.observers.progress import BAD, Feed, LaneCounts, LiveRun, following, line_at
from batchsubmit.report.reasons import Reasons
from batchsubmit.text import counted, cut, duration, fitted, printable, utc_words, with_names

_MOST_LISTED, _MOST_REASONS = 10, 10
_REFRESH_SECONDS = 1.0


@command(
    ("where a batch stands", "batchsubmit status jobs.ledger.jsonl"),
    ("a live view beside a run, until it ends", "batchsubmit status jobs.ledger.jsonl --watch"),
    ("a line every five minutes, into a file", "batchsubmit status jobs.ledger.jsonl --watch --interval 300 > log"),
    ("for programs", "batchsubmit status jobs.ledger.jsonl --json | jq .counts"),
    exits=READ_EXITS,
)
@click.argument("ledger", type=parse_location)
@click.option("--watch", "watching", is_flag=True, help="Follow a run until it ends, or Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two lines of --watch where there is no terminal, and two looks at a table.",
)
@click.option("--membership", "only", default="*", metavar="GLOB", help="Of --watch: the memberships to show.")
@click.option("--all", "lists_all", is_flag=True, help="List every job that is unknown, was rejected or failed.")
@settings_and_json
def status(ledger: Location, settings: Settings, *, watching: bool, lists_all: bool, as_json: bool, **how: Any) -> int:  # noqa: ANN401
    """Print where the jobs of LEDGER stand, what failed and why, and when all will be done; also during a run.

    With --watch, a view that follows the run: the totals, the last failures, and the memberships, those with most work
    left first, as far as the screen has room for them. The ledger is only read and not locked, so the run does not
    notice. It ends with the run, then prints where things stand; where no run is under way it does so at once. Ctrl-C
    ends the view, not the run.
    """
    region = resolve_region(settings.aws)
    try:
        live = _watch(ledger, region, as_json=as_json, **how) if watching else _read(ledger, region)
    except OSError as exc:
        raise UsageError(f"the ledger {ledger} cannot be read: {exc.strerror}") from exc
    content = _as_dict(ledger, live.ledger_state) if as_json else {}
    return conclude(_words(ledger, live, lists_all=lists_all), content, as_json=as_json, are_data=True)


def _read(ledger: Location, region: str | None) -> LiveRun:
    live = LiveRun()
    for event in read_ledger(ledger, region=region):
        live.apply(event)
    return live


def _watch(ledger: Location, region: str | None, *, interval: float, only: str, as_json: bool) -> LiveRun:
    feed: Feed
    if isinstance(ledger, Path):
        require_ledger(ledger)
        feed, refresh = Tail(ledger), min(interval, _REFRESH_SECONDS)
    else:
        feed, refresh = TableFollower(ledger, region), interval  # each read of a table costs money
    try:
        console = Console(stderr=as_json)
        seconds = interval if not console.is_terminal else refresh
        live = watch(feed, console, seconds=seconds, only=only)
    except KeyboardInterrupt:
        return _read(ledger, region)
    run, end = live.run, live.ledger_state.work.end
    if run and not live.is_over and (as_json or not isinstance(ledger, Path)):  # of a file, it is printed below
        say(f"Run {run.run} has died ({run.holder}): run the same submit again to go on")
    elif end:
        say(f"Run {end.run} ended with exit status {end.exit_status}")
    return live


def last_run_words(state: LedgerState) -> Iterator[str]:
    """Say what a person should know of the last run; nothing where it has ended with nothing left."""
    run, end = state.open_run, state.work.end
    if run:
        to_do = f", {run.to_do:,} of its {run.rows:,} rows to do when it began" if run.rows else ""
        if has_died(run):
            yield f"the last run has died ({run.holder}){to_do}: run the same command again to go on"
        else:
            yield f"the last run is under way ({run.holder}){to_do}"
    elif end and (left := state.work.pending(0)):
        why = f" ({end.reason})" if end.reason else ""
        rows = end.counts.get("total", end.counts.get("rows", 0))
        yield f"the last run ended{why} with {left:,} of its {rows:,} rows left: run the same command again to go on"
    elif end and state.runs:
        why = f", stopped by {end.reason}" if end.reason else ""
        yield f"the last run ended {utc_words(datetime.fromisoformat(end.at))} with exit status {end.exit_status}{why}"


def _words(ledger: Location, live: LiveRun, *, lists_all: bool) -> Iterator[str]:
    state, counts = live.ledger_state, live.ledger_state.counts()
    yield f"{ledger}: {counted(counts.total, 'job')} in {counted(len(state.runs), 'run')}"
    for name, count in (counts.as_dict() | {"end not checked": counts.not_checked}).items():
        if count and name != "total":
            yield f"  {count:>9,} {name}"
    if isinstance(ledger, Path):  # of a table's many runs, the last to begin says nothing of the others
        yield from (f"  {line}" for line in last_run_words(state))
        if counts.pending + counts.running and (eta := live.words(datetime.now(UTC))):
            yield f"  {eta}" if state.open_run else f"  {eta}, if it is run again now"
    unknown, failed = state.undecided(), list(filter(has_failed, state))
    for job in (*unknown, *failed) if lists_all else unknown[:_MOST_LISTED]:
        why = (job.message or "a call was about to be made") if job.phase in UNDECIDED else end_words(job)
        yield f"{State.of(job)}: {job.name} in membership {job.membership}: {why}"
    if not lists_all:
        if len(unknown) > _MOST_LISTED:
            yield f"... and {len(unknown) - _MOST_LISTED:,} more unknown; --all lists them"
        yield from _grouped(failed)
    if any(job.bad_end for job in failed):
        yield f"the logs of those that ran: CloudWatch log group {LOG_GROUP}"


def _grouped(failed: list[JobState]) -> Iterator[str]:
    """Say what failed by reason, the most frequent first."""
    reasons = Reasons()
    for job in failed:
        reasons.add(job)
    groups = reasons.most_frequent_first()
    for reason in groups[:_MOST_REASONS]:
        more = f" and {reason.count - len(reason.examples):,} more" if reason.count > len(reason.examples) else ""
        yield f"{reason.count:,} {reason.state}: {reason.words}"
        yield f"  {', '.join(reason.examples)}{more}"
    if len(groups) > _MOST_REASONS:
        yield f"... for {len(groups) - _MOST_REASONS:,} more reasons"
    if any(reason.count > len(reason.examples) for reason in groups):
        yield "--all lists every job"


def _as_dict(ledger: Location, state: LedgerState) -> dict[str, Any]:
    found: dict[str, list[dict[str, str]]] = {str(each): [] for each in _JOBS_LISTED}
    for job in state:
        if members := _JOBS_LISTED.get(State.of(job)):
            known = {name: getattr(job, name) for name in ("job", "membership", "name")}
            found[State.of(job)].append(known | {word: getattr(job, name) for word, name in members.items()})
    counts, run, end = state.counts(), state.runs[-1] if state.runs else None, state.work.end
    last_run = run and {
        "run": run.run,
        "began": run.at,
        "ended": end.at if end else None,
        "exit_status": end.exit_status if end else None,
    }
    return {
        "ledger": str(ledger),
        "jobs": len(state),
        "runs": len(state.runs),
        "counts": counts.as_dict(),
        "left": counts.pending,
        "last_run": last_run,
        "reason": end.reason if end else "",
        **found,
    }


_ENDED = {name: name for name in ("status", "code", "message", "logs")}
_JOBS_LISTED = {
    State.REJECTED: {"code": "code", "message": "message"},
    State.FAILED: _ENDED,
    State.CANCELLED: _ENDED,
    State.UNKNOWN: {"reason": "message"},
}
"""The jobs that are listed, and what JSON has of each, by its word there."""


def watch(
    feed: Feed, console: Console, *, seconds: float, only: str = "*", names: Mapping[str, str] = membership_names
) -> LiveRun:
    """Show a run every so many seconds until it ends or dies; give the last state. Raises what the feed raises.

    A terminal shows the memberships that fit `only`, by the `names` that people give them, and rings at the end.
    """
    shown, has_ended = 0, False
    screen = Live(console=console, auto_refresh=False, transient=True)

    def show(live: LiveRun, now: datetime) -> None:
        nonlocal shown
        if console.is_terminal:
            screen.update(picture(live, now, console.size, only, names), refresh=True)
            return
        new = min(live.failure_count - shown, len(live.failures))
        shown = live.failure_count
        for line in (*list(live.failures)[len(live.failures) - new :], line_at(now, live.read(now).parts())):
            console.print(with_names(line, names), highlight=False, markup=False, soft_wrap=True)

    with screen if console.is_terminal else nullcontext():
        for live in following(feed, LiveRun):
            if has_ended or live.is_over:
                break
            show(live, datetime.now(UTC))
            has_ended = live.run is not None and has_died(live.run)
            if not has_ended:  # else it may have written its end since, and is read once more
                time.sleep(seconds)
    if console.is_terminal:
        console.bell()
    return live


def has_died(run: RunStarted) -> bool:
    """Whether the process that had the ledger is gone; one on another machine is believed to live."""
    holder = re.fullmatch(r"process (\d+) on (.+)", run.holder)
    if holder is None or holder[2] != socket.gethostname():
        return False
    try:
        os.kill(int(holder[1]), 0)  # signal 0 is none: it only asks whether there is such a process
    except OSError as exc:
        return isinstance(exc, ProcessLookupError)  # else there is one, of another user
    return False


def picture(
    live: LiveRun, now: datetime, size: tuple[int, int], only: str = "*", names: Mapping[str, str] = membership_names
) -> RenderableType:
    """A screen of so many columns and lines: totals, failures, and what has room of the memberships that fit `only`."""
    width, height = size
    failures = [Text(cut(with_names(line, names), width), style="red") for line in live.failures]
    head = [Text(line) for line in fitted(live.read(now).parts(), width)]
    if run := live.run:
        head.insert(0, Text(f"run {run.run}, {duration((now - datetime.fromisoformat(run.at)).total_seconds())}"))
    lanes = [
        replace(lane, membership=name)
        for lane in live.lanes()
        for name in (with_names(lane.membership, names),)
        if fnmatchcase(lane.membership, only) or fnmatchcase(name, only)
    ]
    room = max(height - len(head) - len(failures) - 3, 0)  # the table's head, the line for others, the cursor's
    table = lanes_table(lanes[:room], {name for lane in lanes for name in BAD if getattr(lane.counts, name)}, width)
    others = lanes[room:]
    left = sum(lane.left for lane in others)
    more = [Text(f"... and {counted(len(others), 'more membership')}, {left:,} left")] if others else []
    return Group(*head, *failures, *([table] if room and lanes else ()), *more)


def lanes_table(lanes: Iterable[LaneCounts], bad: Collection[str], width: int) -> Table:
    """The memberships; of the counts that are mostly zero, those with these names."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    names = ("submitted", *(name for name in BAD if name in bad))
    room = width - len(" left slots  ") - sum(len(name) + 1 for name in names)
    table.add_column("membership", no_wrap=True, overflow="ellipsis", max_width=min(max(room, 8), 36))
    for heading in ("left", "slots", *names):
        table.add_column(heading, justify="right", no_wrap=True)
    for lane in lanes:
        slots = f"{lane.counts.running:,}/{'?' if lane.limit is None else f'{lane.limit:,}'}"
        numbers = (f"{getattr(lane.counts, name):,}" for name in names)
        table.add_row(Text(printable(lane.membership)), f"{lane.left:,}", slots, *numbers)
    return table
