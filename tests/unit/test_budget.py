"""One quota, learned from what is accepted and refused."""

import pytest

from batchsubmit.slots.budget import Budget


def budget(**members: object) -> Budget:
    """Nothing known but AWS's default of 5; polls of 1 to 64 seconds."""
    return Budget(**{"likely": 5, "min_poll_seconds": 1, "max_poll_seconds": 64} | members)  # type: ignore[arg-type]


def refuse(of: Budget, value: int | None = None, *, now: float = 0.0, left_at: float | None = None) -> None:
    """A call that left just now, or then, was refused."""
    left = now if left_at is None else left_at
    of.refused(value, seen_at_start=of.running, left_at=left, was_probe=of.is_probed, now=now)


def accept(of: Budget, now: float = 0.0) -> None:
    """A call was accepted."""
    of.running += 1
    of.settle()
    of.accepted(now, is_tracked=True, was_probe=True)


def test_the_default_quota_is_used_at_once_and_what_lies_beyond_with_care() -> None:
    """One call at a time, one more with each that is accepted."""
    fresh = budget()
    rooms = 0
    while fresh.has_room:
        fresh.under_way += 1
        rooms += 1
    assert rooms == 5
    for _ in range(5):
        fresh.under_way -= 1
        accept(fresh)
    assert fresh.has_room
    fresh.under_way += 1
    assert not fresh.has_room
    for _ in range(20):
        accept(fresh)
    fresh.under_way = 10
    assert fresh.has_room


def test_a_told_value_is_the_limit_even_below_what_runs() -> None:
    """A lowered quota does not end jobs; no call is made until enough of them have ended."""
    told = budget(running=5)
    refuse(told, 2)
    assert (told.limit, told.hidden, told.has_room) == (2, 0, False)
    told.running = 1
    assert told.has_room
    assert not told.is_exceeded


def test_a_value_above_what_runs_means_that_others_hold_the_rest() -> None:
    """They come back by single tries."""
    shared = budget(running=3)
    refuse(shared, 5)
    assert (shared.hidden, shared.has_room) == (2, False)
    assert not shared.may_probe(0.9)
    assert shared.may_probe(1.0)
    shared.is_probed = True
    assert not shared.may_probe(1.0)


def test_without_a_value_what_runs_is_the_limit_once_it_is_counted() -> None:
    """Calls under way at the refusal may or may not have been accepted."""
    bare = budget(running=3, under_way=2)
    refuse(bare)
    assert (bare.limit, bare.is_counted) == (5, False)
    bare.under_way = 0
    bare.recounted(0.0)
    assert (bare.limit, bare.is_counted) == (3, True)


def test_tries_that_stay_refused_come_at_growing_intervals_up_to_the_longest() -> None:
    """The time since the first of them, again."""
    held = budget(running=3, limit=5)
    now, waits = 0.0, []
    for _ in range(9):
        refuse(held, 5, now=now)
        waits.append(held.probe_at - now)
        now = held.probe_at
    assert waits == [1, 1, 2, 4, 8, 16, 32, 64, 64]


def test_a_volley_of_refusals_is_one_piece_of_news() -> None:
    """Calls that left before the first refusal was known do not make the wait grow."""
    held = budget(running=3, limit=5)
    for _ in range(8):
        refuse(held, 5, now=10.0, left_at=9.0)
    assert held.probe_at == 11
    assert not held.is_falling


def test_an_accepted_try_gives_one_hidden_slot_back_and_leads_to_the_next() -> None:
    """At once, one by one."""
    held = budget(running=3)
    refuse(held, 5, now=10.0)
    accept(held, now=11.0)
    assert (held.hidden, held.has_room) == (1, False)
    assert held.may_probe(11.0)


def test_while_refusals_follow_one_another_a_freed_slot_is_only_tried() -> None:
    """A limit that falls under many running jobs costs a few refusals, not one for each that ends."""
    falling = budget(running=20, limit=20)
    falling.running = 19
    refuse(falling, now=0.0)
    refuse(falling, now=1.0)
    assert falling.is_falling
    falling.recounted(1.5)
    assert falling.limit == 19
    falling.running = 17
    falling.freed(2)
    assert (falling.hidden, falling.has_room) == (2, False)
    assert falling.may_probe(falling.probe_at)
    accept(falling, now=5.0)
    falling.running = 10
    falling.freed(8)
    assert falling.has_room


def test_one_refusal_that_a_count_does_not_explain_is_no_lower_limit() -> None:
    """It may be a race with a job that began or ended."""
    raced = budget(running=4, limit=5)
    refuse(raced, now=1.0)
    raced.recounted(2.0)
    assert (raced.limit, raced.hidden) == (5, 1)
    refuse(raced, now=3.0)
    raced.recounted(2.5)
    assert raced.limit == 5
    raced.recounted(3.5)
    assert raced.limit == 4


def test_a_call_accepted_beyond_the_limit_shows_that_it_was_raised() -> None:
    """From there on more are tried, with care."""
    raised = budget(running=5, limit=5)
    accept(raised)
    assert raised.is_exceeded
    raised.raised()
    assert (raised.limit, raised.has_room) == (None, True)
    raised.under_way += 1
    assert not raised.has_room


def test_the_user_s_word_bounds_all_tries() -> None:
    """Whatever the service would allow."""
    capped = budget(cap=2, limit=5, running=2)
    assert not capped.has_room
    assert not capped.is_under_cap
    assert capped.bound == 2


@pytest.mark.parametrize(("seen", "hidden"), [(3, 2), (5, 0), (6, 0)])
def test_what_is_seen_takes_the_place_of_what_was_hidden(seen: int, hidden: int) -> None:
    """The others' jobs have names now."""
    shared = budget(running=0, limit=5, hidden=5)
    shared.running = seen
    shared.settle()
    assert shared.hidden == hidden


def test_a_slot_of_ours_that_is_filled_again_says_nothing_of_those_of_others() -> None:
    """The tries of theirs go on as rarely as before."""
    shared = budget(running=3, limit=5, hidden=2)
    shared.is_probed = True
    for now in (0.0, 1.0, 2.0, 4.0):
        shared.refused(5, seen_at_start=3, left_at=now, was_probe=True, now=now)
    shared.running = 2
    assert shared.has_room
    shared.running = 3
    shared.accepted(5.0, is_tracked=True, was_probe=False)
    assert (shared.hidden, shared.probe_at, shared.has_room) == (2, 8.0, False)


def test_without_sight_all_slots_are_tried_one_by_one() -> None:
    """After three acceptances in a row two may be under way, for then more seems to be free."""
    blind = budget(limit=5)
    blind.lost_sight(0.0)
    assert (blind.hidden, blind.has_room) == (5, False)
    for _ in range(3):
        blind.accepted(1.0, is_tracked=False, was_probe=True)
    assert blind.hidden == 5
    blind.accepted(1.0, is_tracked=False, was_probe=True)
    assert blind.hidden == 4
