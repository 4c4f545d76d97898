"""What an engine asks of a source of jobs, be it a file or a queue.

A source hands out deliveries lane by lane and learns how each ended, once the ledger has it on the disk.
"""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any, Protocol

from batchsubmit.core.jobs import Job


class Ending(Enum):
    """How the engine leaves a job that it has taken."""

    DECIDED = "decided"  # it is submitted, or failed for good, and the ledger has that
    RELEASED = "released"  # nothing was decided: back to the head of its lane
    HELD = "held"  # a quota that is not one of slots refused it: back to its lane, or for long to where it came from
    UNKNOWN = "unknown"  # nobody can tell now whether it was submitted: not taken again, unless it is to be looked up


class Delivery(Protocol):
    """One job, on loan from its source until it has ended there."""

    @property
    def job(self) -> Job:
        """The job."""

    def ended(self, how: Ending) -> None:
        """Take the job back."""

    def put_aside(self) -> Callable[[], None] | None:
        """The job can not be sent for long. Give what puts it back into its lane then; None where it is away."""

    def denied(self, code: str, message: str) -> bool:
        """The service denied the job: True where the source deals with that, and nothing is to be recorded."""


class Source(Protocol):
    """Jobs by membership."""

    def waiting(self) -> Collection[str]:
        """The memberships that have a job to take now."""

    def take(self, membership: str) -> Delivery | None:
        """Take the next job of a membership that is waiting; None where it needs no call any more."""

    def request_of(self, key: str) -> Mapping[str, Any] | None:
        """Give the request of a job that was held back at the start because its fate was unknown, if it is known."""

    def requeue(self, key: str) -> None:
        """Put a job that was held back into its lane after all."""

    def waiting_jobs(self) -> int:
        """How many jobs were not taken yet, or were released."""

    @property
    def is_open(self) -> bool:
        """Whether jobs may come that are not there yet."""

    def listen(self, callback: Callable[[], None]) -> None:
        """Call this whenever jobs have come."""
