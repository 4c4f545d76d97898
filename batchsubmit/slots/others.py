"""Slots that others seem to hold: tries stay refused, and nothing that we can see accounts for it. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchsubmit.slots.lane import Account

_AFTER_TRIES = 3
"""Refused tries in a row after which others are named: one or two may be a List that lags."""


@dataclass(frozen=True, slots=True)
class Held:
    """A quota, of a membership or (with an empty name) of the account, and how much of it others seem to hold."""

    membership: str
    slots: int
    limit: int

    def __str__(self) -> str:
        return f"{self.slots} of {self.limit}"


def held_by_others(accounts: Iterable[Account]) -> Iterator[Held]:
    """Those for which jobs wait now. Where nothing can be looked at it may as well be jobs of ours: nobody is named."""
    for account in accounts:
        blind = any(lane.is_blind for lane in account.lanes)
        scopes = [(lane.membership, lane.budget) for lane in account.lanes if lane.is_waiting and not lane.is_blind]
        if account.waiting and not blind:
            scopes.append(("", account.budget))
        for name, budget in scopes:
            if budget.probes_refused >= _AFTER_TRIES and budget.hidden and budget.bound is not None:
                yield Held(name, budget.hidden, budget.bound)
