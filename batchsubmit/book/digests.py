"""Numbers for jobs' digests, in the order in which they come: a hash table in arrays, 24 bytes a job. Pure.

A million keys as texts in a dict would take 150 MB.
"""

from array import array

DIGEST_BYTES = 16
_FULLEST = 0.7  # fuller, and walks to a free slot become long
_AS_DIGITS = str.maketrans(
    "abcdefghijklmnopqrstuvwxyz234567" + "0189_+- ABCDEFGHIJKLMNOPQRSTUVWXYZ\t\n\v\f\r",
    "0123456789abcdefghijklmnopqrstuv" + "!" * 39,
)


def digest_of(key: str) -> bytes | None:
    """Read a key as `jobs.key_text` writes it; None for any other text."""
    if len(key) != 26 or not key.isascii():
        return None
    try:
        number = int(key.translate(_AS_DIGITS), 32)  # base64.b32decode takes four times as long
    except ValueError:
        return None
    return None if number & 3 else (number >> 2).to_bytes(DIGEST_BYTES, "big")


class DigestTable:
    """Numbers from 0 up."""

    def __init__(self) -> None:
        self._slots = array("I", (0,)) * (1 << 12)  # number + 1 of a digest, 0 where none is
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._digests) // DIGEST_BYTES

    def __getitem__(self, number: int) -> bytes:
        return bytes(self._digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)])

    def make_room(self, digests: int) -> None:
        """Make room for so many digests at once, which saves growing step by step."""
        slots = len(self._slots)
        while digests >= slots * _FULLEST:
            slots *= 2
        if slots > len(self._slots):
            self._rebuild(slots)

    def find(self, digest: bytes) -> int:
        """The number of a digest, or where there is none, its free slot as -1, -2 and so on."""
        slots, digests = self._slots, self._digests
        slot = int.from_bytes(digest, "big") & (len(slots) - 1)
        while there := slots[slot]:
            if digests.startswith(digest, DIGEST_BYTES * (there - 1)):
                return there - 1
            slot = (slot + 1) & (len(slots) - 1)
        return ~slot

    def add(self, digest: bytes) -> int:
        """Give a digest a number, or the one that it has."""
        number = self.find(digest)
        if number >= 0:
            return number
        free, number = ~number, len(self)
        self._slots[free] = number + 1
        self._digests += digest
        if number >= len(self._slots) * _FULLEST:
            self._rebuild(2 * len(self._slots))
        return number

    def _rebuild(self, size: int) -> None:
        # A slot is told by the last bits of a digest, so that its last four bytes are enough.
        slots = self._slots = array("I", (0,)) * size
        for number in range(len(self)):
            end = DIGEST_BYTES * (number + 1)
            slot = int.from_bytes(self._digests[end - 4 : end], "big") & (size - 1)
            while slots[slot]:
                slot = (slot + 1) & (size - 1)
            slots[slot] = number + 1
