"""A ledger read beside its writer: from where the last look ended, whatever happens to the file's end."""

from pathlib import Path

import pytest
from conftest import job_named

from batchsubmit.core.jobs import JobRejected
from batchsubmit.errors import LedgerError
from batchsubmit.ledger.file import open_ledger
from batchsubmit.ledger.lines import encode_line
from batchsubmit.ledger.read import Tail

AT = "2026-11-23T00:00:00.000000Z"

LINES = [
    encode_line(JobRejected(**job_named(f"job-{number}").stamp(AT), code="x", message="y", attempt=1))
    for number in range(6)
]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of two lines."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(LINES[:2]))
    return path


def append(path: Path, data: bytes) -> None:
    """As its writer does."""
    with path.open("ab") as file:
        file.write(data)


def names(tail: Tail) -> list[str]:
    """What a look brings."""
    return [event.name for event in tail.poll() if isinstance(event, JobRejected)]


def test_a_look_brings_what_is_new(ledger: Path) -> None:
    """And nothing twice."""
    tail = Tail(ledger)
    assert names(tail) == ["job-0", "job-1"]
    assert names(tail) == []
    append(ledger, LINES[2] + LINES[3])
    assert names(tail) == ["job-2", "job-3"]
    assert tail.beginnings == 1


@pytest.mark.parametrize("cut", [1, 40, len(LINES[2]) - 1])
def test_a_line_that_is_being_written_is_left_for_the_next_look(ledger: Path, cut: int) -> None:
    """Wherever the look falls."""
    tail = Tail(ledger)
    append(ledger, LINES[2][:cut])
    assert names(tail) == ["job-0", "job-1"]
    append(ledger, LINES[2][cut:])
    assert names(tail) == ["job-2"]


async def test_a_torn_line_that_the_next_run_cuts_off_is_never_seen(ledger: Path) -> None:
    """The writer mends its tail; the reader goes on."""
    append(ledger, LINES[2][:30])
    tail = Tail(ledger)
    assert names(tail) == ["job-0", "job-1"]
    async with open_ledger(ledger) as writer:
        assert names(tail) == []
        await writer.put(JobRejected(**job_named("next").stamp(AT), code="x", message="y", attempt=1))
        assert names(tail) == ["next"]
    assert tail.beginnings == 1


def test_lines_that_are_taken_back_are_forgotten(ledger: Path) -> None:
    """A write that failed in its middle is cut off again: the ledger is read from its beginning."""
    tail = Tail(ledger)
    append(ledger, LINES[2])
    assert len(names(tail)) == 3
    ledger.write_bytes(b"".join(LINES[:2]))
    assert names(tail) == ["job-0", "job-1"]
    assert tail.beginnings == 2


def test_lines_that_are_taken_back_and_written_over_are_read_again(ledger: Path) -> None:
    """Even where the file is as long as before by the time of the next look."""
    tail = Tail(ledger)
    append(ledger, LINES[2])
    assert len(names(tail)) == 3
    other = encode_line(JobRejected(**job_named("a longer name").stamp(AT), code="x", message="y", attempt=1))
    with ledger.open("r+b") as file:
        file.truncate(len(b"".join(LINES[:2])))
    append(ledger, other + LINES[3])
    assert names(tail) == ["job-0", "job-1", "a longer name", "job-3"]
    assert tail.beginnings == 2


def test_a_ledger_that_is_replaced_is_read_from_its_beginning(ledger: Path) -> None:
    """A restored copy, say."""
    tail = Tail(ledger)
    names(tail)
    copy = ledger.with_name("copy")
    copy.write_bytes(b"".join(LINES[3:]))
    copy.replace(ledger)
    assert names(tail) == ["job-3", "job-4", "job-5"]
    assert tail.beginnings == 2


def test_damage_is_told_with_its_line(ledger: Path) -> None:
    """And not before it is certain that no writer is at work there."""
    tail = Tail(ledger)
    names(tail)
    append(ledger, b'{"event":"nonsense"}\n')
    with pytest.raises(LedgerError, match="line 3"):
        names(tail)
    assert tail.beginnings == 2


async def test_a_reader_takes_no_lock(ledger: Path) -> None:
    """A run may begin while it is being watched."""
    tail = Tail(ledger)
    looking = tail.poll()
    next(looking)
    async with open_ledger(ledger) as writer:
        assert len(writer.state) == 2
    assert len(list(looking)) == 1
