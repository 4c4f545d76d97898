"""The lanes of a run and the budgets around them: whose turn it is, what a refusal teaches, which look is due. Pure."""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from batchsubmit.config import SlotSettings
from batchsubmit.durations import Durations, JobClass
from batchsubmit.jobs import QuotaExceeded
from batchsubmit.slots.budget import Budget
from batchsubmit.slots.looks import PAGE_SIZE, Look, Terms, plan_look
from batchsubmit.slots.roster import Ended, Roster, RunningJob, Sighting

LIKELY_PER_MEMBERSHIP = 5
LIKELY_PER_ACCOUNT = 10
"""AWS's default quotas: used at once, before anything is learned."""

_RAISE_PROBE_INTERVALS = 1.5
"""A quota may be raised at any time. One call beyond a full limit is made each so many longest poll intervals."""

_REMEMBERED = 64
"""Jobs of a lane that are remembered as running while no limit is known, and so nothing depends on their number."""

_OTHERS_AFTER_PROBES = 3


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call in a lane. The counts are what ran when it was given, in the lane and in the account."""

    membership: str
    in_lane: int
    in_account: int
    probes_lane: bool = False
    probes_account: bool = False
    exceeds: bool = False


@dataclass(slots=True)
class _Lane:
    membership: str
    budget: Budget
    account: "_Account"
    roster: Roster = field(default_factory=Roster)
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
    def has_ours(self) -> bool:
        """Whether a job of this ledger runs here."""
        return any(job.key for job in self.roster)


@dataclass(slots=True)
class _Account:
    budget: Budget
    lanes: list[_Lane] = field(default_factory=list)
    raise_at: float = math.inf
    per_membership: int | None = None


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
        self._lanes: dict[str, _Lane] = {}
        self._accounts: dict[str, _Account] = {}
        self._waiting: Collection[str] = ()
        self._turn = 0
        self._turns: dict[str, int] = {}

    # Who goes next

    def next(self, waiting: Collection[str], now: float) -> Ticket | None:
        """Choose the lane of the next call among the memberships that have jobs waiting, if one may be made."""
        self._waiting = waiting
        best: _Lane | None = None
        for membership in waiting:
            lane = self._lane(membership)
            if lane.budget.has_room and lane.account.budget.has_room:
                best = lane if best is None or self._rank(lane) < self._rank(best) else best
        if best is not None:
            return self._ticket(best)
        return self._probe(waiting, now)

    def _rank(self, lane: _Lane) -> tuple[int, int, int]:
        """By priority, then those that have the fewest slots, then those that have waited longest for a turn."""
        priority = self._settings.priorities.get(lane.membership, 0)
        return -priority, lane.budget.running + lane.budget.under_way, self._turns.get(lane.membership, 0)

    def _ticket(self, lane: _Lane, **probing: bool) -> Ticket:
        account = lane.account.budget
        lane.budget.under_way += 1
        account.under_way += 1
        self._turn += 1
        self._turns[lane.membership] = self._turn
        return Ticket(lane.membership, lane.budget.running, account.running, **probing)

    def _probe(self, waiting: Collection[str], now: float) -> Ticket | None:
        """Give leave for a single try: of slots that others seem to hold, or beyond a limit that may be higher now."""
        lanes = sorted(map(self._lane, waiting), key=self._rank)
        for lane in lanes:
            own, account = lane.budget, lane.account.budget
            lane_is_due, account_is_due = own.may_probe(now), account.may_probe(now)
            if (
                (own.has_room or lane_is_due)
                and (account.has_room or account_is_due)
                and (lane_is_due or account_is_due)
            ):
                own.is_probed, account.is_probed = lane_is_due, account_is_due
                return self._ticket(lane, probes_lane=lane_is_due, probes_account=account_is_due)
        for lane in lanes:
            if now >= lane.account.raise_at and not (lane.budget.hidden or lane.account.budget.hidden):
                lane.account.raise_at = now + self._raise_interval
                if lane.budget.cap is None or lane.budget.taken < lane.budget.cap:
                    return self._ticket(lane, exceeds=True)
        return None

    @property
    def _raise_interval(self) -> float:
        return _RAISE_PROBE_INTERVALS * self._settings.max_poll_seconds

    # What became of a call

    def accepted(self, ticket: Ticket, job: RunningJob, now: float) -> None:
        """A call was accepted: the job holds a slot from now on."""
        lane = self._returned(ticket)
        account = lane.account
        self.runs(ticket.membership, job)
        for budget in (lane.budget, account.budget):
            budget.accepted(now, is_tracked=not lane.is_blind)
        lane.wants_count |= lane.budget.is_exceeded
        if account.budget.is_exceeded:
            for each in account.lanes:
                each.wants_count |= bool(len(each.roster))

    def _judge_limits(self, lane: _Lane) -> None:
        """After a count: a limit that is exceeded was raised, and so was the one of the account's other memberships."""
        account, was = lane.account, lane.budget.limit
        if was is not None and lane.budget.is_exceeded:
            lane.budget.raised()
            account.per_membership = None
            for other in account.lanes:
                if other.budget.limit == was:
                    other.budget.limit, other.budget.likely, other.budget.window = None, was, 1
        if account.budget.is_exceeded and not any(each.wants_count or each.is_looking for each in account.lanes):
            account.budget.raised()

    def runs(self, membership: str, job: RunningJob) -> None:
        """A job is known to run: just accepted, found by a lookup, or left by an earlier run."""
        lane = self._lane(membership)
        if lane.is_blind and not self._follows:
            return
        lane.roster.add(job)
        if lane.budget.bound is None and lane.account.budget.bound is None and not self._follows:
            lane.roster.keep_latest(_REMEMBERED)
        self._count(lane)

    def refused(self, ticket: Ticket, refusal: QuotaExceeded, now: float) -> None:
        """The quota refused a call."""
        lane = self._returned(ticket)
        account = lane.account
        value = None if refusal.quota_value is None else max(int(refusal.quota_value), 0)
        if self._is_of_account(ticket, lane, refusal, value):
            account.budget.refused(value, seen_at_start=ticket.in_account, was_probe=ticket.probes_account, now=now)
            for each in account.lanes:
                each.wants_count |= each.looked_at == -math.inf and bool(account.budget.hidden)
        else:
            lane.budget.refused(value, seen_at_start=ticket.in_lane, was_probe=ticket.probes_lane, now=now)
            if value is not None:
                self._share_limit(account, value)
            lane.wants_count = bool(lane.budget.hidden) or not lane.budget.is_counted
        if account.raise_at == math.inf or ticket.exceeds:
            account.raise_at = now + self._raise_interval
        self._forget_plans(account)

    def _share_limit(self, account: _Account, limit: int) -> None:
        """One membership's quota is every membership's, until one of them shows otherwise."""
        account.per_membership = limit
        for lane in account.lanes:
            if lane.budget.limit is None:
                lane.budget.limit = limit

    def _is_of_account(self, ticket: Ticket, lane: _Lane, refusal: QuotaExceeded, value: int | None) -> bool:
        """Tell which quota refused: by its name or words, else by which of the two can have been full.

        Where neither tells, it is taken for the lane's own, which holds up no other, until the lane has been counted.
        """
        words = (refusal.quota_name or refusal.message).lower()
        if ("account" in words) != ("membership" in words):
            return "account" in words
        own, around = lane.budget, lane.account.budget
        in_lane = max(ticket.in_lane, own.running + own.under_way)
        in_account = max(ticket.in_account, around.running + around.under_way)
        if value is not None and value in {in_lane, in_account} and in_lane != in_account:
            return value == in_account
        for budget, count, answer in ((around, in_account, True), (own, in_lane, False)):
            if budget.bound is not None and count >= budget.bound:
                return answer
        lane.suspects_account = value is None and not lane.is_blind
        return False

    def ended(self, ticket: Ticket) -> None:
        """A call ended in a way that says nothing of the slots."""
        self._returned(ticket)

    def _returned(self, ticket: Ticket) -> _Lane:
        lane = self._lane(ticket.membership)
        lane.budget.under_way -= 1
        lane.account.budget.under_way -= 1
        if ticket.probes_lane:
            lane.budget.is_probed = False
        if ticket.probes_account:
            lane.account.budget.is_probed = False
        return lane

    # When to look, and what was seen

    def next_look(self, now: float) -> Look | None:
        """Give a look that is due, if there is one; it counts as begun."""
        for lane in self._lanes.values():
            due = self._look_at(lane, now)
            if due is not None and due[0] <= now:
                lane.is_looking = True
                return due[1]
        return None

    def wake_at(self, now: float) -> float | None:
        """When a look or a single try comes due next."""
        times = [due[0] for lane in self._lanes.values() if (due := self._look_at(lane, now)) is not None]
        for membership in self._waiting:
            lane = self._lane(membership)
            budgets = (lane.budget, lane.account.budget)
            times += [each.probe_at for each in budgets if each.hidden and not each.is_probed]
            if not any(each.hidden for each in budgets) and lane.account.raise_at < math.inf:
                times.append(lane.account.raise_at)
        return min((each for each in times if each > now), default=None)

    def _look_at(self, lane: _Lane, now: float) -> tuple[float, Look] | None:
        if lane.is_looking or lane.blind_until == math.inf:
            return None
        if lane.is_blind:
            return (lane.blind_until, Look(lane.membership)) if self._is_wanted(lane) else None
        if lane.wants_count:
            return max(lane.looked_at + self._settings.min_poll_seconds, 0.0), Look(lane.membership)
        is_wanted = self._is_wanted(lane)
        if not len(lane.roster) or not (is_wanted or (self._follows and lane.has_ours)):
            return None
        if lane.planned is None or lane.planned_as_wanted != is_wanted:
            lane.planned_as_wanted = is_wanted
            lane.planned = self._plan(lane, now, is_wanted=is_wanted)
        return lane.planned

    def _plan(self, lane: _Lane, now: float, *, is_wanted: bool) -> tuple[float, Look]:
        terms = Terms(
            looked_at=lane.looked_at,
            least_seconds=self._settings.min_poll_seconds,
            most_seconds=self._settings.max_poll_seconds,
            slots_are_wanted=is_wanted,
        )
        jobs = list(lane.roster)
        at, look = plan_look(lane.membership, jobs, self._durations, pages=lane.pages, now=now, terms=terms)
        return max(at, lane.looked_at + self._settings.min_poll_seconds), look

    def _is_wanted(self, lane: _Lane) -> bool:
        """Whether a slot that is freed here would be used at once."""
        account = lane.account
        if account.budget.bound is not None and not account.budget.has_room:
            return any(self._lane(each).account is account for each in self._waiting)
        return lane.budget.bound is not None and not lane.budget.has_room and lane.membership in self._waiting

    def strangers(self, look: Look, sightings: Iterable[Sighting]) -> set[str]:
        """ARNs of running jobs that were not known to run."""
        known = {job.arn for job in self._lane(look.membership).roster}
        return {each.arn for each in sightings if each.is_running and each.arn not in known}

    def saw(self, look: Look, sightings: Collection[Sighting], *, began_at: float, now: float) -> list[Ended]:
        """Take in what a look has seen; give the jobs that have ended."""
        lane = self._lane(look.membership)
        is_first = lane.looked_at == -math.inf
        lane.is_looking, lane.looked_at, lane.blind_until = False, began_at, -math.inf
        if look.is_whole:
            lane.wants_count = False
            lane.pages = -(-len(sightings) // PAGE_SIZE) or 1
        ended = lane.roster.saw(sightings, began_at=began_at, now=now, is_whole=look.is_whole)
        self._learn(ended, sightings if is_first and look.is_whole else ())
        self._count(lane)
        if look.is_whole:
            self._resolve_suspicion(lane, now)
            lane.budget.recounted()
            self._judge_limits(lane)
        lane.account.budget.settle()
        return ended

    def _resolve_suspicion(self, lane: _Lane, now: float) -> None:
        """A refusal named no quota: where other lanes run more than this one, it was the account that was full."""
        account = lane.account
        if lane.suspects_account and lane.budget.running < max(each.budget.running for each in account.lanes):
            lane.budget.limit, lane.budget.hidden, lane.budget.is_counted = account.per_membership, 0, True
            account.budget.refused(None, seen_at_start=0, was_probe=False, now=now)
            account.budget.is_counted = True
        lane.suspects_account = False

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
        shown = (each.arn for each in sightings)
        return (
            self._lane(look.membership).roster.missing(shown, older_than=older_than, now=now) if look.is_whole else []
        )

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

    def _count(self, lane: _Lane) -> None:
        """Bring the budgets in line with the roster."""
        change = len(lane.roster) - lane.budget.running
        lane.budget.running += change
        lane.account.budget.running += change
        lane.planned = None
        if change > 0:
            lane.budget.settle()
            lane.account.budget.settle()

    def _forget_plans(self, account: _Account) -> None:
        for lane in account.lanes:
            lane.planned = None

    # What people are shown

    def full(self, waiting: Collection[str]) -> list[str]:
        """The memberships whose jobs wait for a slot."""
        return [each for each in waiting if not (self._lane(each).budget.has_room and self._has_room_around(each))]

    def held_by_others(self, membership: str) -> int | None:
        """The limit that others seem to have used up: tries stay refused, though nothing of ours runs there."""
        lane = self._lane(membership)
        for budget in (lane.budget, lane.account.budget):
            if budget.probes_refused >= _OTHERS_AFTER_PROBES and budget.hidden and not budget.running:
                return budget.bound
        return None

    def running(self) -> int:
        """Jobs that are known to run, of whomever."""
        return sum(len(lane.roster) for lane in self._lanes.values())

    @property
    def has_ours_running(self) -> bool:
        """Whether any job of this ledger is known to run."""
        return any(lane.has_ours for lane in self._lanes.values())

    def running_of_ours(self) -> int:
        """Jobs of this ledger that are known to run."""
        return sum(bool(job.key) for lane in self._lanes.values() for job in lane.roster)

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

    def _has_room_around(self, membership: str) -> bool:
        return self._lane(membership).account.budget.has_room

    # Lanes come into being when they are first named

    def _lane(self, membership: str) -> _Lane:
        lane = self._lanes.get(membership)
        if lane is None:
            account = self._account(self._account_of(membership))
            budget = self._budget(LIKELY_PER_MEMBERSHIP, self._settings.per_membership)
            budget.limit = account.per_membership
            lane = self._lanes[membership] = _Lane(membership, budget, account)
            account.lanes.append(lane)
        return lane

    def _account(self, name: str) -> _Account:
        if name not in self._accounts:
            self._accounts[name] = _Account(self._budget(LIKELY_PER_ACCOUNT, self._settings.per_account))
        return self._accounts[name]

    def _budget(self, likely: int, cap: int) -> Budget:
        return Budget(
            likely=likely,
            cap=cap or None,
            min_poll_seconds=self._settings.min_poll_seconds,
            max_poll_seconds=self._settings.max_poll_seconds,
        )
