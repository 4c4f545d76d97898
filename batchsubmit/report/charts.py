"""The report's charts: the data that each draws, with its words and its table for those who cannot see it.

How they look is Vega-Lite, in `assets/charts.json`; its colours are `var(--…)` of the style sheet, so that light, dark
and print hold inside the charts. vl-convert brings Vega, which draws in the page, and draws the same here as pictures
that stand in the page until its script has run, and stay without one. A datum's `link` is the filter of its jobs.
"""

import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from markupsafe import Markup

from batchsubmit.core.states import State
from batchsubmit.report.stats import Figures, Outlook, SlotUse
from batchsubmit.report.timeline import SlotTimes, grid, mean_running, peak_running, quota_steps
from batchsubmit.report.waits import Cause
from batchsubmit.text import counted, date_and_time, duration, share

Data = list[dict[str, Any]]
_PICTURE_WIDTH = 860
_MOST_PICTURED = 4_000
"""Rows of data above which a chart has no picture: the script draws it, and its table says the same."""
_MOST_MARKS = 150
_MOST_REASONS, _MOST_KINDS, _SLICES = 12, 20, 60
_TABLE_STEP = 10
_LEAST_SLOTS = 0.005
_MANY_MEMBERSHIPS = 30
_ROW_HEIGHT, _SMALL_ROW_HEIGHT = 30, 14
_CAUSES = {
    "a free slot": (Cause.QUOTA,),
    "a turn at the rate": (Cause.RATE,),
    "errors and lookups": (Cause.THROTTLING, Cause.RETRY, Cause.LOOKUP),
}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


@dataclass(slots=True, kw_only=True)
class Chart:
    """A drawing's data, what it says in a sentence, and the same as a table. `params` are values that it uses."""

    name: str
    words: str
    data: dict[str, Data]
    params: dict[str, str] = field(default_factory=dict)
    height: int = 0
    header: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()

    @property
    def title(self) -> str:
        """What it shows."""
        return str(specs()[self.name]["description"])

    @property
    def spec(self) -> dict[str, Any]:
        """The whole specification, without layers that have no data, of which Vega complains."""
        base = dict(specs()[self.name])
        if "layer" in base:
            base["layer"] = [each for each in base["layer"] if self.data[each.get("data", base.get("data"))["name"]]]
        params = [*base.get("params", ()), *({"name": name, "value": value} for name, value in self.params.items())]
        height = {"height": self.height} if self.height else {}
        return {**base, **height, "params": params, "datasets": self.data}

    @property
    def picture(self) -> Markup:
        """The drawing as SVG; empty where it would be very large, or only the script knows the data."""
        if not 0 < sum(map(len, self.data.values())) <= _MOST_PICTURED:
            return Markup()
        drawn = _vega().vegalite_to_svg({**self.spec, "width": _PICTURE_WIDTH}, config=specs()["config"])
        return Markup(drawn)  # noqa: S704 (Vega escapes texts, and no script or address is in it)


@dataclass(frozen=True, slots=True)
class Material:
    """What charts are drawn from. `names` are aliases of memberships."""

    figures: Figures
    outlook: Outlook
    slot_use: SlotUse | None
    begin: float
    end: float
    names: Mapping[str, str]

    @property
    def clock(self) -> dict[str, str]:
        """How an axis writes its times."""
        finish = self.outlook.finish
        end = self.outlook.now + finish.high_seconds if finish and finish.seconds else self.end
        return {"clock": "%d %b %H:%M" if end - self.begin > 86_400 else "%H:%M"}


def _vega() -> Any:  # noqa: ANN401 (a module)
    import vl_convert  # noqa: PLC0415 (only a report draws)

    return vl_convert


@cache
def specs() -> dict[str, Any]:
    """The charts' specifications by name, and `config`, which they share."""
    text = resources.files("batchsubmit.report").joinpath("assets", "charts.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Any])


@cache
def library() -> str:
    """The script that draws in the page, out of vl-convert. Making it takes seconds, so the user's cache keeps it."""
    vega = _vega()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    kept = home / "batchsubmit" / f"vega-{vega.__version__}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    # In a function of its own: its hundreds of short names are none of the page's.
    script = f"(() => {{{vega.javascript_bundle('window.vegaEmbed = vegaEmbed;')}}})();".replace(
        "</script", "<\\/script"
    )
    with suppress(OSError):  # a home that cannot be written: it is made again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(script, encoding="utf-8")
        part.replace(kept)
    return script


def charts(material: Material) -> list[Chart]:
    """All charts that have something to show."""
    kinds = (_burn_up, _slots, _heat_map, _gantt, _run_times, _waits, _failures)
    return [chart for chart in (kind(material) for kind in kinds) if chart]


def _burn_up(material: Material) -> Chart | None:
    """Submitted, succeeded and failed jobs against all, when the rest is expected, and what happened on the way."""
    figures, outlook = material.figures, material.outlook
    if not figures.accepted:
        return None
    edges = grid(material.begin, material.end)
    moments = {"submitted": figures.acceptances(), "succeeded": sorted(figures.ended[State.SUCCEEDED])}
    moments["failed"] = sorted(figures.ended[State.FAILED] + figures.ended[State.REJECTED])
    counts = {name: [bisect_right(each, edge) for edge in edges] for name, each in moments.items()}
    points = [
        {"at": _ms(edge), "series": name, "jobs": count}
        for name, column in counts.items()
        for edge, count in zip(edges, column, strict=True)
    ]
    total = sum(figures.fates.values()) - figures.fates[State.PENDING] + outlook.left
    words = f"{counts['submitted'][-1]:,} of {counted(total, 'job')} submitted"
    words += f", {counts['succeeded'][-1]:,} succeeded, {counts['failed'][-1]:,} failed."
    cone = list(_cone(outlook, counts["succeeded"][-1] + counts["failed"][-1], total))
    if cone:
        soonest, latest = (date_and_time(each["at"] / 1000)[5:-3] for each in cone[1:])
        words += f" All will have ended between {soonest} and {latest} UTC, four times in five."
    return Chart(
        name="burn-up",
        words=words,
        data={"points": points, "all": [{"jobs": total}], "cone": cone, "marks": _marks(material)},
        params=material.clock,
        header=("until (UTC)", *counts),
        rows=[
            (_clock(edge), *(f"{number:,}" for number in numbers))
            for edge, *numbers in list(zip(edges, *counts.values(), strict=True))[::_TABLE_STEP]
        ],
    )


def _cone(outlook: Outlook, ended: int, total: int) -> Iterator[dict[str, Any]]:
    """Between which numbers of ended jobs the batch will be, until it is probably done."""
    finish = outlook.finish
    if finish is None or not finish.seconds or ended >= total:
        return
    low, high = finish.low_seconds, max(finish.high_seconds, finish.low_seconds + 1)
    yield {"at": _ms(outlook.now), "least": ended, "most": ended}
    yield {"at": _ms(outlook.now + low), "least": round(ended + (total - ended) * low / high), "most": total}
    yield {"at": _ms(outlook.now + high), "least": total, "most": total}


def _marks(material: Material) -> Data:
    """When a run began or ended, was throttled, learned a quota."""
    timeline = material.figures.timeline
    marks: list[tuple[float, str, str]] = []
    for run in timeline.runs:
        is_done = run.ended is not None and not run.ended.reason
        why = (run.ended.reason or "all done") if run.ended else "without a word"
        marks.append((run.began_at, "a run's begin or end", "a run began"))
        marks.append((run.last_at, "a run's begin or end" if is_done else "an interruption", f"a run ended: {why}"))
    marks += [(quota.at, "a quota", f"a quota was learned: {quota.limit:,}") for quota in timeline.quotas]
    for begin, _, count in _counted(timeline.throttled_at, grid(material.begin, material.end, _SLICES)):
        marks.append((begin, "throttling", f"throttled {counted(count, 'time')}"))
    return [{"at": _ms(at), "mark": kind, "what": what} for at, kind, what in marks[-_MOST_MARKS:]]


def _slots(material: Material) -> Chart | None:
    """Slots in use against the quota; idle ones while work waited are a loss."""
    figures, edges = material.figures, grid(material.begin, material.end)
    if not figures.accepted:
        return None
    lanes = figures.lanes.values()
    ended = _sum(mean_running(SlotTimes(lane.ended, lane.finished), edges) for lane in lanes)
    running = _sum(mean_running(lane, edges) for lane in lanes)
    steps = quota_steps(figures.timeline.quotas, list(figures.lanes))
    accepted = figures.acceptances()
    bands: Data = []
    rows = []
    lost = 0.0
    for (left, right), sure, most in zip(pairwise(edges), ended, running, strict=True):
        quota = next((limit for at, limit in reversed(steps) if at <= left), None)
        # A job without an end in the ledger may be over: the quota says how many of them can still run.
        used = most if quota is None else max(min(most, quota), sure)
        has_work = accepted[0] <= left and right <= accepted[-1] and figures.timeline.is_under_way(left)
        idle = max(quota - used, 0.0) if quota is not None and has_work else 0.0
        lost += idle * (right - left)
        parts = {"in use": (0.0, sure), "end not checked": (sure, used), "idle while work waited": (used, used + idle)}
        span = {"from": _ms(left), "to": _ms(right), "quota": quota}
        bands += [
            {**span, "series": name, "low": low, "high": high, "slots": round(high - low, 1)}
            for name, (low, high) in parts.items()
            if high - low > _LEAST_SLOTS
        ]
        rows.append((_clock(left), *(f"{high - low:.1f}" for low, high in parts.values()), f"{quota or '-'}"))
    line = [(max(at, material.begin), limit) for at, limit in steps] + [
        (material.end, limit) for _, limit in steps[-1:]
    ]
    return Chart(
        name="slots",
        words=" ".join(_slot_words(material, lost)),
        data={"bands": bands, "quotas": [{"at": _ms(at), "quota": limit} for at, limit in line]},
        params=material.clock,
        header=("from (UTC)", "in use", "end not checked", "idle", "quota"),
        rows=rows[::_TABLE_STEP],
    )


def _slot_words(material: Material, lost: float) -> Iterator[str]:
    yield f"At most {counted(peak_running(material.figures.lanes), 'job')} ran at once, as far as the ledger says."
    use = material.slot_use
    if use:
        of_what = "the quota" if use.is_learned else "that peak (the ledger has no quota)"
        yield f"While there was something to submit, {share(use.share, 1)} of {of_what} was used."
    if lost >= 1:
        yield f"{duration(lost)} of slot time stayed idle while work waited."
    if not material.figures.has_ends:
        yield "The ledger does not say when jobs end; with submit --wait a run follows all of them to their end."


def _heat_map(material: Material) -> Chart | None:
    """Each membership's slots over time, those with the most work left first."""
    figures, edges = material.figures, grid(material.begin, material.end, _SLICES)
    waiting = {name: fates[State.PENDING] for name, fates in figures.by_membership.items()}
    ordered = sorted(figures.lanes.items(), key=lambda item: (-waiting[item[0]], -len(item[1].accepted)))
    if len(ordered) <= 1:
        return None
    labels = _labels(material, [name for name, _ in ordered])
    limits = {quota.membership: quota.limit for quota in figures.timeline.quotas}
    cells: Data = []
    rows = []
    for name, lane in ordered:
        means = mean_running(lane, edges)
        limit = limits.get(name) or max(means) or 1.0
        cells += [
            {
                "membership": labels[name],
                "from": _ms(left),
                "to": _ms(right),
                "slots": round(mean, 1),
                "full": round(min(mean / limit, 1), 3),
                "link": urlencode({"membership": name}),
            }
            for (left, right), mean in zip(pairwise(edges), means, strict=True)
            if mean > _LEAST_SLOTS
        ]
        rows.append((labels[name], f"{waiting[name]:,}", f"{len(lane.accepted):,}", f"{sum(means) / len(means):.1f}"))
    return Chart(
        name="heat-map",
        words=f"{counted(len(ordered), 'membership')}, those with the most work left first; the darker, the fuller.",
        data={"cells": cells},
        params=material.clock,
        height=len(ordered) * (_ROW_HEIGHT if len(ordered) <= _MANY_MEMBERSHIPS else _SMALL_ROW_HEIGHT),
        header=("membership", "left", "submitted", "mean slots"),
        rows=rows,
    )


def _labels(material: Material, memberships: Sequence[str]) -> dict[str, str]:
    """What people call memberships: their aliases, or the begin of their ids where it is one's alone."""
    begins = Counter(membership[:8] for membership in memberships)
    short = {each: each[:8] if begins[each[:8]] == 1 else each for each in memberships}
    return {each: material.names.get(each) or short[each] for each in memberships}


def _gantt(material: Material) -> Chart | None:
    """Each job as a bar: the script makes them of the table's data, for the time that is chosen."""
    if not material.figures.accepted:
        return None
    words = (
        "Each bar is a job, from acceptance to end. Mark a time in a chart above to look closer; a click shows the job."
    )
    return Chart(name="gantt", words=words, data={"jobs": []}, params=material.clock)


def _run_times(material: Material) -> Chart | None:
    """How long jobs ran, by trained model and instance type, and the slowest of each."""
    spreads = material.figures.spreads()
    if not spreads:
        return None
    length, unit = _unit(max(each.longest for each in spreads))
    kinds: Data = []
    slowest: Data = []
    for each in spreads[:_MOST_KINDS]:
        kind = f"{each.name} (n={each.jobs:,})"
        parts = {part: round(seconds / length, 3) for part, seconds in each.parts().items()}
        kinds.append({"kind": kind, **parts, "link": urlencode({"model": each.model})})
        slowest += [
            {
                "kind": kind,
                "ran": round(job.seconds / length, 3),
                "time": duration(job.seconds),
                "job": job.name,
                "link": urlencode({"q": job.key}),
            }
            for job in each.slowest
        ]
    words = (
        "A bar holds half of the jobs; its long line is the median, the short one is what 95 % stay below; circles are "
    )
    return Chart(
        name="run-times",
        words=f"{words}the ten slowest.",
        height=len(kinds) * _ROW_HEIGHT,
        data={"kinds": kinds, "slowest": slowest},
        params={"unit": unit},
        header=("trained model", "jobs", *(part.replace("_", " ") for part in spreads[0].parts())),
        rows=[(each.name, f"{each.jobs:,}", *map(duration, each.parts().values())) for each in spreads],
    )


def _waits(material: Material) -> Chart | None:
    """What jobs waited for, on average over all of them: summed, a night of ten slots would have weeks of it."""
    waited, jobs = material.figures.waited, sum(material.figures.fates.values())
    seconds = {words: sum(waited[cause].seconds for cause in causes) for words, causes in _CAUSES.items()}
    total, most = sum(seconds.values()), max(seconds, key=lambda words: seconds[words])
    if total < 0.05 or not jobs:
        return None
    length, unit = _unit(seconds[most] / jobs)
    causes = [
        {"cause": words, "mean": each / jobs / length, "a job": duration(each / jobs), "share": share(each, total)}
        for words, each in seconds.items()
    ]
    return Chart(
        name="waits",
        words=f"A job waited {duration(total / jobs)} on average, from the batch's start to its acceptance or now: "
        f"{share(seconds[most], total)} for {most}.",
        height=len(causes) * _ROW_HEIGHT,
        data={"causes": causes},
        params={"unit": unit},
        header=("cause", "all jobs together", "share", "jobs that did", "mean of those", "longest"),
        rows=[
            (
                *(str(cause), duration(each.seconds), share(each.seconds, total), f"{each.jobs:,}"),
                *(duration(each.seconds / each.jobs), duration(each.longest)),
            )
            for cause, each in waited.items()
            if each.jobs
        ],
    )


def _failures(material: Material) -> Chart | None:
    """When jobs failed, by reason."""
    reasons = [each for each in material.figures.reasons.most_frequent_first() if each.at]
    if not reasons:
        return None
    edges = grid(material.begin, material.end, _SLICES)
    counts = [
        {
            "reason": f"{each.code or 'no code'} ({each.count:,})",
            "about": _ms((begin + end) / 2),
            "jobs": count,
            "series": each.state,
            "link": urlencode({"reason": each.number}),
        }
        for each in reasons[:_MOST_REASONS]
        for begin, end, count in _counted(sorted(each.at), edges)
    ]
    return Chart(
        name="failures-over-time",
        words="A circle is as large as its jobs are many; a click shows them.",
        height=len(reasons[:_MOST_REASONS]) * _ROW_HEIGHT,
        data={"counts": counts},
        params=material.clock,
        header=("reason", "jobs", "first (UTC)", "last (UTC)"),
        rows=[(each.code, f"{each.count:,}", _clock(min(each.at)), _clock(max(each.at))) for each in reasons],
    )


def _counted(moments: Sequence[float], edges: Sequence[float]) -> Iterator[tuple[float, float, int]]:
    """Count sorted moments between each two edges, where there are any."""
    places = [bisect_left(moments, edge) for edge in edges[:-1]] + [len(moments)]
    for (left, right), (before, after) in zip(pairwise(edges), pairwise(places), strict=True):
        if after > before:
            yield left, right, after - before


def _sum(columns: Iterator[list[float]]) -> list[float]:
    return [sum(values) for values in zip(*columns, strict=True)]


def _clock(at: float) -> str:
    return date_and_time(at)[5:]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _unit(seconds: float) -> tuple[int, str]:
    """The unit in which an axis up to so many seconds is read best."""
    return next(((length, unit) for length, unit in _UNITS if seconds >= 2 * length), (1, "s"))
