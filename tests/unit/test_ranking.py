"""Who is first, where ranks change all the time."""

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.slots.ranking import Ranking


def test_nobody_is_first_among_none() -> None:
    """And taking out who is not there is no mistake."""
    ranking: Ranking[str, float] = Ranking()
    ranking.put("a", None)
    assert ranking.first() is None
    assert len(ranking) == 0


def test_of_equal_ranks_the_first_given_is_first() -> None:
    """Also after others came and went; giving the same rank again changes nothing."""
    ranking: Ranking[str, float] = Ranking()
    for name in ("a", "b", "a"):
        ranking.put(name, 1.0)
    assert ranking.first() == (1.0, "a")
    ranking.put("a", None)
    ranking.put("a", 1.0)
    assert ranking.first() == (1.0, "b")


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9))))
def test_the_first_is_always_the_least(changes: list[tuple[int, int | None]]) -> None:
    """Whatever was changed before."""
    ranking: Ranking[int, float] = Ranking()
    plain: dict[int, int] = {}
    for member, rank in changes:
        ranking.put(member, rank)
        plain.pop(member, None)
        if rank is not None:
            plain[member] = rank
        first = ranking.first()
        assert (first[0] if first else None) == min(plain.values(), default=None)
        assert first is None or plain[first[1]] == first[0]
        assert len(ranking) == len(plain)


def test_what_is_outdated_is_not_kept() -> None:
    """A million changes of ten members take no more room than a few."""
    ranking: Ranking[int, float] = Ranking()
    for number in range(10_000):
        ranking.put(number % 10, float(10_000 - number))
        ranking.put(10, 0.0)
    assert len(ranking._heap) < 100
