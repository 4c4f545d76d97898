"""An SQS queue in memory, on the loop's clock: visibility, the 12-hour limit, receive counts, redrive and retention.

Its methods are those of `queue.client.Queue`, so that days of waiting can be tested in virtual time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from typing import Any

from virtual_time import EPOCH

from batchsubmit.queue.client import Outgoing, QueueAttributes, QueueCounters
from batchsubmit.queue.held import LIMIT_SECONDS
from batchsubmit.queue.message import Message


@dataclass(slots=True, eq=False)
class _Stored:
    id: str
    body: str
    attributes: Mapping[str, Any]
    sent_at: float
    visible_at: float
    receipt: str = ""
    receives: int = 0
    received_at: float = 0.0


@dataclass(eq=False)
class MemorySqs:
    """A standard queue; `dead` collects what its redrive policy or a sender put into the dead-letter queue."""

    most_receives: int | None = 1000
    retention_seconds: int = 14 * 86_400
    dead: "MemorySqs | None" = None
    url: str = "memory"
    messages: dict[str, _Stored] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    polls: int = 0
    calls: int = 0
    most_received: int = 0
    most_hidden: int = 0
    counters: QueueCounters = field(default_factory=QueueCounters)
    _numbers: Any = field(default_factory=count)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, body: str, attributes: Mapping[str, Any] | None = None, *, delay: float = 0) -> None:
        """Send a message."""
        name = f"message-{next(self._numbers)}"
        now = _now()
        self.messages[name] = _Stored(name, body, attributes or {}, now, now + delay)
        self._arrived.set()

    @property
    def dead_letters(self) -> "MemorySqs | None":
        """The queue of its redrive policy."""
        return self.dead

    async def read_attributes(self) -> QueueAttributes:
        """Its settings."""
        return self.attributes

    @property
    def attributes(self) -> QueueAttributes:
        """Its settings."""
        arn = "arn:aws:sqs:us-east-1:111122223333:dead" if self.dead else ""
        return QueueAttributes(
            retention_seconds=self.retention_seconds,
            most_receives=self.most_receives,
            dead_letter_arn=arn,
            backlog=len(self.messages),
        )

    async def receive(
        self, count: int, *, visibility_seconds: int, wait_seconds: int, is_over: Callable[[], bool] = bool
    ) -> list[Message]:
        """One long poll."""
        del is_over
        self.polls += 1
        self.calls += 1
        until = _now() + wait_seconds
        while True:
            found = [self._receive(each, visibility_seconds) for each in self._visible()[:count]]
            if found or _now() >= until:
                now = _now()
                self.most_hidden = max(self.most_hidden, sum(each.visible_at > now for each in self._stored()))
                return found
            self._arrived.clear()
            soon = min((each.visible_at for each in self._stored()), default=until)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(min(until, soon) - _now(), 0.001)):
                    await self._arrived.wait()

    def _stored(self) -> list[_Stored]:
        oldest = _now() - self.retention_seconds
        for each in [each for each in self.messages.values() if each.sent_at < oldest]:
            self.expired.append(each.body)
            del self.messages[each.id]
        return list(self.messages.values())

    def _visible(self) -> list[_Stored]:
        now = _now()
        visible = [each for each in self._stored() if each.visible_at <= now]
        if self.most_receives is not None:
            for each in [each for each in visible if each.receives >= self.most_receives]:
                del self.messages[each.id]
                visible.remove(each)
                if self.dead is not None:
                    self.dead.put(each.body, each.attributes)
        return visible

    def _receive(self, stored: _Stored, visibility_seconds: int) -> Message:
        stored.receives += 1
        stored.received_at = _now()
        stored.visible_at = _now() + visibility_seconds
        stored.receipt = f"{stored.id}/{stored.receives}"
        self.most_received = max(self.most_received, stored.receives)
        return Message(
            id=stored.id,
            receipt=stored.receipt,
            body=stored.body,
            attributes={name: each["StringValue"] for name, each in stored.attributes.items()},
            wire_attributes=stored.attributes,
            receives=stored.receives,
            sent_at=EPOCH.timestamp() + stored.sent_at,
        )

    async def delete(self, receipts: Sequence[str]) -> list[str | None]:
        """Delete messages, ten with a call."""
        self.calls += ceil(len(receipts) / 10)
        return [self._delete(receipt) for receipt in receipts]

    def _delete(self, receipt: str) -> str | None:
        stored = self._by_receipt(receipt)
        if stored is None:
            return "ReceiptHandleIsInvalid"
        del self.messages[stored.id]
        return None

    async def hide(self, receipts: Sequence[tuple[str, int]]) -> list[str | None]:
        """Change the visibility of messages, ten with a call."""
        self.calls += ceil(len(receipts) / 10)
        return [self._hide(receipt, seconds) for receipt, seconds in receipts]

    def _hide(self, receipt: str, seconds: int) -> str | None:
        stored = self._by_receipt(receipt)
        if stored is None or stored.visible_at <= _now():
            return "MessageNotInflight"
        if _now() + seconds > stored.received_at + LIMIT_SECONDS:
            return "InvalidParameterValue"
        stored.visible_at = _now() + seconds
        self._arrived.set()
        return None

    def _by_receipt(self, receipt: str) -> _Stored | None:
        stored = self.messages.get(receipt.partition("/")[0])
        return stored if stored is not None and stored.receipt == receipt else None

    async def send(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Send messages, ten with a call."""
        self.calls += ceil(len(messages) / 10)
        for each in messages:
            assert each.delay_seconds <= 900
            self.put(each.body, each.attributes, delay=each.delay_seconds)
        return [None] * len(messages)


def _now() -> float:
    return asyncio.get_running_loop().time()
