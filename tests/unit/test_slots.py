"""Which membership may call next, what answers teach, and which poll is due."""

import itertools
import math

import pytest

from batchsubmit.config import SlotSettings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.jobs import OtherQuotaExceeded, QuotaExceeded
from batchsubmit.slots import JobClass, Poll, RunningJob, SeenJob, Slots, Ticket, other_quota_words

KIND = JobClass("model", "ml.m5.large")
MEMBERSHIP = "Pending/in-progress custom model inference jobs per membership"
ACCOUNT = "Pending/in-progress custom model inference jobs per account"
SPENT = OtherQuotaExceeded("ServiceQuotaExceededException", "", "Data access budget", 0)
NUMBERS = itertools.count()


def fresh(*, follows: bool = False, **settings: object) -> Slots:
    """Nothing learned; polls and tries of 1 to 100 seconds."""
    values = {"min_poll_seconds": 1, "max_poll_seconds": 100} | settings
    return Slots(SlotSettings.model_validate(values), RunTimes(), follows=follows)


def full(value: float | None = None, name: str | None = MEMBERSHIP) -> QuotaExceeded:
    """The answer of a quota that is used up."""
    return QuotaExceeded("ServiceQuotaExceededException", "", quota_name=name, quota_value=value)


def job(now: float = 0.0, *, ours: bool = True) -> RunningJob:
    """A job that runs from now on."""
    arn = f"arn-{next(NUMBERS)}"
    return RunningJob(arn=arn, key=arn if ours else "", kind=KIND, began_at=now, seen_at=now)


def sight(arn: str, *, is_running: bool = True, ran: float = 10.0) -> SeenJob:
    """A job as a poll shows it."""
    status = "CREATE_IN_PROGRESS" if is_running else "ACTIVE"
    return SeenJob(arn=arn, status=status, is_running=is_running, trained_model="model", ran_seconds=ran)


def tickets(slots: Slots, waiting: list[str], now: float = 0.0, most: int = 1000) -> list[Ticket]:
    """All tickets that can be had at this moment."""
    given: list[Ticket] = []
    while len(given) < most and (ticket := slots.next(waiting, now)) is not None:
        given.append(ticket)
    return given


def accept_all(slots: Slots, waiting: list[str], now: float = 0.0, most: int = 1000) -> list[tuple[str, str]]:
    """Every call that may be made is accepted; gives membership and ARN of the jobs."""
    jobs = []
    for _ in range(most):
        ticket = slots.next(waiting, now)
        if ticket is None:
            break
        started = job(now)
        slots.accepted(ticket, started, now)
        jobs.append((ticket.membership, started.arn))
    return jobs


def end(slots: Slots, membership: str, arn: str, now: float) -> None:
    """A job has ended, and a poll has shown it."""
    slots.saw(Poll(membership, (arn,)), [sight(arn, is_running=False)], began_at=now, now=now)


def first_poll(slots: Slots, now: float) -> Poll | None:
    """The poll that is due, where one is."""
    return next(iter(slots.due_polls(now)), None)


def test_nobody_waiting_means_no_call() -> None:
    """And nothing to wake up for."""
    slots = fresh()
    assert slots.next([], 0) is None
    assert first_poll(slots, 0) is None
    assert slots.wake_at(0) is None
    assert slots.full_lanes() == 0


def test_lanes_take_turns() -> None:
    """No membership waits behind the jobs of another."""
    order = [ticket.membership for ticket in tickets(fresh(), ["a", "b", "c"], most=6)]
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_the_default_quotas_are_used_at_once() -> None:
    """Five a membership and ten in the account, before anything is learned."""
    assert len(tickets(fresh(), ["a"])) == 5
    assert len(tickets(fresh(), ["a", "b", "c"])) == 10


def test_a_service_without_quotas_is_soon_used_by_many_calls_at_once() -> None:
    """The window grows with each acceptance."""
    slots = fresh()
    accept_all(slots, ["a"], most=100)
    assert len(tickets(slots, ["a"])) > 50
    assert slots.wake_at(0) is None


def test_a_full_lane_never_holds_up_another() -> None:
    """The other goes on at once."""
    slots = fresh()
    accept_all(slots, ["a"], most=3)
    ticket = slots.next(["a"], 0)
    assert ticket is not None
    slots.refused(ticket, full(3.0), 0)
    assert {each.membership for each in tickets(slots, ["a", "b"])} == {"b"}
    assert slots.full_lanes() >= 1


def test_one_membership_s_quota_is_every_membership_s_until_shown_otherwise() -> None:
    """The second lane is not refused to learn it again."""
    slots = fresh()
    accept_all(slots, ["a"], most=3)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(3.0), 0)
    assert len(accept_all(slots, ["b"])) == 3
    assert slots.quotas() == {"a": 3, "b": 3}


def test_a_freed_slot_is_filled_at_once() -> None:
    """By the same lane, or where the account was full by the one with the fewest slots."""
    slots = fresh(per_membership=5, per_account=6)
    jobs = accept_all(slots, ["a", "b", "c"])
    assert len(jobs) == 6
    end(slots, *next(each for each in jobs if each[0] == "b"), now=5)
    assert [each.membership for each in tickets(slots, ["a", "b", "c"], 5)] == ["b"]


def test_priorities_come_first_and_equals_share() -> None:
    """The account's slots are scarce: c has what it can use, the others the rest."""
    slots = fresh(per_membership=5, per_account=9, priorities={"c": 7})
    homes = [home for home, _ in accept_all(slots, ["a", "b", "c"])]
    assert [homes.count(each) for each in "abc"] == [2, 2, 5]


def test_the_user_s_word_is_never_exceeded_by_a_probe() -> None:
    """Also where the service would say more."""
    slots = fresh(per_membership=2, per_account=3)
    assert len(accept_all(slots, ["a", "b"])) == 3
    assert tickets(slots, ["a", "b"], 1e6) == []


def test_quotas_that_were_told_in_advance_cost_no_refusal_and_may_still_be_raised() -> None:
    """Service Quotas may be asked at the start."""
    slots = fresh()
    slots.set_known(per_membership=3, per_account=4, now=0)
    assert len(accept_all(slots, ["a", "b"])) == 4
    assert slots.quotas() == {"a": 3, "b": 3, "account": 4}
    assert tickets(slots, ["a", "b"], 174) == []
    assert len(tickets(slots, ["a", "b"], 175)) == 1


def test_a_raised_quota_is_found_by_one_call_and_then_used() -> None:
    """Within two of the longest intervals."""
    slots = fresh()
    accept_all(slots, ["a"], most=5)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(5.0), 0)
    assert tickets(slots, ["a"], 174) == []
    assert slots.wake_at(0) is not None
    [probe] = tickets(slots, ["a"], 175)
    slots.accepted(probe, job(175), 175)
    assert len(accept_all(slots, ["a"], 176, most=20)) == 20


def test_a_probe_that_is_refused_teaches_nothing_new_and_is_not_repeated_soon() -> None:
    """The quota is what it was."""
    slots = fresh()
    accept_all(slots, ["a"], most=5)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(5.0), 0)
    slots.refused(tickets(slots, ["a"], 175)[0], full(5.0), 175)
    assert tickets(slots, ["a"], 349) == []
    assert len(tickets(slots, ["a"], 350)) == 1


def test_what_others_hold_is_counted_and_their_slots_come_back() -> None:
    """A refusal below our own count leads to a count; when their job ends, its slot is ours."""
    slots = fresh()
    [mine] = accept_all(slots, ["a"], most=1)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(2.0), 0)
    assert tickets(slots, ["a"]) == []
    poll = first_poll(slots, 0)
    assert poll == Poll("a")
    assert slots.others(poll, [sight(mine[1]), sight("theirs")]) == {"theirs"}
    slots.saw(poll, [sight(mine[1]), sight("theirs")], began_at=0, now=0)
    assert sum(slots.ours().values()) == 1
    slots.saw(Poll("a"), [sight(mine[1]), sight("theirs", is_running=False)], began_at=9, now=9)
    assert len(tickets(slots, ["a"], 9)) == 1


def test_a_refusal_without_a_name_is_put_down_to_the_quota_that_can_have_been_full() -> None:
    """Three lanes of three and four: not one membership's five, but the account's ten."""
    slots = fresh()
    jobs = accept_all(slots, ["a", "b", "c"], most=10)
    ticket = slots.next(["b"], 0)
    assert ticket is not None
    slots.refused(ticket, full(None, None), 0)
    poll = first_poll(slots, 0)
    assert poll == Poll("a")
    slots.saw(poll, [sight(arn) for home, arn in jobs if home == "a"], began_at=0, now=0)
    assert slots.quotas() == {"account": 10}
    assert tickets(slots, ["a", "b", "c"], 1) == []


def test_a_value_alone_names_the_quota_too() -> None:
    """Ten is what ran in the account."""
    slots = fresh()
    accept_all(slots, ["a", "b", "c"], most=10)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(10.0, None), 0)
    assert slots.quotas() == {"account": 10}


def test_a_lowered_quota_is_not_taken_for_a_raised_one() -> None:
    """More runs than it allows, and no call is made until enough has ended."""
    slots = fresh(per_membership=5)
    jobs = accept_all(slots, ["a"])
    end(slots, *jobs.pop(), now=1)
    slots.refused(tickets(slots, ["a"], 1)[0], full(2.0), 1)
    slots.saw(Poll("a"), [sight(arn) for _, arn in jobs], began_at=2, now=2)
    assert slots.quotas()["a"] == 2
    for left in jobs[:2]:
        end(slots, *left, now=3)
        assert tickets(slots, ["a"], 3) == []
    end(slots, *jobs[2], now=4)
    assert len(tickets(slots, ["a"], 4)) == 1


def test_where_nothing_may_be_polled_slots_come_back_by_single_tries() -> None:
    """No poll is ever due again; with one that may work later, it is."""
    slots = fresh()
    accept_all(slots, ["a"], most=5)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(5.0), 0)
    poll = first_poll(slots, slots.wake_at(0) or 0)
    assert poll is not None
    slots.could_not_poll(poll, 1, permanently=True)
    assert slots.held_by_others() == {}
    wake_at = slots.wake_at(1)
    assert wake_at is not None
    assert len(tickets(slots, ["a"], wake_at)) == 1
    assert first_poll(slots, 1e9) is None
    slots.could_not_poll(poll, 10, permanently=False)
    assert first_poll(slots, 1e9) == Poll("a")


def test_a_poll_that_came_due_meanwhile_is_not_forgotten() -> None:
    """It is due now, and hides none that comes later."""
    slots = fresh(follows=True)
    [(_, arn)] = accept_all(slots, ["a"], most=1)
    assert first_poll(slots, 0) == Poll("a")
    slots.saw(Poll("a"), [sight(arn)], began_at=0, now=0)
    assert first_poll(slots, 0.5) is None
    due_at = slots.wake_at(0.5)
    assert due_at is not None
    assert slots.wake_at(due_at + 1) == due_at


def test_a_poll_that_is_under_way_is_not_begun_again() -> None:
    """One poll a membership at a time."""
    slots = fresh(follows=True)
    accept_all(slots, ["a"], most=1)
    assert first_poll(slots, 1000) is not None
    assert first_poll(slots, 1e6) is None


def test_without_anybody_waiting_only_followed_jobs_are_polled() -> None:
    """A run that does not wait for ends makes no needless call."""
    for follows in (False, True):
        slots = fresh(follows=follows)
        accept_all(slots, ["a"], most=3)
        assert slots.next([], 1) is None
        assert (first_poll(slots, 1e6) is not None) is follows
        assert sum(slots.ours().values()) == 3


def test_a_job_that_the_service_does_not_know_holds_no_slot() -> None:
    """It is as if it had ended."""
    slots = fresh(per_membership=1)
    [(home, arn)] = accept_all(slots, ["a"])
    assert tickets(slots, ["a"]) == []
    slots.gone(home, arn)
    assert len(tickets(slots, ["a"])) == 1
    assert sum(slots.ours().values()) == 0


def test_ours_that_a_list_lacks_hold_their_slots_until_they_are_asked_for() -> None:
    """List may lag; others' jobs that it lacks have ended."""
    slots = fresh(per_membership=3)
    [(_, arn)] = accept_all(slots, ["a"], most=1)
    slots.saw(Poll("a"), [sight(arn), sight("theirs")], began_at=5, now=5)
    slots.saw(Poll("a"), [], began_at=61, now=61)
    assert sum(slots.ours().values()) == 1


def test_history_that_a_first_list_shows_is_learned_from() -> None:
    """Jobs of other days tell how long these will take."""
    times = RunTimes()
    slots = Slots(SlotSettings(), times)
    slots.saw(Poll("a"), [sight("old", is_running=False, ran=1234.0)], began_at=0, now=0)
    assert times.ended() == [1234.0]


def test_a_call_that_says_nothing_of_slots_gives_its_place_back() -> None:
    """A failed job must not narrow its lane."""
    slots = fresh()
    first = tickets(slots, ["a"])
    for ticket in first:
        slots.ended(ticket)
    assert len(tickets(slots, ["a"])) == len(first)


def test_others_are_named_only_after_tries_that_stay_refused() -> None:
    """And no longer once a try was accepted."""
    slots = fresh()
    now = 0.0
    for _ in range(5):
        ticket = slots.next(["a"], now)
        assert ticket is not None
        slots.refused(ticket, full(5.0), now)
        poll = first_poll(slots, now + 1)
        if poll is not None:
            slots.saw(poll, [], began_at=now + 1, now=now + 1)
        now = max(now + 1, slots.wake_at(now) or now)
    assert slots.held_by_others() == {"a": "5 of 5"}
    ticket = slots.next(["a"], now)
    assert ticket is not None
    slots.accepted(ticket, job(now), now)
    assert slots.held_by_others() == {}


def test_lanes_that_come_and_go_are_neither_overlooked_nor_called_in_vain() -> None:
    """As many wait as before, but others."""
    slots = fresh(per_membership=1)
    assert [each.membership for each in tickets(slots, ["a", "b"])] == ["a", "b"]
    assert [each.membership for each in tickets(slots, ["c", "b"])] == ["c"]
    assert tickets(slots, ["b", "c"]) == []
    assert [each.membership for each in tickets(slots, ["d", "e", "f"])] == ["d", "e", "f"]


def test_a_lane_that_waits_no_more_gets_no_ticket() -> None:
    """Another was named in its place, while it was still thought to be waiting."""
    slots = fresh(per_membership=1)
    for ticket in tickets(slots, ["a", "b"]):
        slots.ended(ticket)
    assert slots.next(["a", "b"], 0) is not None
    assert [each.membership for each in tickets(slots, ["a", "c"])] == ["c"]


@pytest.mark.parametrize("least", [1, 60])
def test_a_least_poll_above_the_most_is_kept(least: float) -> None:
    """Settings that contradict each other never make a lane spin."""
    slots = fresh(min_poll_seconds=least, max_poll_seconds=1)
    slots.refused(tickets(slots, ["a"], most=1)[0], full(5.0), 0)
    poll = first_poll(slots, math.inf)
    assert poll is not None
    slots.saw(poll, [], began_at=0, now=0)
    wake_at = slots.wake_at(0)
    assert wake_at is not None
    assert wake_at >= least


def test_running_jobs_are_asked_for_rarely_at_first_and_closely_near_their_end() -> None:
    """By a Get of those alone that are due, at a small part of how long such jobs run."""
    times = RunTimes()
    for seconds in [1750.0, 1800.0, 1850.0] * 10:
        times.add(KIND, seconds)
    slots = Slots(SlotSettings(per_membership=2, max_poll_seconds=1e5), times)
    (_, first), (_, second) = accept_all(slots, ["a"])
    assert tickets(slots, ["a"]) == []
    slots.saw(*listed(slots, first, second), began_at=0, now=0)
    early = slots.wake_at(0)
    assert early == 300
    slots.saw(Poll("a", (first,)), [sight(first)], began_at=1760, now=1760)
    assert slots.due_polls(1761) == [Poll("a", (second,))]
    slots.saw(Poll("a", (second,)), [sight(second)], began_at=1761, now=1761)
    late = slots.wake_at(1761)
    assert late is not None
    assert late - 1760 < early / 5


def listed(slots: Slots, *arns: str) -> tuple[Poll, list[SeenJob]]:
    """The List that is due at the start, and what it shows."""
    [poll] = slots.due_polls(0)
    assert poll == Poll("a")
    return poll, [sight(arn, ran=0) for arn in arns]


def test_a_silent_refusal_of_the_account_below_a_guess_does_not_turn_into_a_volley() -> None:
    """An end that was not seen yet made the account seem larger than it is: single tries at growing intervals."""
    slots = fresh()
    jobs = accept_all(slots, list("abcdef"), most=10)
    calls, now = 0, 0.0
    while now < 90:
        ticket = slots.next(list("abcdef"), now)
        if ticket is not None:
            calls += 1
            slots.refused(ticket, full(None, None), now)
        for poll in slots.due_polls(now):
            slots.saw(poll, [sight(arn) for home, arn in jobs if home == poll.membership], began_at=now, now=now)
        now += 0.5
    assert calls <= 12


def test_values_that_contradict_each_other_make_no_lane_forget_what_was_refused() -> None:
    """Two memberships are told different quotas in turn, while all their slots are taken by jobs that nobody sees."""
    slots = fresh()
    calls = 0
    for turn in range(200):
        ticket = slots.next(["a", "b"], 0)
        if ticket is None:
            break
        calls += 1
        slots.refused(ticket, full(5.0 + turn % 2), 0)
    assert calls <= 10


def hold(slots: Slots, now: float) -> float | None:
    """Call in lane a and be refused for another quota; gives the seconds until the next try."""
    ticket = slots.next(["a"], now)
    assert ticket is not None
    slots.called(ticket)
    if slots.other_quotas:
        assert slots.next(["a"], now + 1000) is None
    return slots.held(ticket, SPENT, now)


def test_a_held_lane_is_tried_by_one_call_at_growing_intervals() -> None:
    """The wait doubles from 30 seconds up to its bound; other lanes are not held."""
    slots = fresh()
    [ticket] = tickets(slots, ["a"], most=1)
    assert slots.held(ticket, SPENT, 0) == 30
    assert tickets(slots, ["a"], 29) == []
    assert slots.wake_at(29) == 30
    assert {each.membership for each in tickets(slots, ["a", "b"], 29)} == {"b"}
    assert hold(slots, 30) == 60
    assert hold(slots, 90) == 100
    assert hold(slots, 190) == 100
    assert slots.other_quotas == {"a": "'Data access budget' of 0"}
    assert slots.full_lanes() == 0


def test_late_answers_of_calls_before_the_hold_change_nothing() -> None:
    """Many may be under way when the first is refused."""
    slots = fresh()
    first, second, third = tickets(slots, ["a"], most=3)
    assert slots.held(first, SPENT, 0) == 30
    assert slots.held(second, SPENT, 1) is None
    slots.accepted(third, job(2), 2)
    assert tickets(slots, ["a"], 29) == []
    assert slots.wake_at(29) == 30


def test_a_try_with_another_outcome_ends_the_hold_and_forgets_it() -> None:
    """It was accepted, or slots were full; the next hold begins with the first wait."""
    slots = fresh()
    assert hold(slots, 0) == 30
    assert hold(slots, 30) == 60
    ticket = slots.next(["a"], 90)
    assert ticket is not None
    slots.called(ticket)
    slots.accepted(ticket, job(90), 90)
    assert not slots.other_quotas
    assert hold(slots, 92) == 30


def test_a_ticket_that_is_given_back_without_a_call_says_nothing_of_the_hold() -> None:
    """The row was put aside for its input: the next wait is as long as after a call."""
    slots = fresh()
    assert hold(slots, 0) == 30
    [ticket] = tickets(slots, ["a"], 30, most=1)
    slots.ended(ticket)
    assert slots.other_quotas == {"a": "'Data access budget' of 0"}
    assert hold(slots, 30) == 60


def test_a_held_lane_whose_time_has_come_ranks_as_it_would_without_the_hold() -> None:
    """Another lane always has room; behind that one it would never be tried."""
    slots = fresh()
    hold(slots, 0)
    assert [each.membership for each in tickets(slots, ["a", "b"], 30, most=2)] == ["b", "a"]


def test_a_held_lane_does_not_wait_for_a_slot() -> None:
    """People are shown the quota that holds it instead."""
    slots = fresh(per_account=1)
    hold(slots, 0)
    [ticket] = tickets(slots, ["a", "b"], 1)
    slots.accepted(ticket, job(1), 1)
    assert tickets(slots, ["a", "b"], 2) == []
    assert slots.full_lanes() == 1


def test_a_quota_without_a_value_is_named_without_one() -> None:
    """Nothing is made up."""
    assert other_quota_words(OtherQuotaExceeded("", "", "Data access budget")) == "'Data access budget'"
