"""How a message goes back and what is sent together: the decisions without the queue."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.queue.client import BATCH_BYTES, Outgoing, QueueAttributes, advice, batches, text_attributes
from batchsubmit.queue.held import is_spent
from batchsubmit.queue.message import Message

DAY = 86_400
TWO_WEEKS = 14 * DAY


def received(receives: int = 1, *, sent_at: float = 1e9, name: str = "m") -> Message:
    """A message received so often."""
    return Message(id=name, receipt="r", body="{}", receives=receives, sent_at=sent_at)


def queue(most_receives: int | None = 1000, retention_seconds: int = TWO_WEEKS) -> QueueAttributes:
    """Settings of a queue."""
    return QueueAttributes(retention_seconds=retention_seconds, most_receives=most_receives, dead_letter_arn="arn")


@pytest.mark.parametrize(
    ("receives", "most", "renew"), [(1, None, False), (500, 1000, False), (501, 1000, True), (1, 1, True)]
)
def test_a_message_that_has_spent_half_of_its_receives_is_renewed(receives: int, most: int | None, renew: bool) -> None:
    """And so never comes near the last of them."""
    assert is_spent(received(receives), queue(most), 1e9) is renew


def test_an_old_message_is_renewed_before_the_queue_drops_it() -> None:
    """Whatever it is held for at most still fits in."""
    for days in (2, 4, 14):
        old = queue(retention_seconds=days * DAY)
        assert not is_spent(received(), old, 1e9 + DAY / 4)
        assert is_spent(received(), old, 1e9 + days * DAY - 13 * 3600 + 1)


@given(st.lists(st.integers(0, 60_000), max_size=60))
def test_batches_keep_sqs_s_bounds_and_lose_nothing(sizes: list[int]) -> None:
    """Ten messages, 256 KiB."""
    messages = [Outgoing(id=str(n), body="x" * size) for n, size in enumerate(sizes)]
    cut = list(batches(messages))
    assert [each for batch in cut for each in batch] == messages
    assert all(0 < len(batch) <= 10 and sum(each.size for each in batch) <= BATCH_BYTES for batch in cut)


def test_attributes_count_towards_the_size() -> None:
    """Name, type and value; an empty text is none."""
    attributes = text_attributes({"batchsubmit-key": "abc", "batchsubmit-batch": ""})
    assert attributes == {"batchsubmit-key": {"DataType": "String", "StringValue": "abc"}}
    assert Outgoing(id="1", body="é", attributes=attributes).size == 2 + 15 + 6 + 3


def test_each_kind_of_queue_gets_the_members_that_it_takes() -> None:
    """The group goes to both; a deduplication id to FIFO queues only, a delay to standard ones only."""
    message = Outgoing(id="d", body="b", group="g", delay_seconds=9)
    common = {"MessageBody": "b", "MessageGroupId": "g"}
    assert message.entry(is_fifo=False) == {**common, "DelaySeconds": 9}
    assert message.entry(is_fifo=True) == {**common, "MessageDeduplicationId": "d"}
    assert Outgoing(id="1", body="b").entry(is_fifo=False) == {"MessageBody": "b"}


def test_settings_are_read_from_a_queue_s_attributes() -> None:
    """Numbers come as texts; the redrive policy as JSON with either."""
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:dead", "maxReceiveCount": "7"}
    found = QueueAttributes.read(
        {
            "QueueArn": "arn",
            "MessageRetentionPeriod": "60",
            "ApproximateNumberOfMessages": "3",
            "ApproximateNumberOfMessagesNotVisible": "4",
            "RedrivePolicy": json.dumps(policy),
            "FifoQueue": "true",
        }
    )
    assert (found.retention_seconds, found.most_receives, found.backlog, found.is_fifo) == (60, 7, 7, True)
    assert QueueAttributes.read({"QueueArn": "arn"}).most_receives is None


def test_advice_is_given_where_it_is_due_and_only_there() -> None:
    """Each with what to set."""
    assert list(advice(queue(), queue())) == []
    assert "maxReceiveCount" in "".join(advice(queue(3)))
    assert "MessageRetentionPeriod" in "".join(advice(queue(retention_seconds=DAY)))
    assert "vanish" in "".join(advice(queue(), queue(retention_seconds=DAY)))
    without = QueueAttributes(retention_seconds=TWO_WEEKS)
    assert "no dead-letter queue" in "".join(advice(without))
