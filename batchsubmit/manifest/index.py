"""The good rows of a checked manifest: numbers and digests, not requests, so that a million rows take 32 MB.

A run that goes through their keys takes 85 MB more. Any row can be read again by its number; its digest then proves
that it is the row that was checked.
"""

from array import array
from collections.abc import Container, Iterator
from typing import Any

from batchsubmit.core.jobs import Job, job_digest, key_text
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import canonical

DIGEST_BYTES = 16


class Index:
    """Where each good row stands and what its key is, by row number in order of the manifest."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.offsets = array("Q")
        self.lines = array("I")
        self.membership_numbers = array("I")
        self.memberships: list[str] = []
        self._numbers: dict[str, int] = {}
        self._digests = bytearray()
        self._keys: list[str] = []
        self._ordinals: dict[int, int] = {}
        self.priorities: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, line: int, membership: str, digest: bytes, ordinal: int = 0, priority: int = 0) -> None:
        """Add one good row."""
        if priority:
            self.priorities[len(self)] = priority
        if ordinal:
            self._ordinals[len(self)] = ordinal
        number = self._numbers.setdefault(membership, len(self.memberships))
        if number == len(self.memberships):
            self.memberships.append(membership)
        self.offsets.append(offset)
        self.lines.append(line)
        self.membership_numbers.append(number)
        self._digests += digest

    def request(self, number: int) -> dict[str, Any]:
        """Read the request of a row again, without checking it; empty where it cannot be read."""
        return self.reader.request_at(self.offsets[number])

    def job(self, number: int, *, batch: str) -> Job | None:
        """Read one row again, unchecked: its digest proves it; None where the manifest no longer has that row."""
        request = self.request(number)
        digest = job_digest(canonical(request), batch=batch, ordinal=self.ordinal(number))
        if digest != self._digest(number):
            return None
        return Job(key=key_text(digest), membership=self.membership(number), name=request["name"], request=request)

    def only(self, keys: Container[str]) -> "Index":
        """Give the rows alone that have one of these keys."""
        kept = Index(self.reader)
        for at, key in enumerate(self):
            if key in keys:
                place = self.offsets[at], self.lines[at], self.membership(at), self._digest(at)
                kept.add(*place, self.ordinal(at), self.priorities.get(at, 0))
        return kept

    def _digest(self, number: int) -> bytes:
        return bytes(self._digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)])

    def __iter__(self) -> Iterator[str]:
        """Give the keys of all rows, in order of the manifest. From the first time on, they are kept."""
        for begin in range(DIGEST_BYTES * len(self._keys), len(self._digests), DIGEST_BYTES):
            self._keys.append(key_text(self._digests[begin : begin + DIGEST_BYTES]))
        return iter(self._keys)

    def ordinal(self, number: int) -> int:
        """How many identical rows stand before this one."""
        return self._ordinals.get(number, 0)

    def membership(self, number: int) -> str:
        """The membership of a row."""
        return self.memberships[self.membership_numbers[number]]
