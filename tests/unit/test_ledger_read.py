"""Reading a ledger without owning it: lenient at its end and with later versions, strict in the middle."""

import os
import zlib
from pathlib import Path

import pytest
from sample_ledgers import Story, write_story

from batchsubmit.core.jobs import Event, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.lines import LineDamagedError, decode_line
from batchsubmit.ledger.read import by_time, read_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Four sound lines."""
    story = Story()
    story.run(0)
    story.intent(1, "a")
    story.accepted(2, "a")
    story.end(3)
    return write_story(tmp_path / "x.ledger.jsonl", story)


def later(body: bytes) -> bytes:
    """A sound line of some other version."""
    return b'%s,"crc32":"%08x"}\n' % (body, zlib.crc32(body))


def test_a_sound_ledger_is_read_without_a_word_or_a_lock(ledger: Path) -> None:
    """And stays as it is."""
    before, words = ledger.read_bytes(), []
    assert len(list(read_ledger(ledger, warn=words.append))) == 4
    assert (ledger.read_bytes(), words) == (before, [])


def test_a_ledger_is_read_from_a_pipe(ledger: Path) -> None:
    """As from `status <(zcat x.ledger.jsonl.gz)`."""
    reading, writing = os.pipe()
    os.write(writing, ledger.read_bytes())
    os.close(writing)
    assert len(list(read_ledger(Path(f"/dev/fd/{reading}")))) == 4
    os.close(reading)


@pytest.mark.parametrize("tail", [b'{"event":"intent","at', b"\0" * 100, b'{"event":"intent"}\n'])
def test_a_torn_or_damaged_last_line_is_left_out_with_a_word(ledger: Path, tail: bytes) -> None:
    """A crash, or a run that is writing it just now."""
    with ledger.open("ab") as file:
        file.write(tail)
    words: list[str] = []
    assert len(list(read_ledger(ledger, warn=words.append))) == 4
    assert len(words) == 1
    assert words[0].startswith("line 5, the last one")


def test_damage_in_the_middle_is_reported_with_its_line(ledger: Path) -> None:
    """A report over half a ledger would be a lie."""
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0], lines[1].replace(b'"a"', b'"b"'), *lines[2:]]))
    with pytest.raises(LedgerError, match="damaged at line 2"):
        list(read_ledger(ledger))


def test_who_reads_a_later_version_s_ledger_is_told_to_update(ledger: Path) -> None:
    """It must not guess what the line means, and the ledger is not damaged."""
    with ledger.open("ab") as file:
        file.write(later(b'{"event":"teleported","at":"2026-11-22T22:00:05Z"'))
    with pytest.raises(LedgerError) as caught:
        list(read_ledger(ledger, warn=print))
    assert "written by a newer version; update batchsubmit" in str(caught.value)
    assert "Restore" not in str(caught.value)


@pytest.mark.parametrize("body", [b'{"event":"intent","at":"x"', b'{"event":"later"', b"{", b'{"event":[],"at":"x"'])
def test_a_line_that_no_version_writes_is_damage(body: bytes) -> None:
    """A known kind without its members, or a kind without a time."""
    with pytest.raises(LineDamagedError):
        decode_line(later(body))


def test_a_ledger_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """In one sentence."""
    with pytest.raises(UsageError, match=r"cannot be read: No such file"):
        list(read_ledger(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"cannot be read"):
        list(read_ledger(tmp_path))


def ordered(story: Story) -> list[str]:
    """The story's events, in the table's order and then by time, each as its kind and its run or job."""
    events: list[Event] = sorted(story.events, key=lambda event: not isinstance(event, RunStarted | RunEnded))
    return [
        f"{type(event).__name__} {event.run if isinstance(event, RunStarted | RunEnded) else event.name}"
        for event in by_time(events)
    ]


def test_without_a_run_under_way_time_is_the_order() -> None:
    """Runs and jobs as they came."""
    story = Story()
    story.run(0, "r1")
    story.intent(1, "a")
    story.end(2, "r1")
    story.intent(3, "b")
    assert ordered(story) == ["RunStarted r1", "Intent a", "RunEnded r1", "Intent b"]


def test_the_last_run_under_way_is_the_one_that_is_shown() -> None:
    """The end of another that began later does not end it, and what was done since counts for it."""
    story = Story()
    story.run(0, "dead")
    story.intent(1, "a")
    story.run(2, "open")
    story.run(3, "short")
    story.intent(4, "b")
    story.end(5, "short")
    story.intent(6, "c")
    runs = [words for words in ordered(story) if words.startswith("Run")]
    assert runs[-1] == "RunStarted open"
    assert ordered(story)[-2:] == ["Intent b", "Intent c"]
    assert ordered(story).index("Intent a") < ordered(story).index("RunStarted open") < ordered(story).index("Intent b")
