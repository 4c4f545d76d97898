"""Which messages are held, when each must be hidden for longer, and when SQS's limit forces one back. Pure.

Times are monotonic seconds. A message counts as received when the call that brought it began: later than that it was,
earlier never. So our reckoning of both limits errs on the safe side.
"""

from collections.abc import Collection
from dataclasses import dataclass

LIMIT_SECONDS = 12 * 3600
"""SQS: no receive hides a message for longer than this, however often it is extended."""

_LEAST_LEFT = 1 / 3
_LEFT = 1 / 2
"""When a message has a third of its time left, all with less than half of it are extended, so that calls carry ten:
5,000 messages held for 300 s are some three calls a second."""


@dataclass(frozen=True, slots=True)
class Extension:
    """Hide a message for so many seconds from now on."""

    id: str
    receipt: str
    seconds: int


@dataclass(slots=True)
class _Held:
    receipt: str
    received_at: float
    hidden_until: float


class Custody:
    """The messages that this worker has received and not let go of."""

    def __init__(self, visibility_seconds: int, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.visibility_seconds = visibility_seconds
        self._limit = limit_seconds
        self._margin = min(float(visibility_seconds), limit_seconds / 10)
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, message: str) -> bool:
        return message in self._held

    def receive(self, message: str, receipt: str, at: float) -> None:
        """Take a message, or its newest delivery, whose receipt is the one that counts."""
        self._held[message] = _Held(receipt, at, at + self.visibility_seconds)

    def let_go(self, message: str) -> None:
        """Hold a message no longer."""
        self._held.pop(message, None)

    def due(self, now: float) -> list[Extension]:
        """Give the messages to hide for longer, with the seconds that the limit still allows."""
        extensions: list[Extension] = []
        least = self.visibility_seconds * _LEAST_LEFT
        if all(held.hidden_until - now > least for held in self._held.values()):
            return extensions
        for message, held in self._held.items():
            if held.hidden_until - now > self.visibility_seconds * _LEFT:
                continue
            seconds = int(min(self.visibility_seconds, held.received_at + self._limit - now))
            if seconds >= 1 and now + seconds > held.hidden_until:
                extensions.append(Extension(message, held.receipt, seconds))
        return extensions

    def extended(self, extension: Extension, at: float) -> None:
        """SQS hides a message for longer, from this moment on."""
        held = self._held.get(extension.id)
        if held is not None and held.receipt == extension.receipt:
            held.hidden_until = at + extension.seconds

    def ending(self, now: float) -> Collection[str]:
        """Give the messages that cannot be held for much longer: those that wait should go back now."""
        return [each for each, held in self._held.items() if now >= held.received_at + self._limit - self._margin]

    def is_over(self, message: str, now: float) -> bool:
        """Whether a message's limit has passed, so that SQS may deliver it again at any moment."""
        held = self._held.get(message)
        return held is None or now >= held.received_at + self._limit

    def wake_at(self) -> float | None:
        """When something is due next, if anything is held."""
        left = self.visibility_seconds * _LEAST_LEFT
        limit = self._limit - self._margin
        times = (min(held.hidden_until - left, held.received_at + limit) for held in self._held.values())
        return min(times, default=None)
