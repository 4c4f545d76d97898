"""The report as one HTML page that needs nothing but itself: no network, no other file.

All text from outside (names, messages, ARNs, batch ids) is escaped by Jinja2, or escaped JSON that the script puts into
text nodes. The content security policy allows this page's own script and style sheet, which it knows by their digests,
and nothing else; so a mistake in escaping would still run nothing.
"""

import base64
import hashlib
import math
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from markupsafe import Markup

from batchsubmit import __version__
from batchsubmit.core.states import LOG_GROUP, State
from batchsubmit.report.charts import Chart, Material, charts, specs
from batchsubmit.report.headline import Headline, has_alarm, headline
from batchsubmit.report.stats import Figures, Outlook, model_name, reason_of
from batchsubmit.report.timeline import History, Timeline
from batchsubmit.report.waits import Cause
from batchsubmit.text import date_and_time, duration, share

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_LISTED = 150_000
_MOST_REASONS = 60
_MOST_MEMBERSHIPS = 50
_MOST_RUNS = 50
_COMPARED = 5
_LEAST_SHARE = 0.008
_BAR_ORDER = (
    State.SUCCEEDED,
    State.SUBMITTED,
    State.PENDING,
    State.FAILED,
    State.REJECTED,
    State.UNKNOWN,
    State.CANCELLED,
)
_ALWAYS_LISTED = frozenset({State.UNKNOWN, State.REJECTED, State.FAILED, State.CANCELLED})
_FATES = list(State)
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)
_MAY_BE_EMPTY = ("intent", "accepted", "ran", *Cause)
_SHARED = ("membership", "model", "instance", "message")
_IDS = ("key", "arn", "arn_head")
_COLUMNS = ("name", *_SHARED, "fate", "reason", "attempts", *_MAY_BE_EMPTY, *_IDS)


class JobTable:
    """Collects jobs by column; texts that repeat are kept as numbers. Times are seconds after `base`."""

    def __init__(self, base: float) -> None:
        self.base = math.floor(base)
        self.left_out = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in (*_SHARED, "arn_head")}

    def add(self, history: History, fate: State, reason: int | None) -> None:
        """Take in one job."""
        if len(self) >= MOST_LISTED and fate not in _ALWAYS_LISTED:
            self.left_out += 1
            return
        state = history.state
        head, slash, tail = state.arn.rpartition("/")
        row: dict[str, Any] = {
            "key": state.job,
            "name": state.name,
            "arn": tail,
            "membership": self._number("membership", state.membership),
            "model": self._number("model", model_name(state.trained_model)),
            "instance": self._number("instance", history.instance_type),
            "message": self._number("message", ": ".join(filter(None, reason_of(history)))),
            "arn_head": self._number("arn_head", head + slash),
            "fate": _FATES.index(fate),
            "reason": -1 if reason is None else reason,
            "attempts": state.attempt,
            "intent": self._after_base(history.first_intent_at),
            "accepted": self._after_base(history.accepted_at),
            "ran": None if history.seconds is None else round(history.seconds, 1),
            **{cause: round(seconds, 1) for cause, seconds in history.waited.items()},
        }
        for name, value in row.items():
            self._columns[name].append(value)

    def __len__(self) -> int:
        return len(self._columns["name"])

    def accounts(self) -> list[tuple[str, str]]:
        """Accounts and regions of the jobs."""
        parts = (arn.split(":") for arn in self._texts["arn_head"])
        return sorted({(part[4], part[3]) for part in parts if len(part) > 4})

    def _number(self, kind: str, text: str) -> int:
        return self._texts[kind].setdefault(text, len(self._texts[kind]))

    def _after_base(self, at: float | None) -> float | None:
        return None if at is None else round(at - self.base, 1)

    def script_data(self, end: float, names: Mapping[str, str]) -> dict[str, Markup]:
        """The columns, the time of the ledger's last event, and aliases of memberships; keys and ARNs come last."""
        # A column that says nothing is one value, not a hundred thousand.
        empty = {name: None for name in _MAY_BE_EMPTY if not any(self._columns[name])}
        data = {
            "base": self.base,
            "end": end - self.base,
            "aliases": dict(names),
            "fates": _FATES,
            "failed": [_FATES.index(State.REJECTED), _FATES.index(State.FAILED), _FATES.index(State.CANCELLED)],
            "causes": list(Cause),
            "texts": {name: list(texts) for name, texts in self._texts.items()},
            "columns": {name: self._columns[name] for name in _COLUMNS if name not in _IDS} | empty,
        }
        return {"data": _script_data(data), "ids": _script_data({name: self._columns[name] for name in _IDS})}


def _script_data(data: object) -> Markup:
    """JSON that may stand in a <script>: nothing in it ends the element or the line."""
    encoded = msgspec.json.encode(data)
    for character, escape in _ESCAPES:
        encoded = encoded.replace(character, escape)
    return Markup(encoded.decode())  # noqa: S704 (its <, >, & and line separators are escapes)


@dataclass(frozen=True, slots=True)
class Page:
    """A report, ready to be written."""

    context: dict[str, Any]

    def parts(self) -> Iterator[str]:
        """The page, part by part."""
        return _templates().get_template("page.html.j2").generate(self.context)

    def for_notebook(self) -> str:
        """Its headline and first charts, for a cell of a notebook, which shows light colours."""
        colours = " ".join(_asset("page.css").split("{", 1)[1].split("}", 1)[0].split())
        return _templates().get_template("notebook.html.j2").render(self.context, colours=colours)

    def as_dict(self) -> dict[str, Any]:
        """Its headline and figures, as JSON has them."""
        figures, outlook, words = self.context["figures"], self.context["outlook"], self.context["headline"]
        return {
            "ledger": self.context["ledger"],
            "title": words.title,
            "status": words.status,
            "sentences": list(words.sentences),
            "jobs": figures.counts.total,
            "counts": figures.counts.as_dict(),
            "left": outlook.left,
            "is_left_known": outlook.is_left_known,
            "seconds_to_submit": outlook.seconds_to_submit,
            "seconds_to_finish": outlook.seconds_to_finish,
            "calls": figures.attempts,
            "duplicates": figures.duplicates,
            "remarks": list(self.context["remarks"]),
        }


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (only a report needs it)

    environment = Environment(
        loader=PackageLoader("batchsubmit.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": lambda part: share(part, 1),
        "duration": duration,
        "moment": date_and_time,
        "quoted": shlex.quote,
        "machine_time": lambda at: f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    return environment


def make_page(
    timeline: Timeline,
    *,
    ledger: str,
    made_at: float,
    remarks: tuple[str, ...] = (),
    names: Mapping[str, str] = MappingProxyType({}),
    prices: Mapping[str, float] = MappingProxyType({}),
    live: str = "",
) -> Page:
    """Gather all that a page has.

    `remarks` say what of the ledger had to be left out; `names` are aliases of memberships; `prices` USD an hour by
    instance type. `live` is the version of a page that is served, and asks its server for the next one.
    """
    begin = timeline.runs[0].began_at if timeline.runs else made_at
    end = max(timeline.last_at or begin, begin)
    figures, table = Figures(timeline), JobTable(begin)
    for history in timeline.histories():
        table.add(history, *figures.add(history))
    outlook = figures.outlook(made_at)
    slot_use = figures.slot_use()
    drawings = {chart.name: chart for chart in charts(Material(figures, outlook, slot_use, begin, end, names))}
    return Page(
        {
            "version": __version__,
            "ledger": ledger,
            "made_at": made_at,
            "remarks": remarks,
            "runs": timeline.runs[-_MOST_RUNS:],
            "figures": figures,
            "outlook": outlook,
            "slot_use": slot_use,
            "has_alarm": has_alarm(figures, outlook),
            "headline": headline(figures, outlook),
            "begin": begin,
            "end": end,
            "bar": _bar(figures, outlook),
            "charts": drawings,
            "accounts": table.accounts(),
            "live": live,
            "hours": _instance_hours(figures, prices),
            "log_group": LOG_GROUP,
            "names": names,
            **_listed(figures),
            **table.script_data(end, names),
            **_scripts(drawings, live),
            "table": table,
        }
    )


def _listed(figures: Figures) -> dict[str, Any]:
    """What a page lists, and how much more there is."""
    reasons, memberships = figures.reasons.most_frequent_first(), list(figures.by_membership.items())
    return {
        "reasons": reasons[:_MOST_REASONS],
        "more_reasons": len(reasons) - _MOST_REASONS,
        "memberships": memberships[:_MOST_MEMBERSHIPS],
        "more_memberships": len(memberships) - _MOST_MEMBERSHIPS,
    }


def _scripts(drawings: Mapping[str, Chart], live: str) -> dict[str, Any]:
    """Style, scripts, their data, and the policy that allows them and nothing else."""
    style, script = _asset("page.css"), _asset("page.js") + _asset("live.js")
    drawn = {"config": specs()["config"], "specs": {name: chart.spec for name, chart in drawings.items()}}
    return {
        "style": style,
        "script": script,
        "library": Markup(library()),  # noqa: S704 (Vega's)
        "policy": _policy(style, script, library(), source="'self'" if live else "'none'"),
        "chart_data": _script_data(drawn),
    }


@cache
def library() -> str:
    """The script that draws in the page, out of vl-convert. Making it takes seconds, so the user's cache keeps it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    kept = home / "batchsubmit" / f"vega-{metadata.version('vl-convert-python')}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert  # noqa: PLC0415 (slow to import)

    # In a function of its own: its hundreds of short names are none of the page's.
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    script = f"(() => {{{made}}})();"
    with suppress(OSError):  # a home that cannot be written: it is made again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(script, encoding="utf-8")
        part.replace(kept)
    return script


def _asset(name: str) -> Markup:
    text = resources.files("batchsubmit.report").joinpath("assets", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (our own file)


def _bar(figures: Figures, outlook: Outlook) -> list[tuple[State, int, int, float, float]]:
    """All jobs in one bar: state, its number, jobs, begin and width in percent, wide enough to be seen."""
    counts = {**figures.fates, State.PENDING: outlook.left}
    total = sum(counts.values())
    shown = {fate: max(counts[fate], total * _LEAST_SHARE) for fate in _BAR_ORDER if counts.get(fate)}
    parts, begin = [], 0.0
    for fate, width in shown.items():
        part = 100 * width / sum(shown.values())
        parts.append((fate, _FATES.index(fate), counts[fate], begin, part))
        begin += part
    return parts


def _instance_hours(figures: Figures, prices: Mapping[str, float]) -> list[tuple[str, float, float | None]]:
    """Hours and cost in USD by instance type, of the jobs that were seen to end; None where no price is set."""
    hours: dict[str, float] = defaultdict(float)
    for (_, instance_type), times in figures.times.items():
        hours[instance_type] += sum(job.seconds for job in times) / 3600
    return [(kind, spent, spent * prices[kind] if kind in prices else None) for kind, spent in hours.items()]


def _policy(style: str, *scripts: str, source: str = "'none'") -> str:
    """Nothing may be loaded and nothing run except what has these digests."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {' '.join(map(_digest, scripts))}; img-src data:; "
        f"connect-src {source}; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One ledger of an overview. Counts by state; hours and cost are of the jobs that were seen to end."""

    name: str
    words: Headline
    began_at: float
    seconds: float
    jobs: int
    fates: Counter[State]
    hours: float
    cost: float

    @classmethod
    def of(cls, timeline: Timeline, name: str, now: float, prices: Mapping[str, float]) -> Self:
        """Sum up a ledger."""
        figures = Figures(timeline)
        for history in timeline.histories():
            figures.add(history)
        outlook = figures.outlook(now)
        began = timeline.runs[0].began_at if timeline.runs else now
        hours = _instance_hours(figures, prices)
        return cls(
            name=name,
            words=headline(figures, outlook),
            began_at=began,
            seconds=max((timeline.last_at or began) - began, 0.0),
            jobs=figures.counts.total,
            fates=figures.fates + Counter({State.PENDING: outlook.left - figures.fates[State.PENDING]}),
            hours=sum(spent for _, spent, _ in hours),
            cost=sum(cost or 0.0 for _, _, cost in hours),
        )

    @property
    def failed(self) -> int:
        """Jobs that failed in either way."""
        return self.fates[State.REJECTED] + self.fates[State.FAILED]


def make_overview(folder: str, nights: Sequence[Night], live: str) -> str:
    """Many ledgers, the newest first, and the newest beside the mean of those before it."""
    ordered = sorted(nights, key=lambda night: -night.began_at)
    newest, before = (ordered[0] if ordered else None), ordered[1:]
    style, script = _asset("page.css"), _asset("live.js")
    context = {
        "version": __version__,
        "folder": folder,
        "newest": newest,
        "before": before,
        "compared": before[:_COMPARED],
        "live": live,
        "style": style,
        "script": script,
        "policy": _policy(style, script, source="'self'"),
    }
    return _templates().get_template("overview.html.j2").render(context)
