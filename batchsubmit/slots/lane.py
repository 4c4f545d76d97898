"""What is known of one membership, and of the account around it: values that the rest of `slots` changes."""

import math
from dataclasses import dataclass, field

from batchsubmit.slots.budget import Budget
from batchsubmit.slots.looks import Look
from batchsubmit.slots.roster import Roster


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call in a lane, and what ran when it was given, in the lane and in the account."""

    membership: str
    in_lane: int
    in_account: int
    left_at: float = -math.inf
    probes_lane: bool = False
    probes_account: bool = False
    exceeds: bool = False


@dataclass(slots=True, eq=False)
class Account:
    """The lanes of one account. Beyond its limits a call is made at `raise_at`, to see whether they were raised."""

    name: str
    budget: Budget
    lanes: list["Lane"] = field(default_factory=list)
    waiting: int = 0
    raise_at: float = math.inf
    per_membership: int | None = None

    @property
    def is_scarce(self) -> bool:
        """Whether it is the account that keeps lanes waiting: any slot that is freed in it would be used at once."""
        return self.waiting > 0 and self.budget.bound is not None and not self.budget.has_room


@dataclass(slots=True, eq=False)
class Lane:
    """The jobs of one membership: those that wait by a word, those that run by name."""

    membership: str
    budget: Budget
    account: Account
    priority: int = 0
    roster: Roster = field(default_factory=Roster)
    ours: int = 0
    is_waiting: bool = False
    turn: int = 0
    is_looking: bool = False
    wants_count: bool = False
    suspects_account: bool = False
    looked_at: float = -math.inf
    blind_until: float = -math.inf
    pages: int = 1
    planned: tuple[float, Look] | None = None
    planned_as_wanted: bool = False

    @property
    def is_blind(self) -> bool:
        """Whether what runs here cannot be seen."""
        return self.blind_until > -math.inf

    @property
    def is_wanted(self) -> bool:
        """Whether a slot that is freed here would be used at once."""
        if self.account.budget.bound is not None and not self.account.budget.has_room:
            return self.account.waiting > 0
        return self.is_waiting and self.budget.bound is not None and not self.budget.has_room

    @property
    def rank(self) -> tuple[int, int, int]:
        """Whose turn it is: by priority, then by the fewest slots, then by the longest wait for a turn."""
        return -self.priority, self.budget.running + self.budget.under_way, self.turn

    def count(self) -> None:
        """Bring the budgets in line with the roster."""
        change = len(self.roster) - self.budget.running
        self.budget.running += change
        self.account.budget.running += change
        self.ours = self.roster.ours
        self.planned = None
        for budget in (self.budget, self.account.budget):
            if change > 0:
                budget.settle()
            elif change < 0:
                budget.freed(-change)
