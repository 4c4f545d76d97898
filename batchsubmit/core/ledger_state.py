"""All jobs of one ledger by key: the fold of its events, kept up to date as they are written. Pure.

A million jobs as objects take a gigabyte. Here each that is decided is a short byte string, and what many jobs share
(membership, model, codes) is kept once.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from batchsubmit.core.job_states import DEFAULT_PER_ACCOUNT, DEFAULT_PER_MEMBERSHIP, UNDECIDED, JobState, State, fold
from batchsubmit.core.jobs import INVALID_ROW, Event, Intent, JobRejected, JobSubmitted, RunEnded, RunStarted

ACCOUNT = "account"
"""The key of the account's quota beside those of memberships."""

_Packed = tuple[int, str, str, str, str]
"""The number of what is shared, then the job's own: name, time, message and the last part of its ARN."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode

_ARN_HASHES = 1 << 22
"""A byte is set for each ARN by its hash: most ARNs are new, and no job has to be searched for them."""

_ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by where they stand, the nine numbers of every surface.

    `submitted` are all that the service accepted; of these, `running` are at most as many as the quotas allow, AWS's
    defaults where none is known: where more have no end in the ledger, nobody has looked (`not_checked`). The total is
    the sum of the pending, submitted, rejected and unknown.
    """

    total: int = 0
    pending: int = 0
    submitted: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    cancelled: int = 0
    unknown: int = 0

    @classmethod
    def of(
        cls, memberships: Mapping[str, Mapping[State, int]], *, quotas: Mapping[str, int], pending: int | None = None
    ) -> "Counts":
        """Count jobs by membership; `pending` counts also those that no event tells of."""
        states = sum(map(Counter, memberships.values()), Counter[State]())
        open_ends = {name: each.get(State.SUBMITTED, 0) for name, each in memberships.items()}
        submitted = states[State.SUBMITTED] + sum(states[each] for each in _ENDED)
        pending = states[State.PENDING] if pending is None else max(pending, states[State.PENDING])
        return cls(
            total=pending + submitted + states[State.REJECTED] + states[State.UNKNOWN],
            pending=pending,
            submitted=submitted,
            running=within_quotas(open_ends, quotas),
            **{str(each): states[each] for each in (*_ENDED, State.REJECTED, State.UNKNOWN)},
        )

    @property
    def not_checked(self) -> int:
        """Jobs that cannot all be running, and whose end nobody saw."""
        return self.submitted - self.running - self.succeeded - self.failed - self.cancelled

    @property
    def done(self) -> int:
        """Jobs of which nothing more is to come."""
        return self.total - self.pending - self.running - self.unknown

    def as_dict(self) -> dict[str, int]:
        """As JSON has them: all nine, always."""
        return msgspec.structs.asdict(self)


def within_quotas(open_ends: Mapping[str, int], quotas: Mapping[str, int]) -> int:
    """How many of the jobs without an end may run at once; where no quota is known, AWS's default is taken."""
    running = sum(min(count, quotas.get(name, DEFAULT_PER_MEMBERSHIP)) for name, count in open_ends.items())
    return min(running, quotas.get(ACCOUNT, DEFAULT_PER_ACCOUNT))


def slots_known(quotas: Mapping[str, int], memberships: Collection[str]) -> int | None:
    """How many jobs of these memberships may run at once, where that is known.

    The account's quota, or the memberships' together where those are all known and fewer.
    """
    bounds = [quotas[ACCOUNT]] if ACCOUNT in quotas else []
    if memberships and all(membership in quotas for membership in memberships):
        bounds.append(sum(quotas[membership] for membership in memberships))
    return min(bounds, default=None)


def decides(event: Event) -> bool:
    """Whether an event decides a job that was to be sent; invalid rows are not among those."""
    return isinstance(event, JobSubmitted) or (isinstance(event, JobRejected) and event.code != INVALID_ROW)


class Work:
    """What the last run has still to do, and the quotas that runs learned, as their lines in the ledger say."""

    def __init__(self) -> None:
        self.run: RunStarted | None = None
        self.end: RunEnded | None = None
        self.quotas: dict[str, int] = {}
        self._decided = 0
        self._again = Counter[str]()

    def apply(self, event: Event) -> None:
        """Take in one event of the ledger."""
        match event:
            case RunStarted():
                self.run, self.end, self._decided, self._again = event, None, 0, Counter(event.again)
            case RunEnded():
                self.end = event
                self.quotas.update(event.quotas)
            case _ if decides(event):
                self._decided += 1

    def sends(self, before: JobState | None) -> None:
        """A job that stood so is about to be sent: one that was to be sent again is pending no longer."""
        if self._again:
            self._again -= Counter({State.of(before): 1})

    def pending(self, unknown: int) -> int:
        """Jobs that the last run has still to send; a ledger that fills up knows only those that it has met."""
        if self.end is not None:
            return self.end.counts.get("pending", self.end.counts.get("left", 0))
        return max(self.run.to_do - self._decided - unknown, 0) if self.run else 0

    def counts(self, memberships: Mapping[str, Mapping[State, int]]) -> Counts:
        """Count all jobs of the ledger, given by membership."""
        unknown = sum(each.get(State.UNKNOWN, 0) for each in memberships.values())
        counts = Counts.of(memberships, quotas=self.limits(memberships), pending=self.pending(unknown))
        rejected, failed = (self._again[each] for each in (State.REJECTED, State.FAILED))  # pending, and nothing else
        return replace(
            counts,
            total=counts.total - rejected - failed,
            submitted=counts.submitted - failed,
            failed=counts.failed - failed,
            rejected=counts.rejected - rejected,
        )

    def limits(self, memberships: Iterable[str]) -> dict[str, int]:
        """The quotas of these memberships and of the account: what was set, else what was learned."""
        limits = dict(self.quotas)
        if self.run and self.run.per_membership:
            limits |= dict.fromkeys(memberships, self.run.per_membership)
        if self.run and self.run.per_account:
            limits[ACCOUNT] = self.run.per_account
        return limits


class LedgerState:
    """The state of every job of a ledger, and its runs. What jobs share is never forgotten."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobState | bytes] = {}
        self._undecided: dict[str, None] = {}
        self._shared: list[JobState] = []
        self._numbers: dict[JobState, int] = {}
        self._arns = bytearray(_ARN_HASHES)
        self.work = Work()
        self.runs: list[RunStarted] = []

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
        return self.work.run if self.work.end is None else None

    def apply(self, event: Event) -> None:
        """Add one event of the ledger."""
        self.work.apply(event)
        if isinstance(event, RunStarted):
            self.runs.append(event)
        elif not isinstance(event, RunEnded):
            before = self.get(event.job)
            if isinstance(event, Intent):
                self.work.sends(before)
            self._put(event.job, fold(before, event))

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
        for arn in filter(None, state.arns):
            self._arns[hash(arn) % _ARN_HASHES] = True
        if state.phase in UNDECIDED:
            self._undecided[key] = None
            self._jobs[key] = state
        else:
            self._undecided.pop(key, None)
            self._jobs[key] = state if state.duplicates or state.earlier else self._packed(state)

    def undecided(self) -> list[JobState]:
        """Jobs that the service may have or not."""
        return [state for key in self._undecided if (state := self.get(key)) is not None]

    def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger knows, and the keys of their jobs (ARN to key)."""
        claimed: dict[str, str] = {}
        last_parts = tuple(arn.rpartition("/")[2].encode() for arn in arns if self._arns[hash(arn) % _ARN_HASHES])
        for key, kept in self._jobs.items() if last_parts else ():
            if isinstance(kept, JobState) or kept.endswith(last_parts):  # with which a packed job ends
                claimed |= {arn: key for arn in self._unpacked(key, kept).arns if arn in arns}
        return claimed

    def __iter__(self) -> Iterator[JobState]:
        for key, kept in list(self._jobs.items()):
            yield self._unpacked(key, kept)

    def __contains__(self, key: object) -> bool:
        return key in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def counts(self) -> Counts:
        """All jobs, and those of the last run that the ledger does not know yet."""
        states: dict[str, Counter[State]] = {}
        for state in self:
            states.setdefault(state.membership, Counter())[State.of(state)] += 1
        return self.work.counts(states)

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
