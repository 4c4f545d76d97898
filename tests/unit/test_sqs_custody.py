"""When held messages are extended and given back; the queue model in memory holds the same limits."""

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.queue.held import LIMIT_SECONDS, Extension, HeldMessages


def test_a_message_is_extended_once_a_third_of_its_time_is_left() -> None:
    """And then again as long after."""
    custody = HeldMessages(300)
    custody.receive("a", "receipt", 0)
    assert custody.due(199) == []
    assert custody.wake_at() == 200
    assert custody.due(200) == [Extension("a", "receipt", 300)]
    custody.extended(Extension("a", "receipt", 300), 200)
    assert custody.due(399) == []
    assert custody.due(400) == [Extension("a", "receipt", 300)]


def test_messages_that_are_nearly_due_are_extended_with_the_first() -> None:
    """One call carries ten: what came one by one is not extended one by one."""
    custody = HeldMessages(300)
    for number in range(10):
        custody.receive(str(number), "receipt", 10 * number)
    assert len(custody.due(199)) == 0
    assert [each.id for each in custody.due(200)] == ["0", "1", "2", "3", "4", "5"]


def test_the_limit_ends_it_in_time() -> None:
    """Nothing is extended beyond twelve hours, and what waits goes back before."""
    custody = HeldMessages(300)
    custody.receive("a", "receipt", 0)
    now = 0.0
    while not custody.ending(now):
        for extension in custody.due(now):
            assert now + extension.seconds <= LIMIT_SECONDS
            custody.extended(extension, now)
        now += 60
    assert LIMIT_SECONDS - 300 <= now < LIMIT_SECONDS - 60
    assert not custody.is_over("a", now)
    assert custody.is_over("a", LIMIT_SECONDS)


def test_a_new_delivery_s_receipt_replaces_the_old_one() -> None:
    """An extension of the old one that comes late says nothing of the new one."""
    custody = HeldMessages(300)
    custody.receive("a", "old", 0)
    custody.receive("a", "new", 1000)
    custody.extended(Extension("a", "old", 300), 5000)
    assert custody.due(1200) == [Extension("a", "new", 300)]
    custody.let_go("a")
    assert len(custody) == 0
    assert custody.wake_at() is None


@given(st.integers(1, 43_200), st.floats(0, 1e6), st.lists(st.floats(0.01, 5000), max_size=50))
def test_no_extension_ever_passes_the_limit(visibility: int, began: float, steps: list[float]) -> None:
    """Whenever one looks, and however rarely."""
    custody = HeldMessages(visibility)
    custody.receive("a", "receipt", began)
    now = began
    for step in steps:
        now += step
        for extension in custody.due(now):
            assert extension.seconds >= 1
            assert now + extension.seconds <= began + LIMIT_SECONDS + 1e-6
            custody.extended(extension, now)
