"""What a run would do with the rows of a manifest, membership by membership, by what its ledger says. Pure."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

from batchsubmit.core.jobs import Share
from batchsubmit.core.ledger_state import Book
from batchsubmit.core.states import UNDECIDED, Phase
from batchsubmit.manifest.index import Index
from batchsubmit.manifest.rows import Reader

_ROWS_READ = 600
_KINDS_TOLD = 20


@dataclass(slots=True, kw_only=True)
class LaneProspect:
    """The rows of one membership: submitted, failed for good, unknown, or still to do (by their row numbers)."""

    membership: str
    submitted: int = 0
    failed: int = 0
    unknown: int = 0
    rows_to_do: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def to_do(self) -> int:
        """How many rows would be sent."""
        return len(self.rows_to_do)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.submitted + self.failed + self.unknown + self.to_do


@dataclass(frozen=True, slots=True)
class Prospect:
    """All lanes, by membership in order of the manifest; `unknown_elsewhere` are jobs whose rows are gone."""

    lanes: dict[str, LaneProspect]
    unknown_elsewhere: int

    @classmethod
    def of(cls, index: Index, book: Book, *, retry_failed: bool = False) -> "Prospect":
        """Look every row up in the ledger's book."""
        lanes = {membership: LaneProspect(membership=membership) for membership in index.memberships}
        for number, key in enumerate(index):
            lane = lanes[index.membership(number)]
            state = book.get(key)
            match state.phase if state else None:
                case Phase.SUBMITTED | Phase.FINISHED:
                    lane.submitted += 1
                case Phase.FAILED if not retry_failed:
                    lane.failed += 1
                case phase if phase in UNDECIDED:
                    lane.unknown += 1
                case _:
                    lane.rows_to_do.append(number)
        unknown = sum(lane.unknown for lane in lanes.values())
        return cls(lanes, unknown_elsewhere=len(book.undecided()) - unknown)

    @property
    def to_do(self) -> int:
        """Rows that would be sent."""
        return sum(lane.to_do for lane in self.lanes.values())

    @property
    def unknown(self) -> int:
        """Rows that would be looked up."""
        return sum(lane.unknown for lane in self.lanes.values())

    def work(self, reader: Reader, index: Index) -> tuple[Share, ...]:
        """What is to do by kind of job, judged by rows that are evenly spread; some hundreds, at least one a lane."""
        to_do = self.to_do
        shares = []
        for lane in self.lanes.values():
            wanted = min(max(1, lane.to_do * _ROWS_READ // to_do), lane.to_do) if lane.to_do else 0
            kinds: Counter[tuple[str, str]] = Counter()
            for place in range(wanted):
                number = lane.rows_to_do[place * lane.to_do // wanted]
                request = reader.request_at(index.offsets[number], index.lines[number]) or {}
                instance = str(request.get("resourceConfig", {}).get("instanceType", ""))
                kinds[str(request.get("trainedModelArn", "")), instance] += 1
            left, rows = lane.to_do, wanted
            for (model, instance), seen in kinds.most_common(_KINDS_TOLD)[::-1]:  # the most frequent takes what is over
                jobs = left * seen // rows
                left, rows = left - jobs, rows - seen
                shares.append(Share(lane.membership, model, instance, jobs))
        return tuple(shares)
