"""Problems of a manifest sorted by kind, so that a person reads each once and not a thousand times.

A wrong region is one thing to mend, and wrong in every row. Two problems are alike where they concern the same member
in the same words, numbers and quoted values aside. Values only; who prints them, and how, is not known here.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from batchsubmit.manifest.rows import Problem
from batchsubmit.schema import RowWarning

SHOWN_OF_A_KIND = 3
MOST_KINDS = 20
_DIFFERS_BY_ROW = re.compile(r"'[^']*'|\d+")


@dataclass(slots=True)
class Kind:
    """Problems that are alike: the first few of them, and how many there are."""

    first: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) <= SHOWN_OF_A_KIND:
            self.first.append(problem)

    def lines(self) -> list[str]:
        """Tell the first few, and how many more are like them."""
        shown = list(map(str, self.first))
        if self.count == len(shown):
            return shown  # a line that says "1 more" would take the place of that one
        return [*shown[:SHOWN_OF_A_KIND], f"  ... and {self.count - SHOWN_OF_A_KIND:,} more like it"]


@dataclass(slots=True)
class Alike:
    """The kinds of problem that a manifest has, in the order in which they are met.

    Beyond `MOST_KINDS` kinds, problems are only counted, so that no manifest fills the memory.
    """

    kinds: dict[tuple[str, str, str], Kind] = field(default_factory=dict)
    others: int = 0

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> "Alike":
        """Sort problems by kind."""
        alike = cls()
        for problem in problems:
            alike.add(problem)
        return alike

    def add(self, problem: Problem) -> None:
        """Take a problem to those that it is like."""
        words = (problem.path, _DIFFERS_BY_ROW.sub("", problem.wrong), _DIFFERS_BY_ROW.sub("", problem.right))
        kind = self.kinds.get(words)
        if kind is None:
            if len(self.kinds) == MOST_KINDS:
                self.others += 1
                return
            kind = self.kinds[words] = Kind()
        kind.add(problem)

    def warnings(self) -> tuple[RowWarning, ...]:
        """Give each kind once: its first row and how many there are."""
        return tuple(row_warning(kind.first[0], kind.count) for kind in self.kinds.values())

    def lines(self) -> Sequence[str]:
        """Tell each kind."""
        told = [line for kind in self.kinds.values() for line in kind.lines()]
        return [*told, f"... and {self.others:,} more of other kinds"] if self.others else told


def row_warning(first: Problem, count: int) -> RowWarning:
    """Say of so many rows what is said of the first."""
    return RowWarning(
        label=first.label,
        line=first.line,
        column=first.column,
        path=first.path,
        wrong=first.wrong,
        right=first.right,
        count=count,
    )
