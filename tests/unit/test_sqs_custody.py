"""When held messages are extended and given back; the queue model in memory holds the same limits."""

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.sources.sqs.custody import LIMIT_SECONDS, Custody, Extension


def test_a_message_is_extended_once_half_of_its_time_is_over() -> None:
    """And then again half a time later."""
    custody = Custody(300)
    custody.receive("a", "receipt", 0)
    assert custody.due(149) == []
    assert custody.wake_at() == 150
    assert custody.due(150) == [Extension("a", "receipt", 300)]
    custody.extended(Extension("a", "receipt", 300), 150)
    assert custody.due(299) == []
    assert custody.due(300) == [Extension("a", "receipt", 300)]


def test_the_limit_ends_it_in_time() -> None:
    """Nothing is extended beyond twelve hours, and what waits goes back before."""
    custody = Custody(300)
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
    custody = Custody(300)
    custody.receive("a", "old", 0)
    custody.receive("a", "new", 1000)
    custody.extended(Extension("a", "old", 300), 5000)
    assert custody.due(1150) == [Extension("a", "new", 300)]
    custody.let_go("a")
    assert len(custody) == 0
    assert custody.wake_at() is None


@given(st.integers(1, 43_200), st.floats(0, 1e6), st.lists(st.floats(0.01, 5000), max_size=50))
def test_no_extension_ever_passes_the_limit(visibility: int, began: float, steps: list[float]) -> None:
    """Whenever one looks, and however rarely."""
    custody = Custody(visibility)
    custody.receive("a", "receipt", began)
    now = began
    for step in steps:
        now += step
        for extension in custody.due(now):
            assert extension.seconds >= 1
            assert now + extension.seconds <= began + LIMIT_SECONDS + 1e-6
            custody.extended(extension, now)
