"""Holds a ledger against the service: what it says is there must be there, and what is there it must know."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from batchsubmit.book import Book
from batchsubmit.catalog import Catalog, ReadError
from batchsubmit.cleanrooms import JobDetails, JobSummary
from batchsubmit.jobs import KEY_TAG, Duplicate, JobEvent, Submitted
from batchsubmit.states import UNDECIDED, JobState, Phase

_AROUND_RUNS = timedelta(minutes=15)
"""A job created this long before the ledger's first event or after its last one is not from this ledger's runs."""

_READS_AT_ONCE = 16
_HAS_ARN = frozenset({Phase.SUBMITTED, Phase.FINISHED})


class Kind(StrEnum):
    """What can be wrong between a ledger and the service."""

    GHOST = "ghost"  # the ledger says submitted, the service has no such job
    ORPHAN = "orphan"  # the service has a job with a key of ours that the ledger does not know to be submitted
    DUPLICATE = "duplicate"  # one more job with the key of a submitted one
    WRONG_KEY = "wrong_key"  # the ARN exists, but carries another job's key
    UNKNOWN = "unknown"  # the ledger does not know, and the service shows no such job


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One thing that is wrong. `repair` is what may be appended to the ledger, where the service proves it."""

    kind: Kind
    job: str
    membership: str
    name: str
    arn: str
    repair: JobEvent | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name} in membership {self.membership}: {self.arn or 'no such job'}"


class Verifier:
    """Compares a book with the service. `others` are keys that other ledgers answer for, where this book lacks them."""

    def __init__(self, book: Book, catalog: Catalog, *, others: Collection[str] = (), now: str) -> None:
        self._book = book
        self._catalog = catalog
        self._others = others
        self._now = now
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    async def compare(self, window: tuple[str, str]) -> list[Discrepancy]:
        """Find every discrepancy; `window` is the time of the ledger's first and last event. Raises ReadError."""
        since, until = (datetime.fromisoformat(moment) for moment in window)
        memberships = {state.membership for state in self._book if state.attempt}
        found: list[Discrepancy] = []
        for membership in sorted(memberships):
            listed = {job.arn: job for job in await self._catalog.jobs(membership)}
            states = [state for state in self._book if state.membership == membership and state.attempt]
            claimed = {arn for state in states for arn in (state.arn, *state.duplicates) if arn}
            strangers = [
                job
                for arn, job in listed.items()
                if arn not in claimed and since - _AROUND_RUNS <= job.created_at <= until + _AROUND_RUNS
            ]
            found += await self._check_claims(states)
            found += await self._check_strangers(membership, strangers)
            found += self._still_unknown(states, found)
        return found

    async def _check_claims(self, states: Sequence[JobState]) -> list[Discrepancy]:
        """Every submitted ARN exists, with our key where it is tagged."""
        submitted = [state for state in states if state.phase in _HAS_ARN]
        details = await asyncio.gather(*(self._details(state.membership, state.arn) for state in submitted))
        return [
            _discrepancy(Kind.GHOST if job is None else Kind.WRONG_KEY, state, state.arn)
            for state, job in zip(submitted, details, strict=True)
            if job is None or job.tags.get(KEY_TAG, state.job) != state.job
        ]

    async def _check_strangers(self, membership: str, strangers: Sequence[JobSummary]) -> list[Discrepancy]:
        """Jobs that the ledger does not claim, but whose tag says that we started them."""
        details = await asyncio.gather(*(self._details(membership, job.arn) for job in strangers))
        found: list[Discrepancy] = []
        firsts: dict[str, str] = {}
        ours = [
            (job, each.tags[KEY_TAG])
            for job, each in zip(strangers, details, strict=True)
            if each is not None and each.tags.get(KEY_TAG) is not None
        ]
        for job, key in sorted(ours, key=lambda pair: (pair[0].created_at, pair[0].arn)):
            if key in self._others and self._book.get(key) is None:
                continue
            found.append(self._stranger(membership, job, key, first=firsts.setdefault(key, job.arn)))
        return found

    def _stranger(self, membership: str, job: JobSummary, key: str, *, first: str) -> Discrepancy:
        """Judge a job that the ledger does not claim; `first` is the oldest of those with its key."""
        state = self._book.get(key)
        if state is None:
            return Discrepancy(kind=Kind.ORPHAN, job=key, membership=membership, name=job.name, arn=job.arn)
        original = state.arn if state.phase in _HAS_ARN else first
        if original != job.arn:
            second = Duplicate(**state.stamp(self._now), arn=job.arn, of=original)
            return _discrepancy(Kind.DUPLICATE, state, job.arn, second)
        found = Submitted(**state.stamp(self._now), arn=job.arn, attempt=state.attempt, via="lookup")
        return _discrepancy(Kind.ORPHAN, state, job.arn, found)

    @staticmethod
    def _still_unknown(states: Sequence[JobState], found: Sequence[Discrepancy]) -> Iterator[Discrepancy]:
        explained = {each.job for each in found}
        for state in states:
            if state.phase in UNDECIDED and state.job not in explained:
                yield _discrepancy(Kind.UNKNOWN, state, "")

    async def _details(self, membership: str, arn: str) -> JobDetails | None:
        async with self._reads:
            try:
                return await self._catalog.details(membership, arn)
            except ReadError as exc:
                if exc.is_not_found:
                    return None
                raise


def _discrepancy(kind: Kind, state: JobState, arn: str, repair: JobEvent | None = None) -> Discrepancy:
    return Discrepancy(kind=kind, job=state.job, membership=state.membership, name=state.name, arn=arn, repair=repair)
