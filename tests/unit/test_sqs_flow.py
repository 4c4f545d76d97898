"""How many messages are received, how one goes back, what is sent together: the decisions without the queue."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.sources.sqs.appetite import Appetite
from batchsubmit.sources.sqs.message import Message
from batchsubmit.sources.sqs.outgoing import BATCH_BYTES, Outgoing, batches, text_attributes
from batchsubmit.sources.sqs.returns import MOST_REMEMBERED, Away, delay_seconds, give_up, put_back
from batchsubmit.sources.sqs.terms import Terms, advice, overdue

DAY = 86_400
TWO_WEEKS = 14 * DAY


def received(receives: int = 1, *, sent_at: float = 1e9, name: str = "m") -> Message:
    """A message received so often."""
    return Message(id=name, receipt="r", body="{}", receives=receives, sent_at=sent_at)


def terms(most_receives: int | None = 1000, retention_seconds: int = TWO_WEEKS) -> Terms:
    """Settings of a queue."""
    return Terms(retention_seconds=retention_seconds, most_receives=most_receives, dead_letter_arn="arn")


def test_an_idle_worker_asks_for_a_whole_batch() -> None:
    """At once, and again at once after a poll that found nothing."""
    appetite = Appetite()
    assert appetite.wanted({}, 0) == 10
    appetite.searched(20, found=0)
    assert appetite.wanted({}, 20) == 10


def test_a_lane_that_has_enough_wants_no_more_but_a_search_now_and_then() -> None:
    """One a second, while it finds something."""
    appetite = Appetite()
    appetite.searched(0, found=10)
    assert appetite.wanted({"a": 10}, 0.5) == 0
    assert appetite.wanted({"a": 6}, 0.5) == 0
    assert appetite.wanted({"a": 5}, 0.5) == 5
    assert appetite.wanted({"a": 10}, 1.0) == 10
    assert appetite.wanted({"a": 10}, 1.0, may_search=False) == 0


def test_a_fast_lane_wants_as_many_as_it_used_up_lately() -> None:
    """Ten seconds' worth, forgotten ten seconds later."""
    appetite = Appetite()
    for number in range(500):
        appetite.used("a", number / 100)
    assert appetite.target("a", 5) == 500
    assert appetite.hungry({"a": 100}, 5) == {"a": 400}
    assert appetite.target("a", 16) == 10
    assert appetite.hungry({}, 16) == {}


def test_no_more_wait_than_there_is_room_for() -> None:
    """However many lanes are hungry."""
    appetite = Appetite(most=12)
    assert appetite.wanted({"a": 4, "b": 4}, 0) == 4
    assert appetite.wanted({"a": 6, "b": 6}, 0) == 0
    assert not appetite.has_room("c", {"a": 6, "b": 6}, 0)


def test_absence_doubles_from_one_receive_to_the_next() -> None:
    """So two weeks of waiting are few receives."""
    assert [delay_seconds(received(n), first=300, most=3600) for n in (1, 2, 3, 4, 5, 999)] == [
        300,
        600,
        1200,
        2400,
        3600,
        3600,
    ]
    waited, receives = 0, 1
    while waited < TWO_WEEKS:
        waited += delay_seconds(received(receives), first=300, most=3600)
        receives += 1
    assert receives < 1000 // 2


@pytest.mark.parametrize(
    ("receives", "most", "renew"), [(1, None, False), (500, 1000, False), (501, 1000, True), (1, 1, True)]
)
def test_a_message_that_has_spent_half_of_its_receives_is_renewed(receives: int, most: int | None, renew: bool) -> None:
    """And so never comes near the last of them."""
    assert put_back(received(receives), 60, terms=terms(most), now=1e9).renew is renew


def test_a_worker_that_ends_renews_only_what_would_be_moved_at_its_next_receive() -> None:
    """Anything else is made visible."""
    assert give_up(received(3), terms=terms(3), now=1e9).renew
    assert not give_up(received(2), terms=terms(3), now=1e9).renew
    assert give_up(received(2), terms=terms(3), now=1e9).seconds == 0


def test_an_old_message_is_renewed_before_the_queue_drops_it() -> None:
    """Whatever it is held for at most still fits in."""
    for days in (2, 4, 14):
        old = terms(retention_seconds=days * DAY)
        assert not put_back(received(), 1, terms=old, now=1e9 + DAY / 4).renew
        assert put_back(received(), 1, terms=old, now=1e9 + days * DAY - 13 * 3600 + 1).renew


def test_messages_that_are_away_are_called_back_in_their_order() -> None:
    """Only those that are still hidden, and each once."""
    away = Away()
    for number in range(5):
        away.went("lane", received(name=str(number)), until=100 + number)
    away.went("other", received(name="x"), until=200)
    away.came("3")
    assert [each.id for each in away.call_back("lane", 2, now=101.5)] == ["2", "4"]
    assert len(away) == 1
    assert [each.id for each in away.call_back_all(now=0)] == ["x"]
    assert len(away) == 0


def test_of_very_many_that_are_away_the_first_are_forgotten() -> None:
    """Memory has an end."""
    away = Away()
    for number in range(MOST_REMEMBERED + 5):
        away.went("lane", received(name=str(number)), until=10)
    assert len(away) == MOST_REMEMBERED
    away.forget_past(11)
    assert len(away) == 0


@given(st.lists(st.integers(0, 60_000), max_size=60))
def test_batches_keep_sqs_s_bounds_and_lose_nothing(sizes: list[int]) -> None:
    """Ten messages, 256 KiB."""
    messages = [Outgoing(id=str(n), body="x" * size) for n, size in enumerate(sizes)]
    cut = list(batches(messages))
    assert [each for batch in cut for each in batch] == messages
    assert all(0 < len(batch) <= 10 and sum(each.size for each in batch) <= BATCH_BYTES for batch in cut)


def test_attributes_count_towards_the_size() -> None:
    """Name, type and value; an empty text is none."""
    attributes = text_attributes(batchsubmit_key="abc", batchsubmit_batch="")
    assert attributes == {"batchsubmit-key": {"DataType": "String", "StringValue": "abc"}}
    assert Outgoing(id="1", body="é", attributes=attributes).size == 2 + 15 + 6 + 3


def test_each_kind_of_queue_gets_the_members_that_it_takes() -> None:
    """The group goes to both; a deduplication id to FIFO queues only, a delay to standard ones only."""
    message = Outgoing(id="1", body="b", group="g", deduplication="d", delay_seconds=9)
    common = {"Id": "0", "MessageBody": "b", "MessageGroupId": "g"}
    assert message.entry(0, is_fifo=False) == {**common, "DelaySeconds": 9}
    assert message.entry(0, is_fifo=True) == {**common, "MessageDeduplicationId": "d"}
    assert Outgoing(id="1", body="b", deduplication="d").entry(0, is_fifo=False) == {"Id": "0", "MessageBody": "b"}


def test_terms_are_read_from_a_queue_s_attributes() -> None:
    """Numbers come as texts; the redrive policy as JSON with either."""
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:dead", "maxReceiveCount": "7"}
    found = Terms.read(
        {
            "MessageRetentionPeriod": "60",
            "RedrivePolicy": json.dumps(policy),
            "ApproximateNumberOfMessages": "3",
            "ApproximateNumberOfMessagesNotVisible": "4",
            "FifoQueue": "true",
        }
    )
    assert (found.retention_seconds, found.most_receives, found.backlog, found.is_fifo) == (60, 7, 7, True)
    assert Terms.read({}).most_receives is None


def test_advice_is_given_where_it_is_due_and_only_there() -> None:
    """Each with what to set."""
    assert list(advice(terms(), visibility_seconds=300, dead_letter=terms())) == []
    assert "maxReceiveCount" in "".join(advice(terms(3), visibility_seconds=300))
    assert "MessageRetentionPeriod" in "".join(advice(terms(retention_seconds=DAY), visibility_seconds=300))
    assert "visibility" in "".join(advice(terms(), visibility_seconds=5))
    assert "vanish" in "".join(advice(terms(), visibility_seconds=300, dead_letter=terms(retention_seconds=DAY)))
    without = Terms(retention_seconds=TWO_WEEKS)
    assert "no dead-letter queue" in "".join(advice(without, visibility_seconds=300))


def test_a_backlog_that_outlasts_the_retention_is_told() -> None:
    """By the throughput of now; without any, nothing can be told."""
    assert overdue(backlog=1000, decided=10, seconds=3600, retention_seconds=4 * DAY)
    assert overdue(backlog=900, decided=10, seconds=3600, retention_seconds=4 * DAY) is None
    assert overdue(backlog=1000, decided=0, seconds=3600, retention_seconds=1) is None
