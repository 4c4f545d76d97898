"""One event, one line of JSON that any tool reads and no disk changes unnoticed."""

import base64
import json
import zlib

import pytest

from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    EarlierRejected,
    Event,
    Intent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
    RunEnded,
    RunStarted,
)
from batchsubmit.ledger.lines import LineDamagedError, decode_line, encode_line

AT = "2026-11-23T00:00:00.000000Z"
JOB = {"at": AT, "job": "k", "membership": "m", "name": 'n "\u00fc" \U0001f600 \u2028 \n'}
EVENTS: list[Event] = [
    RunStarted(at=AT, run="r", batch="b", manifest="m.csv", manifest_sha256="0", version="0", holder="h", sandbox=True),
    Intent(**JOB, attempt=1, trained_model="arn"),
    JobSubmitted(**JOB, arn="arn", attempt=1, via="start"),
    Refused(**JOB, code="c", attempt=1),
    JobUnknown(**JOB, reason="r", attempt=1),
    Absent(**JOB, attempt=1),
    Duplicate(**JOB, arn="second", of="arn"),
    JobRejected(**JOB, code="c", message="m", attempt=1),
    EarlierRejected(**JOB, code="c", message="m", attempt=1),
    JobFinished(**JOB, arn="arn", status="ACTIVE", message=""),
    RunEnded(at=AT, run="r", exit_status=0, reason="", counts={"submitted": 1}),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """With or without the newline."""
    line = encode_line(event)
    assert decode_line(line) == event
    assert decode_line(line.removesuffix(b"\n")) == event


def test_a_run_s_end_that_an_earlier_version_sealed_still_reads() -> None:
    """Its members `terms` and `seal` mean nothing any more."""
    ended = RunEnded(at=AT, run="r", exit_status=0, reason="", counts={"submitted": 1})
    body = encode_line(ended).partition(b',"crc"')[0] + b',"terms":"t","seal":{"bytes":7,"sha256":"0"}'
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))[:6]
    assert decode_line(body + b',"crc":"' + crc + b'"}\n') == ended


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_line_is_one_line_of_json_with_the_checksum_last(event: Event) -> None:
    """`jq` and `grep` read it; event, time and checksum stand where the contract says."""
    line = encode_line(event)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    members = json.loads(line)
    assert next(iter(members)) == "event"
    assert members["at"] == AT
    assert list(members)[-1] == "crc"
    assert base64.b64decode(members["crc"] + "==") == zlib.crc32(line.partition(b',"crc"')[0]).to_bytes(4, "big")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_lines_of_earlier_versions_are_read(event: Event) -> None:
    """Their checksum had another name and spelling; a changed one is noticed as well."""
    body = encode_line(event).partition(b',"crc"')[0]
    earlier = b'%s,"crc32":"%08x"}\n' % (body, zlib.crc32(body))
    assert decode_line(earlier) == decode_line(earlier.removesuffix(b"\n")) == event
    for place in range(len(earlier) - 1):
        with pytest.raises(LineDamagedError):
            decode_line(earlier[:place] + bytes([earlier[place] ^ 1]) + earlier[place + 1 :])


def test_a_refusal_of_an_earlier_version_has_no_cause() -> None:
    """Its line reads all the same; a new one has the cause between code and attempt."""
    line = encode_line(Refused(**JOB, code="c", cause="slots", attempt=1))
    assert b'"code":"c","cause":"slots","attempt":1' in line
    body = line.partition(b',"crc"')[0].replace(b',"cause":"slots"', b"")
    earlier = b'%s,"crc32":"%08x"}\n' % (body, zlib.crc32(body))
    assert decode_line(earlier) == Refused(**JOB, code="c", attempt=1)


def test_any_changed_byte_is_noticed() -> None:
    """Whatever it is changed to, a newline included."""
    line = encode_line(EVENTS[2]).removesuffix(b"\n")
    for place in range(len(line)):
        for mask in (0x01, 0x20, 0x80):
            damaged = line[:place] + bytes([line[place] ^ mask]) + line[place + 1 :]
            with pytest.raises(LineDamagedError):
                decode_line(damaged)


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"null\n", b'{"event":"intent"}\n', b"\xff\xfe\n", b"x" * 500])
def test_what_is_no_line_of_ours_is_refused(line: bytes) -> None:
    """An editor's or another program's text."""
    with pytest.raises(LineDamagedError):
        decode_line(line)


def test_an_event_of_another_version_is_refused_in_words() -> None:
    """Its checksum fits, but nobody here knows what it means."""
    body = b'{"event":"teleported","at":"x"'
    with pytest.raises(LineDamagedError, match="not an event this version knows"):
        decode_line(b'%s,"crc32":"%08x"}\n' % (body, zlib.crc32(body)))


def test_the_event_of_a_job_that_was_refused_for_good_is_called_rejected() -> None:
    """The contract's word. A line that an earlier version wrote keeps its own, so that a copy of it stays the same."""
    refused = {"code": "c", "message": "m", "attempt": 1}
    assert json.loads(encode_line(JobRejected(**JOB, **refused)))["event"] == "rejected"
    earlier = decode_line(encode_line(EarlierRejected(**JOB, **refused)))
    assert isinstance(earlier, JobRejected)
    assert json.loads(encode_line(earlier))["event"] == "failed"
