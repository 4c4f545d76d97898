"""The report as one HTML page that needs nothing but itself: no network, no other file.

Everything a stranger may have written (names, messages, ARNs, batch ids) is escaped by Jinja2, or escaped JSON that
the script puts into text nodes. The content security policy lets run this page's own script and style sheet, which it
knows by their digests, and nothing else; so a mistake in escaping would still run nothing.
"""

import base64
import hashlib
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import msgspec
from markupsafe import Markup

from batchsubmit import __version__
from batchsubmit.report import figure_charts as figurecharts
from batchsubmit.report import units as amounts
from batchsubmit.report.export import reason_of
from batchsubmit.report.headline import asked, has_alarm, headline
from batchsubmit.report.stats import Fate, Figures, model_name, spreads
from batchsubmit.report.timeline import History, TimelineBuilder
from batchsubmit.report.waits import Cause

MOST_LISTED = 150_000
_ALWAYS_LISTED = frozenset({Fate.UNKNOWN, Fate.FAILED, Fate.BAD})
_FATES = list(Fate)
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


class _Texts:
    """Texts that repeat, by number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    def __iter__(self) -> Any:  # noqa: ANN401 (an iterator of texts)
        return iter(self.numbers)


class JobTable:
    """Collects jobs; `script_data` is what the page holds. Times are seconds after `base`, waits seconds."""

    def __init__(self, base: float) -> None:
        self.base = math.floor(base)
        self.left_out = 0
        self._texts = {name: _Texts() for name in ("membership", "model", "message", "arn_head")}
        self._strings: dict[str, list[str]] = {name: [] for name in ("key", "name", "arn")}
        self._counts = {
            name: array("q") for name in ("membership", "model", "message", "arn_head", "fate", "reason", "attempts")
        }
        self._seconds: dict[str, list[float | None]] = {
            name: [] for name in ("intent", "accepted", "finished", "ran", *Cause)
        }

    def __len__(self) -> int:
        return len(self._strings["key"])

    def add(self, history: History, fate: Fate, reason: int | None) -> None:
        """Take in one job."""
        if len(self) >= MOST_LISTED and fate not in _ALWAYS_LISTED:
            self.left_out += 1
            return
        state = history.state
        head, slash, tail = state.arn.rpartition("/")
        code, message = reason_of(history)
        for name, text in (("key", state.job), ("name", state.name), ("arn", tail)):
            self._strings[name].append(text)
        words = ": ".join(filter(None, (code, message)))
        for name, text in (
            ("membership", state.membership),
            ("model", model_name(state.trained_model)),
            ("message", words),
            ("arn_head", head + slash),
        ):
            self._counts[name].append(self._texts[name].number(text))
        self._counts["fate"].append(_FATES.index(fate))
        self._counts["reason"].append(-1 if reason is None else reason)
        self._counts["attempts"].append(state.attempt)
        for name, at in (
            ("intent", history.first_intent_at),
            ("accepted", history.accepted_at),
            ("finished", history.finished_at),
        ):
            self._seconds[name].append(None if at is None else round(at - self.base, 1))
        self._seconds["ran"].append(None if history.seconds is None else round(history.seconds, 1))
        for cause, seconds in history.waited.items():
            self._seconds[cause].append(round(seconds, 1))

    def script_data(self) -> bytes:
        """JSON that may stand in a <script>: nothing in it ends the element or the line."""
        columns: dict[str, Any] = {**self._strings, **{name: list(column) for name, column in self._counts.items()}}
        # A column that says nothing is one value, not a hundred thousand.
        columns |= {name: column if any(column) else None for name, column in self._seconds.items()}
        data = {
            "base": self.base,
            "fates": _FATES,
            "causes": list(Cause),
            "texts": {name: list(texts) for name, texts in self._texts.items()},
            "columns": columns,
        }
        encoded = msgspec.json.encode(data)
        for character, escape in _ESCAPES:
            encoded = encoded.replace(character, escape)
        return encoded


_MOST_REASONS = 60
_MOST_MEMBERSHIPS = 50
_MOST_RUNS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a page says beside the ledger's own: where it was read, when, and what had to be left out."""

    ledger: str
    made_at: float
    remarks: tuple[str, ...] = ()


def page_parts(chronicle: TimelineBuilder, setting: Setting) -> Iterator[str]:
    """Write the page, part by part."""
    return make_page(chronicle, setting).parts()


@dataclass(frozen=True, slots=True)
class Page:
    """A report, ready to be written."""

    context: dict[str, Any]

    def parts(self) -> Iterator[str]:
        """The page, part by part."""
        return _rendered(self.context)

    def in_short(self) -> dict[str, Any]:
        """Its headline and figures, as JSON has them."""
        figures, outlook, words = self.context["figures"], self.context["outlook"], self.context["headline"]
        return {
            "ledger": self.context["setting"].ledger,
            "title": words.title,
            "status": words.status,
            "sentences": list(words.sentences),
            "jobs": self.context["asked"],
            "counts": {str(fate): figures.fates[fate] for fate in Fate},
            "left": outlook.left,
            "is_left_known": outlook.is_left_known,
            "seconds_to_submit": outlook.seconds_to_submit,
            "seconds_to_finish": outlook.seconds_to_finish,
            "calls": figures.attempts,
            "duplicates": figures.duplicates,
            "remarks": list(self.context["setting"].remarks),
        }


def make_page(chronicle: TimelineBuilder, setting: Setting) -> Page:
    """Gather all that a page has."""
    return Page(_context(chronicle, setting))


def _rendered(context: dict[str, Any]) -> Iterator[str]:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (only a report needs it)

    environment = Environment(
        loader=PackageLoader("batchsubmit.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": lambda part: amounts.share(part, 1),
        "duration": amounts.duration,
        "moment": amounts.date_and_time,
        "machine_time": amounts.machine_time,
    }
    yield from environment.get_template("page.html.j2").generate(context)


def _context(chronicle: TimelineBuilder, setting: Setting) -> dict[str, Any]:
    begin = chronicle.runs[0].began_at if chronicle.runs else setting.made_at
    end = max(chronicle.last_at or begin, begin)
    figures, table = Figures(chronicle), JobTable(begin)
    for history in chronicle.histories():
        table.add(history, *figures.add(history))
    acceptances = figures.course.acceptances()
    outlook = figures.outlook(acceptances, setting.made_at)
    slot_use = figures.slot_use(acceptances) if acceptances else None
    style, script = _asset("page.css"), _asset("page.js")
    reasons = figures.reasons.most_frequent_first()
    return {
        "version": __version__,
        "setting": setting,
        "chronicle": chronicle,
        "figures": figures,
        "outlook": outlook,
        "slot_use": slot_use,
        "asked": asked(figures, outlook),
        "has_alarm": has_alarm(figures, outlook),
        "headline": headline(figures, outlook),
        "begin": begin,
        "end": end,
        "fates_chart": figurecharts.fates_chart(figures, outlook),
        "running_chart": figurecharts.running_chart(figures, slot_use, begin, end),
        "accepted_chart": figurecharts.accepted_chart(acceptances, begin, end),
        "waits_chart": figurecharts.waits_chart(figures),
        "durations_chart": figurecharts.durations_chart(spreads(figures.durations)),
        "reasons": reasons[:_MOST_REASONS],
        "more_reasons": len(reasons) - _MOST_REASONS,
        "memberships": list(figures.by_membership.items())[:_MOST_MEMBERSHIPS],
        "more_memberships": len(figures.by_membership) - _MOST_MEMBERSHIPS,
        "runs": chronicle.runs[-_MOST_RUNS:],
        "table": table,
        "style": style,
        "script": script,
        "policy": _policy(style, script),
        # Trusted: JSON whose <, >, & and line separators are escapes.
        "data": Markup(table.script_data().decode()),  # noqa: S704
    }


def _asset(name: str) -> Markup:
    text = resources.files("batchsubmit.report").joinpath("assets", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (our own file)


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded and nothing run but what has these digests."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
