"""Which names were seen before: numbers by hash, for millions of them.

A hash table in two arrays, by open addressing: 24 bytes a name at most, where a dict of integers takes 120. It can
mistake one name for another whose 64-bit hash is the same, so whoever finds a name here looks at the row itself.
"""

from array import array
from collections.abc import Sequence
from itertools import compress

_FIRST_SLOTS = 1 << 12
_FULLEST = 0.7  # fuller, and the search for a free slot takes more than the rest of a row


class NameTable:
    """Remembers a number, from 0 up, for each hash. Numbers fit 32 bits."""

    def __init__(self) -> None:
        self._count = 0
        self._make(_FIRST_SLOTS)

    def __len__(self) -> int:
        return self._count

    def make_room(self, names: int) -> None:
        """Make room for this many names at once, which saves growing step by step."""
        if names > self._room:
            self._grow(names)

    def add(self, hashed: int, number: int) -> int | None:
        """Remember the number, unless the hash is known: then give the number that it has."""
        if self.add_all((hashed,), number):
            return None
        hashed = hashed or 1
        slot = hashed & self._mask
        while self._hashes[slot] != hashed:
            slot = (slot + 1) & self._mask
        return self._numbers[slot]

    def add_all(self, hashes: Sequence[int], first: int) -> int:
        """Remember `first` and the numbers after it, up to the first hash that is known; give how many were new."""
        self.make_room(self._count + len(hashes))
        # This loop runs once a row: local names and no calls.
        table, numbers, mask = self._hashes, self._numbers, self._mask
        number = first
        for given in hashes:
            hashed = given or 1  # 0 is an empty slot
            slot = hashed & mask
            while there := table[slot]:
                if there == hashed:
                    self._count += number - first
                    return number - first
                slot = (slot + 1) & mask
            table[slot] = hashed
            numbers[slot] = number
            number += 1
        self._count += len(hashes)
        return len(hashes)

    def _make(self, slots: int) -> None:
        self._hashes = array("q", (0,)) * slots
        self._numbers = array("I", (0,)) * slots
        self._mask = slots - 1
        self._room = int(slots * _FULLEST)

    def _grow(self, needed: int) -> None:
        hashes, numbers, slots = self._hashes, self._numbers, 2 * len(self._hashes)
        while slots * _FULLEST < needed:
            slots *= 2
        self._make(slots)
        table, places, mask = self._hashes, self._numbers, self._mask
        for hashed, number in zip(compress(hashes, hashes), compress(numbers, hashes), strict=True):
            slot = hashed & mask
            while table[slot]:
                slot = (slot + 1) & mask
            table[slot] = hashed
            places[slot] = number
