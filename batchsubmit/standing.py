"""How the rows of a manifest stand by its ledger: the account of a run is the difference of two of these. Pure."""

from dataclasses import dataclass

from batchsubmit.book import Book
from batchsubmit.sources.inventory import Index
from batchsubmit.states import UNDECIDED, Phase

_SUBMITTED = frozenset({Phase.SUBMITTED, Phase.FINISHED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Counts of rows; `finished` and `finished_well` are among the submitted."""

    submitted: int
    finished: int
    finished_well: int
    failed: int
    unknown: int
    left: int

    @classmethod
    def of(cls, index: Index, book: Book) -> "Standing":
        """Look every row up."""
        states = [book.get(key) for key in index]
        known = [state for state in states if state is not None]
        submitted = sum(state.phase in _SUBMITTED for state in known)
        failed = sum(state.phase is Phase.FAILED for state in known)
        unknown = sum(state.phase in UNDECIDED for state in known)
        return cls(
            submitted=submitted,
            finished=sum(state.phase is Phase.FINISHED for state in known),
            finished_well=sum(state.status == "ACTIVE" for state in known),
            failed=failed,
            unknown=unknown,
            left=len(states) - submitted - failed - unknown,
        )
