"""Small and quick storage for records of which there may be a million: texts that repeat are kept once. Pure.

A membership, a trained model and all of an ARN but its last part are the same for thousands of jobs; a record holds
their numbers instead. It must not know what a record means.
"""

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from batchsubmit.core.states import JobState, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

_FIELDS = JobState.__struct_fields__
_values = attrgetter(*_FIELDS)
_REPEATED = tuple(_FIELDS.index(name) for name in ("membership", "trained_model", "code"))
_ARN, _PHASE, _DUPLICATES = (_FIELDS.index(name) for name in ("arn", "phase", "duplicates"))

_Extra = TypeVar("_Extra")


class Packer(Generic[_Extra]):
    """Packs a job's state with one more value of a msgspec type, and back."""

    def __init__(self, extra: type[_Extra]) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], tuple[list[Any], _Extra]]
        self._decode = msgspec.msgpack.Decoder(tuple[list[Any], extra]).decode  # type: ignore[valid-type]

    def pack(self, state: JobState, extra: _Extra) -> bytes:
        """Write both as bytes."""
        values: list[Any] = list(_values(state))
        for index in _REPEATED:
            values[index] = self._number(values[index])
        head, slash, tail = values[_ARN].rpartition("/")
        values[_ARN] = (self._number(head + slash), tail)
        return self._encode((values, extra))

    def unpack(self, packed: bytes) -> tuple[JobState, _Extra]:
        """Read both again."""
        values, extra = self._decode(packed)
        for index in _REPEATED:
            values[index] = self._texts[values[index]]
        head, tail = values[_ARN]
        values[_ARN] = self._texts[head] + tail
        values[_PHASE] = Phase(values[_PHASE])
        values[_DUPLICATES] = tuple(values[_DUPLICATES])
        return JobState(**dict(zip(_FIELDS, values, strict=True))), extra

    def _number(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number
