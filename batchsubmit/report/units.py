"""Numbers, durations and times as people read them, and the steps of an axis. Pure; all times are UTC."""

import math
from bisect import bisect_left
from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86_400
_TIME_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(minutes * MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * DAY for days in (1, 2, 7, 14, 28)),
)


def duration(seconds: float) -> str:
    """A duration in its two largest units: 0.4 s, 43 s, 12 min 5 s, 2 h 57 min, 3 d 4 h."""
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    for unit, name, below, below_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit:,} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def share(part: float, whole: float) -> str:
    """A percentage that says neither 0 nor 100 where that is not so."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "<1 %"
    return f"{min(round(percent), 99) if part < whole else math.ceil(percent)} %"


def date_and_time(at: float) -> str:
    """2026-11-23 06:12:09."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def machine_time(at: float) -> str:
    """The same for programs: 2026-11-23T06:12:09Z."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def time_step(span_seconds: float, most: int) -> int:
    """The least round step that cuts a span into no more than so many parts."""
    index = bisect_left(_TIME_STEPS, span_seconds / most)
    return _TIME_STEPS[index] if index < len(_TIME_STEPS) else math.ceil(span_seconds / most / DAY) * DAY


def time_ticks(begin: float, end: float, most: int) -> list[tuple[float, str]]:
    """Round moments of a span with their labels; the date stands where it is needed."""
    step = time_step(max(end - begin, 1), most)
    first = math.ceil(begin / step) * step
    form = "%d %b" if step >= DAY else "%d %b %H:%M" if end - begin > DAY else "%H:%M" if step >= MINUTE else "%H:%M:%S"
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
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return unit, name
    return 1, "seconds"
