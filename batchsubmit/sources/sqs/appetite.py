"""How many messages to receive: what the lanes can use soon, and no more. Pure.

SQS cannot be asked for the messages of one membership. So where every lane that is known has enough waiting, a few
messages are fetched now and then all the same, in case other lanes stand behind; those of full lanes go back.
"""

from collections import deque
from collections.abc import Mapping

BATCH = 10
MOST_WAITING = 1000
"""Messages that wait in this worker at most: with a body of 2 kB they are some megabytes."""

_LEAST_TARGET = 10
_HORIZON_SECONDS = 10.0
"""A lane has as many waiting as it used up in this time: a fast lane never starves, a slow one hoards none."""

_SEARCH_SECONDS = 1.0


class Appetite:
    """Tells by what the lanes used up lately how much more they want; times are monotonic seconds."""

    def __init__(self, *, most: int = MOST_WAITING) -> None:
        self._most = most
        self._used: dict[str, deque[float]] = {}
        self._search_at = 0.0

    def used(self, lane: str, now: float) -> None:
        """A job of this lane was decided."""
        self._used.setdefault(lane, deque()).append(now)

    def target(self, lane: str, now: float) -> int:
        """How many jobs of a lane should wait here."""
        return max(_LEAST_TARGET, len(self._recent(lane, now)))

    def has_room(self, lane: str, waiting: Mapping[str, int], now: float) -> bool:
        """Whether one more job of this lane may wait here."""
        return waiting.get(lane, 0) < self.target(lane, now) and sum(waiting.values()) < self._most

    def hungry(self, waiting: Mapping[str, int], now: float) -> dict[str, int]:
        """Give the lanes that are at most half full, and how many more each wants."""
        for lane in list(self._used):
            if not self._recent(lane, now):
                del self._used[lane]
        wants = {}
        for lane in waiting.keys() | self._used.keys():
            target = self.target(lane, now)
            if waiting.get(lane, 0) <= target / 2:
                wants[lane] = target - waiting.get(lane, 0)
        return wants

    def wanted(self, waiting: Mapping[str, int], now: float, *, may_search: bool = True) -> int:
        """How many messages to ask for now, 0 for none."""
        room = self._most - sum(waiting.values())
        wants = self.hungry(waiting, now)
        if wants:
            return max(0, min(BATCH, sum(wants.values()), room))
        is_idle = not any(waiting.values())
        return max(0, min(BATCH, room)) if is_idle or (may_search and now >= self._search_at) else 0

    def searched(self, now: float, *, found: int) -> None:
        """A receive is over. After one that found nothing the next may follow at once: it waits on SQS's side."""
        self._search_at = now + (_SEARCH_SECONDS if found else 0.0)

    def wake_at(self) -> float:
        """When the next search is due, where nothing is wanted before."""
        return self._search_at

    def _recent(self, lane: str, now: float) -> deque[float]:
        used = self._used.get(lane)
        if used is None:
            return deque()
        while used and used[0] < now - _HORIZON_SECONDS:
            used.popleft()
        return used
