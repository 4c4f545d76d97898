"""What was called and what came of it, counted. It must not know what an operation means."""

from collections import Counter
from typing import Final

ACCEPTED: Final = "accepted"


class Tally:
    """Calls by operation and outcome. An outcome is `accepted`, an error code, or `cut` for no answer."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()

    def count(self, operation: str, outcome: str) -> None:
        """Count one call."""
        self._outcomes[operation, outcome] += 1

    def received(self, operation: str) -> int:
        """Return how many calls of an operation came."""
        return sum(number for (called, _), number in self._outcomes.items() if called == operation)

    def accepted(self, operation: str) -> int:
        """Return how many of them took effect, answered or not."""
        return self._outcomes[operation, ACCEPTED]

    def refused(self, operation: str) -> dict[str, int]:
        """Return how many were refused, by code."""
        return {code: number for code, number in self.outcomes(operation).items() if code != ACCEPTED}

    def outcomes(self, operation: str) -> dict[str, int]:
        """Return the counts of one operation by outcome."""
        return {outcome: number for (called, outcome), number in self._outcomes.items() if called == operation}

    def by_operation(self) -> dict[str, dict[str, int]]:
        """Return all counts."""
        return {operation: self.outcomes(operation) for operation in {called for called, _ in self._outcomes}}
