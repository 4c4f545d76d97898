"""One event, one line: JSON with a checksum as its last member. Pure.

A line is `{"event":...,"crc32":"0a1b2c3d"}` and a newline; the checksum is the CRC-32 of the bytes before `,"crc32"`.
It finds lines that a disk or an editor changed. It is no protection against somebody who forges them.
"""

import zlib

import msgspec

from batchsubmit.jobs import Event

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_MARK = b',"crc32":"'
_TAIL_LENGTH = len(_MARK) + 8 + len(b'"}\n')


class LineDamagedError(ValueError):
    """A line is not what was once written."""


def encode_line(event: Event) -> bytes:
    """Write one event as a line of the ledger, newline included."""
    body = _encode(event)[:-1]
    return b'%s%s%08x"}\n' % (body, _MARK, zlib.crc32(body))


def decode_line(line: bytes) -> Event:
    """Read one line, with or without its newline.

    Raises LineDamagedError for a line whose checksum or form is wrong.
    """
    whole = line if line.endswith(b"\n") else line + b"\n"
    if not whole.endswith(b',"crc32":"%08x"}\n' % zlib.crc32(memoryview(whole)[:-_TAIL_LENGTH])):
        raise LineDamagedError("its checksum does not fit")
    try:
        return _decoder.decode(whole)  # the checksum is no field, and skipped
    except msgspec.MsgspecError as exc:
        raise LineDamagedError(f"it is not an event this version knows ({exc})") from exc
