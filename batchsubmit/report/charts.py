"""The report's charts: what each figure is drawn as, with its words for those who cannot see it. Pure.

pygal draws them as SVG that the page styles: no colour, script or address of its own is in it. pygal brings a style
sheet and a script with each chart; both are taken out, so that the page's rules (light, dark, print) hold inside the
charts and its content security policy needs no exception. Each chart is drawn twice, wide and narrow, for a chart that
is only scaled down cannot be read on a phone. What a pointer shows is SVG's own <title>.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from batchsubmit.core.states import State
from batchsubmit.report.stats import Figures, Outlook, SlotUse, Spread
from batchsubmit.report.timeline import SlotTimes, grid, mean_running, peak_running, quota_steps
from batchsubmit.report.waits import Cause
from batchsubmit.text import counted, date_and_time, duration, share

_UNWANTED = frozenset({"", "defs", "script", "style", "title"})
_SVG = "{http://www.w3.org/2000/svg}"
_SIZES = {"wide": (980, 280), "narrow": (400, 260)}
_FONT_SIZE = 13
_ROOM_SHARE = 0.02 / 1.04  # pygal widens every plot by 2 % at each end
_MOST_BARS = 48
_MOST_LAYERS = 5
_MOST_BOXES = 12
_ROW_HEIGHT = 44
_LEAST_SHARE = 0.008
_SHORT_UNITS = {"days": "d", "hours": "h", "minutes": "min", "seconds": "s"}
_CAUSE_WORDS = {
    Cause.QUOTA: "a free slot (quota)",
    Cause.RATE: "a turn (rate)",
    Cause.THROTTLING: "throttling to pass",
    Cause.RETRY: "conflicts and lost connections",
    Cause.LOOKUP: "a lookup (no answer)",
}
# What is well comes first in the bar, what needs action last; the place is the number of the colour.
_BAR_ORDER = (
    State.SUCCEEDED,
    State.SUBMITTED,
    State.PENDING,
    State.FAILED,
    State.REJECTED,
    State.UNKNOWN,
    State.CANCELLED,
)
_FATE_WORDS = {State.SUBMITTED: "submitted, no end seen yet"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_TIME_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 7, 14, 28)),
)


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
    counts = {**figures.fates, State.PENDING: outlook.left}
    total = sum(counts.values())
    shown = [fate for fate in _BAR_ORDER if counts.get(fate)]
    if not shown:
        return None
    labels = {fate: _FATE_WORDS.get(fate, str(fate)) for fate in shown}
    words = {fate: f"{counts[fate]:,} {label}" for fate, label in labels.items()}
    legend = tuple(
        Key(colour=_BAR_ORDER.index(fate), label=label, value=f"{counts[fate]:,} · {share(counts[fate], total)}")
        for fate, label in labels.items()
    )
    # What is rare is drawn wide enough to be seen; the numbers beside it are exact.
    widths = {fate: max(float(counts[fate]), total * _LEAST_SHARE) for fate in shown}
    until_last = _BAR_ORDER[: _BAR_ORDER.index(shown[-1]) + 1]
    drawing = _draw(
        "HorizontalStackedBar",
        [[{"value": widths.get(fate, 0), "label": words.get(fate, "")}] for fate in until_last],
        height=36,
        is_flush=True,
        range=(0, sum(widths.values())),
        show_y_labels=False,
        show_x_labels=False,
        margin=0,
    )
    return Chart(drawing=drawing, words=", ".join(words.values()), legend=legend)


def running_chart(figures: Figures, slot_use: SlotUse | None, begin: float, end: float) -> Chart | None:
    """Running jobs by membership against the quota; None where no job was seen to end."""
    if not figures.has_ends:
        return None
    edges = grid(begin, end)
    named = _layers(figures.lanes)
    layers = [mean_running(lane, edges) for _, lane in named]
    steps = [(max(at, begin), limit) for at, limit in quota_steps(figures.timeline.quotas, list(figures.lanes))]
    peak = peak_running(figures.lanes)
    top = max(peak, *(limit for _, limit in steps)) if steps else peak
    ticks = number_ticks(top, 5, whole=True)
    drawing = _draw(
        "XY",
        _areas(edges, layers),
        # Above the limit's first moment nothing is known, so its line begins there.
        line=_line([(at, float(limit)) for at, limit in steps], edges[-1]),
        x=_time_labels(begin, end),
        y=[(tick, f"{tick:,.0f}") for tick in ticks],
        show_dots=False,
        fill=True,
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


def _layers(lanes: dict[str, SlotTimes]) -> list[tuple[str, SlotTimes]]:
    """The busiest memberships by name, the rest as one."""
    ordered = sorted(lanes.items(), key=lambda item: -len(item[1].accepted))
    if len(ordered) <= _MOST_LAYERS:
        return ordered
    rest = SlotTimes()
    for _, lane in ordered[_MOST_LAYERS - 1 :]:
        rest.accepted.extend(lane.accepted)
        rest.finished.extend(lane.finished)
    return [*ordered[: _MOST_LAYERS - 1], (f"{counted(len(ordered) - _MOST_LAYERS + 1, 'other membership')}", rest)]


def intervals(moments: Sequence[float], begin: float, end: float) -> list[tuple[float, float, int]]:
    """Count sorted moments by round intervals, empty ones included: begin, end, count."""
    step = time_step(max(end - begin, 1), _MOST_BARS)
    edges = range(int(begin // step) * step, int(end // step) * step + step + 1, step)
    places = [bisect_left(moments, edge) for edge in edges]
    return [
        (float(left), float(right), after - before)
        for (left, right), (before, after) in zip(pairwise(edges), pairwise(places), strict=True)
    ]


def accepted_chart(acceptances: Sequence[float], begin: float, end: float) -> Chart | None:
    """Acceptances per interval."""
    if not acceptances:
        return None
    bars = intervals(acceptances, begin, end)
    step = duration(bars[0][1] - bars[0][0])
    busiest, _, most = max(bars, key=lambda bar: bar[2])
    values = [{"value": (count, begin, end), "label": f"{_clock(begin)}: {count:,}"} for begin, end, count in bars]
    drawing = _draw(
        "Histogram",
        [values],
        x=_time_labels(bars[0][0], bars[-1][1]),
        y=[(tick, f"{tick:,.0f}") for tick in number_ticks(most, 4, whole=True)],
    )
    words = f"At most {most:,} in {step}, from {_clock(busiest)} on."
    rows = tuple((_clock(at), f"{count:,}") for at, _, count in bars)
    return Chart(drawing=drawing, words=words, header=(f"{step} from (UTC)", "accepted"), rows=rows)


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
    mean = [(cause, waited.seconds / jobs) for cause, waited in reversed(costly)]  # pygal draws upwards
    drawing = _draw(
        "HorizontalBar",
        [[{"value": each / unit, "label": f"{_CAUSE_WORDS[cause]}: {duration(each)} a job"} for cause, each in mean]],
        x=lambda _: [str(cause) for cause, _ in mean],
        y=[(tick, f"{tick:,.10g} {name}" if index else "0") for index, tick in enumerate(ticks)],
        height=50 + _ROW_HEIGHT * len(costly),
    )
    cause, waited = costly[0]
    words = (
        f"A job waited {duration(total / jobs)} on average, from the batch's start to its acceptance or until now; "
        f"{share(waited.seconds, total)} of that for {_CAUSE_WORDS[cause]}."
    )
    rows = tuple(
        (
            _CAUSE_WORDS[cause],
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
    drawing = _draw(
        "Box",
        [_box(each, unit) for each in shown],
        x=lambda width: [_shortened(each.model, width // 7 // len(shown)) for each in shown],
        y=[(tick, f"{tick:,.10g} {_SHORT_UNITS[name]}" if tick else "0") for tick in ticks],
        box_mode="extremes",
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
    spans = ("shortest", "a quarter below", "median", "three quarters below", "95 % below", "longest")
    header = ("trained model", "jobs", *spans)
    return Chart(drawing=drawing, words=words, header=header, rows=rows)


def _clock(at: float) -> str:
    return date_and_time(at)[5:]


def _box(spread: Spread, unit: int) -> list[Any]:
    half = f"half within {duration(spread.quarter)} and {duration(spread.three_quarters)}"
    words = f"{spread.model}: {half}, median {duration(spread.median)}"
    numbers = (spread.quarter, spread.median, spread.three_quarters, spread.most)
    return [{"value": spread.least / unit, "label": words}, *(number / unit for number in numbers)]


def _time_labels(begin: float, end: float) -> Callable[[int], list[Any]]:
    return lambda width: [{"value": at, "label": label} for at, label in time_ticks(begin, end, width // 90)]


def _draw(
    kind: str,
    series: Sequence[Sequence[Any]],
    *,
    line: Sequence[tuple[float, float]] = (),
    x: Callable[[int], Sequence[Any]] = lambda _: (),
    y: Sequence[tuple[float, str]] = (),
    height: int | None = None,
    is_flush: bool = False,
    **config: Any,  # noqa: ANN401 (pygal has no types)
) -> Markup:
    """Draw one of pygal's charts for a wide page and for a phone; the page shows the one that fits.

    `x` gives the labels that fit into a width. `is_flush` cuts off the room that pygal leaves left and right.
    """
    if y:
        config |= {"y_labels": [{"value": value, "label": label} for value, label in y], "range": (0, y[-1][0])}
    drawings = []
    for name, (width, usual_height) in _SIZES.items():
        chart = _new_chart(kind, width=width, height=height or usual_height, x_labels=list(x(width)), **config)
        for number, values in enumerate(series):
            chart.add(str(number), list(values))
        if line:
            chart.add("limit", list(line), fill=False)
        drawings.append(_markup(chart, name, width, is_flush=is_flush))
    return Markup("").join(drawings)


def _new_chart(kind: str, **config: Any) -> Any:  # noqa: ANN401
    pygal = _pygal()
    style = pygal.style.Style(
        label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE, font_family="sans-serif", opacity="1"
    )
    usual = {"js": [], "show_legend": False, "no_prefix": True, "margin": 6, "truncate_label": -1}
    return getattr(pygal, kind)(style=style, **(usual | config))


def _pygal() -> Any:  # noqa: ANN401
    """Import pygal, and take back the import hook for plugins that it leaves behind: Python warns of its old form."""
    import pygal  # noqa: PLC0415 (only a report draws)
    import pygal.style  # noqa: PLC0415

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal


def _areas(edges: Sequence[float], layers: Sequence[Sequence[float]]) -> list[list[tuple[float, float]]]:
    """Outlines of layers stacked upon each other over time, the topmost first, for the others are drawn over it."""
    heights = [0.0] * (len(edges) - 1)
    outlines = []
    for layer in layers:
        heights = [below + value for below, value in zip(heights, layer, strict=True)]
        tops = [(at, height) for pair, height in zip(pairwise(edges), heights, strict=True) for at in pair]
        outlines.append([(edges[0], 0.0), *tops, (edges[-1], 0.0)])
    return outlines[::-1]


def _line(corners: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """A line in steps through these corners."""
    moments = [*(at for at, _ in corners), end]
    return [(at, value) for index, (_, value) in enumerate(corners) for at in moments[index : index + 2]]


def _markup(chart: Any, name: str, width: int, *, is_flush: bool) -> Markup:  # noqa: ANN401
    """Render a chart without what is the page's: styles, scripts, names, comments."""
    root = chart.render_tree()
    _prune(root)
    for attribute in list(root.attrib):
        if attribute != "viewBox":
            del root.attrib[attribute]
    if is_flush:
        room, height = width * _ROOM_SHARE, root.attrib["viewBox"].split()[3]
        root.attrib["viewBox"] = f"{room:.1f} 0 {width - 2 * room:.1f} {height}"
    root.attrib |= {"class": f"chart {name}", "aria-hidden": "true", "focusable": "false"}
    # Trusted: every text in it was escaped by the serialiser, and scripts and styles are gone.
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def _prune(node: ET.Element) -> None:
    for child in list(node):
        tag = str(child.tag) if type(child.tag) is str else ""  # a comment's tag is a function
        if tag.removeprefix(_SVG) in _UNWANTED or child.get("class") == "tooltip":
            node.remove(child)
            continue
        for attribute in ("style", "id"):
            child.attrib.pop(attribute, None)
        if tag.removeprefix(_SVG) == "desc":
            _describe(node, child)
            continue
        _prune(child)


def _describe(node: ET.Element, description: ET.Element) -> None:
    """Turn pygal's words about a value, meant for its script, into what every browser shows to a pointer."""
    node.remove(description)
    kind = description.get("class", "")
    title = node.find("title")
    if kind not in {"value", "label"}:
        return
    if title is None:
        title = ET.Element("title")
        node.insert(0, title)
    if kind == "label" or not title.text:
        title.text = description.text


def _shortened(text: str, most: int) -> str:
    most = max(most, 8)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def time_step(span_seconds: float, most: int) -> int:
    """The least round step that cuts a span into no more than so many parts."""
    index = bisect_left(_TIME_STEPS, span_seconds / most)
    return _TIME_STEPS[index] if index < len(_TIME_STEPS) else math.ceil(span_seconds / most / _DAY) * _DAY


def time_ticks(begin: float, end: float, most: int) -> list[tuple[float, str]]:
    """Round moments of a span with their labels; with the date where it is needed."""
    step = time_step(max(end - begin, 1), most)
    first = math.ceil(begin / step) * step
    form = (
        "%d %b" if step >= _DAY else "%d %b %H:%M" if end - begin > _DAY else "%H:%M" if step >= _MINUTE else "%H:%M:%S"
    )
    moments = range(first, math.floor(end) + 1, step)
    return [(float(moment), f"{datetime.fromtimestamp(moment, UTC):{form}}") for moment in moments]


def number_ticks(top: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers from nought up to the first one not below `top`."""
    rough = max(top, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    if whole:
        step = max(round(step), 1)
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)]


def time_unit(seconds: float) -> tuple[int, str]:
    """The unit in which an axis up to so many seconds is read best."""
    for unit, name in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return unit, name
    return 1, "seconds"
