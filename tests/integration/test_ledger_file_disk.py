"""The ledger on a disk in trouble: it stops before a call, not after one, and loses nothing."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Program, Sandbox, csv_text, finish

from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import Event, Intent, JobSubmitted, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.file import FileLedger, LedgerFile, open_ledger
from batchsubmit.ledger.lines import decode_line, encode_line

AT = "2026-11-23T00:00:00.000000Z"


def intent(key: str) -> Intent:
    """An intent of the job with this key."""
    return Intent(at=AT, job=key, membership="m", name="n", attempt=1, trained_model="model")


def submitted(key: str) -> JobSubmitted:
    """The acceptance of the job with this key."""
    return JobSubmitted(at=AT, job=key, membership="m", name="n", arn=f"arn-{key}", attempt=1, via="start")


def events_in(path: Path) -> list[Event]:
    """What the ledger holds; every line is whole."""
    return [decode_line(line) for line in path.read_bytes().splitlines(keepends=True)]


def rescued_beside(path: Path) -> Path:
    """The one file in which a ledger that was deleted is kept."""
    [rescued] = path.parent.glob(f"{path.name}.rescued-*")
    return rescued


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


async def test_a_full_disk_refuses_the_intent_so_that_no_call_is_made(small_disk: Path) -> None:
    """And says so at every further one; once there is room, the next run goes on."""
    path = small_disk / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.put(intent("a"))
        await ledger.put(submitted("a"))
    filler = fill(small_disk)
    async with open_ledger(path) as ledger:
        for key in "bc":
            with pytest.raises(StoppedError, match="No space left on device"):
                await ledger.put(intent(key))
    assert events_in(path) == [intent("a"), submitted("a")]
    filler.unlink()
    async with open_ledger(path) as ledger:
        await ledger.put(intent("b"))
    assert events_in(path) == [intent("a"), submitted("a"), intent("b")]


async def test_a_disk_that_fills_during_a_call_still_has_room_for_its_outcome(small_disk: Path) -> None:
    """It was reserved before the call left: for every call that can be under way."""
    path = small_disk / "ledger.jsonl"
    keys = [str(number) for number in range(64)]
    async with open_ledger(path, concurrency=64) as ledger:
        await asyncio.gather(*(ledger.put(intent(key)) for key in keys))
        fill(small_disk)
        await asyncio.gather(*(ledger.put(submitted(key)) for key in keys))
        with pytest.raises(StoppedError):
            await ledger.put(intent("one more"))
    assert events_in(path) == [*map(intent, keys), *map(submitted, keys)]


def test_a_full_disk_stops_the_program_before_any_call(submitting: Program, sandbox: Sandbox, small_disk: Path) -> None:
    """One sentence, exit status 3, and the same command goes on once there is room."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b", "c"]))
    filler = fill(small_disk)
    ledger = small_disk / "l.jsonl"
    ended = submitting.run("submit", "jobs.csv", "--ledger", ledger)
    assert ended.status == 3
    assert "No space left on device" in ended.stderr
    assert sandbox.calls() == 0
    filler.unlink()
    assert submitting.run("submit", "jobs.csv", "--ledger", ledger).status == 0
    assert sorted(sandbox.names()) == ["a", "b", "c"]


def test_a_read_only_file_system_is_a_usage_error(small_disk: Path) -> None:
    """Whether or not the ledger is there already."""
    (small_disk / "ledger.jsonl").write_bytes(encode_line(intent("a")))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("ledger.jsonl", "new.jsonl"):
        with pytest.raises(UsageError, match="cannot be opened for writing: Read-only file system"):
            LedgerFile(small_disk / name).open()


def test_a_read_only_file_is_a_usage_error(tmp_path: Path) -> None:
    """For everybody but root."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(encode_line(intent("a")))
    path.chmod(0o444)
    if os.access(path, os.W_OK):
        pytest.skip("root may write to a read-only file")
    with pytest.raises(UsageError, match="Permission denied"):
        LedgerFile(path).open()


class FailingFile(LedgerFile):
    """A ledger file whose disk gives up after some groups."""

    def __init__(self, path: Path, *, good_groups: int) -> None:
        super().__init__(path)
        self.good_groups = good_groups
        self.tried = 0

    def append(self, data: bytes) -> None:
        """Write, as long as the disk does."""
        self.tried += 1
        if self.tried > self.good_groups:
            raise StoppedError(f"the ledger cannot be written: {os.strerror(errno.EIO)}")
        super().append(data)


async def test_an_io_error_reaches_whoever_waits_and_every_later_intent(tmp_path: Path) -> None:
    """No call is made on a promise that was not kept."""
    file = FailingFile(tmp_path / "ledger.jsonl", good_groups=1)
    ledger = FileLedger(file, file.open())
    writer = asyncio.create_task(ledger.write_groups())
    await ledger.put(intent("a"))
    for event in (submitted("a"), intent("b")):
        with pytest.raises(StoppedError, match="Input/output error"):
            await ledger.put(event)
    tried = file.tried
    with pytest.raises(StoppedError, match="Input/output error"):
        await ledger.put(intent("c"))
    assert file.tried == tried
    assert ledger.failure is not None
    ledger.close()
    await writer
    assert events_in(tmp_path / "ledger.jsonl") == [intent("a")]


async def test_an_io_error_reaches_all_of_a_group(tmp_path: Path) -> None:
    """Nobody is told that a line is there which is not."""
    file = FailingFile(tmp_path / "ledger.jsonl", good_groups=0)
    ledger = FileLedger(file, file.open())
    writer = asyncio.create_task(ledger.write_groups())
    results = await asyncio.gather(*(ledger.put(intent(str(n))) for n in range(20)), return_exceptions=True)
    assert all(isinstance(result, StoppedError) for result in results)
    ledger.close()
    await writer


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_ledger_that_is_deleted_or_replaced_stops_the_run_and_loses_nothing(
    tmp_path: Path, is_replaced: bool
) -> None:
    """The next intent is refused; the outcomes of calls under way are kept beside it."""
    path = tmp_path / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.put(intent("a"))
        path.unlink()
        if is_replaced:
            path.write_bytes(b"")
        with pytest.raises(StoppedError, match="replaced" if is_replaced else "deleted"):
            await ledger.put(intent("b"))
        with pytest.raises(StoppedError):
            await ledger.put(intent("c"))
        await ledger.put(submitted("a"))
    assert not is_replaced or path.read_bytes() == b""
    assert events_in(rescued_beside(path)) == [intent("a"), submitted("a")]


async def test_whoever_waits_hears_of_what_was_not_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is written after it: nobody knows what is in the file by then."""

    def fail(_: LedgerFile, __: bytes) -> None:
        raise MemoryError

    async with asyncio.timeout(20), open_ledger(tmp_path / "ledger.jsonl") as ledger:
        await ledger.put(intent("a"))
        with monkeypatch.context() as patch:
            patch.setattr(LedgerFile, "append", fail)
            with pytest.raises(StoppedError, match="cannot be written: MemoryError"):
                await ledger.put(submitted("a"))
        with pytest.raises(StoppedError):
            await ledger.put(submitted("a"))
        with pytest.raises(StoppedError):
            await ledger.put(intent("b"))
    assert events_in(tmp_path / "ledger.jsonl") == [intent("a")]


@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_run_whose_ledger_went_after_its_last_call_does_not_end_well(tmp_path: Path, is_cut: bool) -> None:
    """There is no next intent that could be refused; without a word the next run would submit all of it again."""
    path = tmp_path / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.put(intent("a"))
        if is_cut:
            os.truncate(path, 0)
        else:
            path.unlink()
        await ledger.put(submitted("a"))
        with pytest.raises(StoppedError, match="cut short" if is_cut else "deleted"):
            await ledger.put(RunEnded(at=AT, run="r", exit_status=0, reason="", counts={}))


def test_a_deleted_ledger_stops_the_program_and_can_be_put_back(submitting: Program, sandbox: Sandbox) -> None:
    """It says what happened and where all of it is kept; with that in its place the next run sends nothing twice."""
    names = [str(number) for number in range(100)]
    (submitting.folder / "jobs.csv").write_text(csv_text(names))
    path = submitting.folder / "jobs.ledger.jsonl"
    with submitting.running("submit", "jobs.csv", "--rate", 40) as process:
        while len(sandbox.names()) < 5:
            assert process.poll() is None
            os.sched_yield()
        path.unlink()
        ended = finish(process)
    assert ended.status == 4
    assert "was deleted" in ended.stderr
    assert len(sandbox.names()) < 100
    rescued = rescued_beside(path)
    assert rescued.name in ended.stderr
    rescued.rename(path)
    assert submitting.run("submit", "jobs.csv").status == 0
    assert sorted(sandbox.names()) == sorted(names)


HOLD = """
import sys
from pathlib import Path
from batchsubmit.core.jobs import RunStarted
from batchsubmit.ledger.lines import encode_line
from batchsubmit.ledger.file import LedgerFile
file = LedgerFile(Path(sys.argv[1]))
file.open()
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_that_holds_the_lock_is_named_and_its_death_frees_it(tmp_path: Path) -> None:
    """Even by kill -9: a lock left by a dead process never blocks."""
    path = tmp_path / "ledger.jsonl"
    started = RunStarted(
        at=AT, run="run-1", batch="", manifest="m", manifest_sha256="0", version="0", holder="process 7 on host"
    )
    path.write_bytes(encode_line(started) + encode_line(intent("a")))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError, match=r"in use by run run-1 \(process 7 on host"):
            LedgerFile(path).open()
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        file = LedgerFile(path)
        assert [state.phase for state in file.open()] == [Phase.INTENT]
        file.close()
