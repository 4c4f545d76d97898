"""How a message goes back to its queue: hidden for how long, or sent anew because too few receives are left. Pure.

Each receive counts towards `maxReceiveCount`, whatever came of it, and waiting for a slot must not use them up. So the
wait before the next receive doubles from one to the next; and a message that has spent half of its receives, or most of
its time in the queue, is sent again as a new message before the old one is deleted. Both have one key, so that a crash
between the two makes a redelivery, not a second job.
"""

from collections import OrderedDict
from dataclasses import dataclass

from batchsubmit.sources.sqs.custody import LIMIT_SECONDS
from batchsubmit.sources.sqs.message import Message
from batchsubmit.sources.sqs.terms import Terms

MOST_REMEMBERED = 10_000
_AGED = 0.75
_LEEWAY_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Return:
    """Hide a message for so many seconds, or, where it is to be renewed, send it anew with that delay."""

    message: Message
    seconds: int
    renew: bool = False


def delay_seconds(message: Message, *, first: int, most: int) -> int:
    """How long a message that has no use now should be away: longer each time; `Away` calls it back when it has."""
    return int(max(1, min(most, first * 2 ** min(message.receives - 1, 30))))


def put_back(message: Message, seconds: int, *, terms: Terms, now: float) -> Return:
    """Send a message of a lane that is full back. `now` is Unix time, as the message's own."""
    spent = terms.most_receives is not None and message.receives > terms.most_receives // 2
    return Return(message, seconds, renew=spent or is_old(message, terms, now))


def give_up(message: Message, *, terms: Terms, now: float) -> Return:
    """Make a message visible at once, as a worker does that ends; renewed only where its last receive was this one."""
    last = terms.most_receives is not None and message.receives >= terms.most_receives
    return Return(message, 0, renew=last or is_old(message, terms, now))


def is_old(message: Message, terms: Terms, now: float) -> bool:
    """Whether the queue might drop a message before it can have been held for as long as SQS lets one."""
    kept = terms.retention_seconds
    last = max(kept / 2, min(_AGED * kept, kept - LIMIT_SECONDS - _LEEWAY_SECONDS))
    return message.sent_at > 0 and now - message.sent_at > last


class Away:
    """The messages that were put back with a delay, by lane, so that they can be called back before it is over."""

    def __init__(self) -> None:
        self._lanes: dict[str, OrderedDict[str, tuple[Message, float]]] = {}
        self._lane_of: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lane_of)

    def went(self, lane: str, message: Message, until: float) -> None:
        """Remember a message; of very many, the oldest is forgotten, and comes back by itself."""
        self.came(message.id)
        self._lanes.setdefault(lane, OrderedDict())[message.id] = (message, until)
        self._lane_of[message.id] = lane
        if len(self) > MOST_REMEMBERED:
            self.came(next(iter(self._lane_of)))

    def came(self, message: str) -> None:
        """A message was delivered again."""
        lane = self._lane_of.pop(message, None)
        if lane is not None:
            del self._lanes[lane][message]
            if not self._lanes[lane]:
                del self._lanes[lane]

    def call_back(self, lane: str, count: int, now: float) -> list[Message]:
        """Give up to so many messages of a lane that are still hidden, and forget them."""
        called: list[Message] = []
        while lane in self._lanes and len(called) < count:
            message, until = next(iter(self._lanes[lane].values()))
            self.came(message.id)
            if until > now:
                called.append(message)
        return called

    def call_back_all(self, now: float) -> list[Message]:
        """Give all messages that are still hidden, and forget them."""
        return [message for lane in list(self._lanes) for message in self.call_back(lane, len(self), now)]

    def forget_past(self, now: float) -> None:
        """Forget those that are hidden no longer."""
        held = [(message, until) for hidden in self._lanes.values() for message, until in hidden.values()]
        for message, until in held:
            if until <= now:
                self.came(message.id)
