"""Lanes under any course of events: nothing leaks, nobody starves, a closed lane stays closed."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batchsubmit.config import SlotSettings
from batchsubmit.slots import Lanes, Ticket

NAMES = ("a", "b", "c")


class AnyCourse(RuleBasedStateMachine):
    """Calls begin and end as a service and a quota please."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(SlotSettings(min_poll_seconds=1, max_poll_seconds=4))
        self.now = 0.0
        self.under_way: list[Ticket] = []
        self.closed_until: dict[str, float] = {}

    @rule(waiting=st.sets(st.sampled_from(NAMES)))
    def begin(self, waiting: set[str]) -> None:
        """Somebody asks who is next."""
        ticket = self.lanes.next(waiting, self.now)
        if ticket is None:
            return
        assert ticket.membership in waiting
        assert self.now >= self.closed_until.get(ticket.membership, 0)
        self.under_way.append(ticket)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["accepted", "refused", "ended"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """A call that is under way ends."""
        ticket = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        if how == "refused":
            self.lanes.refused(ticket, self.now)
            wake_at = self.lanes.wake_at([ticket.membership], self.now)
            if wake_at is not None:
                assert self.now < wake_at <= self.now + 4
                self.closed_until[ticket.membership] = wake_at
        else:
            getattr(self.lanes, how)(ticket)

    @rule(seconds=st.floats(0.01, 10))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def a_lane_without_calls_can_always_be_tried_again(self) -> None:
        """Within the longest poll time: a wake-up is known, or somebody may go at once."""
        for name in NAMES:
            if all(ticket.membership != name for ticket in self.under_way):
                wake_at = self.lanes.wake_at([name], self.now)
                at_once = self.lanes.next([name], self.now)
                assert (wake_at is None) == (at_once is not None)
                if at_once is not None:
                    self.lanes.ended(at_once)
                assert wake_at is None or wake_at <= self.now + 4

    @invariant()
    def full_lanes_are_lanes(self) -> None:
        """And only those that wait are named."""
        assert set(self.lanes.full(NAMES)) <= set(NAMES)
        assert self.lanes.full([]) == []


AnyCourse.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyCourse = AnyCourse.TestCase


def test_open_lanes_are_served_in_fair_turns() -> None:
    """Over many calls no lane gets more than one more than another."""
    lanes = Lanes(SlotSettings())
    served = dict.fromkeys(NAMES, 0)
    for _ in range(300):
        ticket = lanes.next(NAMES, 0)
        assert ticket is not None
        served[ticket.membership] += 1
        lanes.accepted(ticket)
        assert max(served.values()) - min(served.values()) <= 1
