"""One event, one line: JSON with a checksum as its last member. Pure.

A line is `{"event":...,"crc":"ChssPQ"}` and a newline; the checksum is the CRC-32 of the bytes before `,"crc"`, in
base64 because there are two lines a job. Earlier versions wrote `"crc32":"0a1b2c3d"`. It finds lines that a disk or an
editor changed. It is no protection against someone who forges them.

In a file, `"previous"` before the checksum is the checksum of the line before, so that a line is provably its
successor. Lines of earlier versions have none; the chain begins with the first line that has one.
"""

import zlib
from binascii import b2a_base64
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import get_args

import msgspec

from batchsubmit.core.jobs import Event
from batchsubmit.errors import UsageError

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_MARK = b',"crc":"'
_KINDS = frozenset(kind.__struct_config__.tag for kind in get_args(Event))
_TAIL_LENGTH = len(_MARK) + 6 + len(b'"}\n')
_EARLIER_TAIL_LENGTH = len(b',"crc32":"0a1b2c3d"}\n')
_PREVIOUS = b',"previous":"'
CHAIN_LENGTH = len(_PREVIOUS) + 6 + len(b'"')
"""Bytes that `Chain.link` adds to a line."""


class LineDamagedError(ValueError):
    """A line is not what was once written; at a file's end, a crash may have torn it.

    Unless `is_torn`, the line is whole: of a kind that only later versions know (`is_newer`), or not the successor of
    the one before it.
    """

    def __init__(self, reason: str, *, is_torn: bool = True, is_newer: bool = False) -> None:
        super().__init__(reason)
        self.is_torn = is_torn
        self.is_newer = is_newer


class _AnyEvent(msgspec.Struct):
    """What every line has, whatever version wrote it."""

    event: str
    at: str


class Chain:
    """The lines of a file so far: count, size, the last one's checksum, and whether they name the one before."""

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._last = b"AAAAAA"  # the checksum of nothing
        self._is_begun = False

    def follow(self, line: bytes) -> None:
        """Add a line whose own checksum fits. Raises LineDamagedError where it does not follow the last one."""
        whole = line if line.endswith(b"\n") else line + b"\n"
        named = whole[-_TAIL_LENGTH - CHAIN_LENGTH : -_TAIL_LENGTH]
        is_link = named.startswith(_PREVIOUS)
        if is_link and named[len(_PREVIOUS) : -1] != self._last:
            raise LineDamagedError(
                "lines are missing before it, or it is another ledger's"
                if self.count
                else "the lines before it are missing: the file starts in the middle",
                is_torn=False,
            )
        if self._is_begun and not is_link:
            raise LineDamagedError("it does not say which line it follows: it is another ledger's", is_torn=False)
        self._is_begun = is_link
        self._last = _checksum(whole)
        self.count += 1
        self.size += len(whole)

    def link(self, lines: Iterable[bytes]) -> bytes:
        """Make lines follow the last one. The chain itself stays: they are not written yet."""
        last, linked = self._last, []
        for line in lines:
            body = b'%s%s%s"' % (line[:-_TAIL_LENGTH], _PREVIOUS, last)
            linked.append(body + _tail(body))
            last = _checksum(linked[-1])
        return b"".join(linked)


def _checksum(line: bytes) -> bytes:
    """The checksum of a whole line, as `"previous"` has it."""
    if line[-_TAIL_LENGTH:].startswith(_MARK):
        return line[-9:-3]
    return b2a_base64(bytes.fromhex(line[-11:-3].decode()))[:6]


def encode_line(event: Event) -> bytes:
    """Write one event as a line of the ledger, newline included."""
    body = _encode(event)[:-1]
    return body + _tail(body)


def decode_line(line: bytes) -> Event:
    """Read one line, with or without its newline. Raises LineDamagedError, also where a later version wrote it."""
    whole = line if line.endswith(b"\n") else line + b"\n"
    if not whole.endswith(_tail(memoryview(whole)[:-_TAIL_LENGTH])) and not whole.endswith(
        b',"crc32":"%08x"}\n' % zlib.crc32(memoryview(whole)[:-_EARLIER_TAIL_LENGTH])
    ):
        raise LineDamagedError("its checksum does not fit")
    try:
        event = _decoder.decode(whole)  # the checksum is no field, and skipped
    except msgspec.MsgspecError as exc:
        is_newer = _is_newer(whole)
        reason = f"it is not an event this version knows ({exc})"
        raise LineDamagedError(reason, is_torn=not is_newer, is_newer=is_newer) from exc
    for at in {event.at, getattr(event, "ended", "") or event.at}:
        with suppress(ValueError):
            if datetime.fromisoformat(at).tzinfo:
                continue
        raise LineDamagedError(f"{at!r} is no time")
    return event


def _tail(body: bytes | memoryview) -> bytes:
    return b'%s%.6s"}\n' % (_MARK, b2a_base64(zlib.crc32(body).to_bytes(4, "big")))


def _is_newer(line: bytes) -> bool:
    """Whether a sound line that is no event of this version may be one of a later version."""
    try:
        return msgspec.json.decode(line, type=_AnyEvent).event not in _KINDS
    except msgspec.MsgspecError:
        return False


_FIRST_BYTES = b'{"event":"'


def require_ledger(path: Path) -> None:
    """Refuse a manifest or a report that was named by mistake. Raises UsageError."""
    first = b""
    if path.is_file():
        with suppress(OSError), path.open("rb") as file:  # opening it again says why it cannot be
            first = file.read(len(_FIRST_BYTES))
    if not _FIRST_BYTES.startswith(first):
        raise UsageError(
            f"{path} is no ledger: its first line is no event. A ledger is what submit writes, by default "
            "<manifest stem>.ledger.jsonl in the current folder"
        )
