"""The report as one HTML page that needs nothing but itself: no network, no other file.

All text from outside (names, messages, ARNs, batch ids) is escaped by Jinja2, or escaped JSON that the script puts into
text nodes. The content security policy allows this page's own script and style sheet, which it knows by their digests,
and nothing else; so a mistake in escaping would still run nothing.
"""

import base64
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import msgspec
from markupsafe import Markup

from batchsubmit import __version__
from batchsubmit.core.states import State
from batchsubmit.report import charts
from batchsubmit.report.headline import asked, has_alarm, headline
from batchsubmit.report.stats import Figures, model_name, reason_of, spreads
from batchsubmit.report.timeline import History, Timeline
from batchsubmit.report.waits import Cause
from batchsubmit.text import date_and_time, duration, share

MOST_LISTED = 150_000
_MOST_REASONS = 60
_MOST_MEMBERSHIPS = 50
_MOST_RUNS = 50
_ALWAYS_LISTED = frozenset({State.UNKNOWN, State.REJECTED, State.FAILED, State.CANCELLED})
_FATES = list(State)
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)
_MAY_BE_EMPTY = ("intent", "accepted", "finished", "ran", *Cause)
_SHARED = ("membership", "model", "message", "arn_head")
_COLUMNS = ("key", "name", "arn", *_SHARED, "fate", "reason", "attempts", *_MAY_BE_EMPTY)


class JobTable:
    """Collects jobs by column; texts that repeat are kept as numbers. Times are seconds after `base`."""

    def __init__(self, base: float) -> None:
        self.base = math.floor(base)
        self.left_out = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in _SHARED}

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
            "message": self._number("message", ": ".join(filter(None, reason_of(history)))),
            "arn_head": self._number("arn_head", head + slash),
            "fate": _FATES.index(fate),
            "reason": -1 if reason is None else reason,
            "attempts": state.attempt,
            "intent": self._after_base(history.first_intent_at),
            "accepted": self._after_base(history.accepted_at),
            "finished": self._after_base(history.finished_at),
            "ran": None if history.seconds is None else round(history.seconds, 1),
            **{cause: round(seconds, 1) for cause, seconds in history.waited.items()},
        }
        for name, value in row.items():
            self._columns[name].append(value)

    def __len__(self) -> int:
        return len(self._columns["key"])

    def _number(self, kind: str, text: str) -> int:
        return self._texts[kind].setdefault(text, len(self._texts[kind]))

    def _after_base(self, at: float | None) -> float | None:
        return None if at is None else round(at - self.base, 1)

    def script_data(self) -> bytes:
        """JSON that may stand in a <script>: nothing in it ends the element or the line."""
        # A column that says nothing is one value, not a hundred thousand.
        empty = {name: None for name in _MAY_BE_EMPTY if not any(self._columns[name])}
        data = {
            "base": self.base,
            "fates": _FATES,
            "causes": list(Cause),
            "texts": {name: list(texts) for name, texts in self._texts.items()},
            "columns": self._columns | empty,
        }
        encoded = msgspec.json.encode(data)
        for character, escape in _ESCAPES:
            encoded = encoded.replace(character, escape)
        return encoded


@dataclass(frozen=True, slots=True)
class Page:
    """A report, ready to be written."""

    context: dict[str, Any]

    def parts(self) -> Iterator[str]:
        """The page, part by part."""
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
            "machine_time": lambda at: f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        yield from environment.get_template("page.html.j2").generate(self.context)

    def as_dict(self) -> dict[str, Any]:
        """Its headline and figures, as JSON has them."""
        figures, outlook, words = self.context["figures"], self.context["outlook"], self.context["headline"]
        return {
            "ledger": self.context["ledger"],
            "title": words.title,
            "status": words.status,
            "sentences": list(words.sentences),
            "jobs": self.context["asked"],
            "counts": figures.counts.as_dict(),
            "left": outlook.left,
            "is_left_known": outlook.is_left_known,
            "seconds_to_submit": outlook.seconds_to_submit,
            "seconds_to_finish": outlook.seconds_to_finish,
            "calls": figures.attempts,
            "duplicates": figures.duplicates,
            "remarks": list(self.context["remarks"]),
        }


def make_page(timeline: Timeline, *, ledger: str, made_at: float, remarks: tuple[str, ...] = ()) -> Page:
    """Gather all that a page has; `remarks` say what of the ledger had to be left out."""
    begin = timeline.runs[0].began_at if timeline.runs else made_at
    end = max(timeline.last_at or begin, begin)
    figures, table = Figures(timeline), JobTable(begin)
    for history in timeline.histories():
        table.add(history, *figures.add(history))
    outlook = figures.outlook(made_at)
    slot_use = figures.slot_use()
    style, script = _asset("page.css"), _asset("page.js")
    reasons = figures.reasons.most_frequent_first()
    return Page(
        {
            "version": __version__,
            "ledger": ledger,
            "made_at": made_at,
            "remarks": remarks,
            "figures": figures,
            "outlook": outlook,
            "slot_use": slot_use,
            "asked": asked(figures, outlook),
            "has_alarm": has_alarm(figures, outlook),
            "headline": headline(figures, outlook),
            "begin": begin,
            "end": end,
            "fates_chart": charts.fates_chart(figures, outlook),
            "running_chart": charts.running_chart(figures, slot_use, begin, end),
            "accepted_chart": charts.accepted_chart(figures.acceptances(), begin, end),
            "waits_chart": charts.waits_chart(figures),
            "durations_chart": charts.durations_chart(spreads(figures.durations)),
            "reasons": reasons[:_MOST_REASONS],
            "more_reasons": len(reasons) - _MOST_REASONS,
            "memberships": list(figures.by_membership.items())[:_MOST_MEMBERSHIPS],
            "more_memberships": len(figures.by_membership) - _MOST_MEMBERSHIPS,
            "runs": timeline.runs[-_MOST_RUNS:],
            "table": table,
            "style": style,
            "script": script,
            "policy": _policy(style, script),
            # Trusted: JSON whose <, >, & and line separators are escapes.
            "data": Markup(table.script_data().decode()),  # noqa: S704
        }
    )


def _asset(name: str) -> Markup:
    text = resources.files("batchsubmit.report").joinpath("assets", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (our own file)


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded and nothing run except what has these digests."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
