"""Opens a queue, says whether its settings suit jobs that may wait for days, and makes the parts of a queue source."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batchsubmit.aws import Timeouts, open_client
from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.queue.acks import Acks, QueueLedger
from batchsubmit.queue.client import (
    LONG_POLL_SECONDS,
    Queue,
    QueueAttributes,
    QueueBusyError,
    QueueError,
    QueueGoneError,
    ReachedQueue,
    region_of,
)
from batchsubmit.queue.held import HeldJobs
from batchsubmit.text import duration

if TYPE_CHECKING:
    from batchsubmit.queue.manifest_message import ManifestMessage

_WANTED_RECEIVES = 1000
_WANTED_RETENTION = 14 * 86_400
_FEWEST_RECEIVES = 100
_URL = re.compile(r"https?://[^/]+(/.*)?/[\w.-]+")


class QueueParts:
    """What receiver, heartbeat and source share; `manifests` are those whose rows are being submitted, by key."""

    def __init__(
        self, reached: ReachedQueue, settings: Settings, *, region: str, ledger: QueueLedger, clock: Clock
    ) -> None:
        self.queue, self.attributes, self.counters = reached.queue, reached.attributes, reached.queue.counters
        self.settings = settings
        self.region = region
        self.ledger = ledger
        self.clock = clock
        self.held = HeldJobs(settings.worker.visibility_timeout_seconds)
        self.acks = Acks(reached, settings.worker, ledger, clock)
        self.manifests: dict[str, ManifestMessage] = {}


@asynccontextmanager
async def open_reached(url: str, settings: Settings, *, region: str) -> AsyncIterator[ReachedQueue]:
    """Open a queue.

    Raises UsageError where URL or AWS configuration are wrong or there is no such queue, StoppedError where it cannot
    be reached or used.
    """
    if not _URL.fullmatch(url):
        raise UsageError(f"{url}: is no queue URL; it looks like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    aws = settings.aws
    # A long poll is answered after its own time, however short the user's patience with other calls is.
    timeouts = Timeouts.of(aws)._replace(read_seconds=max(aws.read_timeout_seconds, LONG_POLL_SECONDS + 10))
    async with open_client("sqs", region=region_of(url) or region, timeouts=timeouts) as client:
        queue = Queue(client, url, call_seconds=aws.call_seconds)
        try:
            attributes = await queue.attributes()
        except QueueGoneError as exc:
            raise UsageError(str(exc)) from exc
        except QueueBusyError as exc:
            raise StoppedError(f"the queue cannot be reached: {exc}") from exc
        yield await _with_dead_letters(queue, attributes, settings.worker.visibility_timeout_seconds)


async def _with_dead_letters(queue: Queue, attributes: QueueAttributes, visibility_seconds: int) -> ReachedQueue:
    """Find the dead-letter queue, if one is configured, and give the advice on both queues' settings."""
    found, its_attributes, words = None, None, []
    if attributes.dead_letter_arn:
        try:
            found = await queue.dead_letter_queue(attributes.dead_letter_arn)
            its_attributes = await found.attributes()
        except (QueueBusyError, QueueError) as exc:
            found = None
            words.append(
                f"the dead-letter queue {attributes.dead_letter_arn} cannot be reached ({exc}); messages that can "
                "never work are left to the redrive policy"
            )
    words += advice(attributes, visibility_seconds=visibility_seconds, dead_letters=its_attributes)
    return ReachedQueue(queue=queue, attributes=attributes, dead_letters=found, advice=words)


def advice(
    queue: QueueAttributes, *, visibility_seconds: int, dead_letters: QueueAttributes | None = None
) -> Iterator[str]:
    """List the settings that do not fit, each with what to set instead."""
    if not queue.dead_letter_arn:
        yield (
            "the queue has no dead-letter queue: a message that can never work stays in it until its retention is "
            f"over; set a RedrivePolicy with maxReceiveCount {_WANTED_RECEIVES}"
        )
    elif queue.most_receives is not None and queue.most_receives < _FEWEST_RECEIVES:
        yield (
            f"maxReceiveCount is {queue.most_receives}: a job that waits for a slot is received several times, and a "
            f"worker that dies spends one receive of each message it held; set it to {_WANTED_RECEIVES}"
        )
    if queue.is_fifo:
        yield (
            "the queue is a FIFO queue: nothing more of a membership is delivered while one of its messages is held; "
            "use a standard queue"
        )
    if queue.retention_seconds < _WANTED_RETENTION:
        yield (
            f"the queue keeps messages for {duration(queue.retention_seconds)}, and jobs that wait longer for a slot "
            f"are lost; set MessageRetentionPeriod to {_WANTED_RETENTION} (14 days)"
        )
    if dead_letters is not None and not queue.is_fifo and dead_letters.retention_seconds < queue.retention_seconds:
        yield (
            f"the dead-letter queue keeps messages for {duration(dead_letters.retention_seconds)}, less than the "
            "queue itself, and counts from when they were first sent: old ones vanish at once"
        )
    if visibility_seconds < 30:
        yield (
            f"worker.visibility_timeout_seconds is {visibility_seconds}: a pause of the worker of that length shows "
            "its messages to others; 300 is usual"
        )
