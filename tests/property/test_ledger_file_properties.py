"""A ledger loses nothing but what was being written, and damage anywhere else never passes."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.core.jobs import Event, Intent, JobRejected, JobSubmitted, JobUnknown, Refused, RunStarted
from batchsubmit.errors import LedgerError
from batchsubmit.ledger.file import LedgerFile
from batchsubmit.ledger.lines import Chain, encode_line
from batchsubmit.ledger.read import read_events

AT = "2026-11-23T00:00:00.000000Z"
NAME = 'n \u00fc \U0001f600 " \\ \n'
STARTED = RunStarted(at=AT, run="r", batch="", manifest="m", manifest_sha256="0", version="0", holder="h")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def intent(key: str) -> Event:
    """An intent of the job with this key."""
    return Intent(at=AT, job=key, membership="m", name=NAME, attempt=1, trained_model="model")


def submitted(key: str) -> Event:
    """The acceptance of the job with this key."""
    return JobSubmitted(at=AT, job=key, membership="m", name=NAME, arn=f"arn-{key}", attempt=1, via="start")


HEAD = [STARTED, intent("a"), intent("b"), submitted("a")]
GROUP = [submitted("b"), intent("c"), JobUnknown(at=AT, job="c", membership="m", name=NAME, reason="lost", attempt=1)]


def lines(events: list[Event]) -> bytes:
    """What a ledger of these events holds."""
    return b"".join(map(encode_line, events))


def reopened(path: Path) -> list[Event]:
    """Open the ledger as a run does, write one more line, and read what is then there."""
    file = LedgerFile(path)
    file.open()
    file.append(encode_line(intent("next")))
    file.close()
    with path.open("rb") as stream:
        return list(read_events(stream, path, Chain()))


@pytest.mark.parametrize("tail", [GROUP[:1], GROUP], ids=["one line", "a group of three lines"])
def test_a_ledger_cut_at_every_byte_of_its_tail_keeps_all_lines_before(tmp_path: Path, tail: list[Event]) -> None:
    """Every whole line stands, what follows is appended after them, and the torn rest is kept aside."""
    whole = lines(HEAD + tail)
    ends = [len(lines(HEAD + tail[:count])) for count in range(len(tail) + 1)]
    for cut in range(len(lines(HEAD)), len(whole) + 1):
        path = tmp_path / f"cut-{cut}.jsonl"
        path.write_bytes(whole[:cut])
        # A line that lacks no more than its newline is whole.
        complete = sum(end - 1 <= cut for end in ends[1:])
        assert reopened(path) == [*HEAD, *tail[:complete], intent("next")]
        torn = whole[ends[complete] : cut]
        aside = [each.read_bytes() for each in tmp_path.glob(f"{path.name}.torn-*")]
        assert aside == ([torn] if torn else [])


def test_a_ledger_cut_within_its_first_line_is_a_new_one(tmp_path: Path) -> None:
    """Nothing had been sent yet."""
    first = encode_line(STARTED)
    for cut in range(len(first) - 1):
        path = tmp_path / f"cut-{cut}.jsonl"
        path.write_bytes(first[:cut])
        assert reopened(path) == [intent("next")]


def test_a_changed_byte_anywhere_before_the_last_line_is_refused_with_its_line(tmp_path: Path) -> None:
    """Whatever it was changed to; the file is left alone."""
    events = HEAD + GROUP
    whole = lines(events)
    last = len(lines(events[:-1]))
    path = tmp_path / "ledger.jsonl"
    for place in range(last):
        for byte in {whole[place] ^ 0x01, 0x0A, 0x00} - {whole[place]}:
            damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
            path.write_bytes(damaged)
            number = whole[:place].count(b"\n") + 1
            with pytest.raises(LedgerError, match=rf"damaged at line {number}:"):
                LedgerFile(path).open()
            assert path.read_bytes() == damaged
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_byte_in_the_last_line_never_passes_for_its_event(tmp_path: Path) -> None:
    """Refused, or cut off and kept aside."""
    whole = lines(HEAD + GROUP[:1])
    begin = len(lines(HEAD))
    for place in range(begin, len(whole)):
        path = tmp_path / f"at-{place}.jsonl"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
        try:
            events = reopened(path)
        except LedgerError:
            continue
        assert events == [*HEAD, intent("next")]


def test_a_lost_or_repeated_middle_of_a_line_is_refused(tmp_path: Path) -> None:
    """As when an editor joins lines or a copy lost a block."""
    whole = lines(HEAD + GROUP)
    second = len(encode_line(HEAD[0]))
    path = tmp_path / "ledger.jsonl"
    for damaged in (whole[: second + 10] + whole[second + 20 :], whole[: second + 20] + whole[second + 10 :]):
        path.write_bytes(damaged)
        with pytest.raises(LedgerError, match="damaged at line 2:"):
            LedgerFile(path).open()


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of any content, in any order."""

    def one() -> Event:
        common = {"at": AT, "job": draw(TEXTS), "membership": draw(TEXTS), "name": draw(TEXTS)}
        attempt = draw(st.integers(0, 1 << 40))
        return draw(
            st.sampled_from(
                [
                    Intent(**common, attempt=attempt, trained_model=draw(TEXTS)),
                    JobSubmitted(**common, attempt=attempt, arn=draw(TEXTS), via="start"),
                    Refused(**common, attempt=attempt, code=draw(TEXTS)),
                    JobRejected(**common, attempt=attempt, code=draw(TEXTS), message=draw(TEXTS)),
                ]
            )
        )

    return [one() for _ in range(draw(st.integers(1, 6)))]


@given(events=histories(), data=st.data())
def test_any_history_cut_anywhere_keeps_a_prefix_of_itself(events: list[Event], data: st.DataObject) -> None:
    """The longest one that is whole."""
    whole = lines(events)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(lines(events[:count])) for count in range(len(events) + 1)]
    complete = sum(end - 1 <= cut for end in ends[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        path.write_bytes(whole[:cut])
        assert reopened(path) == [*events[:complete], intent("next")]
