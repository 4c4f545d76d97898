"""One limit of slots, of a membership or of the account around it: its value, and when a call may be made. Pure.

A quota is known by the settings, by Service Quotas or by what it has refused; what runs, by polls. Below `usable` calls
are free. Between that and the limit, slots are held by what no poll shows (jobs of others elsewhere, or a service that
lags): they are tried by single calls, ever more rarely. Whether a limit was raised, a single call beyond it shows.
"""

import math
from dataclasses import dataclass

RAISE_INTERVALS = 1.75
"""A quota may be raised at any time. One call beyond a full limit is made each so many longest poll intervals."""

_AFTER_REFUSALS = 4
"""In a row, after which slots are said to be held by others: fewer may be a service that lags."""

_LOWER_FROM = 2
"""Refusals in a row that no count explains: one may be a race with a job that began or ended, two are the limit."""

_RESTART_PART = 8
"""A new row of tries begins at this part of the last one's longest wait: what holds the slots is likely the same."""


@dataclass(frozen=True, slots=True)
class Leave:
    """A limit's leave to make one call: what ran then, and whether it only tries a slot that may not be free."""

    running: int
    given_at: float
    is_try: bool


@dataclass(slots=True, kw_only=True)
class Limit:
    """The slots of one scope. Up to `default`, AWS's own quota, they are used freely while nothing was refused."""

    default: int
    min_wait: float
    max_wait: float
    cap: int | None = None  # the user's word
    value: int | None = None  # the service's, or learned
    usable: int = 0
    running: int = 0
    under_way: int = 0
    streak: int = 0  # calls accepted since one was refused
    is_doubtful: bool = False  # whether it was raised by a call for which an end not seen yet may have made room
    is_silent: bool = False  # whether the last refusal had no value
    is_tried: bool = False  # whether a single call is under way
    try_at: float = 0.0
    wait: float = 0.0
    refusals: int = 0  # in a row, though there seemed to be room; each of a call that left after the one before
    doubts: int = 0  # those of them since a slot that was known to be free was refused
    first_refused_at: float = -math.inf
    refused_at: float = -math.inf

    @property
    def bound(self) -> int | None:
        """The narrower of the user's word and the service's."""
        return min((each for each in (self.cap, self.value) if each is not None), default=None)

    @property
    def count(self) -> int:
        """Jobs that are known to run, and calls that may become some."""
        return self.running + self.under_way

    @property
    def held(self) -> int:
        """Slots that nobody is seen to hold, and that were refused all the same."""
        bound = self.bound
        return 0 if bound is None or self.value is None else max(bound - max(self.usable, self.count), 0)

    @property
    def held_by_others(self) -> str:
        """How much of it others seem to use, since tries of such slots stay refused; empty where they do not."""
        return f"{self.held} of {self.bound}" if self.refusals >= _AFTER_REFUSALS and self.held else ""

    def opens_at(self, raise_at: float) -> float:
        """When a call may be made if nothing changes: -inf for at once, inf for never, else a single one from then on.

        `raise_at` is when to see whether a limit was raised.
        """
        if self.cap is not None and self.count >= self.cap:
            return math.inf
        if self.value is None:
            is_careful = self.under_way <= self.streak - self.default
            return -math.inf if self.count < self.default or not self.under_way or is_careful else math.inf
        is_falling = self.is_silent and self.doubts >= _LOWER_FROM  # then a slot that is freed may be none
        if self.count < self.usable and not is_falling:
            return -math.inf
        if self.is_tried:
            return math.inf
        return self.try_at if self.count < self.value else raise_at

    @property
    def is_full(self) -> bool:
        """Whether a limit is known and keeps calls from being made freely."""
        return self.bound is not None and self.opens_at(math.inf) > -math.inf

    def set(self, value: int | None) -> None:
        """Take a limit from a setting, a refusal or Service Quotas."""
        self.value, self.usable = value, value or 0

    def leave(self, raise_at: float, now: float) -> Leave:
        """Let one call go."""
        leave = Leave(self.running, now, self.opens_at(raise_at) > -math.inf)
        self.is_tried |= leave.is_try
        self.under_way += 1
        return leave

    def returned(self, leave: Leave) -> None:
        """A call was answered, or was not made."""
        self.under_way -= 1
        self.is_tried &= not leave.is_try

    def accepted(self, leave: Leave, now: float) -> bool:
        """A call was accepted, and its job is counted; say whether that shows that the limit was raised."""
        self.streak += 1
        self.doubts = 0
        if leave.is_try:
            self.refusals, self.try_at = 0, now
        is_raised = self.value is not None and self.running > self.value
        self.is_doubtful = is_raised or (self.is_doubtful and self.running != self.value)
        if is_raised:
            self.value = self.running
        self.settle()
        return is_raised

    def refused(self, leave: Leave, value: int | None, now: float) -> bool:
        """A call was refused for this quota; say whether what is counted explains it."""
        # Without a value nothing is known of the calls under way; each that is accepted makes one more slot usable.
        count = max(leave.running, self.running if value is None else self.count)
        is_news = leave.given_at >= self.refused_at
        self.is_silent, self.streak = value is None, 0
        if value is not None:
            self.value = value
        elif self.value is None or (self.is_doubtful and count < self.value):
            self.value, self.is_doubtful = max(count, 1), False
        self.usable = min(count, self.value)
        self.refused_at = now
        if count >= self.value:
            self.refusals = self.doubts = 0
            return True
        if is_news or not self.refusals:
            self._wait_longer(now, begins=not (leave.is_try or self.doubts))
        return False

    def _wait_longer(self, now: float, *, begins: bool) -> None:
        """Wait as long as slots have been refused already: tries come at doubling intervals."""
        if begins or not self.refusals:
            self.first_refused_at = now - self.wait / _RESTART_PART
        self.refusals += 1
        self.doubts += begins or self.doubts > 0
        self.wait = min(max(now - self.first_refused_at, self.min_wait), max(self.max_wait, self.min_wait))
        self.try_at = now + self.wait

    def settle(self) -> None:
        """Let what is seen to run take the place of what was not seen."""
        if self.value is not None:
            self.usable = min(max(self.usable, self.running), self.value)

    def listed(self, began_at: float) -> None:
        """All that runs here was counted since `began_at`: a silent limit is what runs, if refusals go on."""
        if self.is_silent and self.refusals >= _LOWER_FROM and began_at >= self.refused_at and self.value is not None:
            self.value = self.usable = min(max(self.running, 1), self.value)
            self.refusals = 1

    def not_pollable(self, now: float) -> None:
        """Nothing can be polled: from here on slots come back by single tries alone."""
        if self.value is not None:
            self.usable, self.wait, self.try_at = self.count, self.min_wait, now + self.min_wait
