"""Jobs that are submitted, failed or finished, in 80 bytes each: nothing will happen to most of them ever again.

A million jobs as objects take a gigabyte. Here each is a record in one long byte string. What many jobs share
(membership, model, codes) is kept once; times and ARNs are packed. What does not fit the packing is
refused, and its owner keeps it as it is. Pure.
"""

import struct
from array import array
from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

from batchsubmit.book.digests import DigestTable
from batchsubmit.jobs import key_text
from batchsubmit.states import JobState, Phase

_HEAD = struct.Struct("<IIII")  # numbers of what is shared and of the minute, microseconds in it, bytes of text
_UUID_BYTES = 16
_KINDS = (None, Phase.SUBMITTED, Phase.FAILED, Phase.FINISHED)

_T = TypeVar("_T")
_Shared = tuple[str, str, str, bool, int, str, str, str, int]
"""Membership, trained model, ARN without its UUID, whether it has one, attempt, code, status, logs, doubts."""


class SettledJobs:
    """The states of settled jobs by the digests that their keys spell."""

    def __init__(self) -> None:
        self._table = DigestTable()
        self._kinds = bytearray()  # 0 where the job was taken out
        self._offsets = array("Q")
        self._records = bytearray()
        self._shared = _Numbered[_Shared]()
        self._minutes = _Numbered[str]()

    def make_room(self, jobs: int) -> None:
        """Make room for so many jobs at once."""
        self._table.make_room(jobs)

    def put(self, digest: bytes, state: JobState) -> bool:
        """Keep a state in place of the job's last one; false where it is not settled or cannot be packed."""
        # By position, since a dict would call the hash of an enum, which is Python's own and slow.
        kind = _KINDS.index(state.phase) if state.phase in _KINDS else 0
        record = self._packed(state) if kind and not state.duplicates else None
        if record is None:
            return False
        number = self._table.add(digest)
        if number == len(self._kinds):
            self._kinds.append(kind)
            self._offsets.append(len(self._records))
        else:
            self._kinds[number] = kind
            self._offsets[number] = len(self._records)
        self._records += record
        return True

    def get(self, digest: bytes) -> JobState | None:
        """The state of a job, if it is kept."""
        number = self._table.find(digest)
        return self._unpacked(number) if number >= 0 and self._kinds[number] else None

    def phase(self, digest: bytes) -> Phase | None:
        """The phase of a job, if it is kept: a fifth of the cost of its state."""
        number = self._table.find(digest) if self._kinds else -1
        return _KINDS[self._kinds[number]] if number >= 0 else None

    def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs kept jobs have, and whose they are (ARN to key): one walk over packed UUIDs."""
        uuids = {uuid for uuid in (_uuid_bytes(arn.rpartition("/")[2]) for arn in arns) if uuid}
        others = {number for number, shared in enumerate(self._shared) if shared[2] in arns and not shared[3]}
        claimed: dict[str, str] = {}
        records, begin, end = self._records, _HEAD.size, _HEAD.size + _UUID_BYTES
        for number, offset in enumerate(self._offsets):
            is_likely = bytes(records[offset + begin : offset + end]) in uuids
            if (is_likely or (others and _HEAD.unpack_from(records, offset)[0] in others)) and self._kinds[number]:
                state = self._unpacked(number)
                if state.arn in arns:
                    claimed[state.arn] = state.job
        return claimed

    def remove(self, digest: bytes) -> None:
        """Forget a job, if it is kept."""
        number = self._table.find(digest)
        if number >= 0:
            self._kinds[number] = 0

    def count(self, phase: Phase) -> int:
        """How many jobs are kept that stand so."""
        return self._kinds.count(_KINDS.index(phase)) if phase in _KINDS else 0

    def __len__(self) -> int:
        return len(self._kinds) - self._kinds.count(0)

    def __iter__(self) -> Iterator[JobState]:
        for number in range(len(self._kinds)):
            if self._kinds[number]:
                yield self._unpacked(number)

    def _packed(self, state: JobState) -> bytes | None:
        since = state.since
        fraction = since[17:19] + since[20:26]
        is_time = len(since) == 27 and since[19] == "." and since[26] == "Z" and fraction.isascii()
        if not (is_time and fraction.isdecimal()) or "\0" in state.name:
            return None
        arn, slash, last = state.arn.rpartition("/")
        uuid = _uuid_bytes(last) if slash else b""
        shared = self._shared.number(
            (
                state.membership,
                state.trained_model,
                arn if uuid else state.arn,
                bool(uuid),
                state.attempt,
                state.code,
                state.status,
                state.logs,
                state.doubts,
            )
        )
        text = (f"{state.name}\0{state.message}" if state.message else state.name).encode()
        return _HEAD.pack(shared, self._minutes.number(since[:17]), int(fraction), len(text)) + uuid + text

    def _unpacked(self, number: int) -> JobState:
        offset = self._offsets[number]
        shared, minute, fraction, length = _HEAD.unpack_from(self._records, offset)
        membership, trained_model, arn, has_uuid, attempt, code, status, logs, doubts = self._shared[shared]
        begin = offset + _HEAD.size
        if has_uuid:
            arn = f"{arn}/{_uuid_text(self._records[begin : begin + _UUID_BYTES])}"
            begin += _UUID_BYTES
        name, _, message = self._records[begin : begin + length].decode().partition("\0")
        seconds, microseconds = divmod(fraction, 1_000_000)
        return JobState(
            job=key_text(self._table[number]),
            membership=membership,
            name=name,
            phase=_KINDS[self._kinds[number]] or Phase.SUBMITTED,
            attempt=attempt,
            since=f"{self._minutes[minute]}{seconds:02}.{microseconds:06}Z",
            trained_model=trained_model,
            arn=arn,
            code=code,
            message=message,
            status=status,
            logs=logs,
            doubts=doubts,
        )


class _Numbered(Generic[_T]):
    """Values that are the same for many jobs, each kept once, by number."""

    def __init__(self) -> None:
        self._numbers: dict[_T, int] = {}
        self._values: list[_T] = []

    def number(self, value: _T) -> int:
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> _T:
        return self._values[number]

    def __iter__(self) -> Iterator[_T]:
        return iter(self._values)


def _uuid_bytes(text: str) -> bytes:
    """Half of the size of a UUID's text; empty for what is not one, letter for letter."""
    try:
        packed = bytes.fromhex(text.replace("-", "")) if len(text) == 36 else b""
    except ValueError:
        return b""
    return packed if packed and _uuid_text(packed) == text else b""


def _uuid_text(packed: bytes | bytearray) -> str:
    text = packed.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
