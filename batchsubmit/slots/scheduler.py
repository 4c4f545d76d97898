"""All lanes of a run: given what was asked for, answered and seen, it says who may call and what to poll. Pure.

`limits` says when one limit lets a call through, `polls` when a job is polled.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from batchsubmit.config import SlotSettings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.job_states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP, is_good_end
from batchsubmit.core.jobs import JobClass, OtherQuotaExceeded, QuotaExceeded
from batchsubmit.core.ledger_state import ACCOUNT
from batchsubmit.slots.limits import RAISE_INTERVALS, Leave, Limit
from batchsubmit.slots.polls import Poll, RunningJob, SeenJob, next_get_at, take_in

_REMEMBERED = 64
"""Jobs of a lane that are remembered as running while no limit is known, and so nothing depends on their number."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call in a lane: that of the lane's limit, and that of the account's."""

    membership: str
    lane: Leave
    account: Leave


@dataclass(slots=True, eq=False)
class _Lane:
    """The jobs of one membership that run, and what is known of its slots."""

    membership: str
    limit: Limit
    priority: int
    running: dict[str, RunningJob] = field(default_factory=dict)
    turn: int = 0
    is_polled: bool = False
    wants_list: bool = False
    polled_at: float = -math.inf
    listed_at: float = -math.inf
    unpollable_until: float = -math.inf
    was_wanted: bool = False

    @property
    def is_unpollable(self) -> bool:
        """Whether what runs here cannot be seen."""
        return self.unpollable_until > -math.inf

    @property
    def ours(self) -> int:
        """Running jobs of this ledger."""
        return sum(bool(job.key) for job in self.running.values())


@dataclass(slots=True)
class _Hold:
    """A quota other than that of slots, which refused a lane; `until` is inf while a call tries it."""

    words: str
    wait_seconds: float
    until: float


def other_quota_words(refusal: OtherQuotaExceeded) -> str:
    """A quota by its own name and value."""
    value = "" if refusal.quota_value is None else f" of {refusal.quota_value:g}"
    return f"{refusal.quota_name!r}{value}"


class Slots:
    """All lanes of one run, and the account around them; times are monotonic seconds.

    With `follows`, our jobs are always polled to their end. Beyond full limits a call is made at `_raise_at`, to see
    whether they were raised. A lane that another quota holds is tried after `hold_seconds`, then ever more rarely.
    """

    def __init__(
        self, settings: SlotSettings, times: RunTimes, *, follows: bool = False, hold_seconds: float = 30.0
    ) -> None:
        self._settings = settings
        self._hold_seconds = hold_seconds
        self._times = times
        self.follows = follows
        self._account = self._limit(DEFAULT_PER_ACCOUNT, settings.per_account)
        self._lanes: dict[str, _Lane] = {}
        self._waiting: dict[str, _Lane] = {}
        self._holds: dict[str, _Hold] = {}
        self._turns = 0
        self._per_membership: int | None = None
        self._raise_interval = RAISE_INTERVALS * settings.max_poll_seconds
        self._raise_at = math.inf
        self.refused_by: dict[str, float | None] = {}  # the quotas that refused a call: the service's name, its value

    def _limit(self, default: int, cap: int) -> Limit:
        least, most = self._settings.min_poll_seconds, self._settings.max_poll_seconds
        return Limit(default=default, cap=cap or None, min_wait=least, max_wait=most)

    def _lane(self, membership: str) -> _Lane:
        """Give a lane; it comes into being when it is first named."""
        if membership not in self._lanes:
            limit = self._limit(DEFAULT_PER_MEMBERSHIP, self._settings.per_membership)
            limit.set(self._per_membership)
            self._lanes[membership] = _Lane(membership, limit, self._settings.priorities.get(membership, 0))
        return self._lanes[membership]

    def set_known(self, *, per_membership: int | None, per_account: int | None, now: float) -> None:
        """Service Quotas has named the quotas; they may be raised or lowered later like any other."""
        self._per_membership, self._raise_at = per_membership, now + self._raise_interval
        self._account.set(per_account)

    # Who goes next, and what the call brought

    def next(self, waiting: Iterable[str], now: float) -> Ticket | None:
        """Choose the lane of the next call among the memberships that have jobs waiting, if one may be made.

        Lanes with room come before those whose slots are only tried; then it goes by priority, by the fewest slots,
        and by the longest wait for a turn.
        """
        held = {membership for membership, hold in self._holds.items() if hold.until > now}
        self._waiting = {membership: self._lane(membership) for membership in waiting if membership not in held}
        if self._account_opens_at() > now:
            return None
        ready = ((self._opens_at(lane), lane) for lane in self._waiting.values())
        ranked = (
            ((at > -math.inf, -lane.priority, lane.limit.count, lane.turn), lane) for at, lane in ready if at <= now
        )
        best = min(ranked, key=lambda each: each[0], default=None)
        return None if best is None else self._ticket(best[1], now)

    def _opens_at(self, lane: _Lane) -> float:
        """When the next call may be made in a lane, if the account has room."""
        return lane.limit.opens_at(self._raise_at)

    def _account_opens_at(self) -> float:
        """When the next call may be made by a lane that has room."""
        return self._account.opens_at(self._raise_at) if self._waiting else math.inf

    def _ticket(self, lane: _Lane, now: float) -> Ticket:
        limits = lane.limit, self._account
        is_beyond = any(each.value is not None and each.count >= each.value for each in limits)
        leaves = [each.leave(self._raise_at, now) for each in limits]
        if is_beyond:
            self._raise_at = now + self._raise_interval
        self._turns += 1
        lane.turn = self._turns
        return Ticket(lane.membership, *leaves)

    def called(self, ticket: Ticket) -> None:
        """A call begins in a lane: if it is held, no other follows until the outcome."""
        if hold := self._holds.get(ticket.membership):
            hold.until = math.inf

    def ended(self, ticket: Ticket) -> None:
        """A call ended; by itself that says nothing of the slots."""
        self._lane(ticket.membership).limit.returned(ticket.lane)
        self._account.returned(ticket.account)
        hold = self._holds.get(ticket.membership)
        if hold and hold.until == math.inf:  # the try was not refused for that quota
            del self._holds[ticket.membership]

    def accepted(self, ticket: Ticket, job: RunningJob, now: float) -> None:
        """A call was accepted: the job holds a slot from now on."""
        self.ended(ticket)
        self.runs(ticket.membership, job)
        is_raised = self._lane(ticket.membership).limit.accepted(ticket.lane, now)
        is_raised |= self._account.accepted(ticket.account, now)
        if is_raised and (ticket.lane.is_try or ticket.account.is_try):
            self._raise_at = now

    def refused(self, ticket: Ticket, refusal: QuotaExceeded, now: float) -> None:
        """The quota refused a call."""
        self.refused_by[refusal.quota_name or ""] = refusal.quota_value
        self.ended(ticket)
        lane = self._lane(ticket.membership)
        value = None if refusal.quota_value is None else max(int(refusal.quota_value), 0)
        is_of_account = self._is_of_account(ticket, refusal, value)
        limit, leave = (self._account, ticket.account) if is_of_account else (lane.limit, ticket.lane)
        is_explained = limit.refused(leave, value, now)
        if is_explained:
            self._raise_at = now + self._raise_interval
        elif is_of_account:
            for each in self._lanes.values():
                each.wants_list |= each.listed_at == -math.inf
        if not is_of_account:
            lane.wants_list = not (lane.is_unpollable or is_explained)
            if value is not None:
                self._share(value)

    def held(self, ticket: Ticket, refusal: OtherQuotaExceeded, now: float) -> float | None:
        """A quota other than that of slots refused a call; give the seconds until its lane is tried.

        None where the call is one from before the hold.
        """
        hold, wait = self._holds.get(ticket.membership), None
        if hold is None or hold.until == math.inf:
            most = max(self._settings.max_poll_seconds, self._hold_seconds)
            wait = min(2 * hold.wait_seconds, most) if hold else self._hold_seconds
            self._holds[ticket.membership] = _Hold(other_quota_words(refusal), wait, now + wait)
        self.ended(ticket)
        return wait

    def _is_of_account(self, ticket: Ticket, refusal: QuotaExceeded, value: int | None) -> bool:
        """Tell which quota refused: by its name or words, else by which of the two can have been full.

        Where neither tells, it is the account's if other lanes run more, else the lane's own, which holds up no other.
        """
        words = (refusal.quota_name or refusal.message).lower()
        if ("account" in words) != ("membership" in words):
            return "account" in words
        limit = self._lane(ticket.membership).limit
        in_lane, in_account = max(ticket.lane.running, limit.count), max(ticket.account.running, self._account.count)
        if value is not None and value in {in_lane, in_account} and in_lane != in_account:
            return value == in_account
        for bound, count, is_of_account in ((self._account.bound, in_account, True), (limit.bound, in_lane, False)):
            if bound is not None and count >= bound:
                return is_of_account
        if ticket.lane.is_try != ticket.account.is_try:
            return ticket.account.is_try
        return in_lane < max(each.limit.running for each in self._lanes.values())

    def _share(self, value: int) -> None:
        """One membership's quota is every membership's, until one of them shows otherwise."""
        was, self._per_membership = self._per_membership, value
        for limit in (lane.limit for lane in self._lanes.values()):
            is_as_it_was = limit.value == limit.usable == was  # what was refused since is kept
            if was != value and (limit.value is None or is_as_it_was):
                limit.set(value)

    def runs(self, membership: str, job: RunningJob) -> None:
        """A job is known to run: just accepted, found by a lookup, or left by an earlier run."""
        lane = self._lane(membership)
        if lane.is_unpollable:
            return
        lane.running.pop(job.arn, None)
        lane.running[job.arn] = job
        is_unlimited = lane.limit.bound is None and self._account.bound is None
        while is_unlimited and not self.follows and len(lane.running) > _REMEMBERED:
            del lane.running[next(iter(lane.running))]
        self._count(lane)

    def gone(self, membership: str, arn: str) -> None:
        """The service does not know this job: it holds no slot."""
        lane = self._lane(membership)
        lane.running.pop(arn, None)
        self._count(lane)

    def _count(self, lane: _Lane) -> None:
        """Bring the limits in line with what runs in a lane."""
        change = len(lane.running) - lane.limit.running
        for limit in (lane.limit, self._account):
            limit.running += change
            limit.settle()

    # When to poll, and what was seen

    def due_polls(self, now: float) -> list[Poll]:
        """Give the polls that are due; they count as begun."""
        return [self._poll(lane, now) for at, lane in list(self._polls()) if at <= now]

    def wake_at(self, now: float) -> float | None:
        """When a poll or a single try comes due next. To be asked after `next` and `due_polls`, of the same moment.

        A try that is due already waits for something else than time.
        """
        moments = [at for at, _ in self._polls()]
        moments += [hold.until for hold in self._holds.values() if hold.until > now]
        around = self._account_opens_at()
        tries = [around] if around > now else map(self._opens_at, self._waiting.values())
        moments += [at for at in tries if at > now]
        first = min(moments, default=math.inf)
        return first if first < math.inf else None

    def _polls(self) -> Iterator[tuple[float, _Lane]]:
        """When lanes are polled next: those in which something runs, or may run, and that are not polled just now."""
        is_full = self._account.is_full
        for lane in self._lanes.values():
            if not lane.is_polled and (lane.limit.running or lane.wants_list or lane.is_unpollable):
                is_wanted = bool(self._waiting) if is_full else lane.membership in self._waiting and lane.limit.is_full
                yield self._poll_at(lane, is_wanted=is_wanted), lane

    def _poll_at(self, lane: _Lane, *, is_wanted: bool) -> float:
        """When a lane is polled next; `is_wanted` says whether a slot that is freed in it would be used at once."""
        if lane.is_unpollable:
            return lane.unpollable_until if is_wanted else math.inf
        least = lane.polled_at + self._settings.min_poll_seconds
        if lane.wants_list:
            return least
        if not (is_wanted or (self.follows and lane.ours)):
            return math.inf
        lane.was_wanted = is_wanted
        get_at = min(self._get_at(lane, job) for job in lane.running.values())
        return max(min(lane.listed_at + self._settings.max_poll_seconds, get_at), least)

    def _get_at(self, lane: _Lane, job: RunningJob) -> float:
        return next_get_at(job, self._times, self._settings, closely=lane.was_wanted)

    def _poll(self, lane: _Lane, now: float) -> Poll:
        """Begin a poll: a Get of each job that is due or would be when the lane may be polled again, or a List.

        Jobs of others are looked for at the start, where a refusal asks for it, and rarely otherwise.
        """
        lane.is_polled = True
        if lane.wants_list or lane.is_unpollable or lane.listed_at + self._settings.max_poll_seconds <= now:
            return Poll(lane.membership)
        until = now + self._settings.min_poll_seconds
        return Poll(
            lane.membership, tuple(arn for arn, job in lane.running.items() if self._get_at(lane, job) <= until)
        )

    def others(self, poll: Poll, seen_jobs: Iterable[SeenJob]) -> set[str]:
        """ARNs of running jobs that were not known to run."""
        running = self._lane(poll.membership).running
        return {each.arn for each in seen_jobs if each.is_running and each.arn not in running}

    def saw(self, poll: Poll, seen_jobs: Collection[SeenJob], *, began_at: float, now: float) -> list[RunningJob]:
        """Take in what a poll has seen; give the jobs that have ended.

        Run times are learned from those, and from the history that a first List shows.
        """
        lane = self._lane(poll.membership)
        kinds = {arn: job.kind for arn, job in lane.running.items()}
        is_first_list = poll.lists_all and lane.listed_at == -math.inf
        for seen in seen_jobs:
            if not seen.is_running and (seen.arn in kinds or (is_first_list and is_good_end(seen.status))):
                self._times.add(kinds.get(seen.arn, JobClass(seen.trained_model)), seen.ran_seconds)
        lane.is_polled, lane.polled_at, lane.unpollable_until = False, began_at, -math.inf
        ended = take_in(lane.running, seen_jobs, began_at=began_at, now=now, lists_all=poll.lists_all)
        self._count(lane)
        if poll.lists_all:
            lane.listed_at = began_at
            lane.wants_list &= began_at < lane.limit.refused_at
            lane.limit.listed(began_at)
        return ended

    def could_not_poll(self, poll: Poll, now: float, *, permanently: bool) -> None:
        """The service does not tell: for now, or from now on, the lane's slots come back by single tries."""
        lane = self._lane(poll.membership)
        lane.is_polled, lane.wants_list, lane.polled_at = False, False, now
        lane.unpollable_until = math.inf if permanently else now + self._settings.max_poll_seconds
        lane.running.clear()
        self._count(lane)
        for limit in (lane.limit, self._account):
            limit.not_pollable(now)

    # What people are shown

    def full_lanes(self) -> int:
        """How many memberships have jobs that wait for a slot."""
        is_full = self._account_opens_at() > -math.inf
        return sum(is_full or self._opens_at(lane) > -math.inf for lane in self._waiting.values())

    @property
    def other_quotas(self) -> dict[str, str]:
        """By membership the quota other than that of slots that holds its lane, by name and value."""
        return {membership: hold.words for membership, hold in self._holds.items()}

    def held_by_others(self) -> dict[str, str]:
        """The quotas that others seem to use, so that jobs wait though little or nothing is seen to run.

        How much of which, by membership or `account`. Where nothing can be polled it may as well be jobs of ours.
        """
        scopes = {name: lane.limit for name, lane in self._waiting.items() if not lane.is_unpollable}
        if self._waiting and not any(lane.is_unpollable for lane in self._lanes.values()):
            scopes[ACCOUNT] = self._account
        return {name: words for name, limit in scopes.items() if (words := limit.held_by_others)}

    def ours(self) -> dict[str, int]:
        """Jobs of this ledger that run, or were not seen to end, by membership."""
        return {name: lane.ours for name, lane in self._lanes.items()}

    def quotas(self) -> dict[str, int]:
        """The limits known by now: `account`, and of each membership its own."""
        return {name: bound for name, (_, bound) in self.usage().items() if bound is not None}

    def usage(self) -> dict[str, tuple[int, int | None]]:
        """Of each membership, and of the `account`, the slots that are taken, and how many there are, where known."""
        limits = {name: lane.limit for name, lane in self._lanes.items()} | {ACCOUNT: self._account}
        return {name: (limit.count + limit.held, limit.bound) for name, limit in limits.items()}
