"""Time as a parameter: the one seam through which the program learns the time and waits."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

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
