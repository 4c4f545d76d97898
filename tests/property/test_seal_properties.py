"""A ledger's seal holds for the very bytes that a run left, and for nothing else."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from batchsubmit.errors import LedgerError
from batchsubmit.jobs import Event, Intent, RunEnded, RunStarted, Submitted
from batchsubmit.ledger.file import open_ledger
from batchsubmit.ledger.lines import decode_line, encode_line
from batchsubmit.ledger.storage import LedgerFile

AT = "2026-11-23T00:00:00.000000Z"
TERMS = "the same"


def events(run: str) -> list[Event]:
    """What a run writes."""
    job = {"at": AT, "job": f"key-of-{run}", "membership": "m", "name": 'n \u00fc "'}
    return [
        RunStarted(at=AT, run=run, batch="", manifest="m", manifest_sha256="0", version="0", holder="h"),
        Intent(**job, attempt=1, trained_model="model"),
        Submitted(**job, arn=f"arn-{run}", attempt=1, via="start"),
        RunEnded(at=AT, run=run, exit_status=0, reason="", counts={"submitted": 1}, terms=TERMS),
    ]


async def write_run(path: Path, run: str) -> None:
    """Write it as a run does, some lines in groups, some alone."""
    async with open_ledger(path) as ledger:
        started, intent, submitted, ended = events(run)
        await ledger.put(started)
        ledger.note(intent)
        ledger.note(submitted)
        await ledger.put(ended)


def written(*runs: str) -> bytes:
    """A ledger of these runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        for run in runs:
            asyncio.run(write_run(path, run))
        return path.read_bytes()


WHOLE = written("one", "two")


@contextmanager
def ledger_of(content: bytes) -> Iterator[LedgerFile]:
    """A ledger file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        path.write_bytes(content)
        file = LedgerFile(path)
        yield file
        file.close()


def open_sealed(file: LedgerFile) -> RunEnded | None:
    """Open it by its seal, whatever the end says."""
    return file.open_sealed(lambda ended: ended.terms == TERMS, lambda: False)


def test_a_run_that_came_to_its_end_seals_its_ledger() -> None:
    """Each run's end seals all that is before it, and the file is locked."""
    for content, run in ((WHOLE, "two"), (written("one"), "one")):
        with ledger_of(content) as file:
            ended = open_sealed(file)
            assert ended is not None
            assert (ended.run, ended.terms) == (run, TERMS)
            assert ended.seal is not None
            assert ended.seal.bytes == content.rindex(b'{"event":"run_ended"')
            assert LedgerFile(file.path).open_sealed(lambda _: True, lambda: False) is None, "it is in use"


def test_what_is_written_after_a_seal_is_sealed_again() -> None:
    """As a run does that had nothing to do."""
    with ledger_of(WHOLE) as file:
        assert open_sealed(file) is not None
        started, _, _, ended = events("three")
        assert isinstance(ended, RunEnded)
        file.append(encode_line(started))
        file.append(encode_line(file.sealed(ended, b"")))
        file.close()
        again = open_sealed(file)
        assert again is not None
        assert again.run == "three"


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255))
def test_a_lone_changed_byte_anywhere_breaks_the_seal(place: int, byte: int) -> None:
    """And the file is neither locked nor changed: the long way tells what is wrong."""
    changed = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    with ledger_of(changed) as file:
        assert (open_sealed(file) is not None) == (changed == WHOLE)
        assert file.path.read_bytes() == changed


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_ledger_that_lost_or_won_anything_has_no_seal(data: st.DataObject) -> None:
    """Whole lines included."""
    lines = WHOLE.splitlines(keepends=True)
    first, last = sorted((data.draw(st.integers(0, len(lines))), data.draw(st.integers(0, len(lines)))))
    cut = b"".join(lines[:first] + lines[last:])
    grown = b"".join([*lines[:first], data.draw(st.sampled_from(lines)), *lines[first:]])
    torn = WHOLE[: data.draw(st.integers(0, len(WHOLE) - 1))]
    for content in (cut, grown, torn, WHOLE + b"\n", WHOLE + lines[0][:20]):
        whole_run = written_by_first_run(content)
        with ledger_of(content) as file:
            assert (open_sealed(file) is not None) == (content == WHOLE or whole_run)
            assert file.path.read_bytes() == content


def written_by_first_run(content: bytes) -> bool:
    """Whether this is what the first of the two runs left: a copy from then is as good."""
    return content == b"".join(WHOLE.splitlines(keepends=True)[:4])


def test_lines_changed_with_their_checksums_break_the_seal_too() -> None:
    """An editor that mends the checksums cannot mend the SHA-256 of all."""
    lines = WHOLE.splitlines(keepends=True)
    submitted = decode_line(lines[2])
    assert isinstance(submitted, Submitted)
    forged = encode_line(replace(submitted, arn="arn-two"))
    assert len(forged) == len(lines[2])
    with ledger_of(b"".join([*lines[:2], forged, *lines[3:]])) as file:
        assert open_sealed(file) is None
        assert len(file.open()) == 2


def test_a_line_that_changed_under_a_run_is_not_sealed_by_it() -> None:
    """A seal is of what the run read and wrote, not of what is there at its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        path.write_bytes(WHOLE)
        asyncio.run(_write_while_somebody_edits(path))
        file = LedgerFile(path)
        assert open_sealed(file) is None
        try:
            file.open()
        except LedgerError as exc:
            assert "line 3" in str(exc)  # noqa: PT017 (the seal is what is tested)
        else:
            raise AssertionError


async def _write_while_somebody_edits(path: Path) -> None:
    async with open_ledger(path) as ledger:
        started, *_, ended = events("three")
        await ledger.put(started)
        edited = path.read_bytes().replace(b"arn-one", b"arn-0ne")
        with path.open("r+b") as file:
            file.write(edited)
        await ledger.put(ended)
