"""The jobs that this worker holds, by key and by lane, and the messages that ask for them. No I/O.

A job may have several messages (a redelivery with a new receipt, a second producer of the same body). All of them are
kept with the one job, and all are deleted once it is decided.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from batchsubmit.core.jobs import Job
from batchsubmit.queue.client import QueueAttributes
from batchsubmit.queue.message import Message

LIMIT_SECONDS = 12 * 3600
"""SQS: one receive hides a message for no longer than this, however often it is extended (Amazon SQS Developer Guide,
"Amazon SQS visibility timeout")."""

_LEAST_LEFT = 1 / 3
"""A message is extended when a third of its time is left: 5,000 held for 300 s are some three calls a second."""


@dataclass(slots=True, eq=False)
class HeldJob:
    """One job, or one manifest, which is in no lane, with its messages by id."""

    key: str
    lane: str = ""
    job: Job | None = None
    is_waiting: bool = False
    messages: dict[str, Message] = field(default_factory=dict)

    @property
    def is_taken(self) -> bool:
        """Whether the engine has it."""
        return bool(self.lane) and not self.is_waiting


@dataclass(slots=True, eq=False)
class HeldMessage:
    """One delivery of a message; times are monotonic seconds."""

    message: Message
    job: HeldJob
    received_at: float
    hidden_until: float


class HeldJobs:
    """All that a worker holds; the length is the number of messages."""

    def __init__(self, visibility_seconds: int) -> None:
        self.visibility_seconds = visibility_seconds
        self.lanes: dict[str, deque[HeldJob]] = {}
        self.taken: set[str] = set()
        """The keys of all jobs that the engine has, rows of manifests included."""
        self.jobs: dict[str, HeldJob] = {}
        """Jobs and manifests, by key."""
        self._messages: dict[str, HeldMessage] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def oldest_sent_at(self) -> float | None:
        """When the oldest message was sent, in Unix time."""
        return min((each.message.sent_at for each in self._messages.values()), default=None)

    def add(self, job: HeldJob, message: Message, at: float) -> None:
        """Hold a message, or its newest delivery, whose receipt is the one that counts."""
        self.jobs.setdefault(job.key, job)
        job.messages[message.id] = message
        self._messages[message.id] = HeldMessage(message, job, at, at + self.visibility_seconds)

    def put_in_lane(self, job: HeldJob, *, first: bool = False) -> None:
        """Let a job wait in its lane, at the end or at the head."""
        job.is_waiting = True
        lane = self.lanes.setdefault(job.lane, deque())
        lane.insert(0 if first else len(lane), job)

    def next(self, lane: str) -> HeldJob:
        """Take the first job of a lane."""
        job = self.lanes[lane][0]
        self._leave_lane(job)
        return job

    def last_of_fullest(self, count: int) -> list[HeldJob]:
        """Give up to so many jobs from the end of the lane in which most wait."""
        return list(islice(reversed(max(self.lanes.values(), key=len, default=deque())), count))

    def _leave_lane(self, job: HeldJob) -> None:
        job.is_waiting = False
        self.lanes[job.lane].remove(job)
        if not self.lanes[job.lane]:
            del self.lanes[job.lane]

    def drop(self, job: HeldJob) -> list[Message]:
        """Hold a job no longer; gives its messages, which are still to be deleted or returned."""
        if job.is_waiting:
            self._leave_lane(job)
        self.jobs.pop(job.key, None)
        messages = list(job.messages.values())
        for each in messages:
            self._messages.pop(each.id, None)
        job.messages.clear()
        return messages

    def lose(self, held: HeldMessage) -> None:
        """Hold a message no longer; a job without another goes with it, unless it is with the engine."""
        job, message = held.job, held.message
        if self._messages.get(message.id) is not held:
            return  # delivered again meanwhile
        del self._messages[message.id]
        job.messages.pop(message.id, None)
        if not job.messages and job.is_waiting:
            self.drop(job)

    def due(self, now: float) -> list[tuple[HeldMessage, int]]:
        """Give the messages to hide for longer, with the seconds that the limit still allows."""
        hidden_until = now + self.visibility_seconds * _LEAST_LEFT
        soon = [each for each in self._messages.values() if each.hidden_until <= hidden_until]
        timed = [(each, int(min(self.visibility_seconds, each.received_at + LIMIT_SECONDS - now))) for each in soon]
        return [(each, seconds) for each, seconds in timed if seconds >= 1 and now + seconds > each.hidden_until]

    def ending(self, now: float, *, sent_before: float) -> list[HeldMessage]:
        """Give what is not taken and can hardly be held any longer, or was sent before this Unix time."""
        received_before = now - LIMIT_SECONDS + min(self.visibility_seconds, LIMIT_SECONDS / 10)
        return [
            each
            for each in self._messages.values()
            if not each.job.is_taken and (each.received_at <= received_before or 0 < each.message.sent_at < sent_before)
        ]


def is_spent(message: Message, queue: QueueAttributes, now: float) -> bool:
    """Whether a message is to be sent again: half of its receives or of its time is over. `now` is Unix time."""
    most = queue.most_receives
    return (most is not None and message.receives > most // 2) or 0 < message.sent_at < old_before(queue, now)


def old_before(queue: QueueAttributes, now: float) -> float:
    """The queue might drop a message that was sent before this, while it is held for as long as SQS allows."""
    return now - queue.retention_seconds / 2
