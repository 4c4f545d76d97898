"""Whose turn it is: the next call's lane, or a single careful try where no slot seems free. Pure.

Lanes stand in rankings that follow every change, so an answer does not take longer the more lanes there are.
"""

import math
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from batchsubmit.slots.lane import Account, Lane, Ticket
from batchsubmit.slots.ranking import Ranking

_Rank = tuple[int, int, int]


@dataclass(slots=True)
class _Lines:
    """The waiting lanes of one account: with room; without, by turn; with slots that others seem to hold, by when."""

    open: Ranking[Lane, _Rank] = field(default_factory=Ranking)
    full: Ranking[Lane, _Rank] = field(default_factory=Ranking)
    tries: Ranking[Lane, float] = field(default_factory=Ranking)

    def beyond(self) -> Lane | None:
        """The lane whose turn it is to go beyond a limit."""
        first = self.open.first() or self.full.first()
        return first[1] if first else None


class Turns:
    """All waiting lanes. `lane_of` gives the lane of a membership; it is asked for those that wait.

    `heard` is told of each lane that begins or ceases to wait: from then on its slots are wanted, or not any more.
    """

    def __init__(self, lane_of: Callable[[str], Lane], *, raise_interval: float, heard: Callable[[Lane], None]) -> None:
        self._lane_of = lane_of
        self._heard = heard
        self._raise_interval = raise_interval
        self._waiting: dict[str, Lane] = {}
        self._unsure: dict[Lane, None] = {}
        self._lines: dict[Account, _Lines] = {}
        self._open: Ranking[Account, _Rank] = Ranking()
        self._tries: Ranking[Account, float] = Ranking()
        self._turn = 0

    def next(self, waiting: Collection[str], now: float) -> Ticket | None:
        """Choose the lane of the next call among the memberships that have jobs waiting, if one may be made."""
        self._heed(waiting)
        best = self._best()
        if (best is None or best.membership not in waiting) and not self._knows(waiting):
            self._list(waiting)
            best = self._best()
        return self._ticket(best, now) if best is not None else self._try(now)

    def _best(self) -> Lane | None:
        """The lane whose turn it is among those with room."""
        account = self._open.first()
        lane = self._lines[account[1]].open.first() if account else None
        return lane[1] if lane else None

    def wake_at(self, now: float) -> float | None:
        """When a single try comes due. One that is due already waits for something else than time."""
        first = self._tries.first()
        return first[0] if first is not None and first[0] > now else None

    def full_lanes(self) -> int:
        """How many lanes wait for a slot."""
        return sum(
            account.waiting - (len(lines.open) if account.budget.has_room else 0)
            for account, lines in self._lines.items()
        )

    def returned(self, ticket: Ticket) -> Lane:
        """A call has ended."""
        lane = self._lane_of(ticket.membership)
        lane.budget.under_way -= 1
        lane.account.budget.under_way -= 1
        if ticket.probes_lane:
            lane.budget.is_probed = False
        if ticket.probes_account:
            lane.account.budget.is_probed = False
        self._unsure[lane] = None
        return lane

    def refresh(self, lane: Lane) -> None:
        """Put a lane and its account where they belong, after any change of theirs."""
        lines = self._lines.get(lane.account) or self._lines.setdefault(lane.account, _Lines())
        own, waits = lane.budget, lane.is_waiting
        is_open = waits and own.has_room
        is_hiding = waits and not is_open and own.hidden > 0
        lines.open.put(lane, lane.rank if is_open else None)
        lines.tries.put(lane, own.probe_at if is_hiding and not own.is_probed else None)
        lines.full.put(lane, lane.rank if waits and not (is_open or is_hiding) and own.is_under_cap else None)
        self._refresh_account(lane.account, lines)

    def _refresh_account(self, account: Account, lines: _Lines) -> None:
        best = lines.open.first() if account.budget.has_room else None
        self._open.put(account, best[0] if best else None)
        self._tries.put(account, _try_at(account, lines))

    # Who waits: told by the source alone, so that what changes with a ticket is asked for, and the rest by number

    def _heed(self, waiting: Collection[str]) -> None:
        for lane in self._unsure:
            self._set_waiting(lane, is_waiting=lane.membership in waiting)
        self._unsure.clear()
        if len(waiting) != len(self._waiting):
            self._list(waiting)

    def _knows(self, waiting: Collection[str]) -> bool:
        """Whether nobody was overlooked: as many may wait as before, and yet others."""
        return self._waiting.keys() >= (waiting if isinstance(waiting, AbstractSet) else set(waiting))

    def _list(self, waiting: Collection[str]) -> None:
        names = set(waiting)
        for lane in [lane for name, lane in self._waiting.items() if name not in names]:
            self._set_waiting(lane, is_waiting=False)
        for name in waiting:
            if name not in self._waiting:
                self._set_waiting(self._lane_of(name), is_waiting=True)

    def _set_waiting(self, lane: Lane, *, is_waiting: bool) -> None:
        if lane.is_waiting == is_waiting:
            return
        lane.is_waiting = is_waiting
        if is_waiting:
            self._waiting[lane.membership] = lane
            lane.account.waiting += 1
        else:
            del self._waiting[lane.membership]
            lane.account.waiting -= 1
        self.refresh(lane)
        self._heard(lane)

    # Single tries: of slots that others seem to hold, or beyond a limit that may be higher now

    def _try(self, now: float) -> Ticket | None:
        first = self._tries.first()
        if first is None or first[0] > now:
            return None
        account = first[1]
        lines, around = self._lines[account], account.budget
        hiding, best = lines.tries.first(), lines.open.first()
        probes_account = around.may_probe(now)
        if best is not None and probes_account:
            return self._ticket(best[1], now, probes_account=True)
        if hiding is not None and hiding[0] <= now and (around.has_room or probes_account):
            return self._ticket(hiding[1], now, probes_lane=True, probes_account=probes_account)
        lane = lines.beyond()
        if lane is None or now < account.raise_at:
            return None
        account.raise_at = now + self._raise_interval
        return self._ticket(lane, now, probes_account=probes_account, exceeds=True)

    def _ticket(
        self, lane: Lane, now: float, *, probes_lane: bool = False, probes_account: bool = False, exceeds: bool = False
    ) -> Ticket:
        own, around = lane.budget, lane.account.budget
        own.is_probed |= probes_lane
        around.is_probed |= probes_account
        own.under_way += 1
        around.under_way += 1
        self._turn += 1
        lane.turn = self._turn
        self._unsure[lane] = None
        self.refresh(lane)
        return Ticket(lane.membership, own.running, around.running, now, probes_lane, probes_account, exceeds)


def _try_at(account: Account, lines: _Lines) -> float | None:
    """When a single try is due in an account."""
    around, hiding = account.budget, lines.tries.first()
    moments = []
    if around.has_room:
        moments += [hiding[0]] if hiding else []
    elif around.hidden and not around.is_probed and (lines.open or hiding):
        moments.append(around.probe_at if lines.open or hiding is None else max(around.probe_at, hiding[0]))
    # Where tries of the account's hidden slots may come, they would find a raised limit too.
    may_raise = around.is_under_cap and not (around.hidden and (lines.open or hiding))
    if account.raise_at < math.inf and may_raise and lines.beyond() is not None:
        moments.append(account.raise_at)
    return min(moments, default=None)
