"""All jobs of one ledger by key: the fold of its events, kept up to date as they are written. Pure.

A million jobs as objects take a gigabyte. Here each that is decided is a short byte string, and what many jobs share
(membership, model, codes) is kept once.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from batchsubmit.core.jobs import Duplicate, Event, RunEnded, RunStarted, Submitted
from batchsubmit.core.states import UNDECIDED, JobState, Phase, fold

_Packed = tuple[int, str, str, str, str]
"""The number of what is shared, then the job's own: name, time, message and the last part of its ARN."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


_ARN_BITS = 1 << 22
"""One bit set for each ARN by its hash: most ARNs are new, and no job has to be searched for them. Half a megabyte."""


def _place(arn: str) -> tuple[int, int]:
    number = hash(arn) % _ARN_BITS
    return number >> 3, 1 << (number & 7)


class LedgerState:
    """The state of every job of a ledger, and its runs. What jobs share is never forgotten."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobState | bytes] = {}
        self._undecided: dict[str, None] = {}
        self._shared: list[JobState] = []
        self._numbers: dict[JobState, int] = {}
        self._arns = bytearray(_ARN_BITS // 8)
        self.runs: list[RunStarted] = []
        self.last_end: RunEnded | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> "LedgerState":
        """Fold all events of a ledger."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    @property
    def open_run(self) -> RunStarted | None:
        """The last run, if it has not ended: it writes to the ledger, or died."""
        return self.runs[-1] if self.runs and self.last_end is None else None

    def apply(self, event: Event) -> None:
        """Add one event of the ledger."""
        if isinstance(event, RunStarted):
            self.runs.append(event)
            self.last_end = None
        elif isinstance(event, RunEnded):
            self.last_end = event
        else:
            if isinstance(event, Submitted | Duplicate):
                place, bit = _place(event.arn)
                self._arns[place] |= bit
            self._put(event.job, fold(self.get(event.job), event))

    def get(self, key: str) -> JobState | None:
        """What is known of the job with this key."""
        return self._unpacked(key, self._jobs[key]) if key in self._jobs else None

    def restore(self, key: str, state: JobState | None) -> None:
        """Set what is known of a job; with None, forget it. An intent that could not be written is undone so."""
        if state is not None:
            self._put(key, state)
        else:
            self._jobs.pop(key, None)
            self._undecided.pop(key, None)

    def _put(self, key: str, state: JobState) -> None:
        if state.phase in UNDECIDED:
            self._undecided[key] = None
            self._jobs[key] = state
        else:
            self._undecided.pop(key, None)
            self._jobs[key] = self._packed(state) if not (state.duplicates or state.earlier) else state

    def undecided(self) -> list[JobState]:
        """Jobs that the service may have or not."""
        return [state for key in self._undecided if (state := self.get(key)) is not None]

    def owner(self, arn: str) -> str:
        """The key of the job that has this ARN; empty where none has it."""
        place, bit = _place(arn)
        return self.claims([arn]).get(arn, "") if self._arns[place] & bit else ""

    def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger knows, and the keys of their jobs (ARN to key)."""
        claimed: dict[str, str] = {}
        last_parts = tuple({arn.rpartition("/")[2].encode() for arn in arns})
        for key, kept in self._jobs.items() if arns else ():
            # The last part of the ARN is the end of a packed job.
            if isinstance(kept, bytes) and not kept.endswith(last_parts):
                continue
            state = self._unpacked(key, kept)
            claimed |= {arn: key for arn in state.arns if arn in arns}
        return claimed

    def __iter__(self) -> Iterator[JobState]:
        for key, kept in list(self._jobs.items()):
            yield self._unpacked(key, kept)

    def __contains__(self, key: object) -> bool:
        return key in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def counts(self) -> Counter[Phase]:
        """How many jobs are in each phase."""
        return Counter(state.phase for state in self)

    def account(self) -> dict[str, int]:
        """The same as people count: the finished jobs are among the submitted."""
        counts = self.counts()
        counts[Phase.SUBMITTED] += counts[Phase.FINISHED]
        return {str(phase): count for phase, count in sorted(counts.items()) if count}

    def _packed(self, state: JobState) -> bytes:
        head, slash, last_part = state.arn.rpartition("/")
        shared = replace(state, job="", name="", since="", message="", arn=head + slash)
        number = self._numbers.setdefault(shared, len(self._shared))
        if number == len(self._shared):
            self._shared.append(shared)
        return _encode((number, state.name, state.since, state.message, last_part))

    def _unpacked(self, key: str, kept: JobState | bytes) -> JobState:
        if isinstance(kept, JobState):
            return kept
        number, name, since, message, last_part = _decode(kept)
        shared = self._shared[number]
        state: JobState = replace(shared, job=key, name=name, since=since, message=message, arn=shared.arn + last_part)
        return state
