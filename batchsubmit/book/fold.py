"""All jobs of one ledger by key: the fold of its events, kept up to date as they are written. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator

from batchsubmit.book.digests import digest_of
from batchsubmit.book.settled import SettledJobs
from batchsubmit.jobs import Event, RunEnded, RunStarted
from batchsubmit.states import UNDECIDED, JobState, Phase, fold


class Book:
    """Where every job of a ledger stands, and its runs.

    Only jobs under way are kept as they are. Those that are settled, nearly all of a long run, are packed, so that a
    million of them fit into 80 MB. `expected_jobs` may be a guess.

    Packed jobs cannot be forgotten, only marked as gone. Where jobs come and go for ever, let the book pack none.
    """

    def __init__(self, expected_jobs: int = 0, *, packs: bool = True) -> None:
        self._packs = packs
        # By digest, as rows of a manifest are known; by key where that is none of ours.
        self._open: dict[bytes | str, JobState] = {}
        self._settled = SettledJobs()
        self._settled.make_room(expected_jobs)
        self.runs: list[RunStarted] = []
        self.last_end: RunEnded | None = None

    def apply(self, event: Event) -> None:
        """Take in one event of the ledger."""
        if isinstance(event, RunStarted):
            self.runs.append(event)
            self.last_end = None
        elif isinstance(event, RunEnded):
            self.last_end = event
        else:
            place = digest_of(event.job) or event.job
            opened = self._open.get(place)
            settled = self._settled.get(place) if opened is None and isinstance(place, bytes) else None
            self._put(place, fold(opened or settled, event), was_settled=settled is not None)

    def _put(self, place: bytes | str, state: JobState, *, was_settled: bool) -> None:
        if self._packs and isinstance(place, bytes):
            if self._settled.put(place, state):
                self._open.pop(place, None)
                return
            if was_settled:
                self._settled.remove(place)
        self._open[place] = state

    def get(self, key: str) -> JobState | None:
        """What is known of the job with this key."""
        place = digest_of(key) or key
        state = self._open.get(place)
        return self._settled.get(place) if state is None and isinstance(place, bytes) else state

    def phase(self, digest: bytes) -> Phase | None:
        """Where the job whose key spells this digest stands; for those who ask of millions."""
        state = self._open.get(digest) if self._open else None
        return state.phase if state else self._settled.phase(digest)

    def restore(self, key: str, state: JobState | None) -> None:
        """Put a job back as it was before an intent that could not be written, and so led to no call."""
        place = digest_of(key) or key
        self._open.pop(place, None)
        if isinstance(place, bytes):
            self._settled.remove(place)
        if state is not None:
            self._put(place, state, was_settled=False)

    def undecided(self) -> list[JobState]:
        """Jobs that the service may have or not."""
        return [state for state in self._open.values() if state.phase in UNDECIDED]

    def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger already knows, and whose they are (ARN to key)."""
        claimed = self._settled.claims(arns) if arns else {}
        claimed.update((state.arn, state.job) for state in self._open.values() if state.arn in arns)
        for state in self._open.values():
            claimed.update((arn, state.job) for arn in state.duplicates if arn in arns)
        return claimed

    def __iter__(self) -> Iterator[JobState]:
        yield from self._settled
        yield from list(self._open.values())

    def __len__(self) -> int:
        return len(self._settled) + len(self._open)

    def counts(self) -> Counter[Phase]:
        """How many jobs stand where."""
        counts = Counter(state.phase for state in self._open.values())
        counts.update({phase: self._settled.count(phase) for phase in Phase})
        return +counts

    def account(self) -> dict[str, int]:
        """How many jobs stand where, as people count: those that have finished are among the submitted."""
        counts = self.counts()
        counts[Phase.SUBMITTED] += counts[Phase.FINISHED]
        return {str(phase): count for phase, count in sorted(counts.items()) if count}
