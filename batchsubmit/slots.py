"""Which membership may make the next call. Pure: it is told what happened and when, and answers; it waits for nothing.

A membership's jobs form a lane. A lane opens carefully (the number of its calls under way grows as they are accepted),
because the default quota is five and a hundred refused calls tell no more than one. When the quota refuses a call, the
lane closes for a while and is then tried by a single call; a lane that is full never holds up another.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from batchsubmit.config import SlotSettings

_FIRST_WINDOW = 4
_CAUTIOUS_STREAK = 3
"""After a refusal, this many calls in a row are accepted one at a time before more than one may be under way."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call in a lane. The era tells answers to calls from before a refusal from those after it."""

    membership: str
    era: int


@dataclass(slots=True)
class _Lane:
    window: int = _FIRST_WINDOW
    streak: int = _CAUTIOUS_STREAK
    under_way: int = 0
    era: int = 0
    closed_until: float = 0.0
    poll_seconds: float = 0.0
    is_full: bool = False


class Lanes:
    """The lanes of one run; times are monotonic seconds."""

    def __init__(self, settings: SlotSettings) -> None:
        self._settings = settings
        self._lanes: dict[str, _Lane] = {}
        self._last_served = ""

    def next(self, waiting: Collection[str], now: float) -> Ticket | None:
        """Choose the lane of the next call among the memberships that have jobs waiting: each in its turn."""
        if sum(lane.under_way for lane in self._lanes.values()) >= (self._settings.per_account or math.inf):
            return None
        ready = [name for name in waiting if self._may_call(self._lane(name), now)]
        if not ready:
            return None
        name = min(ready, key=lambda each: (each <= self._last_served, each))
        self._last_served = name
        lane = self._lane(name)
        lane.under_way += 1
        return Ticket(name, lane.era)

    def accepted(self, ticket: Ticket) -> None:
        """A call was accepted: the lane has room, and may have more."""
        lane = self._ended(ticket)
        if ticket.era != lane.era:
            return
        lane.is_full = False
        lane.poll_seconds = 0.0
        lane.streak += 1
        if lane.streak > _CAUTIOUS_STREAK:
            lane.window += 1

    def refused(self, ticket: Ticket, now: float) -> None:
        """The quota refused a call: close the lane for a while, longer each time a single try is refused again."""
        lane = self._ended(ticket)
        if ticket.era != lane.era:
            return
        lane.era += 1
        lane.is_full = True
        lane.window = 1
        lane.streak = 0
        least, most = self._settings.min_poll_seconds, self._settings.max_poll_seconds
        lane.poll_seconds = min(max(lane.poll_seconds * 2, least), max(most, least))
        lane.closed_until = now + lane.poll_seconds

    def ended(self, ticket: Ticket) -> None:
        """A call ended in a way that says nothing of the slots."""
        self._ended(ticket)

    def wake_at(self, waiting: Collection[str], now: float) -> float | None:
        """When the next closed lane with jobs waiting opens, if one is closed."""
        lanes = map(self._lane, waiting)
        times = [lane.closed_until for lane in lanes if lane.closed_until > now and lane.under_way < lane.window]
        return min(times, default=None)

    def full(self, waiting: Collection[str]) -> list[str]:
        """The memberships whose jobs wait for the quota."""
        return [name for name in waiting if self._lane(name).is_full]

    def _may_call(self, lane: _Lane, now: float) -> bool:
        """A set quota bounds the calls under way as well: more than its slots cannot be accepted."""
        most = min(lane.window, self._settings.per_membership or lane.window)
        return lane.under_way < most and now >= lane.closed_until

    def _ended(self, ticket: Ticket) -> _Lane:
        lane = self._lane(ticket.membership)
        lane.under_way -= 1
        return lane

    def _lane(self, membership: str) -> _Lane:
        return self._lanes.setdefault(membership, _Lane())
