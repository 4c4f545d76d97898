"""How the rows of a manifest stand by its ledger: the account of a run is the difference of two of these. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from batchsubmit.book import Book
from batchsubmit.sources.index import Index
from batchsubmit.sources.inventory import Inventory
from batchsubmit.states import UNDECIDED, Phase


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
        """Look every row up: by its digest, for a key is longer in the making than all the rest."""
        phases: Counter[Phase | None] = Counter(
            {None: len(index)} if not len(book) else map(book.phase, index.digests())
        )
        bad_ends: Counter[str] = Counter()
        if phases[Phase.FINISHED]:
            states = (book.get(key) for key in index)
            bad_ends.update(state.bad_end for state in states if state is not None and state.bad_end)
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

    @classmethod
    def told(cls, counts: Mapping[str, int]) -> "Standing":
        """Read the account that a run closed with. Raises KeyError where it is of another version."""
        finished_well = counts["finished_well"]
        return cls(
            submitted=counts["submitted"] + counts["submitted_before"],
            finished=finished_well + counts["finished_badly"],
            finished_well=finished_well,
            failed=counts["failed"] + counts["failed_before"],
            unknown=counts["unknown"],
            left=counts["left"],
        )


class Account(Protocol):
    """Where all rows of a manifest stand. `inventory` holds those that may be sent, `rows` and `invalid` count all."""

    inventory: Inventory
    rows: int
    invalid: int

    def standing(self) -> Standing:
        """Where they stand now."""
        ...


class RowAccount:
    """The account of rows that were read, each looked up."""

    def __init__(self, inventory: Inventory, book: Book) -> None:
        self.inventory = inventory
        self.rows = inventory.row_count
        self.invalid = inventory.invalid_count
        self._book = book

    def standing(self) -> Standing:
        """Look every row up."""
        return Standing.of(self.inventory.index, self._book)


class ToldAccount:
    """The account of rows that nobody read, by the closing counts of the run that did. Nothing is left to be sent."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.inventory = Inventory()
        self.rows = counts["rows"]
        self.invalid = counts["invalid"]
        self._standing = Standing.told(counts)

    def standing(self) -> Standing:
        """As they were told."""
        return self._standing
