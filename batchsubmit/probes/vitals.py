"""Two things that conditions are made of: a pulse that must be felt, and a contact that must be had.

Both only remember; whoever runs a loop or makes a call tells them.
"""

import time
from collections.abc import Callable


class Pulse:
    """A loop that must come round: it beats at each turn, and is stalled when it has not for too long.

    A loop that has ended in good order rests: it is not missed while the worker drains.
    """

    def __init__(self, within_seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._within_seconds = within_seconds
        self._monotonic = monotonic
        self._beat_at = monotonic()
        self._rests = False

    def beat(self) -> None:
        """Come round."""
        self._beat_at = self._monotonic()

    def rest(self) -> None:
        """Be missed no more."""
        self._rests = True

    def trouble(self) -> str:
        """Say that the loop is stalled, if it is."""
        silent = self._monotonic() - self._beat_at
        if self._rests or silent <= self._within_seconds:
            return ""
        return f"no progress for {silent:.0f} s, allowed are {self._within_seconds:.0f} s"


class Contact:
    """A service that must be reached: unknown at first, then as the last call on it went."""

    def __init__(self) -> None:
        self._trouble = "not reached yet"

    def made(self) -> None:
        """A call was answered."""
        self._trouble = ""

    def lost(self, reason: str) -> None:
        """A call failed, for this reason."""
        self._trouble = reason or "lost"

    def trouble(self) -> str:
        """Say what the last call lacked, if anything."""
        return self._trouble
