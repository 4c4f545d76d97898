"""When held messages are extended and given back; the queue model in memory holds the same limits."""

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.queue.held import LIMIT_SECONDS, HeldJob, HeldJobs
from batchsubmit.queue.message import Message


def holding(visibility: int, *names: str, at: float = 0) -> HeldJobs:
    """A message of a waiting job for each name."""
    held = HeldJobs(visibility)
    for name in names:
        job = HeldJob(name, lane="m")
        held.add(job, message(name), at)
        held.put_in_lane(job)
    return held


def message(name: str, receipt: str = "receipt") -> Message:
    """One delivery."""
    return Message(id=name, receipt=receipt, body="{}")


def due(held: HeldJobs, now: float) -> list[tuple[str, str, int]]:
    """Id, receipt and seconds of what is to be extended."""
    return [(each.message.id, each.message.receipt, seconds) for each, seconds in held.due(now)]


def extend(held: HeldJobs, now: float) -> list[int]:
    """Extend what is due; gives the seconds."""
    found = held.due(now)
    for each, seconds in found:
        each.hidden_until = now + seconds
    return [seconds for _, seconds in found]


def test_a_message_is_extended_once_a_third_of_its_time_is_left() -> None:
    """And then again as long after."""
    held = holding(300, "a")
    assert due(held, 199) == []
    assert due(held, 200) == [("a", "receipt", 300)]
    extend(held, 200)
    assert due(held, 399) == []
    assert due(held, 400) == [("a", "receipt", 300)]


def test_the_limit_ends_it_in_time() -> None:
    """Nothing is extended beyond twelve hours, and what waits goes back before."""
    held = holding(300, "a")
    now = 0.0
    while not held.ending(now, sent_before=0):
        assert all(now + seconds <= LIMIT_SECONDS for seconds in extend(held, now))
        now += 60
    assert LIMIT_SECONDS - 300 <= now < LIMIT_SECONDS - 60


def test_a_message_that_the_queue_would_soon_drop_is_not_held_on() -> None:
    """Unless its job is with the engine, which ends it."""
    held = holding(300)
    for sent_at in (1, 2, 3):
        job = HeldJob(f"sent at {sent_at}", lane="m")
        held.add(job, Message(id=job.key, receipt="r", body="{}", sent_at=sent_at), 0)
        held.put_in_lane(job)
    held.next("m")
    assert [each.message.id for each in held.ending(1, sent_before=3)] == ["sent at 2"]


def test_what_is_with_the_engine_at_the_limit_is_kept_to_its_end() -> None:
    """SQS may deliver it again, and it is deleted with its job all the same."""
    held = holding(300, "a")
    job = held.next("m")
    assert job.is_taken
    assert held.ending(LIMIT_SECONDS - 1, sent_before=0) == []
    assert held.ending(LIMIT_SECONDS, sent_before=0) == []
    assert held.due(LIMIT_SECONDS) == []
    assert [each.id for each in held.drop(job)] == ["a"]


def test_a_new_delivery_s_receipt_replaces_the_old_one() -> None:
    """An extension of the old one, or its loss, that comes late says nothing of the new one."""
    held = holding(300, "a")
    job = held.jobs["a"]
    [(old, _)] = held.due(200)
    held.add(job, message("a", "new"), 1000)
    old.hidden_until = 5000
    held.lose(old)
    assert due(held, 1200) == [("a", "new", 300)]
    held.drop(job)
    assert len(held) == 0


@given(st.integers(1, 43_200), st.floats(0, 1e6), st.lists(st.floats(0.01, 5000), max_size=50))
def test_no_extension_ever_passes_the_limit(visibility: int, began: float, steps: list[float]) -> None:
    """Whenever one looks, and however rarely."""
    held = holding(visibility, "a", at=began)
    now = began
    for step in steps:
        now += step
        for seconds in extend(held, now):
            assert seconds >= 1
            assert now + seconds <= began + LIMIT_SECONDS + 1e-6
