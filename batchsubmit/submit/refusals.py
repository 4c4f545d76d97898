"""What refusals other than those of slots teach: lanes that a quota holds, and denials that may be the caller's. Pure.

It knows no source, ledger or clock; `loop` asks it which lanes may be called in, `carrying` tells it the outcomes.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from batchsubmit.core.jobs import Job, OtherQuotaExceeded

_MANY_OF_ONE_KIND = 20
_FEW_OF_SEVERAL = 5
"""So many denials and nothing accepted: it is not about the row. Jobs of one membership and model may well be denied
alone, so of those more are tried: behind them others may stand."""

_Item = TypeVar("_Item")


@dataclass(slots=True)
class _Hold:
    words: str
    wait_seconds: float
    until: float = -math.inf
    is_on: bool = True


class Holds:
    """Lanes that a quota other than that of slots holds. Each is tried by one call at a time, ever more rarely."""

    def __init__(self, *, first_seconds: float, most_seconds: float) -> None:
        self._first = first_seconds
        self._most = max(most_seconds, first_seconds)
        self._holds: dict[str, _Hold] = {}

    def __bool__(self) -> bool:
        return any(hold.is_on for hold in self._holds.values())

    @property
    def words(self) -> dict[str, str]:
        """The quota by membership, by its name and value."""
        return {membership: hold.words for membership, hold in self._holds.items() if hold.is_on}

    def may_call(self, membership: str, now: float) -> bool:
        """Whether a lane is not held, or it is time to try it."""
        hold = self._holds.get(membership)
        return hold is None or not hold.is_on or now >= hold.until

    def wake_at(self, lanes: Collection[str], now: float) -> float | None:
        """When the next of these lanes is to be tried, for which it is not time yet."""
        moments = (hold.until for name, hold in self._holds.items() if hold.is_on and name in lanes)
        return min((each for each in moments if now < each < math.inf), default=None)

    def called(self, membership: str) -> None:
        """A call begins in a lane: if it is held, no other follows until the outcome."""
        hold = self._holds.get(membership)
        if hold is not None and hold.is_on:
            hold.until = math.inf

    def refused(self, membership: str, refusal: OtherQuotaExceeded, now: float) -> float | None:
        """A call was refused: hold its lane. Give the seconds until the next try; None for an answer that came late."""
        hold = self._holds.get(membership)
        if hold is not None and hold.is_on and hold.until < math.inf:
            return None
        wait = self._first if hold is None else min(2 * hold.wait_seconds, self._most)
        self._holds[membership] = _Hold(quota_words(refusal), wait, now + wait)
        return wait

    def accepted(self, membership: str) -> None:
        """A call was accepted: the quota has room."""
        self._holds.pop(membership, None)

    def passed(self, membership: str) -> None:
        """A call had another outcome: the lane goes on, and waits longer where the quota refuses it again."""
        hold = self._holds.get(membership)
        if hold is not None and hold.until == math.inf:
            hold.is_on = False


def quota_words(refusal: OtherQuotaExceeded) -> str:
    """A quota by its own name and value."""
    value = "" if refusal.quota_value is None else f" of {refusal.quota_value:g}"
    return f"{refusal.quota_name!r}{value}"


class Denials(Generic[_Item]):
    """Denied jobs of a run that nothing was accepted of: nobody knows yet whether it is about them or about the caller.

    `_Item` is what is kept of each.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Job, _Item]] = []
        self.is_about_rows = False

    def add(self, job: Job, item: _Item) -> None:
        """Keep a denied job until more is known."""
        self._kept.append((job, item))

    def take(self) -> list[_Item]:
        """Give all that are kept, and keep none."""
        kept, self._kept = self._kept, []
        return [item for _, item in kept]

    @property
    def stops_run(self) -> bool:
        """Whether enough were denied to stop a run that is still under way."""
        return len(self._kept) >= (_FEW_OF_SEVERAL if self._is_of_several else _MANY_OF_ONE_KIND)

    @property
    def is_everything(self) -> bool:
        """Whether, at a run's end, it is rather the caller than the rows."""
        return len(self._kept) >= _FEW_OF_SEVERAL or self._is_of_several

    @property
    def _is_of_several(self) -> bool:
        return len({(job.membership, job.trained_model) for job, _ in self._kept}) > 1
