"""The table of jobs as data for the page's script: columns of numbers and texts, repeated texts once. Pure.

A job takes about 150 bytes. Beyond `MOST_LISTED` jobs, those that need no hand are left out, so that the page can be
opened at all; an export has them.
"""

import math
from array import array
from typing import Any

import msgspec

from batchsubmit.report.history import History
from batchsubmit.report.rows import reason_of
from batchsubmit.report.stats import Fate, model_name
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
