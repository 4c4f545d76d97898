"""What a run would do with the rows of a manifest, membership by membership, by what its ledger says. Pure."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean
from typing import Any

from batchsubmit.config import Settings
from batchsubmit.core.job_states import Retry, State
from batchsubmit.core.jobs import ResultPlace, Share, job_digest, key_text
from batchsubmit.core.ledger_state import Counts, LedgerState
from batchsubmit.manifest.check import Terms, open_checked_manifest
from batchsubmit.manifest.index import Index
from batchsubmit.outputs.templates import placeholders_at
from batchsubmit.schema import canonical
from batchsubmit.text import counted

_ROWS_READ = 600
_MOST_KINDS = 20


@dataclass(slots=True)
class MembershipProgress:
    """The rows of one membership by where their jobs stand, and the numbers of those to send, which are pending."""

    states: Counter[State] = field(default_factory=Counter)
    rows_to_do: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def to_do(self) -> int:
        """Rows that would be sent."""
        return len(self.rows_to_do)

    def as_dict(self) -> dict[str, int]:
        """How many rows there are, accepted by the service, refused for good, to be looked up, and to be sent."""
        rows, rejected, unknown = self.states.total(), self.states[State.REJECTED], self.states[State.UNKNOWN]
        submitted = rows - rejected - unknown - self.to_do
        return {"rows": rows, "submitted": submitted, "rejected": rejected, "unknown": unknown, "to_do": self.to_do}


@dataclass(frozen=True, slots=True)
class ManifestProgress:
    """All lanes, by membership in order of the manifest.

    `unknown` rows would be looked up, and so would `unknown_elsewhere`, jobs whose rows are gone. `bad_ends` are the
    codes of those that failed or were cancelled, `retried` says where those stand that are pending because they are to
    be sent again; `again` of these ran before, and are paid again.
    """

    lanes: dict[str, MembershipProgress]
    unknown: int
    unknown_elsewhere: int
    bad_ends: Counter[str]
    retried: Counter[State]
    again: int

    @classmethod
    def of(cls, index: Index, book: LedgerState, *, retry: Retry | None = None) -> "ManifestProgress":
        """Look every row up in the ledger's book."""
        lanes = {membership: MembershipProgress() for membership in index.memberships}
        bad_ends, retried, again = Counter[str](), Counter[State](), 0
        for number, key in enumerate(index):
            lane, state = lanes[index.membership(number)], book.get(key)
            if retry and retry.takes(state):
                again += state is not None and bool(state.arn)
                retried[State.of(state)] += 1
                state = None
            stands = State.of(state)
            lane.states[stands] += 1
            if stands is State.PENDING:
                lane.rows_to_do.append(number)
            if state is not None and state.bad_end:
                bad_ends[state.bad_end] += 1
        unknown = sum(lane.states[State.UNKNOWN] for lane in lanes.values())
        return cls(lanes, unknown, len(book.undecided()) - unknown, bad_ends, retried, again)

    def counts(self, quotas: Mapping[str, int], *, invalid: int) -> Counts:
        """Count the rows as every surface does; `invalid` ones, which no job stands for, are rejected."""
        states = {membership: lane.states for membership, lane in self.lanes.items()}
        return Counts.of(states | {"": Counter({State.REJECTED: invalid})}, quotas=quotas)

    @property
    def to_do(self) -> int:
        """Rows that would be sent."""
        return sum(lane.to_do for lane in self.lanes.values())

    def work(self, index: Index) -> dict[Share, float]:
        """What is to do by kind of job, and how many instances such a job takes on average.

        Judged by rows that are evenly spread; some hundreds, at least one a lane.
        """
        work: dict[Share, float] = {}
        for membership, lane in self.lanes.items():
            kinds: dict[tuple[str, str], list[int]] = {}
            for _, request in self._sample(lane, index):
                resources = request.get("resourceConfig", {})
                kind = str(request.get("trainedModelArn", "")), str(resources.get("instanceType", ""))
                kinds.setdefault(kind, []).append(resources.get("instanceCount", 1))
            kept = sorted(kinds.items(), key=lambda kind: len(kind[1]))[-_MOST_KINDS:]
            left, rows = lane.to_do, sum(len(counts) for _, counts in kept)
            for (model, instance), counts in kept:  # the most frequent, the last, takes what is over
                jobs = left * len(counts) // rows
                left, rows = left - jobs, rows - len(counts)
                work[Share(membership, model, instance, jobs)] = fmean(counts)
        return work

    def repeated(self, index: Index, book: LedgerState, *, batch: str) -> tuple[int, str]:
        """About how many rows to do were sent before by another batch, and by which; 0 where this one was begun.

        Of a table a run knows no other batch, and finds none.
        """
        others = dict.fromkeys(run.batch for run in reversed(book.runs))
        if batch in others or not others:
            return 0, ""
        seen, found = 0, Counter[str]()
        for lane in self.lanes.values():
            for number, request in self._sample(lane, index):
                seen, spelled = seen + 1, canonical(request)
                for other in others:
                    state = book.get(key_text(job_digest(spelled, batch=other, ordinal=index.ordinal(number))))
                    if state and state.arn:
                        found[other] += 1
                        break
        return (round(self.to_do * found.total() / seen), found.most_common(1)[0][0]) if found else (0, "")

    def _sample(self, lane: MembershipProgress, index: Index) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read rows to do that are evenly spread: number and request."""
        wanted = min(max(1, lane.to_do * _ROWS_READ // self.to_do), lane.to_do) if lane.to_do else 0
        for place in range(wanted):
            number = lane.rows_to_do[place * lane.to_do // wanted]
            yield number, index.request(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRows:
    """The places of rows by key. Where `trouble` says why not all are known, a key that is not here may be a row's."""

    by_key: Mapping[str, ResultPlace] = field(default_factory=dict)
    region: str = ""
    trouble: str = ""


async def read_new_rows(
    manifest: str, settings: Settings, book: LedgerState, *, batch: str, region: str | None
) -> NewRows:
    """Read a manifest as the last run did, and leave out what the ledger knows. Raises UsageError, StoppedError."""
    moment = placeholders_at(datetime.fromisoformat(book.runs[-1].at), settings.submit) if book.runs else {}
    terms = Terms(batch=batch, allow_duplicates=True, keep_invalid=True, moment=moment)
    async with open_checked_manifest(manifest, settings, region=region, terms=terms) as (spooled, inventory):
        index = inventory.index
        jobs = (index.job(number, batch=batch) for number, key in enumerate(index) if book.get(key) is None)
        by_key = {job.key: (job.membership, job.trained_model, job.name) for job in jobs if job is not None}
        trouble = ""
        if inventory.problem_count:
            trouble = (
                f"{spooled.label} has problems in {counted(inventory.invalid_count, 'row')} under these settings: "
                "give the --config of its submit"
            )
        return NewRows(by_key=by_key, region=inventory.region, trouble=trouble)
