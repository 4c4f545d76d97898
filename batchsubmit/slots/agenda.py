"""When each membership is looked at next, kept up to date. How a look is chosen stands in `looks`. Pure."""

import math

from batchsubmit.config import SlotSettings
from batchsubmit.slots.durations import Durations
from batchsubmit.slots.lane import Account, Lane
from batchsubmit.slots.looks import Look, Terms, plan_look
from batchsubmit.slots.ranking import Ranking


class Agenda:
    """The looks that are due, over all lanes. With `follows`, our jobs are watched even where nobody waits."""

    def __init__(self, settings: SlotSettings, durations: Durations, *, follows: bool) -> None:
        self._settings = settings
        self._durations = durations
        self._follows = follows
        self._due: Ranking[Lane, float] = Ranking()
        self._changed: dict[Lane, None] = {}
        self._was_scarce: dict[Account, bool] = {}

    def refresh(self, lane: Lane) -> None:
        """Something about a lane has changed; it is planned anew when somebody asks."""
        self._changed[lane] = None

    def next_look(self, now: float) -> Look | None:
        """Give a look that is due, if there is one; it counts as begun."""
        self._plan_changed(now)
        first = self._due.first()
        if first is None or first[0] > now:
            return None
        lane = first[1]
        due = self._look_at(lane, now)
        lane.is_looking = True
        self._due.put(lane, None)
        return due[1] if due else None

    def wake_at(self, now: float) -> float | None:
        """When a look comes due next."""
        self._plan_changed(now)
        first = self._due.first()
        return first[0] if first else None

    def _plan_changed(self, now: float) -> None:
        for account in {lane.account: None for lane in self._changed}:
            if self._was_scarce.get(account) != account.is_scarce:
                self._was_scarce[account] = account.is_scarce
                self._changed |= dict.fromkeys(lane for lane in account.lanes if len(lane.roster))
        for lane in self._changed:
            due = self._look_at(lane, now)
            self._due.put(lane, due[0] if due else None)
        self._changed.clear()

    def _look_at(self, lane: Lane, now: float) -> tuple[float, Look] | None:
        if lane.is_looking or lane.blind_until == math.inf:
            return None
        if lane.is_blind:
            return (lane.blind_until, Look(lane.membership)) if lane.is_wanted else None
        if lane.wants_count:
            return max(lane.looked_at + self._settings.min_poll_seconds, 0.0), Look(lane.membership)
        is_wanted = lane.is_wanted
        if not len(lane.roster) or not (is_wanted or (self._follows and lane.roster.ours)):
            return None
        if lane.planned is None or lane.planned_as_wanted != is_wanted:
            lane.planned_as_wanted = is_wanted
            lane.planned = self._plan(lane, now, is_wanted=is_wanted)
        return lane.planned

    def _plan(self, lane: Lane, now: float, *, is_wanted: bool) -> tuple[float, Look]:
        terms = Terms(
            looked_at=lane.looked_at,
            least_seconds=self._settings.min_poll_seconds,
            most_seconds=self._settings.max_poll_seconds,
            slots_are_wanted=is_wanted,
        )
        jobs = list(lane.roster)
        at, look = plan_look(lane.membership, jobs, self._durations, pages=lane.pages, now=now, terms=terms)
        return max(at, lane.looked_at + self._settings.min_poll_seconds), look
