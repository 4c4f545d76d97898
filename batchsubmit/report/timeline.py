"""The ledger's events as one record a job: where it stands, its timeline, and what it waited for. Pure.

Every report and export reads a ledger through here, in one pass over any iterable of events. Where a job stands is
`states.fold`'s to say; what the seconds mean is written in `waits`. A decided job is kept packed, about 400 bytes all
told, so that a million fit in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import msgspec

from batchsubmit.core.jobs import (
    Absent,
    Entry,
    Finished,
    Intent,
    JobEvent,
    RefusalCause,
    Refused,
    RunEnded,
    RunStarted,
    Submitted,
    Unknown,
    Unrecognised,
)
from batchsubmit.core.states import UNDECIDED, JobState, Phase, fold
from batchsubmit.forecast import RunHistory
from batchsubmit.report.waits import (
    Cause,
    LaneLog,
    Pending,
    RunClock,
    Waits,
    cause_of,
    pending_after,
    refusal_cause,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One job. Times are Unix seconds; `finished_at` is the service's, or else when a run saw the end."""

    state: JobState
    run: int
    via: str
    first_intent_at: float | None
    accepted_at: float | None
    finished_at: float | None
    waited: dict[Cause, float]

    @property
    def is_unknown(self) -> bool:
        """Whether the job may run on the service or not."""
        return self.state.phase in UNDECIDED

    @property
    def has_failed(self) -> bool:
        """Whether it could not be submitted, or ran to a bad end."""
        return self.state.phase is Phase.FAILED or (
            self.state.phase is Phase.FINISHED and self.state.status != "ACTIVE"
        )

    @property
    def seconds(self) -> float | None:
        """From acceptance to the end as it was seen."""
        if self.accepted_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.accepted_at, 0.0)


@dataclass(slots=True)
class RunSpan:
    """One run: its first line, its last one if it lived to write it, and the time of its last event."""

    started: RunStarted
    began_at: float
    last_at: float
    ended: RunEnded | None = None


@dataclass(frozen=True, slots=True)
class LearnedQuota:
    """A quota that a run learned: from then on at most `limit` jobs of a membership, or of the account (empty)."""

    at: float
    membership: str
    limit: int


def moment(at: str) -> float:
    """Unix seconds of an event's `at`."""
    return datetime.fromisoformat(at).timestamp()


_FIELDS = JobState.__struct_fields__
_values = attrgetter(*_FIELDS)
_REPEATED = tuple(_FIELDS.index(name) for name in ("membership", "trained_model", "code"))
_ARN, _PHASE, _DUPLICATES = (_FIELDS.index(name) for name in ("arn", "phase", "duplicates"))

_Extra = TypeVar("_Extra")


class Packer(Generic[_Extra]):
    """Packs a job's state with one more value of a msgspec type, and back."""

    def __init__(self, extra: type[_Extra]) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], tuple[list[Any], _Extra]]
        self._decode = msgspec.msgpack.Decoder(tuple[list[Any], extra]).decode  # type: ignore[valid-type]

    def pack(self, state: JobState, extra: _Extra) -> bytes:
        """Write both as bytes."""
        values: list[Any] = list(_values(state))
        for index in _REPEATED:
            values[index] = self._number(values[index])
        head, slash, tail = values[_ARN].rpartition("/")
        values[_ARN] = (self._number(head + slash), tail)
        return self._encode((values, extra))

    def unpack(self, packed: bytes) -> tuple[JobState, _Extra]:
        """Read both again."""
        values, extra = self._decode(packed)
        for index in _REPEATED:
            values[index] = self._texts[values[index]]
        head, tail = values[_ARN]
        values[_ARN] = self._texts[head] + tail
        values[_PHASE] = Phase(values[_PHASE])
        values[_DUPLICATES] = tuple(values[_DUPLICATES])
        return JobState(**dict(zip(_FIELDS, values, strict=True))), extra

    def _number(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number


_DECIDED = frozenset({Phase.SUBMITTED, Phase.FAILED, Phase.FINISHED})


class _Track(msgspec.Struct, array_like=True, gc=False):
    """What the state does not hold. `since` is on the run clock."""

    run: int
    via: str = ""
    first_intent_at: float | None = None
    accepted_at: float | None = None
    finished_at: float | None = None
    pending: str = ""
    since: float = 0.0
    waits: Waits = msgspec.field(default_factory=Waits)


_Record = bytes | tuple[JobState, _Track]


class TimelineBuilder:
    """All that a ledger tells: its jobs in the order of their first event, its runs, the quotas they learned."""

    def __init__(self) -> None:
        self.runs: list[RunSpan] = []
        self.quotas: list[LearnedQuota] = []
        self.last_at: float | None = None
        self.progress = RunHistory()
        self._packer = Packer(_Track)
        self._records: dict[str, _Record] = {}
        self._clock = RunClock()
        self._now = 0.0
        self._lanes = LaneLog()
        self._origins: dict[tuple[str, str], float] = {}
        self._fastest_call = float("inf")

    @classmethod
    def of(cls, events: Iterable[Entry]) -> Self:
        """Read all events."""
        chronicle = cls()
        for event in events:
            chronicle.apply(event)
        return chronicle

    def __len__(self) -> int:
        return len(self._records)

    def apply(self, event: Entry) -> None:
        """Take in one event. Kinds that this version does not know count for nothing, but for a learned quota."""
        at = moment(event.at)
        self.progress.apply(event)
        if isinstance(event, RunStarted):
            self._begin_run(event, at)
        else:
            self._now = self._clock.read(at)
            self._lanes.saw(self._now)
            if isinstance(event, JobEvent):
                self._apply_to_job(event, at)
            elif isinstance(event, RunEnded):
                self._end_run(event)
            else:
                self._recognise(event, at)
        self.last_at = at
        if self.runs:
            self.runs[-1].last_at = at

    def histories(self) -> Iterator[History]:
        """Give every job, in the order of first events; may be called again."""
        fastest = 0.0 if self._fastest_call == float("inf") else self._fastest_call
        for record in self._records.values():
            state, track = self._open(record)
            if track.pending and track.pending != Pending.ANSWER:
                # Counted on a copy: the record itself is still to get its event.
                track = self._packer.unpack(self._packer.pack(state, track))[1]
                self._count_wait(track, via_lookup=False)
            yield History(
                state=state,
                run=track.run,
                via=track.via,
                first_intent_at=track.first_intent_at,
                accepted_at=track.accepted_at,
                finished_at=track.finished_at,
                waited=track.waits.by_cause(self._lanes, state.membership, fastest),
            )

    def batch_of(self, history: History) -> str:
        """The batch id of the run that first wrote of a job."""
        return self.runs[history.run].started.batch if history.run >= 0 else ""

    def _begin_run(self, event: RunStarted, at: float) -> None:
        self._now = self._clock.resume(at)
        self._lanes.begin_run(self._now)
        self.runs.append(RunSpan(event, at, at))
        if event.manifest_sha256:
            self._origins.setdefault((event.manifest_sha256, event.batch), self._now)

    def _end_run(self, event: RunEnded) -> None:
        run = next((run for run in reversed(self.runs) if run.started.run == event.run), None)
        if run is None:
            return
        run.ended = event
        accounts = [limit for name, limit in event.quotas.items() if _is_account(name)]
        learned = {name: limit for name, limit in event.quotas.items() if not _is_account(name)}
        if accounts:
            learned[""] = sum(accounts)  # all the room there is, where memberships are in several accounts
        for membership, limit in learned.items():
            self._learn(run.began_at, membership, limit)

    def _learn(self, at: float, membership: str, limit: int) -> None:
        self.quotas.append(LearnedQuota(at, membership, limit))
        self._lanes.learned(membership, limit)

    def _recognise(self, event: object, at: float) -> None:
        """Take a learned quota from an event of any kind that has the form of one."""
        members = event.members if isinstance(event, Unrecognised) else msgspec.to_builtins(event)
        membership, limit = members.get("membership"), members.get("limit")
        if members.get("event") == "quota" and isinstance(membership, str) and isinstance(limit, int | float):
            self._learn(at, membership, int(limit))

    def _apply_to_job(self, event: JobEvent, at: float) -> None:
        record = self._records.get(event.job)
        before, track = (None, _Track(run=len(self.runs) - 1)) if record is None else self._open(record)
        state = fold(before, event)
        self._follow(track, event, at)
        is_decided = state.phase in _DECIDED
        self._records[event.job] = self._packer.pack(state, track) if is_decided else (state, track)

    def _open(self, record: _Record) -> tuple[JobState, _Track]:
        return self._packer.unpack(record) if isinstance(record, bytes) else record

    def _follow(self, track: _Track, event: JobEvent, at: float) -> None:
        """Count the wait that this event ends, and note what begins."""
        membership = event.membership
        if isinstance(event, Intent) and track.first_intent_at is None:
            track.first_intent_at = at
            self._count_queue(track)
        else:
            unanswered = isinstance(event, Unknown | Absent) or (isinstance(event, Submitted) and event.via != "start")
            self._count_wait(track, via_lookup=unanswered)
        pending = Pending.NOTHING
        match event:
            case Intent():
                pending = Pending.ANSWER
            case Refused():
                cause = refusal_cause(event)
                pending = pending_after(cause)
                if cause == RefusalCause.SLOTS:
                    self._lanes.refused(membership, self._now)
            case Unknown():
                pending = Pending.LOOKUP
            case Absent():
                pending = Pending.TURN
            case Submitted():
                track.via, track.accepted_at = event.via, at
                self._lanes.accepted(membership, self._now)
            case Finished() if track.finished_at is None:
                track.finished_at = moment(event.ended) if event.ended else at
                self._lanes.finished(membership)
            case _:
                pass  # nothing is awaited any more
        track.pending, track.since = pending, self._now

    def _count_queue(self, track: _Track) -> None:
        """Count the wait from the first run over this manifest to the first intent."""
        started = self.runs[-1].started if self.runs else None
        began = self._origins.get((started.manifest_sha256, started.batch)) if started else None
        if began is not None:
            track.waits.turns.append((began, self._now))

    def _count_wait(self, track: _Track, *, via_lookup: bool) -> None:
        pending, seconds = Pending(track.pending), self._now - track.since
        if pending is Pending.ANSWER and via_lookup:
            track.waits.add(Cause.LOOKUP, seconds)
        elif pending is Pending.ANSWER:
            track.waits.answered(seconds)
            self._fastest_call = min(self._fastest_call, seconds)
        elif pending is Pending.TURN:
            track.waits.turns.append((track.since, self._now))
        elif cause := cause_of(pending):
            track.waits.add(cause, seconds)


def _is_account(name: str) -> bool:
    """Whether a quota at a run's end is an account's: `account`, or `account 123456789012` where there are several."""
    return name == "account" or name.startswith("account ")
