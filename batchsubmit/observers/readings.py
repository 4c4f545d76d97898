"""A worker's state at one moment, as values: what whoever runs the worker reads for those who scrape it.

Nothing here needs the extra `metrics`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReading:
    """One membership: jobs that wait, slots that are taken (ours and others'), and the quota where it is known."""

    membership: str
    waiting: int
    slots_used: int
    slots_known: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The state of a worker. A None has no series: what is not known is not shown as zero.

    `messages` and `queue_failures` count since the worker began, by words of ours of which there are a few.
    """

    lanes: tuple[LaneReading, ...] = ()
    account_slots_used: int | None = None
    account_slots_known: int | None = None
    rate_per_second: float = 0.0
    calls_under_way: int = 0
    jobs_unknown: int = 0
    jobs_undecided: int = 0
    messages_held: int = 0
    oldest_message_age_seconds: float | None = None
    is_draining: bool = False
    queue_polls: int = 0
    messages: Mapping[str, int] = field(default_factory=dict)
    queue_failures: Mapping[str, int] = field(default_factory=dict)
