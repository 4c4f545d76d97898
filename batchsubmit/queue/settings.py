"""A queue's own settings, and whether they suit jobs that may wait for days. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

DAY_SECONDS = 86_400
WANTED_RECEIVES = 1000
WANTED_RETENTION_SECONDS = 14 * DAY_SECONDS
_FEWEST_RECEIVES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAttributes:
    """A queue's settings and backlog. `most_receives` is None where no redrive policy counts receives."""

    retention_seconds: int
    most_receives: int | None = None
    dead_letter_arn: str = ""
    is_fifo: bool = False
    most_bytes: int = 1 << 18
    backlog: int = 0

    @classmethod
    def read(cls, attributes: Mapping[str, str]) -> "QueueAttributes":
        """Read the answer of GetQueueAttributes; what is not there has SQS's default."""
        redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
        return cls(
            retention_seconds=int(attributes.get("MessageRetentionPeriod", 4 * DAY_SECONDS)),
            most_receives=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
            dead_letter_arn=str(redrive.get("deadLetterTargetArn", "")),
            is_fifo=attributes.get("FifoQueue") == "true",
            most_bytes=int(attributes.get("MaximumMessageSize", 1 << 18)),
            backlog=sum(int(attributes.get(f"ApproximateNumberOfMessages{kind}", 0)) for kind in _KINDS),
        )


_KINDS = ("", "NotVisible", "Delayed")


def advice(
    queue: QueueAttributes, *, visibility_seconds: int, dead_letters: QueueAttributes | None = None
) -> Iterator[str]:
    """List the settings that do not fit, each with what to set instead."""
    if not queue.dead_letter_arn:
        yield (
            "the queue has no dead-letter queue: a message that can never work stays in it until its retention is "
            f"over; set a RedrivePolicy with maxReceiveCount {WANTED_RECEIVES}"
        )
    elif queue.most_receives is not None and queue.most_receives < _FEWEST_RECEIVES:
        yield (
            f"maxReceiveCount is {queue.most_receives}: a job that waits for a slot is received several times, and a "
            f"worker that dies spends one receive of each message it held; set it to {WANTED_RECEIVES}"
        )
    if queue.is_fifo:
        yield (
            "the queue is a FIFO queue: nothing more of a membership is delivered while one of its messages is held; "
            "use a standard queue"
        )
    if queue.retention_seconds < WANTED_RETENTION_SECONDS:
        yield (
            f"the queue keeps messages for {_days(queue.retention_seconds)}, and jobs that wait longer for a slot are "
            f"lost; set MessageRetentionPeriod to {WANTED_RETENTION_SECONDS} (14 days)"
        )
    if dead_letters is not None and not queue.is_fifo and dead_letters.retention_seconds < queue.retention_seconds:
        yield (
            f"the dead-letter queue keeps messages for {_days(dead_letters.retention_seconds)}, less than the queue "
            "itself, and counts from when they were first sent: old ones vanish at once"
        )
    if visibility_seconds < 30:
        yield (
            f"worker.visibility_timeout_seconds is {visibility_seconds}: a pause of the worker of that length shows "
            "its messages to others; 300 is usual"
        )


def overdue(*, backlog: int, decided: int, seconds: float, retention_seconds: int) -> str | None:
    """Warn where, at the throughput of these seconds, the backlog takes longer than the retention."""
    if not (decided and backlog and seconds > 0):
        return None
    needed = backlog * seconds / decided
    if needed <= retention_seconds:
        return None
    return (
        f"{backlog:,} messages take {_days(needed)} at the present throughput, longer than the "
        f"{_days(retention_seconds)} for which the queue keeps them; raise the quota or the retention"
    )


def _days(seconds: float) -> str:
    if seconds < 2 * DAY_SECONDS:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / DAY_SECONDS:,.1f} days"
