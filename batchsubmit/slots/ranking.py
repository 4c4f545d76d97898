"""Members in the order of ranks that change: who is first is known without looking at all of them. Pure."""

from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

Member = TypeVar("Member")
Rank = TypeVar("Rank", bound="float | tuple[int, ...]")

_SLACK = 32
"""Entries beyond twice the members' number from which the heap is made anew: each change leaves one behind."""


class Ranking(Generic[Member, Rank]):
    """The least rank is first; of equal ones that which was given first."""

    def __init__(self) -> None:
        self._entries: dict[Member, tuple[Rank, int]] = {}
        self._heap: list[tuple[Any, int, Member]] = []
        self._given = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, member: Member, rank: Rank | None) -> None:
        """Give a member this rank in place of the one it had; None takes it out."""
        entry = self._entries.get(member)
        if rank is None:
            self._entries.pop(member, None)
        elif entry is None or entry[0] != rank:
            self._given += 1
            self._entries[member] = rank, self._given
            heappush(self._heap, (rank, self._given, member))
            if len(self._heap) > 2 * len(self._entries) + _SLACK:
                self._heap = [(*entry, member) for member, entry in self._entries.items()]
                heapify(self._heap)

    def first(self) -> tuple[Rank, Member] | None:
        """The member of the least rank, with it."""
        while self._heap:
            rank, given, member = self._heap[0]
            if self._entries.get(member) == (rank, given):
                return rank, member
            heappop(self._heap)
        return None
