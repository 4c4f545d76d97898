"""What a run would do with the rows of a manifest, membership by membership, by what its ledger says. Pure."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from batchsubmit.book import Book
from batchsubmit.sources.index import Index
from batchsubmit.states import UNDECIDED, Phase


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

    def sample(self, most: int) -> Iterator[tuple[str, int]]:
        """Give evenly spread rows to do, as (membership, row number): about `most`, at least one a lane."""
        to_do = max(self.to_do, 1)
        for lane in self.lanes.values():
            if lane.to_do:
                wanted = min(max(1, round(lane.to_do * most / to_do)), lane.to_do)
                for place in range(wanted):
                    yield lane.membership, lane.rows_to_do[place * lane.to_do // wanted]
