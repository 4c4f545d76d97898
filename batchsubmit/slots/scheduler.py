"""All lanes of a run: given what was asked for, answered and seen, it says who may call and what to poll. Pure.

`limits` says when one limit lets a call through, `polls` when a job is polled.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from batchsubmit.config import SlotSettings
from batchsubmit.core.jobs import JobClass, QuotaExceeded
from batchsubmit.core.states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP, is_good_end
from batchsubmit.slots.limits import Limit
from batchsubmit.slots.polls import Durations, Ended, Poll, RunningJob, SeenJob, next_get_at

_RAISE_INTERVALS = 1.75
"""A quota may be raised at any time. One call beyond a full limit is made each so many longest poll intervals."""

_REMEMBERED = 64
"""Jobs of a lane that are remembered as running while no limit is known, and so nothing depends on their number."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call in a lane, and what ran when it was given, in the lane and in the account.

    A call that tries a slot of the lane or the account that may not be free is a single one.
    """

    membership: str
    in_lane: int
    in_account: int
    left_at: float
    tries_lane: bool = False
    tries_account: bool = False


@dataclass(slots=True, eq=False)
class _Account:
    """The lanes of one account. Beyond its limits a call is made at `raise_at`, to see whether they were raised."""

    limit: Limit
    raise_at: float
    per_membership: int | None
    lanes: "list[_Lane]" = field(default_factory=list)
    waiting: "dict[str, _Lane]" = field(default_factory=dict)

    def opens_at(self) -> float:
        """When the next call may be made by a lane that has room."""
        return self.limit.opens_at(self.raise_at) if self.waiting else math.inf

    @property
    def is_unpollable(self) -> bool:
        """Whether some of what runs here cannot be seen."""
        return any(lane.is_unpollable for lane in self.lanes)


@dataclass(slots=True, eq=False)
class _Lane:
    """The jobs of one membership: whether some wait, and which run."""

    membership: str
    limit: Limit
    account: _Account
    priority: int
    running: dict[str, RunningJob] = field(default_factory=dict)
    turn: int = 0
    is_polled: bool = False
    wants_list: bool = False
    suspects_account: bool = False
    polled_at: float = -math.inf
    listed_at: float = -math.inf
    unpollable_until: float = -math.inf
    was_wanted: bool = False

    @property
    def is_unpollable(self) -> bool:
        """Whether what runs here cannot be seen."""
        return self.unpollable_until > -math.inf

    def opens_at(self) -> float:
        """When the next call may be made here, if the account has room."""
        return self.limit.opens_at(self.account.raise_at)

    @property
    def ours(self) -> int:
        """Running jobs of this ledger."""
        return sum(bool(job.key) for job in self.running.values())

    def saw(self, seen_jobs: Iterable[SeenJob], *, began_at: float, now: float, lists_all: bool) -> list[Ended]:
        """Take in a poll that began at `began_at`; give the jobs that have ended.

        A List shows jobs of others too. It may lag and miss one of ours, so none of ours is dropped for not being
        there; others' jobs are.
        """
        seen = {each.arn: each for each in seen_jobs}
        ended = [Ended(job, seen[arn]) for arn, job in self.running.items() if arn in seen and not seen[arn].is_running]
        lost = [arn for arn, job in self.running.items() if lists_all and not job.key and arn not in seen]
        for arn in [*lost, *(each.job.arn for each in ended)]:
            del self.running[arn]
        for each in seen.values():
            if each.is_running:
                job = self.running.setdefault(each.arn, _of_others(each, now))
                job.seen_at = max(job.seen_at, began_at)
        return ended

    def count(self) -> None:
        """Bring the limits in line with what runs."""
        change = len(self.running) - self.limit.running
        for limit in (self.limit, self.account.limit):
            limit.running += change
            limit.settle()


class Slots:
    """All lanes of one run; times are monotonic seconds. With `follows`, our jobs are always polled to their end."""

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
        self._turns = 0
        self._raise_interval = _RAISE_INTERVALS * settings.max_poll_seconds
        self._known: tuple[int | None, int | None, float] = (None, None, math.inf)
        self.refused_by: dict[str, float | None] = {}  # the quotas that refused a call: the service's name, its value

    # Who goes next, and what the call brought

    def next(self, waiting: Collection[str], now: float) -> Ticket | None:
        """Choose the lane of the next call among the memberships that have jobs waiting, if one may be made.

        Lanes with room come before those whose slots are only tried; then it goes by priority, by the fewest slots,
        and by the longest wait for a turn.
        """
        self._note_waiting(waiting)
        best, first = None, None
        for account in self._accounts.values():
            around = account.opens_at()
            for lane in account.waiting.values() if around <= now else ():
                own = lane.opens_at()
                rank = (max(around, own) > -math.inf, own > -math.inf, -lane.priority, lane.limit.count, lane.turn)
                if own <= now and (first is None or rank < first):
                    best, first = lane, rank
        return None if best is None else self._ticket(best, now)

    def _note_waiting(self, waiting: Iterable[str]) -> None:
        for account in self._accounts.values():
            account.waiting = {}
        for lane in map(self._lane, waiting):
            lane.account.waiting[lane.membership] = lane

    def _ticket(self, lane: _Lane, now: float) -> Ticket:
        account = lane.account
        tries = [each.opens_at() > -math.inf for each in (lane, account)]
        ticket = Ticket(lane.membership, lane.limit.running, account.limit.running, now, *tries)
        for limit, is_try in zip((lane.limit, account.limit), tries, strict=True):
            if is_try and limit.value is not None and limit.count >= limit.value:
                account.raise_at = now + self._raise_interval
            limit.is_tried |= is_try
            limit.under_way += 1
        self._turns += 1
        lane.turn = self._turns
        return ticket

    def accepted(self, ticket: Ticket, job: RunningJob, now: float) -> None:
        """A call was accepted: the job holds a slot from now on."""
        lane = self._returned(ticket)
        account = lane.account
        self.runs(ticket.membership, job)
        is_raised = lane.limit.accepted(now, was_try=ticket.tries_lane)
        is_raised |= account.limit.accepted(now, was_try=ticket.tries_account)
        if is_raised and (ticket.tries_lane or ticket.tries_account):
            account.raise_at = now

    def refused(self, ticket: Ticket, refusal: QuotaExceeded, now: float) -> None:
        """The quota refused a call."""
        self.refused_by[refusal.quota_name or ""] = refusal.quota_value
        lane = self._returned(ticket)
        account = lane.account
        value = None if refusal.quota_value is None else max(int(refusal.quota_value), 0)
        is_of_account = _is_of_account(ticket, lane, refusal, value)
        if is_of_account:
            self._refuse_account(account, ticket, value, now)
            return
        lane.suspects_account = is_of_account is None and value is None and not lane.is_unpollable
        is_explained = lane.limit.refused(
            value, seen_at_start=ticket.in_lane, left_at=ticket.left_at, was_try=ticket.tries_lane, now=now
        )
        if is_explained:
            account.raise_at = now + self._raise_interval
        lane.wants_list = not lane.is_unpollable and (lane.suspects_account or not is_explained)
        if value is not None:
            _share(account, value)

    def _refuse_account(self, account: _Account, ticket: Ticket, value: int | None, now: float) -> None:
        if account.limit.refused(
            value, seen_at_start=ticket.in_account, left_at=ticket.left_at, was_try=ticket.tries_account, now=now
        ):
            account.raise_at = now + self._raise_interval
            return
        for lane in account.lanes:
            lane.wants_list |= lane.listed_at == -math.inf

    def ended(self, ticket: Ticket) -> None:
        """A call ended in a way that says nothing of the slots."""
        self._returned(ticket)

    def _returned(self, ticket: Ticket) -> _Lane:
        lane = self._lane(ticket.membership)
        for limit, was_try in ((lane.limit, ticket.tries_lane), (lane.account.limit, ticket.tries_account)):
            limit.under_way -= 1
            limit.is_tried &= not was_try
        return lane

    def runs(self, membership: str, job: RunningJob) -> None:
        """A job is known to run: just accepted, found by a lookup, or left by an earlier run."""
        lane = self._lane(membership)
        if lane.is_unpollable:
            return
        is_unlimited = lane.limit.bound is None and lane.account.limit.bound is None
        lane.running.pop(job.arn, None)
        lane.running[job.arn] = job
        while is_unlimited and not self._follows and len(lane.running) > _REMEMBERED:
            del lane.running[next(iter(lane.running))]
        lane.count()

    def set_known(self, *, per_membership: int | None, per_account: int | None, now: float) -> None:
        """Service Quotas has named the quotas; they may be raised or lowered later like any other."""
        self._known = per_membership, per_account, now + self._raise_interval

    # When to poll, and what was seen

    def due_polls(self, now: float) -> list[Poll]:
        """Give the polls that are due; they count as begun."""
        return [self._poll(lane, now) for at, lane in list(self._polls()) if at <= now]

    def wake_at(self, now: float) -> float | None:
        """When a poll or a single try comes due next. To be asked after `next` and `due_polls`, of the same moment.

        A try that is due already waits for something else than time.
        """
        moments = [at for at, _ in self._polls()]
        for account in self._accounts.values():
            around = account.opens_at()
            if around > now:
                moments.append(around)
            else:
                moments += [at for lane in account.waiting.values() if (at := lane.opens_at()) > now]
        first = min(moments, default=math.inf)
        return first if first < math.inf else None

    def _polls(self) -> Iterator[tuple[float, _Lane]]:
        """When lanes are polled next: those in which something runs, or may run, and that are not polled just now."""
        for account in self._accounts.values():
            is_full = account.limit.is_full
            for lane in account.lanes:
                if not lane.is_polled and (lane.limit.running or lane.wants_list or lane.is_unpollable):
                    is_wanted = lane.membership in account.waiting and lane.limit.is_full
                    yield self._poll_at(lane, is_wanted=bool(account.waiting) if is_full else is_wanted), lane

    def _poll_at(self, lane: _Lane, *, is_wanted: bool) -> float:
        """When a lane is polled next; `is_wanted` says whether a slot that is freed in it would be used at once."""
        if lane.is_unpollable:
            return lane.unpollable_until if is_wanted else math.inf
        least = lane.polled_at + self._settings.min_poll_seconds
        if lane.wants_list:
            return least
        if not (is_wanted or (self._follows and lane.ours)):
            return math.inf
        lane.was_wanted = is_wanted
        get_at = min(self._get_at(job, closely=is_wanted) for job in lane.running.values())
        return max(min(self._list_at(lane), get_at), least)

    def _list_at(self, lane: _Lane) -> float:
        """Jobs of others are looked for at the start, where a refusal asks for it, and rarely otherwise."""
        return -math.inf if lane.wants_list or lane.is_unpollable else lane.listed_at + self._settings.max_poll_seconds

    def _get_at(self, job: RunningJob, *, closely: bool) -> float:
        return next_get_at(job, self._durations, self._settings, closely=closely)

    def _poll(self, lane: _Lane, now: float) -> Poll:
        """Begin a poll: a List, or a Get of each job that is due or would be when the lane may be polled again."""
        lane.is_polled = True
        if self._list_at(lane) <= now:
            return Poll(lane.membership)
        until = now + self._settings.min_poll_seconds
        due = [job.arn for job in lane.running.values() if self._get_at(job, closely=lane.was_wanted) <= until]
        return Poll(lane.membership, tuple(due))

    def others(self, poll: Poll, seen_jobs: Iterable[SeenJob]) -> set[str]:
        """ARNs of running jobs that were not known to run."""
        running = self._lane(poll.membership).running
        return {each.arn for each in seen_jobs if each.is_running and each.arn not in running}

    def saw(self, poll: Poll, seen_jobs: Collection[SeenJob], *, began_at: float, now: float) -> list[Ended]:
        """Take in what a poll has seen; give the jobs that have ended."""
        lane = self._lane(poll.membership)
        is_first_list = poll.lists_all and lane.listed_at == -math.inf
        lane.is_polled, lane.polled_at, lane.unpollable_until = False, began_at, -math.inf
        ended = lane.saw(seen_jobs, began_at=began_at, now=now, lists_all=poll.lists_all)
        self._learn(ended, seen_jobs if is_first_list else ())
        lane.count()
        if poll.lists_all:
            lane.listed_at = began_at
            lane.wants_list &= began_at < lane.limit.refused_at
            self._resolve_suspicion(lane, now)
            lane.limit.listed(began_at)
        return ended

    def _learn(self, ended: Iterable[Ended], history: Iterable[SeenJob]) -> None:
        """Learn from jobs that were polled to their end, and from the history that a first List shows."""
        for each in ended:
            self._durations.learn(each.job.kind, each.seen.ran_seconds)
        known = {each.job.arn for each in ended}
        for seen in history:
            if is_good_end(seen.status) and seen.arn not in known:
                self._durations.learn(JobClass(seen.trained_model), seen.ran_seconds)

    def _resolve_suspicion(self, lane: _Lane, now: float) -> None:
        """A refusal named no quota: where other lanes run more than this one, it was the account that was full."""
        account, left_at = lane.account, lane.limit.refused_at
        if lane.suspects_account and lane.limit.running < max(each.limit.running for each in account.lanes):
            lane.limit.set(account.per_membership)
            ticket = Ticket(lane.membership, 0, 0, left_at, tries_account=True)
            self._refuse_account(account, ticket, None, now)
        lane.suspects_account = False

    def gone(self, membership: str, arn: str) -> None:
        """The service does not know this job: it holds no slot."""
        lane = self._lane(membership)
        lane.running.pop(arn, None)
        lane.count()

    def could_not_poll(self, poll: Poll, now: float, *, permanently: bool) -> None:
        """The service does not tell: for now, or from now on, the lane's slots come back by single tries."""
        lane = self._lane(poll.membership)
        lane.is_polled, lane.wants_list, lane.polled_at = False, False, now
        lane.unpollable_until = math.inf if permanently else now + self._settings.max_poll_seconds
        lane.running.clear()
        lane.count()
        for limit in (lane.limit, lane.account.limit):
            limit.not_pollable(now)

    # What people are shown

    def full_lanes(self) -> int:
        """How many memberships have jobs that wait for a slot."""
        full = 0
        for account in self._accounts.values():
            is_full = account.opens_at() > -math.inf
            full += sum(is_full or lane.opens_at() > -math.inf for lane in account.waiting.values())
        return full

    def held_by_others(self) -> dict[str, str]:
        """The quotas that others seem to use, so that jobs wait though little or nothing is seen to run.

        How much of which, by membership or `account`. Where nothing can be polled it may as well be jobs of ours.
        """
        scopes: dict[str, Limit] = {}
        for account in self._accounts.values():
            scopes |= {name: lane.limit for name, lane in account.waiting.items() if not lane.is_unpollable}
            scopes |= {"account": account.limit} if account.waiting and not account.is_unpollable else {}
        return {name: f"{limit.held} of {limit.bound}" for name, limit in scopes.items() if limit.is_held_by_others}

    def ours(self) -> dict[str, int]:
        """Jobs of this ledger that run, or were not seen to end, by membership."""
        return {lane.membership: lane.ours for lane in self._lanes.values()}

    def running_of_ours(self) -> int:
        """Jobs of this ledger that run, or were not seen to end."""
        return sum(self.ours().values())

    def quotas(self) -> dict[str, int]:
        """The limits known by now: `account`, and of each membership its own."""
        known = {lane.membership: lane.limit.bound for lane in self._lanes.values()}
        known |= {f"account{' ' + name if name else ''}": each.limit.bound for name, each in self._accounts.items()}
        return {name: bound for name, bound in known.items() if bound is not None}

    def usage(self) -> dict[str, tuple[int, int | None]]:
        """Of each membership the slots that are taken, and how many there are, where that is known."""
        return {lane.membership: _usage(lane.limit) for lane in self._lanes.values()}

    def account_usage(self) -> tuple[int, int | None]:
        """The same of the account; of several, their sum, and no limit."""
        used = [_usage(each.limit) for each in self._accounts.values()]
        return sum(taken for taken, _ in used), used[0][1] if len(used) == 1 else None

    # Lanes come into being when they are first named

    def _lane(self, membership: str) -> _Lane:
        lane = self._lanes.get(membership)
        if lane is None:
            account = self._account(self._account_of(membership))
            limit = self._limit(DEFAULT_PER_MEMBERSHIP, self._settings.per_membership, account.per_membership)
            priority = self._settings.priorities.get(membership, 0)
            lane = self._lanes[membership] = _Lane(membership, limit, account, priority)
            account.lanes.append(lane)
        return lane

    def _account(self, name: str) -> _Account:
        if name not in self._accounts:
            per_membership, per_account, raise_at = self._known
            limit = self._limit(DEFAULT_PER_ACCOUNT, self._settings.per_account, per_account)
            self._accounts[name] = _Account(limit, raise_at, per_membership)
        return self._accounts[name]

    def _limit(self, default: int, cap: int, value: int | None) -> Limit:
        limit = Limit(
            default=default,
            cap=cap or None,
            min_wait=self._settings.min_poll_seconds,
            max_wait=self._settings.max_poll_seconds,
        )
        limit.set(value)
        return limit


def _of_others(seen: SeenJob, now: float) -> RunningJob:
    began_at = now - max(seen.age_seconds, 0.0)
    return RunningJob(arn=seen.arn, key="", kind=JobClass(seen.trained_model), began_at=began_at, seen_at=now)


def _usage(limit: Limit) -> tuple[int, int | None]:
    return limit.count + limit.held, limit.bound


def _share(account: _Account, value: int) -> None:
    """One membership's quota is every membership's, until one of them shows otherwise."""
    was, account.per_membership = account.per_membership, value
    for lane in account.lanes:
        is_as_it_was = lane.limit.value == lane.limit.usable == was  # what was refused since is kept
        if was != value and (lane.limit.value is None or is_as_it_was):
            lane.limit.set(value)


def _is_of_account(ticket: Ticket, lane: _Lane, refusal: QuotaExceeded, value: int | None) -> bool | None:
    """Tell which quota refused: by its name or words, else by which of the two can have been full.

    Where neither tells (None), it is taken for the lane's own, which holds up no other, until the lane has been listed.
    """
    words = (refusal.quota_name or refusal.message).lower()
    if ("account" in words) != ("membership" in words):
        return "account" in words
    in_lane, in_account = max(ticket.in_lane, lane.limit.count), max(ticket.in_account, lane.account.limit.count)
    if value is not None and value in {in_lane, in_account} and in_lane != in_account:
        return value == in_account
    bounds = (lane.account.limit.bound, in_account, True), (lane.limit.bound, in_lane, False)
    reached = next((answer for bound, count, answer in bounds if bound is not None and count >= bound), None)
    return ticket.tries_account if reached is None and ticket.tries_lane != ticket.tries_account else reached
