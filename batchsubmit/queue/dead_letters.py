"""What becomes of a message that can never work: written down as failed, then moved to the dead-letter queue."""

import structlog

from batchsubmit.queue.acks import MessageDeletes, MessageReturns, Return, delay_seconds
from batchsubmit.queue.client import Queue, QueueBusyError, QueueCounters, QueueError
from batchsubmit.queue.ledger import QueueLedger
from batchsubmit.queue.message import Message, Poison
from batchsubmit.queue.send import Outgoing, text_attributes

_MOST_ATTRIBUTES = 10
_MOST_REMEMBERED = 10_000
_MOST_REASON_CHARACTERS = 256
_LONGEST_ABSENCE_SECONDS = 12 * 3600 - 600


class DeadLetterMover:
    """Disposes of poison. `dead_letters` is None where no dead-letter queue is configured or to be reached."""

    def __init__(
        self,
        *,
        dead_letters: Queue | None,
        books: QueueLedger,
        hand_back: MessageReturns,
        removal: MessageDeletes,
        counters: QueueCounters,
        visibility_seconds: int,
    ) -> None:
        self._dead_letters = dead_letters
        self._books = books
        self._hand_back = hand_back
        self._removal = removal
        self._counters = counters
        self._visibility = visibility_seconds
        self._moved: dict[str, None] = {}
        self._doubtful: dict[str, None] = {}
        self._log = structlog.get_logger("batchsubmit")

    async def dispose(self, message: Message, poison: Poison) -> None:
        """Record and move a message. Raises StoppedError where the ledger can no longer be relied on."""
        if message.id in self._moved:
            self._removal.add(message.receipt)
            return
        if await self._books.record(poison.failed(message, self._books.now())):
            self._counters.poisoned += 1
            self._log.warning("message.poison", message=message.id, code=poison.code)
        elif message.id not in self._doubtful:
            # Another worker, or an earlier run, wrote it down and is moving it or died before: wait and see.
            _remember(self._doubtful, message.id)
            await self._hand_back.send([Return(message, self._visibility)])
            return
        await self._move(message, poison)

    async def _move(self, message: Message, poison: Poison) -> None:
        if self._dead_letters is not None:
            try:
                (failure,) = await self._dead_letters.send([_letter(message, poison)])
            except (QueueBusyError, QueueError) as exc:
                failure = str(exc)
            if failure is None:
                _remember(self._moved, message.id)
                self._counters.moved += 1
                self._removal.add(message.receipt)
                return
            self._log.warning("message.not_moved", message=message.id, reason=failure)
        # Left to the redrive policy, if there is one; without one it is seen ever less often.
        seconds = delay_seconds(message, first=self._visibility, most=_LONGEST_ABSENCE_SECONDS)
        await self._hand_back.send([Return(message, seconds)])


def _letter(message: Message, poison: Poison) -> Outgoing:
    attributes = dict(message.wire_attributes)
    reason = f"{poison.code}: {poison.reason}".encode("ascii", "backslashreplace").decode()
    own = text_attributes(batchsubmit_reason="".join(filter(str.isprintable, reason))[:_MOST_REASON_CHARACTERS])
    if len(attributes) < _MOST_ATTRIBUTES:
        attributes = {**own, **attributes}
    return Outgoing(
        id=message.id, body=message.body, attributes=attributes, group=message.group, deduplication=message.id
    )


def _remember(ids: dict[str, None], message: str) -> None:
    ids[message] = None
    while len(ids) > _MOST_REMEMBERED:
        del ids[next(iter(ids))]
