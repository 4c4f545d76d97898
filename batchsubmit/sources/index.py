"""The good rows of a checked manifest: numbers and digests, not requests, so that a million rows take 32 MB.

Any row can be read again by its number; its digest then proves that it is the row that was checked.
"""

from array import array
from collections.abc import Iterator, Sequence

from batchsubmit.jobs import Job, job_digest, key_text
from batchsubmit.schema import canonical
from batchsubmit.sources.rows import GoodRows, Reader, Row

DIGEST_BYTES = 16


class Index:
    """Where each good row stands and what its key is, by row number in order of the manifest."""

    def __init__(self) -> None:
        self._count = 0
        self.offsets = array("Q")
        self.lines = array("I")
        self.membership_numbers = array("I")
        self.memberships: list[str] = []
        self._numbers: dict[str, int] = {}
        self._digests = bytearray()
        self._ordinals: dict[int, int] = {}
        self.priorities: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    def make_room(self, rows: int) -> None:
        """Make room for so many rows in all.

        Several arrays that grow by turns leave holes in the heap that are as large as they are.
        """
        more = rows - len(self.offsets)
        if more > 0:
            for numbers in (self.offsets, self.lines, self.membership_numbers):
                numbers.extend(array(numbers.typecode, (0,)) * more)
            self._digests.extend(bytes(DIGEST_BYTES * more))

    def trim(self) -> None:
        """Give back the room that was not needed."""
        for numbers in (self.offsets, self.lines, self.membership_numbers):
            del numbers[self._count :]
        del self._digests[DIGEST_BYTES * self._count :]

    def add(self, row: Row, membership: str, digest: bytes, ordinal: int, *, priority: int = 0) -> None:
        """Take in one good row."""
        if priority:
            self.priorities[self._count] = priority
        if ordinal:
            self._ordinals[self._count] = ordinal
        self._put([row.offset], [row.line], [self._number_of(membership)], digest)

    def add_all(self, rows: GoodRows, digests: bytes) -> None:
        """Take in many good rows, each the first of its content."""
        numbers = {mould: self._number_of(mould.membership) for mould in set(rows.moulds)}
        lines = range(rows.first_line, rows.first_line + len(rows))
        self._put(rows.offsets, lines, [numbers[mould] for mould in rows.moulds], digests)

    def _put(
        self, offsets: Sequence[int], lines: Sequence[int], membership_numbers: Sequence[int], digests: bytes
    ) -> None:
        begin, end = self._count, self._count + len(offsets)
        if end > len(self.offsets):
            self.make_room(end + end // 4)
        self.offsets[begin:end] = array("Q", offsets)
        self.lines[begin:end] = array("I", lines)
        self.membership_numbers[begin:end] = array("I", membership_numbers)
        self._digests[DIGEST_BYTES * begin : DIGEST_BYTES * end] = digests
        self._count = end

    def _number_of(self, membership: str) -> int:
        number = self._numbers.setdefault(membership, len(self.memberships))
        if number == len(self.memberships):
            self.memberships.append(membership)
        return number

    def digest(self, number: int) -> bytes:
        """The digest of a row's job, of which its key is the spelling."""
        return bytes(self._digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)])

    def key(self, number: int) -> str:
        """The key of a row's job."""
        return key_text(self.digest(number))

    def __iter__(self) -> Iterator[str]:
        """Give the keys of all rows, in order of the manifest."""
        return map(self.key, range(len(self)))

    def ordinal(self, number: int) -> int:
        """How many identical rows stand before this one."""
        return self._ordinals.get(number, 0)

    def membership(self, number: int) -> str:
        """The membership of a row."""
        return self.memberships[self.membership_numbers[number]]


def job_at(reader: Reader, index: Index, number: int, *, batch: str) -> Job | None:
    """Read one row again; None where the manifest no longer has the row that was checked.

    It is not checked anew: what has the digest of a good row is that row.
    """
    request = reader.request_at(index.offsets[number], index.lines[number])
    if request is None:
        return None
    digest = job_digest(canonical(request), batch=batch, ordinal=index.ordinal(number))
    if digest != index.digest(number):
        return None
    return Job(key=key_text(digest), membership=index.membership(number), name=request["name"], request=request)
