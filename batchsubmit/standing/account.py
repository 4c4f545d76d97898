"""How the rows of a manifest stand by its ledger: the account of a run is the difference of two of these. Pure."""

from collections import Counter
from dataclasses import dataclass

from batchsubmit.book import Book
from batchsubmit.sources.index import Index
from batchsubmit.states import UNDECIDED, Phase


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
        phases: Counter[Phase] = Counter()
        finished_well = 0
        for state in map(book.get, index) if len(book) else ():
            if state is not None:
                phases[state.phase] += 1
                finished_well += state.phase is Phase.FINISHED and state.status == "ACTIVE"
        submitted, failed = phases[Phase.SUBMITTED] + phases[Phase.FINISHED], phases[Phase.FAILED]
        unknown = sum(phases[phase] for phase in UNDECIDED)
        return cls(
            submitted=submitted,
            finished=phases[Phase.FINISHED],
            finished_well=finished_well,
            failed=failed,
            unknown=unknown,
            left=len(index) - submitted - failed - unknown,
        )
