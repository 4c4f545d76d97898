"""Which workers are alive: a worker's own lease, and what it sees of the leases of others.

A lease is one item of a worker, the session, whose version the worker keeps counting up; it covers all jobs that name
the worker as owner. No two clocks are compared. A worker that sees another's version unchanged for as long as that
lease says, by its own clock, ends the session with a compare-and-swap, and only then takes jobs over. The other
cannot count up an ended session, and begins no call in the time that a call may take before its lease is over: so its
calls have ended too when the first job is taken.
"""

import time
from dataclasses import dataclass

from batchsubmit.clock import Clock, SystemClock
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.base import Taken
from batchsubmit.ledger.table import Address, ConflictError, Item, Table

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


class LeaseClock(SystemClock):
    """A clock whose seconds also pass while the machine is suspended, where the system counts them."""

    def monotonic(self) -> float:
        """Seconds awake and asleep."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()


def session_address(owner: str) -> Address:
    """The address of a worker's lease."""
    return Address(f"session#{owner}", "session")


class Session:
    """This worker's own lease, and the others' as it sees them. `loss` says why it can no longer be renewed."""

    def __init__(self, table: Table, owner: str, terms: LeaseTerms, clock: Clock) -> None:
        self.owner = owner
        self.terms = terms
        self._table = table
        self._clock = clock
        self._version = 0
        self._renewed_at = 0.0
        self.loss: StoppedError | None = None
        self._seen: dict[str, tuple[int, float]] = {}  # of each other, its version and when that was first seen

    @property
    def may_send(self) -> bool:
        """Whether a call that begins now has ended before anyone can take the lease."""
        if self.loss is not None or not self._version:
            return False
        return self._clock.monotonic() - self._renewed_at < self.terms.lease_seconds - self.terms.call_seconds

    @property
    def trouble(self) -> str:
        """What is wrong with the lease, if anything: it is lost, or it was not renewed for too long."""
        if self.loss is not None:
            return str(self.loss)
        silent = self._clock.monotonic() - self._renewed_at
        if not self._version or silent < _MISSED_RENEWALS * self.terms.renewal_seconds:
            return ""
        return f"the lease of {self.terms.lease_seconds:g} s was last renewed {silent:.0f} s ago"

    async def begin(self, holder: str) -> None:
        """Write the session down. `holder` names the process for people."""
        await self.renew(holder=holder, lease_ms=round(self.terms.lease_seconds * 1000))

    async def end(self) -> None:
        """Free all that this worker still owns, at once."""
        if self.loss is None and self._version:
            await self.renew(ended=self.owner)
            self.loss = StoppedError(f"worker {self.owner} has ended")

    async def renew(self, **values: str | int) -> None:
        """Count the lease up. Raises StoppedError; `loss` says whether another worker ended it."""
        if self.loss is not None:
            raise self.loss
        before, item = self._clock.monotonic(), None
        while item is None:
            try:
                item = await self._table.write(session_address(self.owner), self._version, values)
            except ConflictError as exc:
                self._require_own(exc.item)
                # Nobody but us counts up: an earlier renewal, given up for want of an answer, has arrived after all.
                self._version = exc.item["version"] if exc.item else 0
        if "ended" not in values:
            self._require_own(item)
        self._version, self._renewed_at = item["version"], before

    def _require_own(self, item: Item | None) -> None:
        """Notice that the session is gone, or was ended by another. Raises StoppedError."""
        if item is not None and "ended" not in item:
            return
        self.loss = StoppedError(
            f"worker {self.owner} was silent for longer than its lease of {self.terms.lease_seconds:g} s, and its jobs "
            f"were given up by {item['ended'] if item else 'an unknown worker'}; start it again"
        )
        raise self.loss

    async def check(self, other: str) -> Taken | None:
        """Say how long to wait for another worker; None where it has ended, or is dead, and its jobs are free."""
        item = await self._table.get(session_address(other)) or await self._end(other, 0)
        if "ended" in item and "lease_ms" in item:
            self._seen.pop(other, None)
            return None
        # A session that was missing is ended without the terms of its lease. Its worker may live, and have calls in
        # progress until it notices: its jobs are free after a lease like ours.
        lease_seconds = item["lease_ms"] / 1000 if "lease_ms" in item else self.terms.lease_seconds
        now, version = self._clock.monotonic(), 0 if "ended" in item else item["version"]
        if self._seen.get(other, (version, 0.0))[0] != version:
            del self._seen[other]
        _, since = self._seen.setdefault(other, (version, now))
        left = since + lease_seconds - now
        if left > 0:
            return Taken(f"{other} ({item.get('holder', 'its session was missing')})", left)
        if "ended" in item:
            return None
        del self._seen[other]
        ended = await self._end(other, version)  # unless it is renewed at this very moment
        return None if "ended" in ended else Taken(other, lease_seconds)

    async def _end(self, other: str, version: int) -> Item:
        """End another's session if it has this version; give what there is then."""
        try:
            return await self._table.write(session_address(other), version, {"ended": self.owner})
        except ConflictError as exc:
            return exc.item or {}
