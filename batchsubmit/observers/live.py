"""Shows a run to a person beside it: a table that is kept up to date on a terminal, a line at intervals elsewhere."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from batchsubmit.observers.progress import elapsed
from batchsubmit.report.live import Failure, Feed, Lane, Live
from batchsubmit.text import counted, printable

_LANES_SHOWN = 20


def watch(
    feed: Feed,
    console: Console,
    *,
    interval_seconds: float,
    refresh_seconds: float,
    has_died: Callable[[Live], bool],
) -> Live:
    """Show a run until it ends or dies; give the last state. Raises what the feed raises.

    A terminal is kept up to date every `refresh_seconds`.
    """
    live, beginnings = Live(), feed.beginnings

    def look() -> Live:
        nonlocal live, beginnings
        for event in feed.poll():
            if feed.beginnings != beginnings:
                live, beginnings = Live(), feed.beginnings
            live.apply(event)
        return live

    if console.is_terminal:
        with Screen(console=console, auto_refresh=False, transient=True) as screen:
            for state in _until_over(look, has_died, refresh_seconds):
                screen.update(picture(state, datetime.now(UTC)), refresh=True)
    else:
        told = 0
        for state in _until_over(look, has_died, interval_seconds):
            for failure in state.last_failures(state.failure_count - told):
                _say(console, f"failed: {words(failure)}")
            told = state.failure_count
            _say(console, sentence(state, datetime.now(UTC)))
    return live


def _until_over(look: Callable[[], Live], has_died: Callable[[Live], bool], seconds: float) -> Iterator[Live]:
    """Look at intervals, for as long as a run is under way."""
    while not (state := look()).is_over:
        yield state
        if has_died(state):
            look()  # it may have written its end since, and died of nothing but having done its work
            return
        time.sleep(seconds)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def sentence(live: Live, now: datetime) -> str:
    """The whole state in one line."""
    lanes = list(live.lanes())
    parts = [f"{sum(lane.submitted for lane in lanes):,} submitted", f"{live.left:,} left"]
    for count, word in (
        (sum(lane.failed for lane in lanes), "failed"),
        (sum(lane.unknown for lane in lanes), "unknown"),
        (sum(lane.calling for lane in lanes), "in a call"),
        (sum(lane.running for lane in lanes), "running"),
    ):
        if count:
            parts.append(f"{count:,} {word}")
    parts.append(_pace(live.per_second(now)))
    if words := live.progress.words(now, left=live.left):
        parts.append(words)
    return ", ".join(parts)


def picture(live: Live, now: datetime) -> RenderableType:
    """The state as a table of memberships, between the sentence and the last failures."""
    run = live.run
    began = f"  run {run.run}, {elapsed((now - datetime.fromisoformat(run.at)).total_seconds())}" if run else ""
    table = Table(box=None, pad_edge=False)
    table.add_column("membership")
    for heading in ("slots", "submitted", "failed", "unknown"):
        table.add_column(heading, justify="right")
    lanes = sorted(live.lanes(), key=lambda lane: (-lane.running, lane.membership))
    for lane in lanes[:_LANES_SHOWN]:
        table.add_row(
            Text(printable(lane.membership)),
            slots(lane),
            f"{lane.submitted:,}",
            f"{lane.failed:,}",
            f"{lane.unknown:,}",
        )
    parts: list[RenderableType] = [Text(sentence(live, now) + began), table]
    if len(lanes) > _LANES_SHOWN:
        parts.append(Text(f"... and {counted(len(lanes) - _LANES_SHOWN, 'more membership')}"))
    for name, limit in live.account_limits().items():
        parts.append(
            Text(f"{printable(name)}: {counted(limit, 'slot')}, {sum(lane.running for lane in lanes):,} running")
        )
    parts += [Text(f"failed: {words(failure)}", style="red") for failure in live.failures]
    return Group(*parts)


def slots(lane: Lane) -> str:
    """Slots used and known; without `finished` events the ledger does not know which are used still."""
    limit = "?" if lane.limit is None else f"{lane.limit:,}"
    used = "?" if lane.limit is not None and lane.running > lane.limit else f"{lane.running:,}"
    return f"{used}/{limit}"


def words(failure: Failure) -> str:
    """One failure in one line."""
    return printable(f"{failure.at[11:19]} {failure.name} in membership {failure.membership}: {failure.why}")


def _pace(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{per_second * 60:.1f}/min"
