"""Slots under any course of events: known limits are kept, nobody idles in vain or starves, and it comes to an end.

The model is a service with nested quotas, jobs of others that come and go, a List that lags or is forbidden, refusals
with and without name and value, and calls whose outcome is never known.
"""

import itertools
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategies import examples

from batchsubmit.config import SlotSettings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.jobs import QuotaExceeded
from batchsubmit.core.ledger_state import ACCOUNT
from batchsubmit.slots import JobClass, Poll, RunningJob, SeenJob, Slots, Ticket

NAMES = ("a", "b", "c")
ELSEWHERE = "elsewhere"
KIND = JobClass("model", "ml.m5.large")
LONGEST_POLL = 60.0
LONGEST_JOB = 100.0


@dataclass(slots=True)
class ModelJob:
    """A job as it really is."""

    arn: str
    home: str
    began_at: float
    ends_at: float
    is_ours: bool


class ModelService:
    """Who really runs, and what that means for a call or a poll."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.per_membership = 5
        self.per_account = 10
        self.tells_value = self.tells_name = True
        self.lag = 0.0
        self.is_blind = False
        self._numbers = itertools.count()

    def running(self, now: float, home: str | None = None) -> int:
        """Slots that are really taken."""
        return sum(job.ends_at > now and home in {None, job.home} for job in self.jobs.values())

    def refusal(self, home: str, now: float) -> QuotaExceeded | None:
        """Whether a call would be refused, and in which words."""
        for name, quota, held in (
            ("jobs per membership", self.per_membership, self.running(now, home)),
            ("jobs per account", self.per_account, self.running(now)),
        ):
            if held >= quota:
                value = float(quota) if self.tells_value else None
                return QuotaExceeded("ServiceQuotaExceededException", "", name if self.tells_name else None, value)
        return None

    def begin(self, home: str, now: float, seconds: float, *, is_ours: bool) -> ModelJob:
        """A job is accepted."""
        arn = f"arn-{next(self._numbers)}"
        self.jobs[arn] = ModelJob(arn, home, now, now + seconds, is_ours)
        return self.jobs[arn]

    def seen_jobs(self, poll: Poll, now: float) -> list[SeenJob]:
        """What List or Get show."""
        seen = [job for job in self.jobs.values() if job.home == poll.membership]
        if poll.lists_all:
            shown = [job for job in seen if job.began_at <= now - self.lag]
        else:
            shown = [job for job in seen if job.arn in poll.arns]
        return [_seen_job(job, now) for job in shown]


def _seen_job(job: ModelJob, now: float) -> SeenJob:
    is_running = job.ends_at > now
    until = min(now, job.ends_at)
    return SeenJob(
        arn=job.arn,
        status="CREATE_IN_PROGRESS" if is_running else "ACTIVE",
        is_running=is_running,
        trained_model="model",
        ran_seconds=until - job.began_at,
    )


class AnyCourse(RuleBasedStateMachine):
    """Jobs to submit, and a world that does as it pleases."""

    @initialize(
        per_membership=st.sampled_from([0, 0, 3]),
        per_account=st.sampled_from([0, 0, 4]),
        follows=st.booleans(),
        tells_value=st.booleans(),
        tells_name=st.booleans(),
    )
    def open_the_service(
        self, per_membership: int, per_account: int, *, follows: bool, tells_value: bool, tells_name: bool
    ) -> None:
        """With a user's word on the quotas or without."""
        self.per_membership, self.per_account = per_membership, per_account
        self.slots = Slots(
            SlotSettings(
                per_membership=per_membership,
                per_account=per_account,
                min_poll_seconds=1,
                max_poll_seconds=LONGEST_POLL,
            ),
            RunTimes(),
            follows=follows,
        )
        self.service = ModelService()
        self.service.tells_value, self.service.tells_name = tells_value, tells_name
        self.now = 0.0
        self.waiting: dict[str, int] = {}
        self.under_way: list[Ticket] = []
        self.polls: list[tuple[Poll, float]] = []

    # The program

    @rule(home=st.sampled_from(NAMES), count=st.integers(1, 9))
    def jobs_come(self, home: str, count: int) -> None:
        """A lane has work, or more of it."""
        self.waiting[home] = self.waiting.get(home, 0) + count

    @rule(most=st.integers(1, 12))
    def begin(self, most: int) -> None:
        """The engine asks who is next, until nobody is or all hands are full."""
        for _ in range(most):
            if not self._begin_one():
                return

    def _begin_one(self) -> bool:
        self.usage = self.slots.usage()
        ticket = self.slots.next(self.waiting.keys(), self.now)
        if ticket is None:
            self._nobody_idles_in_vain()
            return False
        assert ticket.membership in self.waiting
        self._keeps_known_limits(ticket)
        self.waiting[ticket.membership] -= 1
        if not self.waiting[ticket.membership]:
            del self.waiting[ticket.membership]
        self.under_way.append(ticket)
        return True

    def _keeps_known_limits(self, ticket: Ticket) -> None:
        """Beyond a limit there are only single tries, and never beyond the user's word."""
        home, before = ticket.membership, self.usage
        scopes = [
            (before.get(home, (0, None)), self.per_membership, ticket.lane.is_try, self._tries(home)),
            (before[ACCOUNT], self.per_account, ticket.account.is_try, self._tries()),
        ]
        for (taken, bound), cap, is_try, others in scopes:
            assert is_try or bound is None or taken < bound
            assert not cap or is_try or taken < cap
            assert not (is_try and others)
        held, around = (self.slots.usage()[scope][0] for scope in (home, ACCOUNT))
        assert not self.per_membership or not ticket.lane.is_try or held <= self.per_membership
        assert not self.per_account or not ticket.account.is_try or around <= self.per_account

    def _tries(self, home: str | None = None) -> int:
        """The single tries under way, of the account or of a lane."""
        return sum(
            each.lane.is_try if home == each.membership else not home and each.account.is_try for each in self.under_way
        )

    def _nobody_idles_in_vain(self) -> None:
        """A lane that waits has no room, or its account has none; and someone will wake."""
        taken, bound = self.slots.usage()[ACCOUNT]
        for home in self.waiting:
            lane_taken, lane_bound = self.slots.usage()[home]
            has_room = lane_bound is not None and bound is not None and lane_taken < lane_bound and taken < bound
            assert not has_room or not self.service.tells_value
        if self.waiting and not self.under_way and not self.polls:
            wake_at, polls = self.slots.wake_at(self.now), self.slots.due_polls(self.now)
            assert wake_at is not None or polls
            self.polls += [(poll, self.now) for poll in polls]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), seconds=st.floats(0.1, LONGEST_JOB))
    def a_call_ends(self, data: st.DataObject, seconds: float) -> None:
        """Accepted or refused, as the quotas have it."""
        self._answer(data.draw(st.integers(0, len(self.under_way) - 1)), seconds)

    def _answer(self, number: int, seconds: float) -> None:
        ticket = self.under_way.pop(number)
        refusal = self.service.refusal(ticket.membership, self.now)
        if refusal is None:
            job = self.service.begin(ticket.membership, self.now, seconds, is_ours=True)
            self.slots.accepted(ticket, self._known(job), self.now)
        else:
            self.slots.refused(ticket, refusal, self.now)
            self.waiting[ticket.membership] = self.waiting.get(ticket.membership, 0) + 1

    def _known(self, job: ModelJob) -> RunningJob:
        return RunningJob(arn=job.arn, key=job.arn, kind=KIND, began_at=self.now, seen_at=self.now)

    @precondition(lambda self: self.under_way)
    @rule(took_effect=st.booleans(), is_found=st.booleans())
    def an_answer_is_lost(self, *, took_effect: bool, is_found: bool) -> None:
        """The job may run all the same; a lookup may find it."""
        ticket = self.under_way.pop()
        self.slots.ended(ticket)
        if took_effect and self.service.refusal(ticket.membership, self.now) is None:
            job = self.service.begin(ticket.membership, self.now, LONGEST_JOB / 2, is_ours=True)
            if is_found:
                self.slots.runs(ticket.membership, self._known(job))

    @rule()
    def begin_polls(self) -> None:
        """Those that are due."""
        for poll in self.slots.due_polls(self.now):
            assert all(poll.membership != other.membership for other, _ in self.polls)
            self.polls.append((poll, self.now))

    @precondition(lambda self: self.polls)
    @rule()
    def a_poll_ends(self) -> None:
        """It shows what there is, or may not."""
        poll, began_at = self.polls.pop(0)
        if self.service.is_blind:
            self.slots.could_not_poll(poll, self.now, permanently=True)
            return
        seen_jobs = self.service.seen_jobs(poll, self.now)
        for arn in sorted(self.slots.others(poll, seen_jobs)):
            if self.service.jobs[arn].is_ours:
                self.slots.runs(poll.membership, self._known(self.service.jobs[arn]))
        for each in self.slots.saw(poll, seen_jobs, began_at=began_at, now=self.now):
            assert self.service.jobs[each.arn].ends_at <= self.now

    # The world

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 5.0, 30.0, LONGEST_POLL]))
    def wait(self, seconds: float) -> None:
        """Time passes; jobs end."""
        self.now += seconds

    @rule(home=st.sampled_from([*NAMES, ELSEWHERE]), count=st.integers(1, 4), seconds=st.floats(1, LONGEST_JOB))
    def others_start_jobs(self, home: str, count: int, seconds: float) -> None:
        """In a membership of ours, or in one that nobody here looks at."""
        for _ in range(count):
            if self.service.refusal(home, self.now) is None:
                self.service.begin(home, self.now, seconds, is_ours=False)

    @rule(per_membership=st.integers(1, 8), per_account=st.integers(1, 20))
    def quotas_change(self, per_membership: int, per_account: int) -> None:
        """Raised or lowered."""
        self.service.per_membership, self.service.per_account = per_membership, per_account

    @rule(lag=st.sampled_from([0.0, 0.0, 3.0]))
    def list_lags(self, lag: float) -> None:
        """New jobs are shown later."""
        self.service.lag = lag

    @rule(is_blind=st.booleans())
    def polling_is_forbidden_or_not(self, *, is_blind: bool) -> None:
        """The role changes."""
        self.service.is_blind = is_blind

    # What must always hold

    @invariant()
    def the_books_are_right(self) -> None:
        """What is counted is what is there."""
        if not hasattr(self, "slots"):
            return
        usage, running = self.slots.usage(), sum(len(each.running) for each in self.slots._lanes.values())
        around, _ = usage.pop(ACCOUNT)
        assert sum(taken for taken, _ in usage.values()) >= running + len(self.under_way)
        assert around >= running + len(self.under_way)
        assert sum(self.slots.ours().values()) <= running

    def teardown(self) -> None:
        """Left alone, all that waits is submitted, in not much more time than that takes on the slots there are."""
        if not hasattr(self, "slots"):
            return
        waiting = sum(self.waiting.values()) + len(self.under_way)
        patience = self.now + (waiting + 12) * (LONGEST_JOB + 3 * LONGEST_POLL)
        calls = 0
        while self.waiting or self.under_way:
            assert self.now < patience
            while self._begin_one():
                calls += 1
            while self.under_way:
                self._answer(0, 10.0)
            while self.polls:
                self.a_poll_ends()
            self.begin_polls()
            if not self.polls:
                self._jump()
        assert calls < 40 * (waiting + 12)

    def _jump(self) -> None:
        """To whatever happens next."""
        if self._begin_one():
            return
        wake_at = self.slots.wake_at(self.now)
        assert wake_at is not None or not self.waiting, "nobody will ever wake"
        self.now = self.now if wake_at is None else wake_at


AnyCourse.TestCase.settings = settings(max_examples=examples(300), stateful_step_count=40)
TestAnyCourse = AnyCourse.TestCase


def test_lanes_share_a_scarce_account_within_one_slot() -> None:
    """Whoever's jobs end first."""
    slots = Slots(SlotSettings(per_account=10), RunTimes())
    held: dict[str, list[str]] = {name: [] for name in NAMES}
    numbers = itertools.count()
    for turn in range(300):
        while (ticket := slots.next(NAMES, turn)) is not None:
            arn = f"arn-{next(numbers)}"
            job = RunningJob(arn=arn, key=arn, kind=KIND, began_at=turn, seen_at=turn)
            slots.accepted(ticket, job, turn)
            held[ticket.membership].append(arn)
        assert sum(map(len, held.values())) == 10
        assert max(map(len, held.values())) - min(map(len, held.values())) <= 1
        home = NAMES[turn * turn % 3]
        for _ in range(1 + turn % len(held[home])):
            arn = held[home].pop(0)
            slots.gone(home, arn)
