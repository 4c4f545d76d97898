"""Time as a parameter: the one seam through which the program learns the time and waits; and deadlines."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Protocol

from batchsubmit.errors import UsageError

# A lease, a message's visibility and the service's own work go on while this machine is suspended.
_AWAKE_AND_ASLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Wall time for records, monotonic seconds for intervals, and sleep."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks and the event loop's sleep."""

    def now(self) -> datetime:
        """Aware UTC from the machine's wall clock, which may step."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some point, unaffected by steps of the wall clock; asleep too, where the system counts them."""
        return time.clock_gettime(_AWAKE_AND_ASLEEP)

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)


def timestamp(moment: datetime) -> str:
    """RFC 3339 with microseconds and Z, as every line of the ledger has it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_deadline(text: str, now: datetime) -> datetime:
    """Read `HH:MM` (in the zone of `now`; a time past means tomorrow) or an RFC 3339 moment. Raises UsageError.

    Where `now` is naive it is local time, which a fixed offset would get wrong in a night when clocks change.
    """
    moment = None
    with suppress(ValueError):
        moment = _next(time_of_day.fromisoformat(text), now)
    with suppress(ValueError):
        moment = moment or datetime.fromisoformat(text)
    if moment is None:
        raise UsageError(f"--deadline {text}: give a time (06:00) or a moment (2026-11-24T06:00:00Z)")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
    return moment if moment.tzinfo else moment.astimezone()


def _next(clock_time: time_of_day, now: datetime) -> datetime:
    if clock_time.tzinfo is not None:
        now, clock_time = now.astimezone(clock_time.tzinfo), clock_time.replace(tzinfo=None)
    today = datetime.combine(now.date(), clock_time.replace(microsecond=0, fold=now.fold), now.tzinfo)
    # Compared as moments: wall clocks of one zone compare as if they never changed.
    return today if today.timestamp() > now.timestamp() else today + timedelta(days=1)
