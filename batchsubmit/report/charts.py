"""The report's charts: the data that each draws, with its words and its table for those who cannot see it.

How they look is Vega-Lite, in `assets/charts.json`; its colours are `var(--…)` of the style sheet, so that light, dark
and print hold inside the charts. vl-convert brings Vega, which draws in the page, and draws the same here as pictures
that stand in the page until its script has run, and stay without one. A datum's `link` is the filter of its jobs.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from operator import itemgetter
from statistics import quantiles
from typing import Any
from urllib.parse import urlencode

import msgspec
from markupsafe import Markup

from batchsubmit.core.job_states import State
from batchsubmit.report.stats import Figures
from batchsubmit.report.timeline import SlotTimes, mean_running, peak_running, quota_steps
from batchsubmit.report.waits import Cause
from batchsubmit.text import counted, date_and_time, duration, share

Data = list[dict[str, Any]]
_PICTURE_WIDTH = 860
_MOST_PICTURED = 4_000
"""Rows of data above which a chart has no picture: the script draws it, and its table says the same."""
_MOST_MARKS, _MOST_REASONS, _MOST_KINDS, _SLICES = 150, 12, 20, 60
_MOST_SLOWEST = 10
_PARTS = {"shortest": 0, "quarter": 5, "median": 10, "three_quarters": 15, "p95": 19, "longest": 20}
"""How the run times of a kind of jobs are summed up, in twentieths of its jobs."""
_TABLE_STEP = 10
_LEAST_SLOTS = 0.005
_MANY_ROWS, _ROW_HEIGHT, _SMALL_ROW_HEIGHT = 30, 30, 14
_CAUSES = {
    "a free slot": (Cause.QUOTA,),
    "a turn at the rate": (Cause.RATE,),
    "errors and lookups": (Cause.THROTTLING, Cause.RETRY, Cause.LOOKUP),
}
_GANTT_WORDS = (
    "Each bar is a job, from acceptance to end. Mark a time in a chart above to look closer; a click shows the job."
)
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


@dataclass(slots=True)
class Chart:
    """A drawing's data, what it says in a sentence, and the same as a table.

    `param` is the value that its axis uses; `bars` are the rows of one that grows with them.
    """

    name: str
    words: str
    data: dict[str, Data]
    param: dict[str, str]
    header: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    bars: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        """The whole specification, without layers that have no data, of which Vega complains."""
        spec = dict(specs()[self.name])
        if "layer" in spec:
            spec["layer"] = [each for each in spec["layer"] if self.data[each.get("data", spec.get("data"))["name"]]]
        if self.bars:
            spec["height"] = self.bars * (_ROW_HEIGHT if self.bars <= _MANY_ROWS else _SMALL_ROW_HEIGHT)
        params = [*spec.get("params", ()), *({"name": name, "value": value} for name, value in self.param.items())]
        return {**spec, "params": params, "datasets": self.data}

    @property
    def picture(self) -> Markup:
        """The drawing as SVG; empty where it would be very large, or only the script knows the data."""
        if not 0 < sum(map(len, self.data.values())) <= _MOST_PICTURED:
            return Markup()
        import vl_convert  # noqa: PLC0415 (slow to import, and a live page has no pictures)

        drawn = vl_convert.vegalite_to_svg({**self.spec, "width": _PICTURE_WIDTH}, config=specs()["config"])
        return Markup(drawn)  # noqa: S704 (Vega escapes texts, and no script or address is in it)


@cache
def specs() -> dict[str, Any]:
    """The charts' specifications by name, and `config`, which they share."""
    text = resources.files("batchsubmit.report").joinpath("assets", "charts.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Any])


def charts(figures: Figures, names: Mapping[str, str]) -> list[Chart]:
    """All charts that have something to show. `names` are aliases of memberships."""
    made = [_run_times(figures), _waits(figures), _failures(figures)]
    if figures.counts.submitted:
        gantt = Chart("gantt", _GANTT_WORDS, {"jobs": []}, _clock(figures))  # the script makes its bars
        made = [_burn_up(figures), _slots(figures), _heat_map(figures, names), *made, gantt]
    return [chart for chart in made if chart]


def _burn_up(figures: Figures) -> Chart:
    """Submitted, succeeded and failed jobs against all, when the rest is expected, and what happened on the way."""
    edges, ended = _edges(figures), figures.ended
    ends = {str(state): sorted(ended[state]) for state in (State.SUCCEEDED, State.FAILED, State.REJECTED)}
    moments = {"submitted": figures.acceptances, **ends}
    counts = {name: [bisect_right(each, edge) for edge in edges] for name, each in moments.items()}
    points = [
        {"at": _ms(edge), "series": name, "jobs": count}
        for name, column in counts.items()
        for edge, count in zip(edges, column, strict=True)
    ]
    total, (submitted, *each) = figures.counts.total, [column[-1] for column in counts.values()]
    words = f"{submitted:,} of {counted(total, 'job')} submitted"
    words += "".join(f", {number:,} {name}" for name, number in zip(ends, each, strict=True)) + "."
    cone = list(_cone(figures, sum(each), total))
    if cone:
        soonest, latest = (date_and_time(each["at"] / 1000)[5:-3] for each in cone[1:])
        words += f" All will have ended between {soonest} and {latest} UTC, four times in five."
    data: dict[str, Data] = {"points": points, "all": [{"jobs": total}], "cone": cone, "marks": _marks(figures)}
    steps = list(zip(edges, *counts.values(), strict=True))
    rows = [(_time(edge), *(f"{number:,}" for number in numbers)) for edge, *numbers in steps[::_TABLE_STEP]]
    return Chart("burn-up", words, data, _clock(figures), ("until (UTC)", *counts), rows)


def _cone(figures: Figures, ended: int, total: int) -> Iterator[dict[str, Any]]:
    """Between which numbers of ended jobs the batch will be, until it is probably done."""
    finish = figures.finish
    if finish is None or not finish.seconds or ended >= total:
        return
    low, high = finish.low_seconds, max(finish.high_seconds, finish.low_seconds + 1)
    yield {"at": _ms(figures.now), "least": ended, "most": ended}
    yield {"at": _ms(figures.now + low), "least": round(ended + (total - ended) * low / high), "most": total}
    yield {"at": _ms(figures.now + high), "least": total, "most": total}


def _marks(figures: Figures) -> Data:
    """When a run began or ended, was throttled, learned a quota."""
    marks: list[tuple[float, str, str]] = []
    for run in figures.timeline.runs:
        is_done = run.ended is not None and not run.ended.reason
        why = (run.ended.reason or "all done") if run.ended else "without a word"
        marks.append((run.began_at, "a run's begin or end", "a run began"))
        marks.append((run.last_at, "a run's begin or end" if is_done else "an interruption", f"a run ended: {why}"))
        marks += [
            (run.began_at, "a quota", f"a quota was learned: {limit:,}") for limit in sorted(set(run.quotas.values()))
        ]
    for begin, _, count in _counted(figures.timeline.throttled_at, _edges(figures, _SLICES)):
        marks.append((begin, "throttling", f"throttled {counted(count, 'time')}"))
    return [{"at": _ms(at), "mark": kind, "what": what} for at, kind, what in marks[-_MOST_MARKS:]]


def _slots(figures: Figures) -> Chart:
    """Slots in use against the quota; idle ones while work waited are a loss."""
    edges, lanes = _edges(figures), figures.lanes.values()
    sure_lanes = [SlotTimes(lane.ended, lane.finished) for lane in lanes]
    columns = ([mean_running(lane, edges) for lane in each] for each in (sure_lanes, lanes))
    ended, running = (map(sum, zip(*each, strict=True)) for each in columns)
    steps = quota_steps(figures.timeline.runs, figures.lanes)
    accepted = figures.acceptances
    bands: Data = []
    rows, lost = [], 0.0
    for (left, right), sure, most in zip(pairwise(edges), ended, running, strict=True):
        quota = next((limit for at, limit in reversed(steps) if at <= left), None)
        # A job without an end in the ledger may be over: the quota says how many of them can still run.
        used = most if quota is None else max(min(most, quota), sure)
        has_work = accepted[0] <= left and right <= accepted[-1] and figures.timeline.is_under_way(left)
        idle = max(quota - used, 0.0) if quota is not None and has_work else 0.0
        lost += idle * (right - left)
        parts = {"in use": (0.0, sure), "end not checked": (sure, used), "idle while work waited": (used, used + idle)}
        bands += [
            {**_span(left, right, high - low), "quota": quota, "series": name, "low": low, "high": high}
            for name, (low, high) in parts.items()
            if high - low > _LEAST_SLOTS
        ]
        rows.append((_time(left), *(f"{high - low:.1f}" for low, high in parts.values()), f"{quota or '-'}"))
    line = [{"at": _ms(max(at, figures.begin)), "quota": limit} for at, limit in steps]
    line += [{"at": _ms(figures.end), "quota": limit} for _, limit in steps[-1:]]
    header = ("from (UTC)", "in use", "end not checked", "idle", "quota")
    data = {"bands": bands, "quotas": line}
    return Chart("slots", _slots_words(figures, lost), data, _clock(figures), header, rows[::_TABLE_STEP])


def _slots_words(figures: Figures, lost: float) -> str:
    words = f"At most {counted(peak_running(figures.lanes), 'job')} ran at once, as far as the ledger says."
    if use := figures.slot_use:
        of_what = "the quota" if use.is_learned else "that peak (the ledger has no quota)"
        words += f" While there was something to submit, {share(use.share, 1)} of {of_what} was used."
    if lost >= 1:
        words += f" {duration(lost)} of slot time stayed idle while work waited."
    if not figures.ran:
        words += " The ledger does not say when jobs end; with submit --wait a run follows all of them to their end."
    return words


def _heat_map(figures: Figures, names: Mapping[str, str]) -> Chart | None:
    """Each membership's slots over time, those with the most work left first."""
    edges = _edges(figures, _SLICES)
    waiting = {name: states[State.PENDING] for name, states in figures.by_membership.items()}
    ordered = sorted(figures.lanes.items(), key=lambda item: (-waiting[item[0]], -len(item[1].accepted)))
    if len(ordered) <= 1:
        return None
    begins = Counter(name[:8] for name, _ in ordered)
    limits = figures.timeline.work.quotas
    cells: Data = []
    rows = []
    for name, lane in ordered:
        label = names.get(name) or (name[:8] if begins[name[:8]] == 1 else name)
        means = mean_running(lane, edges)
        same = {"membership": label, "link": urlencode({"membership": name})}
        limit = limits.get(name) or max(means) or 1.0
        cells += [
            {**_span(left, right, mean), "full": round(min(mean / limit, 1), 3), **same}
            for (left, right), mean in zip(pairwise(edges), means, strict=True)
            if mean > _LEAST_SLOTS
        ]
        rows.append((label, f"{waiting[name]:,}", f"{len(lane.accepted):,}", f"{sum(means) / len(means):.1f}"))
    words = f"{counted(len(ordered), 'membership')}, those with the most work left first; the darker, the fuller."
    header = ("membership", "left", "submitted", "mean slots")
    return Chart("heat-map", words, {"cells": cells}, _clock(figures), header, rows, bars=len(rows))


def _run_times(figures: Figures) -> Chart | None:
    """How long jobs ran, by trained model and instance type, and the slowest of each; the most frequent kinds first."""
    ordered = {kind: sorted(jobs, key=itemgetter(0)) for kind, jobs in figures.ran.items()}
    if not ordered:
        return None
    length, unit = _unit(max(jobs[-1][0] for jobs in ordered.values()))
    kinds: Data = []
    slowest: Data = []
    rows = []
    for (model, instance_type), jobs in sorted(ordered.items(), key=lambda item: -len(item[1])):
        name, parts = " · ".join(filter(None, (model, instance_type))), _parts([seconds for seconds, _ in jobs])
        rows.append((name, f"{len(jobs):,}", *map(duration, parts.values())))
        if len(kinds) == _MOST_KINDS:
            continue
        kind = f"{name} (n={len(jobs):,})"
        in_unit = {part: round(seconds / length, 3) for part, seconds in parts.items()}
        kinds.append({"kind": kind, **in_unit, "link": urlencode({"model": model})})
        for seconds, job in jobs[: -_MOST_SLOWEST - 1 : -1]:
            place = {"kind": kind, "ran": round(seconds / length, 3), "time": duration(seconds)}
            slowest.append({**place, "job": job.state.name, "link": urlencode({"q": job.state.job})})
    words = "A bar holds half of the jobs; its long line is the median, the short one is what 95 % stay below; "
    words += "circles are the ten slowest."
    header = ("trained model", "jobs", *(part.replace("_", " ") for part in _PARTS))
    return Chart("run-times", words, {"kinds": kinds, "slowest": slowest}, {"unit": unit}, header, rows, len(kinds))


def _parts(ordered: Sequence[float]) -> dict[str, float]:
    between = quantiles(ordered, n=20, method="inclusive") if len(ordered) > 1 else [*ordered] * 19
    twentieths = [ordered[0], *between, ordered[-1]]
    return {name: twentieths[part] for name, part in _PARTS.items()}


def _waits(figures: Figures) -> Chart | None:
    """What jobs waited for, on average over all of them: summed, a night of ten slots would have weeks of it."""
    waited, jobs = figures.waited, len(figures.jobs)
    seconds = {words: sum(sum(waited[cause]) for cause in causes) for words, causes in _CAUSES.items()}
    total, most = sum(seconds.values()), max(seconds, key=lambda words: seconds[words])
    if total < 0.05 or not jobs:
        return None
    length, unit = _unit(seconds[most] / jobs)
    causes = [
        {"cause": words, "mean": each / jobs / length, "a job": duration(each / jobs), "share": share(each, total)}
        for words, each in seconds.items()
    ]
    words = f"A job waited {duration(total / jobs)} on average, from the batch's start to its acceptance or now: "
    words += f"{share(seconds[most], total)} for {most}."
    rows = []
    for cause, waits in waited.items():
        if waits:
            times = map(duration, (sum(waits) / len(waits), max(waits)))
            rows.append((str(cause), duration(sum(waits)), share(sum(waits), total), f"{len(waits):,}", *times))
    header = ("cause", "all jobs together", "share", "jobs that did", "mean of those", "longest")
    return Chart("waits", words, {"causes": causes}, {"unit": unit}, header, rows, len(causes))


def _failures(figures: Figures) -> Chart | None:
    """When jobs failed, by reason."""
    reasons = [each for each in figures.reasons.most_frequent_first() if each.at]
    if not reasons:
        return None
    counts: Data = []
    for each in reasons[:_MOST_REASONS]:
        same = {"series": each.state, "link": urlencode({"reason": each.number})}
        same["reason"] = f"{each.code or 'no code'} ({each.count:,})"
        for begin, end, count in _counted(sorted(each.at), _edges(figures, _SLICES)):
            counts.append({"about": _ms((begin + end) / 2), "jobs": count, **same})
    words = "A circle is as large as its jobs are many; a click shows them."
    header = ("reason", "jobs", "first (UTC)", "last (UTC)")
    rows = [(each.code, f"{each.count:,}", _time(min(each.at)), _time(max(each.at))) for each in reasons]
    bars = len(reasons[:_MOST_REASONS])
    return Chart("failures-over-time", words, {"counts": counts}, _clock(figures), header, rows, bars)


def _counted(moments: Sequence[float], edges: Sequence[float]) -> Iterator[tuple[float, float, int]]:
    """Count sorted moments between each two edges, where there are any."""
    places = [bisect_left(moments, edge) for edge in edges[:-1]] + [len(moments)]
    for (left, right), (before, after) in zip(pairwise(edges), pairwise(places), strict=True):
        if after > before:
            yield left, right, after - before


def _edges(figures: Figures, count: int = 160) -> list[float]:
    """The moments between which it is counted and averaged."""
    step = max(figures.end - figures.begin, 1.0) / count
    return [figures.begin + step * index for index in range(count + 1)]


def _clock(figures: Figures) -> dict[str, str]:
    """How an axis writes its times."""
    finish = figures.finish
    end = figures.now + finish.high_seconds if finish and finish.seconds else figures.end
    spans = ((900, "%H:%M:%S"), (86_400, "%H:%M"))
    return {"clock": next((clock for span, clock in spans if end - figures.begin <= span), "%d %b %H:%M")}


def _span(left: float, right: float, slots: float) -> dict[str, float | None]:
    return {"from": _ms(left), "to": _ms(right), "slots": round(slots, 1)}


def _time(at: float) -> str:
    return date_and_time(at)[5:]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _unit(seconds: float) -> tuple[int, str]:
    """The unit in which an axis up to so many seconds is read best."""
    return next(((length, unit) for length, unit in _UNITS if seconds >= 2 * length), (1, "s"))
