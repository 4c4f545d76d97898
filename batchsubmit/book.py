"""All jobs of one ledger by key: the fold of its events, kept up to date as they are written. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator

from batchsubmit.jobs import Event, RunEnded, RunStarted
from batchsubmit.settled import SettledJobs
from batchsubmit.states import UNDECIDED, JobState, Phase, fold


class Book:
    """Where every job of a ledger stands, and its runs.

    Only jobs under way are kept as they are. Those that are settled, nearly all of a long run, are packed, so that a
    million of them fit into 80 MB. `expected_jobs` may be a guess.
    """

    def __init__(self, expected_jobs: int = 0) -> None:
        self._open: dict[str, JobState] = {}
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
            opened = self._open.get(event.job)
            settled = self._settled.get(event.job) if opened is None else None
            self._put(fold(opened or settled, event), was_settled=settled is not None)

    def _put(self, state: JobState, *, was_settled: bool) -> None:
        if self._settled.put(state):
            self._open.pop(state.job, None)
            return
        if was_settled:
            self._settled.remove(state.job)
        self._open[state.job] = state

    def get(self, key: str) -> JobState | None:
        """What is known of the job with this key."""
        return self._open.get(key) or self._settled.get(key)

    def settled_phase(self, digest: bytes) -> Phase | None:
        """The phase of the settled job with the key of this digest; None: ask `get`. For those who ask of millions."""
        return self._settled.phase(digest)

    def restore(self, key: str, state: JobState | None) -> None:
        """Put a job back as it was before an intent that could not be written, and so led to no call."""
        self._open.pop(key, None)
        self._settled.remove(key)
        if state is not None:
            self._put(state, was_settled=False)

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
