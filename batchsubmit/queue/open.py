"""Opens a queue, and puts together the parts that one queue source is made of."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batchsubmit.aws import open_client
from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.queue.acks import Acks, QueueLedger
from batchsubmit.queue.client import (
    LONG_POLL_SECONDS,
    Queue,
    QueueBusyError,
    QueueError,
    QueueGoneError,
    ReachedQueue,
    region_of,
)
from batchsubmit.queue.held import HeldJobs
from batchsubmit.queue.settings import QueueAttributes, advice

if TYPE_CHECKING:
    from batchsubmit.queue.manifest_message import ManifestMessage

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
    timeouts = (aws.connect_timeout_seconds, max(aws.read_timeout_seconds, LONG_POLL_SECONDS + 10))
    async with open_client("sqs", region=region_of(url) or region, timeouts=timeouts) as client:
        queue = Queue(client, url)
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
