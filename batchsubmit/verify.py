"""Compares a ledger with the service: each has the jobs that the other has. Also checks a ledger in itself.

A job whose key the ledger does not have is this ledger's where its manifest has a row of that key; otherwise another
ledger may have started it, and nothing is proven.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from batchsubmit.cleanrooms.api import JobDetails, JobSummary
from batchsubmit.cleanrooms.reads import Reads
from batchsubmit.core import jobs
from batchsubmit.core.job_states import UNDECIDED, JobState, Phase, begins_round
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.manifest.rows_done import NewRows

_AROUND_RUNS = timedelta(minutes=15)
"""A job created earlier than this before the ledger's first event is no run's of this ledger. One created later than
this after its last event is taken for another ledger's, unless the ledger or a row of its manifest has its key."""

_READS_AT_ONCE = 16
_HAS_ARN = frozenset({Phase.SUBMITTED, Phase.FINISHED})


_LOST = "the job of a row that the ledger does not know"
_FOREIGN = "of another ledger's run, or of one that this ledger lost; no row that is known has its key"
_OTHER_ROUND = "of a retry that the ledger does not know: it was lost, or another ledger's"
_UNTAGGED_ROW = (
    "an untagged job with the name of a row that the ledger does not know; whether it is the row's is not proven"
)
_MAY_BE_IT = "an untagged job has its name, and may be it or not; the next submit compares it with the row"
_NOT_SHOWN = "the service shows no job of its key, and no untagged one of its name, so far; the next submit looks it up"


class Mismatch(StrEnum):
    """What can be wrong between a ledger and the service."""

    GHOST = "ghost"  # the ledger says submitted, the service has no such job
    ORPHAN = "orphan"  # the service has a job with a key of ours that the ledger does not know to be submitted
    DUPLICATE = "duplicate"  # one more job with the key of a submitted one
    WRONG_KEY = "wrong_key"  # the ARN exists, but carries another job's key
    UNKNOWN = "unknown"  # the ledger does not know, and the service proves nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One thing that is wrong. `repair` is what may be appended to the ledger, where the service proves it."""

    kind: Mismatch
    at: str
    job: str
    membership: str
    name: str
    arn: str = ""
    detail: str = ""
    repair: jobs.JobEvent | None = None

    def __str__(self) -> str:
        what = f"{self.kind}: {self.name} in membership {self.membership}"
        return ": ".join(part for part in (what, self.arn, self.detail) if part)


_Seen: TypeAlias = tuple[JobSummary, str | None]
"""A job and the tag of ours that it has."""


@dataclass
class Verifier:
    """Compares the state of a ledger with the service. A job is unclaimed where the ledger does not have its ARN.

    `rows` are the manifest's that the ledger does not know, `others` the keys and ARNs of other ledgers' jobs.
    """

    ledger: LedgerState
    reads: Reads
    rows: NewRows
    others: Collection[str]
    tag_jobs: bool
    now: str

    def __post_init__(self) -> None:
        """Order the keys of rows by membership, then by trained model and name."""
        self._turns = asyncio.Semaphore(_READS_AT_ONCE)
        self._keys: dict[str, dict[tuple[str, str], str]] = {}
        for key, (membership, trained_model, name) in self.rows.by_key.items():
            self._keys.setdefault(membership, {})[trained_model, name] = key

    async def compare(self, window: tuple[str, str]) -> tuple[list[Discrepancy], int]:
        """Find every discrepancy, and count the jobs after the ledger's last line that may be its own or not.

        `window` is the time of the ledger's first and last event. Raises ReadError.
        """
        since, until = (datetime.fromisoformat(moment) for moment in window)
        called: dict[str, list[JobState]] = {membership: [] for membership in self._keys}
        for state in self.ledger:
            if state.attempt or state.arn:
                called.setdefault(state.membership, []).append(state)
        found: list[Discrepancy] = []
        not_judged = 0
        for membership, states in sorted(called.items()):
            claimed = {arn for state in states for arn in state.arns}
            listed = {job.arn: job for job in await self.reads.jobs(membership)}
            unclaimed = [
                job for arn, job in listed.items() if arn not in claimed and job.created_at >= since - _AROUND_RUNS
            ]
            later = {job.arn for job in unclaimed if job.created_at > until + _AROUND_RUNS}
            seen = await self._read_possibly_ours(membership, states, unclaimed, later)
            found += await self._check_submitted(states, listed)
            found += self._check_unclaimed(membership, states, seen)
            not_judged += len(later - {job.arn for job, _ in seen} - set(self.others))
        return found, not_judged if self.rows.trouble else 0

    async def _check_submitted(self, states: Sequence[JobState], listed: Mapping[str, JobSummary]) -> list[Discrepancy]:
        """Every submitted ARN exists, with our key where it is tagged; one that List shows does, whatever Get says."""
        submitted = [state for state in states if state.phase in _HAS_ARN]
        details = await asyncio.gather(*(self._details(state.membership, state.arn) for state in submitted))
        return [
            Discrepancy(kind=Mismatch.WRONG_KEY if job else Mismatch.GHOST, **state.stamp(self.now), arn=state.arn)
            for state, job in zip(submitted, details, strict=True)
            if (state.arn not in listed if job is None else job.tags.get(jobs.KEY_TAG, state.tag) != state.tag)
        ]

    async def _read_possibly_ours(
        self, membership: str, states: Sequence[JobState], unclaimed: Sequence[JobSummary], later: Collection[str]
    ) -> list[_Seen]:
        """Read the tags of unclaimed jobs, oldest first; of the later ones only those with our names, and keys or none.

        Those that Get does not know are left out: what they are is undecided.
        """
        names = {state.name for state in states} | {name for _, name in self._keys.get(membership, ())}
        chosen = [job for job in unclaimed if job.arn not in later or job.name in names]
        chosen.sort(key=lambda job: (job.created_at, job.arn))
        details = await asyncio.gather(*(self._details(membership, job.arn) for job in chosen))
        read = [
            (job, each.tags.get(jobs.KEY_TAG)) for job, each in zip(chosen, details, strict=True) if each is not None
        ]
        return [(job, tag) for job, tag in read if job.arn not in later or tag is None or self._is_ours(_key(tag))]

    def _is_ours(self, key: str) -> bool:
        return key in self.rows.by_key or key in self.ledger

    def _check_unclaimed(self, membership: str, states: Sequence[JobState], seen: Sequence[_Seen]) -> list[Discrepancy]:
        """Judge the unclaimed jobs, and then the calls that none of them explains."""
        untagged = [job for job, tag in seen if tag is None]
        found = [*self._check_tagged(membership, seen), *self._check_untagged_rows(membership, untagged)]
        explained, names = {each.job for each in found}, {job.name for job in untagged}
        for state in states:
            if state.phase in UNDECIDED and state.job not in explained:
                detail = _MAY_BE_IT if state.name in names else _NOT_SHOWN
                found.append(Discrepancy(kind=Mismatch.UNKNOWN, **state.stamp(self.now), detail=detail))
        return found

    def _check_tagged(self, membership: str, seen: Sequence[_Seen]) -> Iterator[Discrepancy]:
        """Unclaimed jobs whose tag says that we started them."""
        firsts: dict[str, str] = {}
        for job, tag in seen:
            if tag is None or (_key(tag) in self.others and _key(tag) not in self.ledger):
                continue
            state, first = self.ledger.get(_key(tag)), firsts.setdefault(tag, job.arn)
            original = state.arn if state is not None and state.phase in _HAS_ARN else first
            stamp, kind, detail = self._stamp(membership, job, tag), Mismatch.ORPHAN, ""
            repair: jobs.JobEvent | None = None
            if tag != (state.tag if state else _key(tag)):
                detail = _OTHER_ROUND
            elif not self._is_ours(_key(tag)):
                detail = _FOREIGN
            elif original != job.arn:
                kind, repair = Mismatch.DUPLICATE, jobs.Duplicate(**stamp, arn=job.arn, of=original)
            else:
                detail, attempt = ("", state.attempt) if state else (_LOST, 0)
                repair = jobs.JobSubmitted(**stamp, arn=job.arn, attempt=attempt, via="lookup")
            yield Discrepancy(kind=kind, **stamp, arn=job.arn, detail=detail, repair=repair)

    def _check_untagged_rows(self, membership: str, untagged: Sequence[JobSummary]) -> Iterator[Discrepancy]:
        """Where ours carry no tags, jobs that only have the name of a row: a run would start that row."""
        rows = {} if self.tag_jobs else self._keys.get(membership, {})
        for job in untagged:
            key = rows.get((job.trained_model, job.name))
            if key and job.arn not in self.others:
                stamp = self._stamp(membership, job, key)
                yield Discrepancy(kind=Mismatch.ORPHAN, **stamp, arn=job.arn, detail=_UNTAGGED_ROW)

    def _stamp(self, membership: str, job: JobSummary, tag: str) -> jobs.Stamp:
        return {"at": self.now, "job": _key(tag), "membership": membership, "name": job.name}

    async def _details(self, membership: str, arn: str) -> JobDetails | None:
        async with self._turns:
            return await self.reads.find(membership, arn)


def _key(tag: str) -> str:
    """The key in a tag, which may name a round as well."""
    return tag.partition(".")[0]


def unexplained(found: Sequence[Discrepancy], newer: LedgerState) -> list[Discrepancy]:
    """Leave out what a run did meanwhile, as the ledger says that was read after the service.

    An intent is on the disk before its call leaves: a job that the newer ledger does not know is not that run's.
    """

    def is_explained(each: Discrepancy) -> bool:
        state = newer.get(each.job)
        if state is None or each.kind in {Mismatch.GHOST, Mismatch.WRONG_KEY}:
            return False
        return state.phase in UNDECIDED or each.kind is Mismatch.UNKNOWN or each.arn in state.arns

    return [each for each in found if not is_explained(each)]


class Audit:
    """The fold of a ledger's events, and what is wrong with their order, with line numbers.

    A table has no lines: `unit` is then the word for what is numbered. `first` and `last` are the times of the earliest
    and the latest event; empty where there is none.
    """

    def __init__(self, events: Iterable[jobs.Event] = (), *, unit: str = "line") -> None:
        self.state = LedgerState()
        self.faults: list[str] = []
        self.first = self.last = ""
        self._owners: dict[str, str] = {}
        for number, event in enumerate(events, start=1):
            if not isinstance(event, jobs.RunStarted | jobs.RunEnded):
                fault = _misplaced(self.state.get(event.job), event) or self._claimed_twice(event)
                self.faults += [f"{unit} {number}: {event.name}: {fault}"] if fault else []
            self.state.apply(event)
            self.first, self.last = min(self.first or event.at, event.at), max(self.last, event.at)

    def _claimed_twice(self, event: jobs.JobEvent) -> str:
        if not isinstance(event, jobs.JobSubmitted):
            return ""
        owner = self._owners.setdefault(event.arn, event.job)
        return "" if owner == event.job else f"its ARN {event.arn} is already that of job {owner}"


_MUST_FOLLOW: Mapping[type[jobs.JobEvent], tuple[Collection[Phase], str]] = {
    jobs.Refused: ({Phase.INTENT}, "refused without a call"),
    jobs.JobUnknown: (UNDECIDED, "unknown without a call"),
    jobs.Absent: (UNDECIDED, "absent without a doubt"),
    jobs.JobFinished: (_HAS_ARN, "finished, or has a duplicate, before it was submitted"),
    jobs.Duplicate: (_HAS_ARN, "finished, or has a duplicate, before it was submitted"),
}


def _misplaced(before: JobState | None, event: jobs.JobEvent) -> str:
    """Say why an event cannot follow what is known of its job; empty where it can."""
    phase = before.phase if before and before.attempt + len(before.arn) else None
    if isinstance(event, jobs.JobRejected):
        return "failed after it was submitted" if phase in _HAS_ARN else ""
    if isinstance(event, jobs.Intent):
        is_retry = before is not None and begins_round(before, event)
        return "a call after the job was submitted" if phase in _HAS_ARN and not is_retry else ""
    if isinstance(event, jobs.JobSubmitted):
        if phase in _HAS_ARN:
            return "submitted a second time"
        # A lookup may prove wrong what was recorded before. Attempt 0 is a call of which this ledger knows nothing:
        # it was restored from a copy older than the call.
        is_lookup = event.via == "lookup"
        is_explained = phase is not None or event.attempt == 0 if is_lookup else phase is Phase.INTENT
        return "" if is_explained else "submitted without a call"
    allowed, otherwise = _MUST_FOLLOW[type(event)]
    return "" if phase in allowed else otherwise
