"""The ledger's file: locked, read, mended at its torn end, and nothing else ever changed."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import Event, Intent, JobSubmitted, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.file import LedgerFile
from batchsubmit.ledger.lines import decode_line, encode_line
from batchsubmit.ledger.read import fold_ledger

AT = "2026-11-23T00:00:00.000000Z"
STARTED = RunStarted(
    at=AT, run="run-1", batch="", manifest="m.csv", manifest_sha256="0", version="0", holder="process 7 on host"
)
ENDED = RunEnded(at=AT, run="run-1", exit_status=0, reason="", counts={})


def intent(key: str) -> Intent:
    """An intent of the job with this key."""
    return Intent(at=AT, job=key, membership="m", name="n", attempt=1, trained_model="model")


def submitted(key: str) -> JobSubmitted:
    """The acceptance of the job with this key."""
    return JobSubmitted(at=AT, job=key, membership="m", name="n", arn=f"arn-{key}", attempt=1, via="start")


def lines(*events: Event) -> bytes:
    """What a ledger of these events holds."""
    return b"".join(map(encode_line, events))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "jobs.ledger.jsonl"


def test_a_new_ledger_is_empty_and_what_is_appended_is_on_the_disk(path: Path) -> None:
    """Readable by others from the moment `append` returns."""
    file = LedgerFile(path)
    assert len(file.open()) == 0
    file.append(lines(STARTED, intent("a")))
    assert path.read_bytes() == lines(STARTED, intent("a"))
    file.append(lines(submitted("a")))
    file.close()
    assert path.read_bytes() == lines(STARTED, intent("a"), submitted("a"))


def test_reserved_room_is_given_back_and_never_shows(path: Path) -> None:
    """A reader, and the next run, see the lines and nothing behind them."""
    file = LedgerFile(path, headroom_bytes=1 << 20)
    file.open()
    file.reserve(1 << 10)
    file.append(lines(intent("a")))
    assert path.read_bytes() == lines(intent("a"))
    file.close()
    assert path.stat().st_blocks * 512 < 1 << 20


def test_a_ledger_is_read_back_as_it_was_left(path: Path) -> None:
    """Every job stands where its last event left it."""
    path.write_bytes(lines(STARTED, intent("a"), submitted("a"), intent("b"), ENDED))
    file = LedgerFile(path)
    book = file.open()
    file.close()
    assert {state.job: state.phase for state in book} == {"a": Phase.SUBMITTED, "b": Phase.INTENT}
    assert path.read_bytes() == lines(STARTED, intent("a"), submitted("a"), intent("b"), ENDED)


def test_a_torn_last_line_is_cut_off_and_kept_aside(path: Path) -> None:
    """The lines before it stand; what follows begins on a line of its own."""
    torn = encode_line(submitted("a"))[:40]
    path.write_bytes(lines(intent("a")) + torn)
    file = LedgerFile(path)
    book = file.open()
    file.append(lines(submitted("a")))
    file.close()
    assert len(book) == 1
    assert path.read_bytes() == lines(intent("a"), submitted("a"))
    [aside] = path.parent.glob(f"{path.name}.torn-*")
    assert aside.read_bytes() == torn


def test_a_whole_last_line_without_its_newline_stays(path: Path) -> None:
    """The event is true: it was written after it had happened."""
    path.write_bytes(lines(intent("a"), submitted("a"))[:-1])
    file = LedgerFile(path)
    file.open()
    file.close()
    assert path.read_bytes() == lines(intent("a"), submitted("a"))
    assert list(path.parent.iterdir()) == [path]


def test_a_whole_last_line_without_its_newline_counts(path: Path) -> None:
    """Its job is not sent once more by this very run."""
    path.write_bytes(lines(intent("a"), submitted("a"))[:-1])
    file = LedgerFile(path)
    book = file.open()
    file.close()
    assert [state.phase for state in book] == [Phase.SUBMITTED]


@pytest.mark.parametrize("damage", [b"\n", b"{}\n", b"\0" * 40 + b"\n", b"\xff\n"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_damage_anywhere_else_is_refused_with_its_line(path: Path, damage: bytes, place: int) -> None:
    """And the file is left as it is."""
    whole = [encode_line(each) for each in (intent("a"), submitted("a"), intent("b"))]
    whole.insert(place - 1, damage)
    content = b"".join(whole)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=rf"jobs\.ledger\.jsonl is damaged at line {place}:"):
        LedgerFile(path).open()
    assert path.read_bytes() == content


def test_a_damaged_ledger_is_not_left_locked(path: Path) -> None:
    """It can be mended and opened in the same process."""
    path.write_bytes(b"broken\n")
    with pytest.raises(LedgerError):
        LedgerFile(path).open()
    path.write_bytes(b"")
    file = LedgerFile(path)
    file.open()
    file.close()


def test_a_ledger_in_use_names_its_holder(path: Path) -> None:
    """The run, its process and since when."""
    holder = LedgerFile(path)
    holder.open()
    holder.append(lines(STARTED))
    with pytest.raises(LedgerError, match=rf"in use by run run-1 \(process 7 on host, since {AT}\)"):
        LedgerFile(path).open()
    holder.append(lines(ENDED))
    with pytest.raises(LedgerError, match="in use by another process"):
        LedgerFile(path).open()
    holder.close()
    after = LedgerFile(path)
    after.open()
    after.close()


def test_a_ledger_in_use_is_not_touched_by_the_second(path: Path) -> None:
    """Not even its last line, which the first may be writing just now."""
    holder = LedgerFile(path)
    holder.open()
    half = encode_line(STARTED)[:50]
    path.write_bytes(half)
    with pytest.raises(LedgerError):
        LedgerFile(path).open()
    assert path.read_bytes() == half
    assert list(path.parent.iterdir()) == [path]
    holder.close()


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_regular_file_is_refused(path: Path, make: "object") -> None:
    """A folder, a pipe, a device: none of them keeps a line. And nobody hangs on the pipe."""
    make(path)  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"jobs\.ledger\.jsonl"):
        LedgerFile(path).open()


def test_a_ledger_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """No folder is made behind the user's back."""
    with pytest.raises(UsageError, match=r"cannot be opened for writing: No such file"):
        LedgerFile(tmp_path / "nowhere" / "ledger.jsonl").open()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_was_deleted_or_replaced_leads_to_no_call_and_is_saved(path: Path, is_replaced: bool) -> None:
    """All that it held, and the outcomes that still come, stand in a file beside it; a new file is left alone."""
    file = LedgerFile(path)
    file.open()
    file.append(lines(intent("a")))
    path.unlink()
    if is_replaced:
        path.write_bytes(b"someone else's")
    for _ in range(2):
        with pytest.raises(StoppedError, match="replaced" if is_replaced else "deleted") as caught:
            file.reserve(100)
    file.append(lines(submitted("a")))
    file.close()
    [rescued] = path.parent.glob(f"{path.name}.rescued-*")
    assert rescued.read_bytes() == lines(intent("a"), submitted("a"))
    assert str(rescued) in str(caught.value)
    assert [each.read_bytes() for each in path.parent.glob(path.name)] == [b"someone else's"] * is_replaced


def test_a_file_that_is_gone_with_its_folder_stops_the_run(tmp_path: Path) -> None:
    """There is no place beside it then; whoever waits hears of it all the same."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = LedgerFile(folder / "ledger.jsonl")
    file.open()
    file.append(lines(intent("a")))
    shutil.rmtree(folder)
    with pytest.raises(StoppedError, match="was deleted and cannot be saved beside it"):
        file.reserve(100)
    with pytest.raises(StoppedError, match="cannot be saved"):
        file.append(lines(submitted("a")))
    file.close()


def test_a_file_that_was_cut_short_leads_to_no_call(path: Path) -> None:
    """As `: > ledger` and some rotations of logs do it; what still comes is written to what is left."""
    file = LedgerFile(path)
    file.open()
    file.append(lines(intent("a")))
    os.truncate(path, 0)
    for _ in range(2):
        with pytest.raises(StoppedError, match="was cut short"):
            file.reserve(100)
    file.append(lines(submitted("a")))
    file.close()
    assert path.read_bytes() == lines(submitted("a"))


def test_a_failed_fsync_is_never_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped what it could not write, so a second one would lie."""
    file = LedgerFile(path)
    file.open()
    synced: list[int] = []

    def fail(descriptor: int) -> None:
        synced.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    # No file system fails on demand: the call itself is replaced here, and here alone.
    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(2):
        with pytest.raises(StoppedError, match="Input/output error"):
            file.append(lines(intent("a")))
    assert len(synced) == 1
    file.close()


def test_a_half_written_group_is_cut_off_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was reported as not written is not there either."""
    file = LedgerFile(path)
    file.open()
    file.append(lines(intent("a")))
    write = os.write

    def fail_halfway(descriptor: int, data: memoryview) -> int:
        if len(data) < 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", fail_halfway)
    with pytest.raises(StoppedError, match="No space left"):
        file.append(lines(submitted("a")))
    monkeypatch.undo()
    assert path.read_bytes() == lines(intent("a"))
    file.close()


def test_closing_twice_is_harmless(path: Path) -> None:
    """As is closing what was never opened."""
    file = LedgerFile(path)
    file.close()
    file.open()
    file.close()
    file.close()


def test_a_ledger_may_be_opened_again(path: Path) -> None:
    """By the same object; what it cuts off and reserves goes by the file as it is then."""
    file = LedgerFile(path)
    for _ in range(2):
        file.open()
        file.append(lines(STARTED))
        file.close()
    path.write_bytes(lines(STARTED) + b"torn")
    file.open()
    file.close()
    assert path.read_bytes() == lines(STARTED)


def test_who_is_kept_out_leaves_the_file_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives back no room: what the holder appends at that moment would be cut off."""
    holder = LedgerFile(path)
    holder.open()
    holder.append(lines(STARTED))
    monkeypatch.setattr(os, "ftruncate", lambda *_: pytest.fail("the file is another's"))
    with pytest.raises(LedgerError, match="in use"):
        LedgerFile(path).open()
    monkeypatch.undo()
    holder.close()


def test_a_ledger_can_be_read_while_another_writes_to_it(path: Path) -> None:
    """`status` looks on; a line that is being written is left out."""
    file = LedgerFile(path)
    file.open()
    file.append(lines(intent("a")) + encode_line(submitted("a"))[:30])
    assert [state.phase for state in fold_ledger(path)] == [Phase.INTENT]
    file.close()


def test_the_lines_are_those_of_the_contract(path: Path) -> None:
    """What one version writes, another reads: a line's bytes never change."""
    line = (
        b'{"event":"submitted","at":"2026-11-23T00:00:00.000000Z","job":"a","membership":"m","name":"n",'
        b'"arn":"arn-a","attempt":1,"via":"start","crc":"'
    )
    assert encode_line(submitted("a")).startswith(line)
    assert decode_line(encode_line(submitted("a"))) == submitted("a")
