"""The ledger as a JSONL file: locked, read, its torn end cut off, and appended to with group commit.

What must hold: `append` returns only when the bytes are on the disk; a failed `fsync` is never tried again (the kernel
may have dropped the pages it could not write, so a second one would lie); room for the outcomes of calls in progress is
reserved before an intent is written, so that a full disk stops a run before a call and not after one. The event loop
never blocks on the disk: a single thread writes, and while it does, the next group gathers, to share a write and an
fsync.
"""

import asyncio
import ctypes
import errno
import fcntl
import glob
import os
import shlex
import stat
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from batchsubmit.core.job_states import JobState
from batchsubmit.core.jobs import Event, Intent, RunEnded
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import BatchsubmitError, LedgerError, LostLedgerError, StoppedError, UsageError
from batchsubmit.ledger.base import Ledger, resolve
from batchsubmit.ledger.lines import CHAIN_LENGTH, Chain, LineDamagedError, decode_line, encode_line
from batchsubmit.ledger.read import DamagedLineError, open_to_read, read_events


def _beside(path: Path, why: str) -> Path:
    """Name a file beside the ledger for what must not be lost."""
    return path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")


def _put_back(rescued: Path, path: Path) -> str:
    """The command that makes a saved ledger the ledger again; what has its name now is kept."""
    return f"mv{' --backup' if path.exists() else ''} {shlex.quote(str(rescued))} {shlex.quote(str(path))}"


def _open_regular(path: Path) -> int:
    """Open a regular file to append to; the name of a new one is durable. Raises UsageError."""
    created = not path.exists()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as exc:
        raise UsageError(f"the ledger {path} cannot be opened for writing: {exc.strerror}") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"the ledger {path} is not a regular file; give --ledger a file's path")
    if created:
        sync_folder(path.parent)
    return fd


def sync_folder(folder: Path) -> None:
    """Make a new file's name durable, not only its content."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_ledger(path: Path, lines: Iterable[bytes]) -> None:
    """Write a new ledger, which has its name only once it is whole. Raises OSError."""
    unfinished = path.with_name(f"{path.name}.partial")
    with unfinished.open("wb") as file:
        file.write(Chain().link(lines))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_folder(path.parent)


def rebuild(path: Path, events: Iterable[Event]) -> None:
    """Put these events in place of a damaged ledger, which is kept beside it. Raises UsageError, LedgerError."""
    with keep_runs_off(path):
        try:
            os.link(path, _beside(path, "damaged"))
            write_ledger(path, map(encode_line, events))
        except OSError as exc:
            raise UsageError(f"the ledger {path} cannot be rebuilt: {exc.strerror}") from exc


def _write_all(fd: int, data: bytes) -> None:
    """Write all of it, in as many steps as the system takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def lock(fd: int, *, is_shared: bool = False) -> bool:
    """Take the ledger's lock, or say that a run has it. It goes with the file descriptor, however the process ends."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise LedgerError(
            f"the ledger cannot be locked: {exc.strerror}; its file system has no locks: give --ledger a path on "
            "another disk, or a table (dynamodb://)"
        ) from exc
    return True


_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "lustre", "gluster")


def shared_file_system(folder: Path) -> str:
    """The kind of a folder's file system, if its locks may not hold between machines; else, and off Linux, empty."""
    device = folder.stat().st_dev
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = next((line.split(" - ")[1].split()[0] for line in mounts if line.split()[2] == number), "")
    return kind if kind.startswith(_SHARED) else ""


def lock_holder(state: LedgerState) -> str:
    """Name the run that has a locked ledger, from its own first line."""
    run = state.open_run
    return f"run {run.run} ({run.holder}, since {run.at})" if run else "another process"


def holding_run(path: Path, state: LedgerState) -> str:
    """Name the run that has the ledger and writes to it; empty where none does. `state` was just read from the file.

    The lock is asked for only where the last run has no end, and shared, so that it is given back before a run that
    starts at the same moment is likely to meet it. Raises OSError.
    """
    if state.open_run is None:
        return ""
    with path.open("rb") as file:
        return "" if lock(file.fileno(), is_shared=True) else lock_holder(state)


@contextmanager
def keep_runs_off(path: Path) -> Iterator[BinaryIO]:
    """Read a file to which no run writes meanwhile. Raises UsageError, LedgerError where one does."""
    with open_to_read(path) as file:
        if not lock(file.fileno(), is_shared=True):
            raise LedgerError(f"a run writes to {path}; wait for it to end, then run this again")
        yield file


_FALLOC_FL_KEEP_SIZE = 1
_COPY_BYTES = 1 << 20
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class LedgerFile:
    """One ledger file; `displaced` says why its lines are elsewhere, `broken` why none can be written any more."""

    def __init__(self, path: Path, *, headroom_bytes: int = 1 << 16) -> None:
        self.path = path
        self.chain = Chain()
        self.displaced = ""
        self.broken: StoppedError | None = None
        self._headroom_bytes = headroom_bytes
        self._fd = -1
        self._is_ours = False
        self._size = 0  # of what is surely in the file

    def open(self) -> LedgerState:
        """Lock the file, creating it if need be, and read it; cut off and keep aside a torn last line.

        Raises UsageError where it cannot be opened, LedgerError where it is in use, damaged, or was saved elsewhere.
        """
        for rescued in sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.rescued-*")):
            raise LedgerError(
                f"the ledger {self.path} went away under a run, which saved it as {rescued}: without it, jobs would be "
                f"submitted once more. Put it back: {_put_back(rescued, self.path)}"
            )
        self._fd = _open_regular(self.path)
        try:
            self._lock()
            state = self._read()
            self._close_last_line(state)
        except BaseException:
            self.close()
            raise
        return state

    def _lock(self) -> None:
        self._is_ours = lock(self._fd)
        if self._is_ours:
            return
        state = LedgerState()
        with suppress(LedgerError, OSError):
            state = self._read()
        raise LedgerError(
            f"the ledger {self.path} is in use by {lock_holder(state)}; wait for it to end, "
            "or give this run another --ledger"
        )

    def _read(self) -> LedgerState:
        self.chain = Chain()
        with self.path.open("rb") as file:
            return LedgerState.of(read_events(file, self.path, self.chain))

    def _close_last_line(self, state: LedgerState) -> None:
        """Cut off a torn last line; one that lacks no more than its newline is true, and counts."""
        self._size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, self._size - self.chain.size, self.chain.size)
        if not tail:
            return
        try:
            event = decode_line(tail)
            self.chain.follow(tail)
        except LineDamagedError as exc:
            if not exc.is_torn:
                raise DamagedLineError(self.path, self.chain.count + 1, exc) from exc
            _beside(self.path, "torn").write_bytes(tail)
            self._size -= len(tail)
            os.ftruncate(self._fd, self._size)
            os.fsync(self._fd)
        else:
            self.append(b"\n")
            state.apply(event)

    def append_lines(self, lines: Sequence[bytes]) -> None:
        """Write lines so that each names the one before. Raises as `append` does."""
        data = self.chain.link(lines)
        self.append(data)
        for line in data.splitlines(keepends=True):
            self.chain.follow(line)

    def reserve(self, coming_bytes: int) -> None:
        """Make sure that these bytes, which lead to calls, and the outcomes that follow them can be written.

        Raises StoppedError on a full disk, and where someone deleted or replaced the file. A file system that cannot
        reserve is trusted.
        """
        self._check_name()
        if self.displaced:
            raise LostLedgerError(self.displaced)
        libc = ctypes.CDLL(None, use_errno=True)  # Python's own posix_fallocate makes the file longer, for all to see
        start, length = ctypes.c_longlong(self._size), ctypes.c_longlong(coming_bytes + self._headroom_bytes)
        if hasattr(libc, "fallocate") and libc.fallocate(self._fd, _FALLOC_FL_KEEP_SIZE, start, length):
            code = ctypes.get_errno()
            if code not in _CANNOT_RESERVE:
                full = OSError(code, os.strerror(code))
                raise self._stopped(full) from full

    def append(self, data: bytes) -> None:
        """Write bytes and wait for the disk; what was half written is cut off again. Raises StoppedError."""
        if self.broken:
            raise type(self.broken)(str(self.broken))
        self._check_name()
        try:
            _write_all(self._fd, data)
        except OSError as exc:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise self._stopped(exc) from exc
        self._size += len(data)
        try:
            os.fdatasync(self._fd)
        except OSError as exc:
            self.broken = self._stopped(exc)
            raise self.broken from exc

    def _check_name(self) -> None:
        """Notice that the file was deleted or replaced, and save beside it what it held, and what follows."""
        named: os.stat_result | None = None
        with suppress(OSError):
            named = self.path.stat()
        repair = f"run batchsubmit verify --repair {shlex.quote(str(self.path))}"
        if named is not None and os.path.samestat(named, os.fstat(self._fd)):
            if named.st_size < self._size:
                self.displaced = (
                    f"the ledger {self.path} was cut short while this run wrote to it, and no longer knows all jobs "
                    f"that were submitted; no call was made after that. Restore it from a copy, then {repair}, or they "
                    "are submitted once more"
                )
            return
        aside, what = _beside(self.path, "rescued"), "replaced" if named else "deleted"
        self.displaced = (
            f"the ledger {self.path} was {what} while this run wrote to it; no call was made after that, and all that "
            f"it held, with the outcomes of the calls under way, is kept in {aside}. Put it back: "
            f"{_put_back(aside, self.path)}"
        )
        try:
            self._move_to(aside)
        except (OSError, BatchsubmitError) as exc:  # its folder is gone, or may not be written to
            reason = exc.strerror if isinstance(exc, OSError) else exc
            self.broken = LostLedgerError(
                f"the ledger {self.path} was {what} and cannot be saved beside it: {reason}. Restore it from a copy, "
                f"then {repair}"
            )
            raise self.broken from exc

    def _move_to(self, aside: Path) -> None:
        """Copy the whole file and write on there."""
        fd = _open_regular(aside)
        lock(fd)
        for start in range(0, self._size, _COPY_BYTES):
            _write_all(fd, os.pread(self._fd, min(_COPY_BYTES, self._size - start), start))
        os.fsync(fd)
        os.close(self._fd)
        self._fd, self.path = fd, aside

    def _stopped(self, exc: OSError) -> StoppedError:
        return StoppedError(
            f"the ledger {self.path} cannot be written: {exc.strerror}; no call was made after that. "
            "Fix that and run the same command again"
        )

    def close(self) -> None:
        """Give back reserved room and the lock."""
        if self._fd < 0:
            return
        if self._is_ours:  # else another run may be writing, and what it appends just now would be cut off
            with suppress(OSError):
                os.ftruncate(self._fd, os.fstat(self._fd).st_size)
        os.close(self._fd)
        self._fd, self._is_ours = -1, False


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A line to write, and who waits for it. `before` is the job's state before an intent, to undo it."""

    event: Event
    data: bytes
    durable: asyncio.Future[None]
    before: JobState | None = None


class FileLedger(Ledger):
    """Records events in a file; use `open_ledger`, which also closes it."""

    def __init__(self, file: LedgerFile, state: LedgerState) -> None:
        super().__init__(state)
        self._file = file
        self._gathering: list[_Line] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; the returned future resolves once it is on the disk."""
        self.refuse_claimed(event)
        before = None
        if isinstance(event, Intent):
            if self.failure is not None:
                raise self.failure
            before = self.state.get(event.job)
        durable = asyncio.get_running_loop().create_future()
        self._gathering.append(_Line(event, encode_line(event), durable, before))
        self.state.apply(event)
        self._wake.set()
        return durable

    async def write_groups(self) -> None:
        """Write group after group until `close` was called and nothing is left; then close and unlock the file."""
        loop = asyncio.get_running_loop()
        try:
            while not (self._closing and not self._gathering):
                await self._wake.wait()
                self._wake.clear()
                group, self._gathering = self._gathering, []
                failed, reason = await loop.run_in_executor(self._thread, self._commit, group)
                self.failure = reason or self.failure
                for line in group:
                    if line in failed and isinstance(line.event, Intent):
                        self.state.restore(line.event.job, line.before)
                    resolve(line.durable, reason if line in failed else None)
        finally:
            self._thread.shutdown(wait=True)
            self._file.close()

    def _commit(self, group: list[_Line]) -> tuple[set[_Line], StoppedError | None]:
        """Write one group, in the ledger's thread; give those of its lines that do not count as written, and why."""
        failed: set[_Line] = set()
        reason: StoppedError | None = None
        intents = {line for line in group if isinstance(line.event, Intent)}
        try:
            try:
                if intents:
                    self._file.reserve(sum(len(line.data) + CHAIN_LENGTH for line in group))
            except StoppedError as exc:
                failed, reason = intents, exc
            if to_write := [line.data for line in group if line not in failed]:
                self._file.append_lines(to_write)
        except StoppedError as exc:
            return set(group), exc
        except Exception as exc:  # noqa: BLE001 (whatever it is: a waiter that is not answered never ends)
            reason = self._file.broken = StoppedError(f"the ledger cannot be written: {type(exc).__name__}: {exc}")
            return set(group), reason
        if self._file.displaced:
            # All is written, but not where the next run looks: the run's end must not say that all is well.
            reason = LostLedgerError(self._file.displaced)
            failed |= {line for line in group if isinstance(line.event, RunEnded)}
        return failed, reason

    def close(self) -> None:
        """Let `write_groups` end once all is written."""
        self._closing = True
        self._wake.set()


@asynccontextmanager
async def open_ledger(path: Path, *, concurrency: int = 32) -> AsyncIterator[FileLedger]:
    """Open, lock and read a ledger file; write out what is left at the end. Raises as `LedgerFile.open` does."""
    file = LedgerFile(path, headroom_bytes=max(1 << 16, concurrency << 11))
    opening = asyncio.get_running_loop().run_in_executor(None, file.open)
    try:
        ledger = FileLedger(file, await asyncio.shield(opening))
    except asyncio.CancelledError:  # a thread cannot be cancelled: the file is closed as soon as it is open
        opening.add_done_callback(lambda done: None if done.exception() else file.close())
        raise
    writer = asyncio.create_task(ledger.write_groups(), name="ledger writer")
    try:
        yield ledger
    finally:
        ledger.close()
        # Shielded: a second signal cancels us here, and what has happened must still be written down.
        await asyncio.shield(writer)
