"""All lanes of a run: told what was asked for, answered and seen, it says who may call and what to look at. Pure.

Here only the lanes are kept; whose turn it is stands in `turns`, what answers teach in `lessons`, which look is due in
`agenda`.
"""

import math
from collections.abc import Callable, Collection, Iterable

from batchsubmit.config import SlotSettings
from batchsubmit.jobs import QuotaExceeded
from batchsubmit.slots.agenda import Agenda
from batchsubmit.slots.budget import Budget
from batchsubmit.slots.durations import Durations, JobClass
from batchsubmit.slots.lane import Account, Lane, Ticket
from batchsubmit.slots.lessons import learn_accepted, learn_counted, learn_quiet, learn_refused
from batchsubmit.slots.looks import PAGE_SIZE, Look
from batchsubmit.slots.others import Held, held_by_others
from batchsubmit.slots.roster import Ended, RunningJob, Sighting
from batchsubmit.slots.turns import Turns

LIKELY_PER_MEMBERSHIP = 5
LIKELY_PER_ACCOUNT = 10
"""AWS's default quotas L-0F77DDDB and L-249F4B83 ("Quotas for Clean Rooms ML"), used before anything is learned."""

_RAISE_PROBE_INTERVALS = 1.5
"""A quota may be raised at any time. One call beyond a full limit is made each so many longest poll intervals."""

_REMEMBERED = 64
"""Jobs of a lane that are remembered as running while no limit is known, and so nothing depends on their number."""


class Slots:
    """All lanes of one run; times are monotonic seconds. With `follows`, jobs are watched to their end in any case."""

    def __init__(
        self,
        settings: SlotSettings,
        durations: Durations,
        *,
        account_of: Callable[[str], str] = lambda _: "",
        follows: bool = False,
    ) -> None:
        self._settings = settings
        self._durations = durations
        self._account_of = account_of
        self._follows = follows
        self._lanes: dict[str, Lane] = {}
        self._accounts: dict[str, Account] = {}
        self._raise_interval = _RAISE_PROBE_INTERVALS * settings.max_poll_seconds
        self._agenda = Agenda(settings, durations, follows=follows)
        self._turns = Turns(self._lane, raise_interval=self._raise_interval, heard=self._agenda.refresh)
        self._told: tuple[int | None, int | None, float] = (None, None, math.inf)
        self._running = 0
        self._ours = 0
        self.refused_by: dict[str, float | None] = {}  # the quotas that refused a call: the service's name, its value

    # Who goes next, and what became of a call

    def next(self, waiting: Collection[str], now: float) -> Ticket | None:
        """Choose the lane of the next call among the memberships that have jobs waiting, if one may be made."""
        ticket = self._turns.next(waiting, now)
        if ticket is not None:
            self._agenda.refresh(self._lane(ticket.membership))
        return ticket

    def accepted(self, ticket: Ticket, job: RunningJob, now: float) -> None:
        """A call was accepted: the job holds a slot from now on."""
        lane = self._turns.returned(ticket)
        self.runs(ticket.membership, job)
        learn_accepted(lane, ticket, now)
        self._changed(lane, with_others=lane.account.budget.is_exceeded)

    def refused(self, ticket: Ticket, refusal: QuotaExceeded, now: float) -> None:
        """The quota refused a call."""
        self.refused_by[refusal.quota_name or ""] = refusal.quota_value
        lane = self._turns.returned(ticket)
        account = lane.account
        concerns_all = learn_refused(lane, ticket, refusal, now)
        if not (ticket.probes_lane or ticket.probes_account):
            account.raise_at = now + self._raise_interval
        lane.planned = None
        self._changed(lane, with_others=concerns_all)

    def ended(self, ticket: Ticket) -> None:
        """A call ended in a way that says nothing of the slots."""
        self._changed(self._turns.returned(ticket))

    def runs(self, membership: str, job: RunningJob) -> None:
        """A job is known to run: just accepted, found by a lookup, or left by an earlier run."""
        lane = self._lane(membership)
        if lane.is_blind:
            return
        lane.roster.add(job)
        if lane.budget.bound is None and lane.account.budget.bound is None and not self._follows:
            lane.roster.keep_latest(_REMEMBERED)
        self._count(lane)

    def told(self, *, per_membership: int | None, per_account: int | None, now: float) -> None:
        """The service has told its quotas in advance; they may be raised or lowered later like any other."""
        self._told = per_membership, per_account, now + self._raise_interval

    # When to look, and what was seen

    def next_look(self, now: float) -> Look | None:
        """Give a look that is due, if there is one; it counts as begun."""
        return self._agenda.next_look(now)

    def wake_at(self, now: float) -> float | None:
        """When a look or a single try comes due next. To be asked after `next` and `next_look`, of the same moment."""
        moments = (self._agenda.wake_at(now), self._turns.wake_at(now))
        return min((each for each in moments if each is not None), default=None)

    def strangers(self, look: Look, sightings: Iterable[Sighting]) -> set[str]:
        """ARNs of running jobs that were not known to run."""
        known = {job.arn for job in self._lane(look.membership).roster}
        return {each.arn for each in sightings if each.is_running and each.arn not in known}

    def saw(self, look: Look, sightings: Collection[Sighting], *, began_at: float, now: float) -> list[Ended]:
        """Take in what a look has seen; give the jobs that have ended."""
        lane = self._lane(look.membership)
        is_first = lane.looked_at == -math.inf
        lane.is_looking, lane.looked_at, lane.blind_until = False, began_at, -math.inf
        ended = lane.roster.saw(sightings, began_at=began_at, now=now, is_whole=look.is_whole)
        self._learn(ended, sightings if is_first and look.is_whole else ())
        self._count(lane)
        concerns_all = False
        if look.is_whole:
            lane.pages = -(-len(sightings) // PAGE_SIZE) or 1
            concerns_all = learn_counted(lane, began_at=began_at, now=now)
        lane.account.budget.settle()
        self._changed(lane, with_others=concerns_all)
        return ended

    def _learn(self, ended: Iterable[Ended], others: Iterable[Sighting]) -> None:
        """Learn from jobs that were watched to their end, and from the history that a first look shows."""
        for each in ended:
            self._durations.learn(each.job.kind, each.sighting.ran_seconds)
        watched = {each.job.arn for each in ended}
        for seen in others:
            if seen.status == "ACTIVE" and seen.arn not in watched:
                self._durations.learn(JobClass(seen.trained_model), seen.ran_seconds)

    def missing(self, look: Look, sightings: Iterable[Sighting], *, older_than: float, now: float) -> list[str]:
        """ARNs of ours that a whole look should have shown, but has not."""
        if not look.is_whole:
            return []
        shown = (each.arn for each in sightings)
        return self._lane(look.membership).roster.missing(shown, older_than=older_than, now=now)

    def gone(self, membership: str, arn: str) -> None:
        """The service does not know this job: it holds no slot."""
        lane = self._lane(membership)
        lane.roster.discard(arn)
        self._count(lane)

    def could_not_look(self, look: Look, now: float, *, for_ever: bool) -> None:
        """The service does not tell: for now, or from now on, the lane's slots come back by single tries."""
        lane = self._lane(look.membership)
        lane.is_looking, lane.wants_count, lane.looked_at = False, False, now
        lane.blind_until = math.inf if for_ever else now + self._settings.max_poll_seconds
        lane.roster.clear()
        self._count(lane)
        lane.budget.lost_sight(now)
        lane.account.budget.lost_sight(now)
        self._changed(lane)

    def _count(self, lane: Lane) -> None:
        """Bring all counts in line with a lane's roster."""
        running, ours = lane.budget.running, lane.ours
        lane.count()
        self._running += lane.budget.running - running
        self._ours += lane.ours - ours
        self._changed(lane)

    def _changed(self, lane: Lane, *, with_others: bool = False) -> None:
        learn_quiet(lane.account)
        for each in lane.account.lanes if with_others else (lane,):
            each.planned = None if with_others else each.planned
            self._turns.refresh(each)
            self._agenda.refresh(each)

    # What people are shown

    def full_lanes(self) -> int:
        """How many memberships have jobs that wait for a slot."""
        return self._turns.full_lanes()

    def held_by_others(self) -> list[Held]:
        """The quotas that others seem to use, so that jobs wait though little or nothing is seen to run."""
        return list(held_by_others(self._accounts.values()))

    def running(self) -> int:
        """Jobs that are known to run, of whomever."""
        return self._running

    @property
    def has_ours_running(self) -> bool:
        """Whether any job of this ledger is known to run."""
        return self._ours > 0

    def running_of_ours(self) -> int:
        """Jobs of this ledger that are known to run."""
        return self._ours

    def quotas(self) -> dict[str, int]:
        """The limits known by now: `account`, and of each membership its own."""
        known = {lane.membership: lane.budget.bound for lane in self._lanes.values()}
        known |= {f"account{' ' + name if name else ''}": each.budget.bound for name, each in self._accounts.items()}
        return {name: bound for name, bound in known.items() if bound is not None}

    def usage(self) -> dict[str, tuple[int, int | None]]:
        """Of each membership the slots that are taken, and how many there are, where that is known."""
        return {lane.membership: (lane.budget.taken, lane.budget.bound) for lane in self._lanes.values()}

    def account_usage(self) -> tuple[int, int | None]:
        """The same of the account; of several, their sum, and no limit."""
        budgets = [each.budget for each in self._accounts.values()]
        bound = budgets[0].bound if len(budgets) == 1 else None
        return sum(each.taken for each in budgets), bound

    # Lanes come into being when they are first named

    def _lane(self, membership: str) -> Lane:
        lane = self._lanes.get(membership)
        if lane is None:
            account = self._account(self._account_of(membership))
            budget = self._budget(LIKELY_PER_MEMBERSHIP, self._settings.per_membership)
            budget.limit = account.per_membership
            priority = self._settings.priorities.get(membership, 0)
            lane = self._lanes[membership] = Lane(membership, budget, account, priority)
            account.lanes.append(lane)
        return lane

    def _account(self, name: str) -> Account:
        if name not in self._accounts:
            account = Account(name, self._budget(LIKELY_PER_ACCOUNT, self._settings.per_account))
            account.per_membership, account.budget.limit, account.raise_at = self._told
            self._accounts[name] = account
        return self._accounts[name]

    def _budget(self, likely: int, cap: int) -> Budget:
        return Budget(
            likely=likely,
            cap=cap or None,
            min_poll_seconds=self._settings.min_poll_seconds,
            max_poll_seconds=self._settings.max_poll_seconds,
        )
