"""How the rows of a manifest stand by its ledger: the account of a run is the difference of two of these. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchsubmit.core.ledger_state import Book
from batchsubmit.core.states import UNDECIDED, Phase
from batchsubmit.manifest.index import Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Counts of rows; `finished` and `finished_well` are among the submitted. `bad_ends` counts the others by code."""

    submitted: int
    finished: int
    finished_well: int
    failed: int
    unknown: int
    left: int
    bad_ends: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, index: Index, book: Book) -> "Standing":
        """Look every row up."""
        phases: Counter[Phase] = Counter()
        bad_ends: Counter[str] = Counter()
        for state in map(book.get, index) if len(book) else ():
            if state is not None:
                phases[state.phase] += 1
                if state.bad_end:
                    bad_ends[state.bad_end] += 1
        submitted, failed = phases[Phase.SUBMITTED] + phases[Phase.FINISHED], phases[Phase.FAILED]
        unknown = sum(phases[phase] for phase in UNDECIDED)
        return cls(
            submitted=submitted,
            finished=phases[Phase.FINISHED],
            finished_well=phases[Phase.FINISHED] - bad_ends.total(),
            failed=failed,
            unknown=unknown,
            left=len(index) - submitted - failed - unknown,
            bad_ends=bad_ends,
        )
