"""Which membership may call next."""

from batchsubmit.config import SlotSettings
from batchsubmit.slots import Lanes, Ticket

SETTINGS = SlotSettings(min_poll_seconds=1, max_poll_seconds=8)


def tickets(lanes: Lanes, waiting: list[str], now: float, most: int = 1000) -> list[Ticket]:
    """All tickets that can be had at this moment."""
    given: list[Ticket] = []
    while len(given) < most and (ticket := lanes.next(waiting, now)) is not None:
        given.append(ticket)
    return given


def test_nobody_waiting_means_no_call() -> None:
    """And nothing to wake up for."""
    lanes = Lanes(SETTINGS)
    assert lanes.next([], 0) is None
    assert lanes.wake_at([], 0) is None
    assert lanes.wake_at(["a"], 0) is None
    assert lanes.full([]) == []


def test_lanes_take_turns() -> None:
    """No membership waits behind the jobs of another."""
    lanes = Lanes(SETTINGS)
    order = [ticket.membership for ticket in tickets(lanes, ["a", "b", "c"], 0, most=6)]
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_a_new_lane_opens_carefully_and_wider_with_each_acceptance() -> None:
    """A hundred refused calls tell no more than one; a lane without a quota is soon wide open."""
    lanes = Lanes(SETTINGS)
    first = tickets(lanes, ["a"], 0)
    assert len(first) < 10
    under_way = list(first)
    for _ in range(100):
        lanes.accepted(under_way.pop(0))
        under_way += tickets(lanes, ["a"], 0)
    assert len(under_way) > 50


def test_a_refused_lane_closes_and_is_then_tried_by_a_single_call() -> None:
    """Not by every worker."""
    lanes = Lanes(SETTINGS)
    for ticket in tickets(lanes, ["a"], 0):
        lanes.refused(ticket, 0)
    assert lanes.full(["a"]) == ["a"]
    assert lanes.next(["a"], 0.99) is None
    assert lanes.wake_at(["a"], 0.99) == 1
    assert len(tickets(lanes, ["a"], 1)) == 1


def test_a_lane_that_stays_full_is_tried_ever_more_rarely_up_to_a_bound() -> None:
    """1, 2, 4, 8, 8 seconds apart."""
    lanes = Lanes(SETTINGS)
    now, waits = 0.0, []
    for _ in range(5):
        ticket = lanes.next(["a"], now)
        assert ticket is not None
        lanes.refused(ticket, now)
        wake_at = lanes.wake_at(["a"], now)
        assert wake_at is not None
        waits.append(wake_at - now)
        now = wake_at
    assert waits == [1, 2, 4, 8, 8]


def test_a_full_lane_never_holds_up_another() -> None:
    """The other goes on at once."""
    lanes = Lanes(SETTINGS)
    ticket = lanes.next(["a"], 0)
    assert ticket is not None
    lanes.refused(ticket, 0)
    others = tickets(lanes, ["a", "b"], 0)
    assert others
    assert {each.membership for each in others} == {"b"}


def test_answers_to_calls_from_before_a_refusal_change_nothing_more() -> None:
    """Eight refusals of calls that left together count as one."""
    lanes = Lanes(SETTINGS)
    together = tickets(lanes, ["a"], 0)
    for ticket in together[:-1]:
        lanes.refused(ticket, 0)
    lanes.accepted(together[-1])
    assert lanes.wake_at(["a"], 0) == 1
    assert lanes.full(["a"]) == ["a"]
    assert lanes.next(["a"], 0.5) is None


def test_an_accepted_try_opens_the_lane_again_one_call_at_a_time() -> None:
    """One freed slot is one job, not a volley."""
    lanes = Lanes(SETTINGS)
    for ticket in tickets(lanes, ["a"], 0):
        lanes.refused(ticket, 0)
    [probe] = tickets(lanes, ["a"], 1)
    lanes.accepted(probe)
    assert lanes.full(["a"]) == []
    assert len(tickets(lanes, ["a"], 1)) == 1


def test_a_call_that_says_nothing_of_slots_gives_its_place_back() -> None:
    """A failed job must not narrow its lane."""
    lanes = Lanes(SETTINGS)
    first = tickets(lanes, ["a"], 0)
    for ticket in first:
        lanes.ended(ticket)
    assert len(tickets(lanes, ["a"], 0)) == len(first)


def test_a_least_poll_above_the_most_is_kept() -> None:
    """Settings that contradict each other never make the lane spin."""
    lanes = Lanes(SlotSettings(min_poll_seconds=60, max_poll_seconds=1))
    ticket = lanes.next(["a"], 0)
    assert ticket is not None
    lanes.refused(ticket, 0)
    assert lanes.wake_at(["a"], 0) == 60


def test_a_quota_that_is_set_bounds_the_calls_under_way() -> None:
    """More than its slots cannot be accepted: of one membership, and of all together."""
    lanes = Lanes(SlotSettings(per_membership=2, per_account=3))
    under_way = tickets(lanes, ["a", "b", "c"], 0)
    assert len(under_way) == 3
    assert max([each.membership for each in under_way].count(name) for name in "abc") <= 2
    assert lanes.next(["c"], 0) is None
    lanes.accepted(under_way[0])
    assert lanes.next(["c"], 0) is not None
    assert len(tickets(Lanes(SlotSettings(per_membership=2)), ["a"], 0)) == 2
