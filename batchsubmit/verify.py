"""Holds a ledger against the service: what it says is there must be there, and what is there it must know.

A job whose key the ledger does not have is this ledger's where its manifest has a row of that key; otherwise another
ledger may have started it, and nothing is proven.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias, assert_never

from batchsubmit.cleanrooms.api import JobDetails, JobSummary
from batchsubmit.cleanrooms.reads import JobReads, ReadError
from batchsubmit.core.jobs import (
    KEY_TAG,
    Absent,
    Duplicate,
    Event,
    Finished,
    Intent,
    JobEvent,
    JobRejected,
    Refused,
    RunEnded,
    RunStarted,
    Stamp,
    Submitted,
    Unknown,
)
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import UNDECIDED, JobState, Phase
from batchsubmit.manifest.progress import NewRows

_AROUND_RUNS = timedelta(minutes=15)
"""A job created earlier than this before the ledger's first event is no run's of this ledger. One created later than
this after its last event is taken for another ledger's, unless the ledger or a row of its manifest has its key."""

_READS_AT_ONCE = 16
_HAS_ARN = frozenset({Phase.SUBMITTED, Phase.FINISHED})


_LOST = "the job of a row that the ledger does not know"
_STRANGE = "of another ledger's run, or of one that this ledger lost; no row that is known has its key"
_UNTAGGED_ROW = (
    "an untagged job with the name of a row that the ledger does not know; whether it is the row's is not proven"
)
_MAY_BE_IT = "an untagged job has its name, and may be it or not; the next submit compares it with the row"
_NOT_SHOWN = "the service shows no job of its key, and no untagged one of its name, so far; the next submit looks it up"


class Kind(StrEnum):
    """What can be wrong between a ledger and the service."""

    GHOST = "ghost"  # the ledger says submitted, the service has no such job
    ORPHAN = "orphan"  # the service has a job with a key of ours that the ledger does not know to be submitted
    DUPLICATE = "duplicate"  # one more job with the key of a submitted one
    WRONG_KEY = "wrong_key"  # the ARN exists, but carries another job's key
    UNKNOWN = "unknown"  # the ledger does not know, and the service proves nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One thing that is wrong. `repair` is what may be appended to the ledger, where the service proves it."""

    kind: Kind
    job: str
    membership: str
    name: str
    arn: str
    detail: str = ""
    repair: JobEvent | None = None

    def __str__(self) -> str:
        what = f"{self.kind}: {self.name} in membership {self.membership}"
        return ": ".join(part for part in (what, self.arn, self.detail) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is wrong, and how many jobs after the ledger's last line could not be told from its own."""

    discrepancies: list[Discrepancy]
    later: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known beside the ledger: its manifest's other rows, what other ledgers answer for, whether we tag.

    `others` has their keys and their ARNs.
    """

    rows: NewRows = field(default_factory=NewRows)
    others: Collection[str] = frozenset()
    tag_jobs: bool = True


_Seen: TypeAlias = tuple[JobSummary, JobDetails]


class Verifier:
    """Compares a book with the service."""

    def __init__(self, book: LedgerState, catalog: JobReads, known: Known, *, now: str) -> None:
        self._book = book
        self._catalog = catalog
        self._known = known
        self._now = now
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._rows_by_place: dict[str, dict[tuple[str, str], str]] = {}
        for key, row in known.rows.by_key.items():
            self._rows_by_place.setdefault(row.membership, {})[row.trained_model, row.name] = key

    async def compare(self, window: tuple[str, str]) -> Comparison:
        """Find every discrepancy; `window` is the time of the ledger's first and last event. Raises ReadError."""
        since, until = (datetime.fromisoformat(moment) for moment in window)
        called: dict[str, list[JobState]] = {membership: [] for membership in self._rows_by_place}
        for state in self._book:
            if state.attempt or state.arn:
                called.setdefault(state.membership, []).append(state)
        found: list[Discrepancy] = []
        not_judged = 0
        for membership, states in sorted(called.items()):
            strangers = await self._strangers(membership, states, since - _AROUND_RUNS)
            later = {job.arn for job in strangers if job.created_at > until + _AROUND_RUNS}
            seen = await self._read_possibly_ours(membership, states, strangers, later)
            found += await self._check_claims(states)
            found += self._check_seen(membership, states, seen)
            not_judged += len(later - {job.arn for job, _ in seen} - set(self._known.others))
        return Comparison(discrepancies=found, later=not_judged if self._known.rows.trouble else 0)

    async def _strangers(self, membership: str, states: Sequence[JobState], since: datetime) -> list[JobSummary]:
        """The jobs of a membership that the ledger does not claim, from its first run on."""
        claimed = {arn for state in states for arn in (state.arn, *state.duplicates) if arn}
        listed = await self._catalog.jobs(membership)
        return [job for job in listed if job.arn not in claimed and job.created_at >= since]

    async def _check_claims(self, states: Sequence[JobState]) -> list[Discrepancy]:
        """Every submitted ARN exists, with our key where it is tagged."""
        submitted = [state for state in states if state.phase in _HAS_ARN]
        details = await asyncio.gather(*(self._details(state.membership, state.arn) for state in submitted))
        return [
            _discrepancy(Kind.GHOST if job is None else Kind.WRONG_KEY, state.stamp(self._now), state.arn)
            for state, job in zip(submitted, details, strict=True)
            if job is None or job.tags.get(KEY_TAG, state.job) != state.job
        ]

    async def _read_possibly_ours(
        self, membership: str, states: Sequence[JobState], strangers: Sequence[JobSummary], later: Collection[str]
    ) -> list[_Seen]:
        """Read strangers, oldest first; of the later ones those alone that have a name and a key of ours, or none.

        Those that were deleted since they were listed are left out.
        """
        names = {state.name for state in states} | {name for _, name in self._rows_by_place.get(membership, ())}
        chosen = [job for job in strangers if job.arn not in later or job.name in names]
        chosen.sort(key=lambda job: (job.created_at, job.arn))
        details = await asyncio.gather(*(self._details(membership, job.arn) for job in chosen))
        return [
            (job, each)
            for job, each in zip(chosen, details, strict=True)
            if each is not None and (job.arn not in later or self._may_be_ours(each))
        ]

    def _may_be_ours(self, details: JobDetails) -> bool:
        key = details.tags.get(KEY_TAG)
        return key is None or key in self._known.rows.by_key or self._book.get(key) is not None

    def _check_seen(self, membership: str, states: Sequence[JobState], seen: Sequence[_Seen]) -> list[Discrepancy]:
        """Judge the jobs that the ledger does not claim, and then the calls that none of them explains."""
        untagged = [job for job, details in seen if KEY_TAG not in details.tags]
        found = [*self._check_tagged(membership, seen), *self._check_untagged_rows(membership, untagged)]
        return [*found, *_still_unknown(states, found, untagged)]

    def _check_tagged(self, membership: str, seen: Sequence[_Seen]) -> Iterator[Discrepancy]:
        """Jobs that the ledger does not claim, but whose tag says that we started them."""
        firsts: dict[str, str] = {}
        for job, details in seen:
            key = details.tags.get(KEY_TAG)
            if key is None or (key in self._known.others and self._book.get(key) is None):
                continue
            yield self._stranger(membership, job, key, first=firsts.setdefault(key, job.arn))

    def _stranger(self, membership: str, job: JobSummary, key: str, *, first: str) -> Discrepancy:
        """Judge a job that the ledger does not claim; `first` is the oldest of those with its key."""
        state = self._book.get(key)
        stamp: Stamp = {"at": self._now, "job": key, "membership": membership, "name": job.name}
        detail = ""
        if state is not None:
            stamp = state.stamp(self._now)
        elif key in self._known.rows.by_key:
            detail = _LOST
        else:
            return _discrepancy(Kind.ORPHAN, stamp, job.arn, detail=_STRANGE)
        original = state.arn if state is not None and state.phase in _HAS_ARN else first
        if original != job.arn:
            return _discrepancy(Kind.DUPLICATE, stamp, job.arn, repair=Duplicate(**stamp, arn=job.arn, of=original))
        found = Submitted(**stamp, arn=job.arn, attempt=state.attempt if state else 0, via="lookup")
        return _discrepancy(Kind.ORPHAN, stamp, job.arn, detail=detail, repair=found)

    def _check_untagged_rows(self, membership: str, untagged: Sequence[JobSummary]) -> Iterator[Discrepancy]:
        """Where ours carry no tags, jobs that have but the name of a row: told, since a run would start the row."""
        if self._known.tag_jobs:
            return
        rows = self._rows_by_place.get(membership, {})
        for job in untagged:
            key = rows.get((job.trained_model, job.name))
            if key and job.arn not in self._known.others:
                stamp: Stamp = {"at": self._now, "job": key, "membership": membership, "name": job.name}
                yield _discrepancy(Kind.ORPHAN, stamp, job.arn, detail=_UNTAGGED_ROW)

    async def _details(self, membership: str, arn: str) -> JobDetails | None:
        async with self._reads:
            try:
                return await self._catalog.details(membership, arn)
            except ReadError as exc:
                if exc.is_not_found:
                    return None
                raise


def unexplained(found: Sequence[Discrepancy], newer: LedgerState) -> list[Discrepancy]:
    """Leave out what a run under way had in hand meanwhile, as the ledger says that was read after the service.

    An intent is on the disk before its call leaves: a job that the newer ledger does not know is not that run's.
    """
    return [each for each in found if not _is_explained(each, newer.get(each.job))]


def _is_explained(found: Discrepancy, state: JobState | None) -> bool:
    if state is None or found.kind in {Kind.GHOST, Kind.WRONG_KEY}:
        return False
    return state.phase in UNDECIDED or found.kind is Kind.UNKNOWN or found.arn in {state.arn, *state.duplicates}


def _still_unknown(
    states: Sequence[JobState], found: Sequence[Discrepancy], untagged: Sequence[JobSummary]
) -> Iterator[Discrepancy]:
    """Jobs in doubt that nothing on the service explains, with what is known of them."""
    explained = {each.job for each in found}
    names = {job.name for job in untagged}
    for state in states:
        if state.phase in UNDECIDED and state.job not in explained:
            detail = _MAY_BE_IT if state.name in names else _NOT_SHOWN
            yield _discrepancy(Kind.UNKNOWN, state.stamp(""), "", detail=detail)


def _discrepancy(kind: Kind, of: Stamp, arn: str, *, detail: str = "", repair: JobEvent | None = None) -> Discrepancy:
    return Discrepancy(
        kind=kind, job=of["job"], membership=of["membership"], name=of["name"], arn=arn, detail=detail, repair=repair
    )


@dataclass(slots=True)
class Audit:
    """Reads events one by one, folds them, and collects what is wrong with line numbers.

    A table has no lines: `unit` is then the word for what is numbered.
    """

    unit: str = "line"
    book: LedgerState = field(default_factory=LedgerState)
    faults: list[str] = field(default_factory=list)
    _owners: dict[str, str] = field(default_factory=dict)

    def read(self, number: int, event: Event) -> None:
        """Take in the event of one line."""
        if not isinstance(event, RunStarted | RunEnded):
            fault = misplaced(self.book.get(event.job), event) or self._claimed_twice(event)
            if fault:
                self.faults.append(f"{self.unit} {number}: {event.name}: {fault}")
        self.book.apply(event)

    def _claimed_twice(self, event: JobEvent) -> str:
        if not isinstance(event, Submitted):
            return ""
        owner = self._owners.setdefault(event.arn, event.job)
        return "" if owner == event.job else f"its ARN {event.arn} is already that of job {owner}"


def misplaced(before: JobState | None, event: JobEvent) -> str:
    """Say why an event cannot follow what is known of its job; empty where it can."""
    phase = before.phase if before and before.attempt + len(before.arn) else None
    match event:
        case Intent():
            return "a call after the job was submitted" if phase in _HAS_ARN else ""
        case Submitted():
            return _submission(phase, event)
        case Refused():
            return _after(phase, {Phase.INTENT}, "refused without a call")
        case Unknown():
            return _after(phase, UNDECIDED, "unknown without a call")
        case Absent():
            return _after(phase, UNDECIDED, "absent without a doubt")
        case JobRejected():
            return "failed after it was submitted" if phase in _HAS_ARN else ""
        case Finished() | Duplicate():
            return _after(phase, _HAS_ARN, "finished, or has a duplicate, before it was submitted")
        case _:
            assert_never(event)


def _submission(phase: Phase | None, event: Submitted) -> str:
    """An answer follows its intent; a lookup may also prove wrong what was recorded before.

    Attempt 0 is a call of which this ledger knows nothing: it was restored from a copy older than the call.
    """
    if phase in _HAS_ARN:
        return "submitted a second time"
    if phase is None and event.via == "lookup" and event.attempt == 0:
        return ""
    if phase is None or (event.via == "start" and phase is not Phase.INTENT):
        return "submitted without a call"
    return ""


def _after(phase: Phase | None, allowed: frozenset[Phase] | set[Phase], otherwise: str) -> str:
    return "" if phase in allowed else otherwise
