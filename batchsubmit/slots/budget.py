"""One quota and what is known of its use: of a membership, or of the account around it. Pure.

A quota is never told but by its refusals, and what runs is never known but by looks at the service. So a budget counts
what is seen to run, what is under way, and what must be hidden: slots that a refusal proved to be taken though nothing
was seen to take them (jobs of others, or a List that lags). Hidden slots come back by single tries, ever more rarely.
"""

import math
from dataclasses import dataclass

_CAUTIOUS_STREAK = 3
"""Where nothing can be seen, so many tries in a row are accepted one at a time before more are under way at once."""


_FALLING_FROM = 2
"""Refusals in a row that no count explains: one may be a race with a job that began or ended, two are the limit."""

_CALMER = 8
"""A new row of tries begins at this part of the last one's longest wait: what holds the slots is likely the same."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """The slots of one scope. `cap` is the user's word, `limit` the service's; either may be unknown.

    Up to `likely` slots (the service's default quota) are used without care while no limit is known; beyond that,
    `window` calls are under way at once, one more with each that is accepted.
    """

    likely: int
    min_poll_seconds: float
    max_poll_seconds: float
    cap: int | None = None
    limit: int | None = None
    is_counted: bool = True  # False once `limit` was only guessed from what seemed to run
    running: int = 0
    under_way: int = 0
    hidden: int = 0
    window: int = 1
    streak: int = 0
    probe_at: float = 0.0
    probe_wait: float = 0.0
    probes_refused: int = 0
    is_probed: bool = False
    is_overstepped: bool = False
    refusals: int = 0  # in a row, though by all that is seen there was room; each of a call after the one before
    fall: int = 0  # those of them since a slot that was known to be free was refused
    first_refused_at: float = -math.inf
    calm: float = 0.0
    refused_at: float = -math.inf
    is_told: bool = True  # whether the last refusal had a value
    is_explained: bool = True  # False where the last refusal had no value, and no count has come since

    @property
    def bound(self) -> int | None:
        """The narrower of cap and limit."""
        if self.cap is None or self.limit is None:
            return self.limit if self.cap is None else self.cap
        return min(self.cap, self.limit)

    @property
    def taken(self) -> int:
        """Slots that cannot be used now."""
        return self.running + self.under_way + self.hidden

    @property
    def has_room(self) -> bool:
        """Whether one more call may be made without being a try."""
        bound = self.bound
        if bound is None:
            return self.taken < self.likely or self.under_way < self.window
        return self.taken < bound

    @property
    def is_under_cap(self) -> bool:
        """Whether the user's word allows one more, whatever the service says."""
        return self.cap is None or self.taken < self.cap

    def may_probe(self, now: float) -> bool:
        """Whether it is time for a single try of the hidden slots."""
        return self.hidden > 0 and not self.has_room and not self.is_probed and now >= self.probe_at

    def accepted(self, now: float, *, is_tracked: bool, was_probe: bool) -> None:
        """A call was accepted; `running` has the job already, where jobs are tracked at all.

        One that took a slot known to be free says nothing of the hidden ones.
        """
        self.streak += 1
        self.fall = 0
        if was_probe:
            self.probes_refused = self.refusals = 0
            self.probe_at = now
            if self.hidden and not is_tracked and self.streak > _CAUTIOUS_STREAK:
                self.hidden -= 1
        self.is_overstepped = self.limit is not None and self.running > self.limit
        if self.limit is None and self.streak > self.likely:
            self.window += 1

    @property
    def is_exceeded(self) -> bool:
        """Whether a call was accepted beyond the limit: it was raised, or something has ended unseen.

        That more runs than the limit allows says nothing by itself: it may have been lowered under the jobs that run.
        """
        return self.is_overstepped and self.limit is not None and self.running > self.limit

    def raised(self) -> None:
        """More runs than the limit allows: look for the new one with care."""
        self.limit, self.likely, self.window, self.hidden = None, self.running, 1, 0

    def refused(self, value: int | None, *, seen_at_start: int, left_at: float, was_probe: bool, now: float) -> None:
        """A call was refused for this quota. `seen_at_start` is what ran when it left."""
        others = max(seen_at_start, self.running + self.under_way)
        self.is_told = self.is_explained = value is not None
        if value is not None:
            self.limit, self.is_counted = value, True
        elif self.limit is None:
            self.limit, self.is_counted = max(others, 1), False
        self.hidden = max((self.bound or 0) - others, 0)
        self.window, self.streak = 1, 0
        self.is_probed = self.is_overstepped = False
        self.probes_refused += was_probe and self.hidden > 0
        if self.hidden and (not self.refusals or left_at >= self.refused_at):
            is_news = not (was_probe or self.fall)
            if is_news or not self.refusals:
                self.first_refused_at, self.calm = now, self.probe_wait / _CALMER
            self.refusals += 1
            self.fall += is_news or self.fall > 0
            wait = max(now - self.first_refused_at, self.calm, self.min_poll_seconds)
            self.probe_wait = min(wait, self._longest_wait)
            self.probe_at = now + self.probe_wait
        self.refused_at = now

    @property
    def _longest_wait(self) -> float:
        return max(self.max_poll_seconds, self.min_poll_seconds)

    @property
    def is_falling(self) -> bool:
        """Whether a limit that is not told seems to fall and fall: a slot that is freed is then tried like the hidden.

        Where it is told, one that is freed is ours, unless others were quicker.
        """
        return self.fall >= _FALLING_FROM and not self.is_told

    def freed(self, slots: int) -> None:
        """So many jobs run no more."""
        if self.is_falling:
            self.hidden += slots
            self.settle()

    def recounted(self, began_at: float) -> None:
        """All that runs in this scope, of whomever, has been counted since `began_at`: guesses give way."""
        is_lower = self.refusals >= _FALLING_FROM and not self.is_explained and began_at >= self.refused_at
        if self.limit is not None and (is_lower or not self.is_counted):
            self.limit, self.is_counted, self.is_explained = max(self.running, 1), True, True
        self.settle()

    def settle(self) -> None:
        """Let what is seen take the place of what was hidden."""
        if self.bound is not None:
            self.hidden = max(0, min(self.hidden, self.bound - self.running))

    def lost_sight(self, now: float) -> None:
        """Nothing can be looked at: from here on slots come back by single tries alone."""
        if self.bound is not None:
            self.hidden = max(self.bound - self.running - self.under_way, 0)
            self.probe_wait = self.min_poll_seconds
            self.probe_at = now + self.probe_wait
