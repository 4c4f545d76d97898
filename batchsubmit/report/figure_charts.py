"""Which chart each figure of a report gets, with its words for those who cannot see it. Pure: values in, markup out."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from batchsubmit.report import charts
from batchsubmit.report.course import Lane, bars, grid, mean_running, peak_running, quota_steps
from batchsubmit.report.stats import Fate, Figures, Outlook, SlotUse, Spread
from batchsubmit.report.units import date_and_time, duration, number_ticks, share, time_ticks, time_unit
from batchsubmit.report.waits import Cause
from batchsubmit.text import counted

_MOST_LAYERS = 5
_MOST_BOXES = 12
_ROW_HEIGHT = 44
_LEAST_SHARE = 0.008
_SHORT_UNITS = {"days": "d", "hours": "h", "minutes": "min", "seconds": "s"}

CAUSES = {
    Cause.QUOTA: "a free slot (quota)",
    Cause.RATE: "a turn (rate)",
    Cause.THROTTLING: "throttling to pass",
    Cause.RETRY: "conflicts and lost connections",
    Cause.LOOKUP: "a lookup (no answer)",
}
# What is well stands left in the bar, what needs a hand right; the number is the colour's.
_BAR_ORDER = (Fate.WELL, Fate.ACCEPTED, Fate.WAITING, Fate.BAD, Fate.FAILED, Fate.UNKNOWN)
_FATE_WORDS = {Fate.WAITING: "left to submit", Fate.ACCEPTED: "accepted, no end seen yet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of a chart's legend; `colour` is the number of the series in the chart."""

    colour: int | None
    label: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing, what it says in a sentence, its legend, and the same as a table."""

    drawing: Markup
    words: str
    legend: tuple[Key, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def fates_chart(figures: Figures, outlook: Outlook) -> Chart | None:
    """All jobs in one bar."""
    counts = {**figures.fates, Fate.WAITING: outlook.left}
    total = sum(counts.values())
    parts = [
        (colour, float(counts[fate]), f"{counts[fate]:,} {_FATE_WORDS.get(fate, fate)}")
        for colour, fate in enumerate(_BAR_ORDER)
        if counts.get(fate)
    ]
    if not parts:
        return None
    legend = tuple(
        Key(
            colour=colour,
            label=_FATE_WORDS.get(_BAR_ORDER[colour], str(_BAR_ORDER[colour])),
            value=f"{int(value):,} · {share(value, total)}",
        )
        for colour, value, _ in parts
    )
    # What is rare is drawn wide enough to be seen; the numbers beside it are exact.
    drawn = [(colour, max(value, total * _LEAST_SHARE), words) for colour, value, words in parts]
    drawing = charts.both_sizes(charts.shares(drawn), height=36, flush=True)
    return Chart(drawing=drawing, words=", ".join(words for _, _, words in parts), legend=legend)


def running_chart(figures: Figures, slot_use: SlotUse | None, begin: float, end: float) -> Chart | None:
    """Running jobs by membership against the quota; None where no job was seen to end."""
    if not figures.course.tells_ends:
        return None
    edges = grid(begin, end)
    named = _layers(figures.course.lanes)
    layers = [mean_running(lane, edges) for _, lane in named]
    steps = [(max(at, begin), limit) for at, limit in quota_steps(figures.chronicle.quotas, list(figures.course.lanes))]
    peak = peak_running(figures.course.lanes)
    top = max(peak, *(limit for _, limit in steps)) if steps else peak
    ticks = number_ticks(top, 5, whole=True)
    drawing = charts.both_sizes(
        charts.area_chart(
            edges,
            layers,
            [(at, str(limit)) for at, limit in steps],
            x=lambda most: time_ticks(begin, end, most),
            y=[(tick, f"{tick:,.0f}") for tick in ticks],
        )
    )
    legend = [Key(colour=len(named) - 1 - index, label=name) for index, (name, _) in enumerate(named)]
    if steps:
        legend.append(Key(colour=None, label=f"quota, as the runs learned it: {steps[-1][1]:,}"))
    words = f"At most {counted(peak, 'job')} ran at once."
    if slot_use:
        of_what = "the quota" if slot_use.is_learned else "that peak (no quota stands in the ledger)"
        words += f" While there was something to submit, {share(slot_use.share, 1)} of {of_what} was used on average."
    every = max(len(edges) // 16, 1)
    rows = tuple(
        (date_and_time(edges[index])[:-3], *(f"{layer[index]:.1f}" for layer in layers))
        for index in range(0, len(edges) - 1, every)
    )
    header = ("from (UTC)", *(name for name, _ in named))
    return Chart(drawing=drawing, words=words, legend=tuple(legend), header=header, rows=rows)


def _layers(lanes: dict[str, Lane]) -> list[tuple[str, Lane]]:
    """The busiest memberships by name, the rest as one."""
    ordered = sorted(lanes.items(), key=lambda item: -len(item[1].accepted))
    if len(ordered) <= _MOST_LAYERS:
        return ordered
    rest = Lane()
    for _, lane in ordered[_MOST_LAYERS - 1 :]:
        rest.accepted.extend(lane.accepted)
        rest.finished.extend(lane.finished)
    return [*ordered[: _MOST_LAYERS - 1], (f"{counted(len(ordered) - _MOST_LAYERS + 1, 'other membership')}", rest)]


def accepted_chart(acceptances: Sequence[float], begin: float, end: float) -> Chart | None:
    """Acceptances per interval."""
    if not acceptances:
        return None
    intervals = bars(acceptances, begin, end)
    step = intervals[0].end - intervals[0].begin
    most = max(intervals, key=lambda each: each.count)
    drawing = charts.both_sizes(
        charts.histogram(
            [(each.begin, each.end, each.count, f"{_clock(each.begin)}: {each.count:,}") for each in intervals],
            x=lambda number: time_ticks(intervals[0].begin, intervals[-1].end, number),
            y=[(tick, f"{tick:,.0f}") for tick in number_ticks(most.count, 4, whole=True)],
        )
    )
    words = f"At most {most.count:,} in {duration(step)}, from {_clock(most.begin)} on."
    rows = tuple((_clock(each.begin), f"{each.count:,}") for each in intervals)
    return Chart(drawing=drawing, words=words, header=(f"{duration(step)} from (UTC)", "accepted"), rows=rows)


def waits_chart(figures: Figures) -> Chart | None:
    """What jobs waited for, on average over all of them: summed, a night of ten slots would have weeks of it."""
    costly = [(cause, waited) for cause, waited in figures.waited.items() if waited.seconds >= 0.05]
    if not costly:
        return None
    costly.sort(key=lambda pair: -pair[1].seconds)
    total = sum(waited.seconds for _, waited in costly)
    jobs = sum(figures.fates.values())
    most = costly[0][1].seconds / jobs
    unit, name = time_unit(most)
    ticks = number_ticks(most / unit, 4)
    drawing = charts.both_sizes(
        charts.horizontal_bars(
            [
                (str(cause), waited.seconds / jobs / unit, f"{CAUSES[cause]}: {duration(waited.seconds / jobs)} a job")
                for cause, waited in costly
            ],
            y=[(tick, f"{tick:,.10g} {name}" if index else "0") for index, tick in enumerate(ticks)],
        ),
        height=50 + _ROW_HEIGHT * len(costly),
    )
    cause, waited = costly[0]
    words = (
        f"A job waited {duration(total / jobs)} on average, from the batch's start to its acceptance or until now; "
        f"{share(waited.seconds, total)} of that for {CAUSES[cause]}."
    )
    rows = tuple(
        (
            CAUSES[cause],
            duration(waited.seconds),
            share(waited.seconds, total),
            f"{waited.jobs:,}",
            duration(waited.seconds / waited.jobs),
            duration(waited.longest),
        )
        for cause, waited in costly
    )
    header = ("waiting for", "all jobs together", "share", "jobs that did", "mean of those", "longest")
    return Chart(drawing=drawing, words=words, header=header, rows=rows)


def durations_chart(spreads: Sequence[Spread]) -> Chart | None:
    """How long jobs ran, by trained model."""
    if not spreads:
        return None
    shown = spreads[:_MOST_BOXES]
    unit, name = time_unit(max(each.most for each in shown))
    ticks = number_ticks(max(each.most for each in shown) / unit, 4)
    drawing = charts.both_sizes(
        charts.boxes(
            [
                (
                    each.model,
                    [value / unit for value in (each.least, each.quarter, each.median, each.three_quarters, each.most)],
                    _range_words(each),
                )
                for each in shown
            ],
            y=[(tick, f"{tick:,.10g} {_SHORT_UNITS[name]}" if tick else "0") for tick in ticks],
        )
    )
    words = (
        "The box holds half of a model's jobs, its line is the median, the whiskers reach the shortest and the longest."
    )
    rows = tuple(
        (
            each.model,
            f"{each.jobs:,}",
            *map(duration, (each.least, each.quarter, each.median, each.three_quarters, each.slow, each.most)),
        )
        for each in spreads
    )
    header = (
        "trained model",
        "jobs",
        "shortest",
        "a quarter below",
        "median",
        "three quarters below",
        "95 % below",
        "longest",
    )
    return Chart(drawing=drawing, words=words, header=header, rows=rows)


def _clock(at: float) -> str:
    return date_and_time(at)[5:]


def _range_words(spread: Spread) -> str:
    half = f"half within {duration(spread.quarter)} and {duration(spread.three_quarters)}"
    return f"{spread.model}: {half}, median {duration(spread.median)}"
