"""The jobs that this worker has in hand, by key and by lane, and the messages that stand for them. No I/O.

A job may have several messages (a redelivery under a new receipt, a second producer of the same body): all of them are
kept with the one job, and all are deleted once it is decided.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from batchsubmit.core.jobs import Job
from batchsubmit.queue.message import Message, Poison

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


class HeldMessages:
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


class Place(StrEnum):
    """Where a holding is."""

    WAITING = "waiting"  # in its lane
    TAKEN = "taken"  # with the engine
    HELD_BACK = "held_back"  # somebody else of this process has the job; what became of it is looked at again
    UNKNOWN = "unknown"  # nobody can tell now what became of the job: it goes back for a long while
    OVER_QUOTA = "over_quota"  # a quota that is not one of slots refused the job: the same
    DENIED = "denied"  # the service denied the job: to the dead-letter queue
    NOT_READY = "not_ready"  # its trained model or channel is still being created: the same, for longer each time
    EXPANDED = "expanded"  # a manifest whose jobs are being submitted
    GONE = "gone"


_SET_ASIDE = frozenset({Place.UNKNOWN, Place.OVER_QUOTA, Place.NOT_READY})
"""The job can be neither sent nor decided now: its messages go back for long."""


@dataclass(slots=True, eq=False)
class HeldJob:
    """One job, or one manifest, with its messages by id."""

    key: str
    lane: str
    job: Job | None
    place: Place = Place.WAITING
    messages: dict[str, Message] = field(default_factory=dict)
    poison: Poison | None = None


class HeldJobs:
    """All holdings of a worker."""

    def __init__(self, custody: HeldMessages) -> None:
        self.custody = custody
        self.lanes: dict[str, deque[HeldJob]] = {}
        self._by_key: dict[str, HeldJob] = {}
        self._by_message: dict[str, HeldJob] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[HeldJob]:
        return iter(list(self._by_key.values()))

    def get(self, key: str) -> HeldJob | None:
        """What is held under this key."""
        return self._by_key.get(key)

    def of_message(self, message: str) -> HeldJob | None:
        """What a message stands for."""
        return self._by_message.get(message)

    def held_back(self) -> list[HeldJob]:
        """Those whose fate is to be found out."""
        return [each for each in self._by_key.values() if each.place is Place.HELD_BACK]

    def set_aside(self) -> list[HeldJob]:
        """Those that can be neither sent nor decided now."""
        return [each for each in self._by_key.values() if each.place in _SET_ASIDE]

    def denied(self) -> list[HeldJob]:
        """Those that the service denied."""
        return [each for each in self._by_key.values() if each.place is Place.DENIED]

    def waiting(self) -> dict[str, int]:
        """How many jobs of each lane wait."""
        return {lane: len(holdings) for lane, holdings in self.lanes.items()}

    def take_in(self, holding: HeldJob, message: Message, at: float) -> None:
        """Add a message to what it stands for, in hand already or new."""
        self._by_key.setdefault(holding.key, holding)
        holding.messages[message.id] = message
        self._by_message[message.id] = holding
        self.custody.receive(message.id, message.receipt, at)

    def shelve(self, holding: HeldJob, *, first: bool = False) -> None:
        """Put a job into its lane, at the end or at the head."""
        holding.place = Place.WAITING
        lane = self.lanes.setdefault(holding.lane, deque())
        if first:
            lane.appendleft(holding)
        else:
            lane.append(holding)
        self._count += 1

    def next(self, lane: str) -> HeldJob:
        """Take the first job of a lane."""
        holding = self.lanes[lane].popleft()
        self._left(holding.lane)
        holding.place = Place.TAKEN
        return holding

    def unshelve(self, holding: HeldJob) -> None:
        """Take a job out of its lane, wherever it stands there."""
        if holding.place is Place.WAITING:
            self.lanes[holding.lane].remove(holding)
            self._left(holding.lane)

    def last_of_fullest(self, count: int) -> list[HeldJob]:
        """Give up to so many jobs from the end of the lane in which most wait."""
        fullest = max(self.lanes.values(), key=len, default=deque())
        return list(islice(reversed(fullest), count))

    def _left(self, lane: str) -> None:
        self._count -= 1
        if not self.lanes[lane]:
            del self.lanes[lane]

    def drop(self, holding: HeldJob) -> list[Message]:
        """Let go of a job; gives its messages, with which something is still to be done."""
        self.unshelve(holding)
        holding.place = Place.GONE
        self._by_key.pop(holding.key, None)
        messages = list(holding.messages.values())
        self._forget(messages)
        holding.messages.clear()
        return messages

    def lose(self, message: str) -> Message | None:
        """Let go of one message; a job that waits and has no other goes with it, one that is under way stays."""
        holding = self._by_message.get(message)
        if holding is None:
            self.custody.let_go(message)
            return None
        lost = holding.messages.pop(message)
        self._forget([lost])
        if not holding.messages and holding.place in {Place.WAITING, Place.HELD_BACK}:
            self.drop(holding)
        return lost

    def _forget(self, messages: Iterable[Message]) -> None:
        for each in messages:
            self._by_message.pop(each.id, None)
            self.custody.let_go(each.id)
