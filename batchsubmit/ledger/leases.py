"""Which workers are alive: a worker's own lease, and what it sees of the leases of others.

A lease is one item of a worker, the session, whose version the worker keeps counting up; it covers all jobs that name
the worker as owner. No two clocks are compared. A worker that sees another's version unchanged for as long as that
lease says, by its own clock, ends the session with a compare-and-swap, and only then takes jobs over. The other
cannot count up an ended session, and begins no call in the time that a call may take before its lease is over: so its
calls have ended too when the first job is taken.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from batchsubmit.clock import Clock
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.base import Taken
from batchsubmit.ledger.items import session_address
from batchsubmit.ledger.table import Change, ConflictError, Item, Table, version_of

_RENEWALS_PER_LEASE = 6
_MISSED_RENEWALS = 2.5
"""So many renewals without an answer are reported as trouble; one that comes late is not."""

_LEAST_SENDING_SHARE = 0.25
"""The part of a lease in which calls may begin: less would leave no time for a renewal that must be repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How long a silent worker keeps its jobs, and how long one of its calls may take at the most."""

    lease_seconds: float = 120.0
    call_seconds: float = 70.0

    def __post_init__(self) -> None:
        """Refuse terms under which a call could outlast its lease."""
        least = self.call_seconds / (1 - _LEAST_SENDING_SHARE)
        if self.lease_seconds < least:
            raise UsageError(
                f"a lease of {self.lease_seconds:g} s is too short for calls that may take {self.call_seconds:g} s: "
                f"set ledger.lease_seconds to at least {least:.0f}, or shorten aws.read_timeout_seconds"
            )

    @property
    def renewal_seconds(self) -> float:
        """How often a lease is renewed."""
        return self.lease_seconds / _RENEWALS_PER_LEASE


def seconds_awake_and_asleep() -> float:
    """Seconds that also pass while the machine is suspended, where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Session:
    """This worker's own lease."""

    def __init__(self, table: Table, owner: str, terms: LeaseTerms, *, seconds: Callable[[], float]) -> None:
        self.owner = owner
        self.terms = terms
        self._table = table
        self._address = session_address(owner)
        self._seconds = seconds
        self._version = 0
        self._renewed_at = 0.0
        self.loss: StoppedError | None = None

    def __repr__(self) -> str:
        return f"<Session {self.owner} {'lost' if self.loss else f'renewed {self._version} times'}>"

    @property
    def may_send(self) -> bool:
        """Whether a call that begins now has ended before anybody can take the lease."""
        if self.loss is not None or not self._version:
            return False
        return self._seconds() - self._renewed_at < self.terms.lease_seconds - self.terms.call_seconds

    @property
    def trouble(self) -> str:
        """What is wrong with the lease, if anything: it is lost, or it was not renewed for too long."""
        if self.loss is not None:
            return str(self.loss)
        silent = self._seconds() - self._renewed_at
        if not self._version or silent < _MISSED_RENEWALS * self.terms.renewal_seconds:
            return ""
        return f"the lease of {self.terms.lease_seconds:g} s was last renewed {silent:.0f} s ago"

    async def begin(self, holder: str) -> None:
        """Write the session down. `holder` names the process for people."""
        await self._count_up(Change(set={"holder": holder, "lease_ms": round(self.terms.lease_seconds * 1000)}))

    async def renew(self) -> None:
        """Count the lease up. Raises StoppedError; `loss` says whether another worker ended it."""
        await self._count_up(Change())

    async def end(self) -> None:
        """Free all that this worker still owns, at once."""
        if self.loss is None and self._version:
            await self._count_up(Change(set={"ended": self.owner}))
            self.loss = StoppedError(f"worker {self.owner} has ended")

    async def _count_up(self, change: Change) -> None:
        if self.loss is not None:
            raise self.loss
        before = self._seconds()
        while True:
            try:
                await self._table.write(self._address, self._version, change)
                break
            except ConflictError as exc:
                if exc.item is None or "ended" in exc.item:
                    self.loss = self._lost_to(exc.item)
                    raise self.loss from exc
                # Nobody but us counts up: an earlier renewal, given up for want of an answer, has arrived after all.
                self._version = version_of(exc.item)
        self._version += 1
        self._renewed_at = before

    def _lost_to(self, item: Item | None) -> StoppedError:
        by = "an unknown worker" if item is None else item["ended"]
        return StoppedError(
            f"worker {self.owner} was silent for longer than its lease of {self.terms.lease_seconds:g} s, and its jobs "
            f"were given up by {by}; start it again"
        )


class OtherLeases:
    """What this worker has seen of the leases of others: the version of each, and when it was first seen."""

    def __init__(self, table: Table, owner: str, clock: Clock) -> None:
        self._table = table
        self._owner = owner
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}

    async def check(self, other: str) -> Taken | None:
        """Say how long to wait for another worker; None where it has ended, or is dead, and its jobs are free."""
        item = await self._table.get(session_address(other))
        if item is None or "ended" in item:
            self._seen.pop(other, None)
            return None
        now, version, lease_seconds = self._clock.monotonic(), version_of(item), int(str(item["lease_ms"])) / 1000
        if self._seen.get(other, (version, 0.0))[0] != version:
            del self._seen[other]
        _, since = self._seen.setdefault(other, (version, now))
        left = since + lease_seconds - now
        if left > 0:
            return Taken(f"{other} ({item['holder']})", left)
        return await self._end(other, version, lease_seconds)

    async def _end(self, other: str, version: int, lease_seconds: float) -> Taken | None:
        """End a silent session; it may be renewed at this very moment."""
        self._seen.pop(other, None)
        try:
            await self._table.write(session_address(other), version, Change(set={"ended": self._owner}))
        except ConflictError as exc:
            if exc.item is not None and "ended" not in exc.item:
                return Taken(other, lease_seconds)
        return None
