"""A checked manifest as a source: its rows by membership, each read again when its turn comes.

Only row numbers are kept, so the order of the manifest does not matter: every lane has its jobs from the start.
"""

from array import array
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from batchsubmit.core.job_states import Action
from batchsubmit.core.jobs import Job
from batchsubmit.core.source import Ending
from batchsubmit.errors import StoppedError
from batchsubmit.manifest.index import Index


class ManifestSource:
    """Hands out the jobs that `decision` submits, holds those to be looked up; `on_ended` hears how each ended."""

    def __init__(
        self,
        index: Index,
        *,
        batch: str,
        decision: Callable[[str], Action],
        on_ended: Callable[[str, Ending], None] = lambda *_: None,
    ) -> None:
        self.on_ended = on_ended
        self._index = index
        self._batch = batch
        self._held: dict[str, int] = {}
        lanes = [array("I") for _ in index.memberships]
        for number, key in enumerate(index):
            action = decision(key)
            if action is Action.SUBMIT:
                lanes[index.membership_numbers[number]].append(number)
            elif action is Action.LOOK_UP:
                self._held[key] = number
        if index.priorities:
            lanes = [array("I", sorted(lane, key=lambda number: -index.priorities.get(number, 0))) for lane in lanes]
        for lane in lanes:
            lane.reverse()
        # Rows still to be handed out, the next one last.
        self._lanes = {name: lane for name, lane in zip(index.memberships, lanes, strict=True) if lane}
        self._count = sum(map(len, lanes))

    def waiting(self) -> Collection[str]:
        """The memberships whose rows are not all taken."""
        return self._lanes.keys()

    @property
    def is_open(self) -> bool:
        """A file has all its jobs from the start."""
        return False

    def listen(self, callback: Callable[[], None]) -> None:
        """Nothing ever comes that was not there."""

    def waiting_jobs(self) -> int:
        """Rows not taken, or released."""
        return self._count

    def take(self, membership: str) -> "ManifestDelivery":
        """Read the next row of a membership. Raises StoppedError where the manifest changed since it was checked."""
        lane = self._lanes[membership]
        number = lane[-1]
        job = self._read(number)
        lane.pop()
        self._count -= 1
        if not lane:
            del self._lanes[membership]
        return ManifestDelivery(self, job, number)

    def _read(self, number: int) -> Job:
        job = self._index.job(number, batch=self._batch)
        if job is None:
            raise StoppedError(
                f"the manifest changed while it was being submitted, at line {self._index.lines[number]}; "
                "nothing is lost: run the same command again to go on with the new one"
            )
        return job

    def request_of(self, key: str) -> Mapping[str, Any] | None:
        """Read the request of a row that was held back; None for a job whose row the manifest no longer has."""
        return self._read(self._held[key]).request if key in self._held else None

    def requeue(self, key: str) -> None:
        """Put a row that was held back at the head of its lane; a job without a row has nothing to send."""
        if key in self._held:
            self._put_back(self._held.pop(key))

    def ended(self, number: int, key: str, how: Ending) -> None:
        """Take a job back, to be handed out before the others of its lane, unless it is decided or unknown."""
        if how in {Ending.RELEASED, Ending.HELD}:
            self._put_back(number)
        self.on_ended(key, how)

    def _put_back(self, number: int) -> None:
        self._lanes.setdefault(self._index.membership(number), array("I")).append(number)
        self._count += 1


class ManifestDelivery:
    """One row's job. A file needs no word of what is decided: the ledger has it, and is read by the next run."""

    def __init__(self, source: ManifestSource, job: Job, number: int) -> None:
        self.job = job
        self._source = source
        self._number = number

    def ended(self, how: Ending) -> None:
        """Tell the source."""
        self._source.ended(self._number, self.job.key, how)

    def denied(self, code: str, message: str) -> bool:
        """A file has no place for such jobs."""
        del code, message
        return False

    def put_aside(self) -> Callable[[], None]:
        """Keep the number only: very many rows may wait for one channel."""
        return partial(self._source.ended, self._number, self.job.key, Ending.RELEASED)
