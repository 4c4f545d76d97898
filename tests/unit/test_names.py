"""The table of names seen before: it forgets none, and takes little."""

import random

from batchsubmit.sources.names import NameTable


def test_a_name_keeps_the_number_it_came_with() -> None:
    """Through all growth; 0 and negative hashes are hashes like any other."""
    table = NameTable()
    draw = random.Random(1)
    hashes = [0, 1, -1, *(draw.getrandbits(63) - 2**62 for _ in range(20_000))]  # 0 and 1 are taken for one
    assert [table.add(hashed, number) for number, hashed in enumerate(hashes) if hashed != 1] == [None] * 20_002
    assert [table.add(hashed, 0) for hashed in hashes] == [0, 0, *range(2, 20_003)]
    assert len(table) == 20_002


def test_many_are_added_up_to_the_first_that_is_known() -> None:
    """Also where they meet their own kind."""
    table = NameTable()
    assert table.add_all([10, 20, 30], 5) == 3
    assert table.add_all([40, 50, 20, 60], 8) == 2
    assert table.add(60, 10) is None
    assert table.add_all([70, 70], 11) == 1
    assert [table.add(hashed, 0) for hashed in (10, 20, 30, 40, 50, 60, 70)] == [5, 6, 7, 8, 9, 10, 11]


def test_room_is_made_at_once() -> None:
    """And what is there stays."""
    table = NameTable()
    table.add(7, 3)
    table.make_room(100_000)
    assert table.add(7, 0) == 3
