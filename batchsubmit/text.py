"""Words for people: text from outside made safe to show, numbers, durations, the word that was probably meant. Pure."""

import difflib
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

_COMPARED_CHARACTERS = 80
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def printable(text: str) -> str:
    """Put a text into one line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Put what people call memberships in the place of their ids; not inside of an ARN or a path."""
    for membership, name in names.items():
        if membership in text:
            text = re.sub(rf"(?<![\w/-]){re.escape(membership)}(?![\w/-])", lambda _: name, text)  # noqa: B023
    return text


def quoted(text: str) -> str:
    """Put a text from outside into quotes, for a message."""
    return f"'{printable(text)}'"


class StrippedWarning(UserWarning):
    """White space around a text that names something was left out."""


def bare(text: str, what: str) -> str:
    """Give a text that names something (`what`: a batch id, a region) as it is meant, without white space around it.

    So that `nightly`, `'nightly '` and `nightly` with a CR from Windows are one. A `StrippedWarning` reports it.
    Raises ValueError that shows the text where a control or an invisible character is inside.
    """
    stripped = text.strip()
    if not stripped.isprintable():
        raise ValueError(f"{what} {text!r} has a control or invisible character in it: write it without")
    if stripped != text:
        warnings.warn(f"{what} {text!r}: the white space around it is left out", StrippedWarning, stacklevel=2)
    return stripped


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 job`, `1,200 jobs`; `plural` where an s is not enough: `2 retries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agreeing(number: int, one: str, many: str) -> str:
    """The word that agrees with a number: `was` or `were`."""
    return one if number == 1 else many


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that was probably meant, if one is near: for "did you mean"."""
    return _nearest(word[:_COMPARED_CHARACTERS], tuple(known))


@lru_cache(maxsize=1024)  # the same mistake is mostly made in many rows, and a search takes a millisecond
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word.strip().casefold(), folded, n=1)
    return folded[near[0]] if near else None


def duration(seconds: float) -> str:
    """A duration in its two largest units: 0.4 s, 43 s, 12 min 5 s, 2 h 57 min, 3 d 4 h."""
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    for (unit, name), (below, below_name) in pairwise(_UNITS):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit:,} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def rate(per_second: float) -> str:
    """A rate in the unit that fits: 2.5/s, 12/min, 20/h, 0.4/h."""
    length, unit = next((each for each in reversed(_UNITS[1:]) if per_second * each[0] >= 1), _UNITS[1])
    number = per_second * length
    return f"{number:,.0f}/{unit}" if number >= 10 or number == round(number) else f"{number:.1f}/{unit}"


def wrapped(line: str, width: int) -> str:
    """Break a line between words to fit a screen, indented as it is and a little more; no word is broken."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def fitted(parts: Iterable[str], width: int) -> list[str]:
    """Put short texts side by side, on as many lines as they need; what is longer than a line is cut."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(cut(part, width))
    return lines


def cut(text: str, width: int, *, keeps_end: bool = False) -> str:
    """As much of a text as there is room for."""
    if len(text) <= width:
        return text
    return f"…{text[1 - width :]}" if keeps_end else f"{text[: width - 1]}…"


def share(part: float, whole: float) -> str:
    """A percentage that says neither 0 nor 100 where that is not so."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "<1 %"
    return f"{min(round(percent), 99) if part < whole else math.ceil(percent)} %"


def date_and_time(at: float) -> str:
    """A Unix time in UTC: 2026-11-23 06:12:09."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def utc_words(moment: datetime) -> str:
    """A moment in UTC, and in this machine's time where that differs: 2026-11-23 06:12 UTC (07:12 CET)."""
    local = moment.astimezone()
    here = f" ({local:%H:%M %Z})" if local.utcoffset() else ""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC{here}"
