"""Messages to send, in batches that SQS takes: ten at most, together no larger than one may be. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_ENTRIES = 10
BATCH_BYTES = 1 << 18
"""256 KiB: what every SQS takes. Queues of 2025 and later take 1 MiB, which saves no calls at the size of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be sent.

    `id` is the caller's own word for it. The group goes to queues of both kinds: it orders a FIFO queue, and makes a
    standard one fair (Amazon SQS Developer Guide, "Amazon SQS fair queues").
    """

    id: str
    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    delay_seconds: int = 0
    group: str = ""
    deduplication: str = ""

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: body, and name, type and value of each attribute."""
        return len(self.body.encode()) + sum(map(_attribute_size, self.attributes.items()))

    def entry(self, number: int, *, is_fifo: bool) -> dict[str, Any]:
        """Spell it as an entry of SendMessageBatch.

        A standard queue takes no deduplication id, a FIFO queue no delay of a single message (Amazon SQS API Reference,
        SendMessageBatchRequestEntry).
        """
        entry: dict[str, Any] = {"Id": str(number), "MessageBody": self.body}
        if self.attributes:
            entry["MessageAttributes"] = dict(self.attributes)
        if self.group:
            entry["MessageGroupId"] = self.group
        if is_fifo:
            entry["MessageDeduplicationId"] = self.deduplication
        elif self.delay_seconds:
            entry["DelaySeconds"] = self.delay_seconds
        return entry


def text_attributes(**given: str) -> dict[str, Any]:
    """Spell texts as message attributes, with `-` for `_` in their names; an empty text is no attribute for SQS."""
    return {
        name.replace("_", "-"): {"DataType": "String", "StringValue": value} for name, value in given.items() if value
    }


def batches(messages: Iterable[Outgoing], *, most_bytes: int = BATCH_BYTES) -> Iterator[list[Outgoing]]:
    """Cut messages into batches, in order; one that is too large alone makes a batch of its own."""
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MOST_ENTRIES or size + message.size > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch


def _attribute_size(item: tuple[str, Mapping[str, Any]]) -> int:
    name, value = item
    content = value.get("StringValue", value.get("BinaryValue", ""))
    raw = content.encode() if isinstance(content, str) else content
    return len(name.encode()) + len(value.get("DataType", "String").encode()) + len(raw)
