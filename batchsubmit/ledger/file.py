"""The ledger as a JSONL file with group commit: all that wait at one moment share one write and one fsync.

The event loop never blocks on the disk: a single thread writes, and while it does, the next group gathers.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchsubmit.core.jobs import Event, Intent, RunEnded
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import Claim, Mine, Taken
from batchsubmit.ledger.codec import encode_line
from batchsubmit.ledger.storage import LedgerFile

_ASK_AGAIN_SECONDS = 1.0


class SoleWriter:
    """The part of a `Ledger` that is about whose a job is."""

    is_shared = False

    def __init__(self, book: LedgerState) -> None:
        self.book = book
        self._in_hand: set[str] = set()

    async def claim(self, key: str) -> Claim:
        """Take a job in hand."""
        if key in self._in_hand:
            return Taken("this run", _ASK_AGAIN_SECONDS)
        self._in_hand.add(key)
        return Mine(self.book.get(key))

    def holds(self, key: str) -> bool:
        """Nobody else writes here."""
        del key
        return True

    def let_go(self, key: str) -> None:
        """Give up a job."""
        self._in_hand.discard(key)

    async def recall(self, keys: Iterable[str]) -> None:
        """Do nothing: the book has all jobs."""

    async def states(self, keys: Collection[str]) -> dict[str, JobState]:
        """Where these jobs stand by the book."""
        return {key: state for key in keys if (state := self.book.get(key)) is not None}

    async def claims(self, arns: Collection[str]) -> dict[str, str]:
        """Which of these ARNs the ledger knows, and whose they are."""
        return self.book.claims(arns)


@dataclass(frozen=True, slots=True)
class _Entry:
    line: bytes
    durable: asyncio.Future[None] | None
    intent: Intent | None = None
    before: JobState | None = None
    ends_run: bool = False


class FileLedger(SoleWriter):
    """Records events in a file; use `open_ledger`, which also closes it."""

    def __init__(self, file: LedgerFile, book: LedgerState) -> None:
        super().__init__(book)
        self._file = file
        self._gathering: list[_Entry] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._failure: StoppedError | None = None
        self._broken: StoppedError | None = None  # by something that was not foreseen; nothing is written any more

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; the returned future resolves once it is on the disk."""
        durable = asyncio.get_running_loop().create_future()
        self._gather(event, durable)
        return durable

    def note(self, event: Event) -> None:
        """Record an event with the next group, without waiting for it."""
        self._gather(event, None)

    def _gather(self, event: Event, durable: asyncio.Future[None] | None) -> None:
        if self._failure is not None and isinstance(event, Intent):
            raise StoppedError(str(self._failure))
        if isinstance(event, Intent):
            entry = _Entry(encode_line(event), durable, event, self.book.get(event.job))
        else:
            entry = _Entry(encode_line(event), durable, ends_run=isinstance(event, RunEnded))
        self._gathering.append(entry)
        self.book.apply(event)
        self._wake.set()

    async def write_groups(self) -> None:
        """Write group after group until `close` was called and nothing is left."""
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._gathering):
            await self._wake.wait()
            self._wake.clear()
            group, self._gathering = self._gathering, []
            if group and self._broken is None:
                try:
                    await loop.run_in_executor(self._thread, self._commit, group, loop)
                except Exception as exc:  # noqa: BLE001 (whatever it is: who waits must hear of it, or waits for ever)
                    self._broken = StoppedError(f"the ledger cannot be written: {type(exc).__name__}: {exc}")
            if group and self._broken is not None:
                self._fail(group, self._broken)

    def _commit(self, group: list[_Entry], loop: asyncio.AbstractEventLoop) -> None:
        """Write one group. Runs in the ledger's thread; tells the waiters through the loop."""
        calls_to_come = [entry for entry in group if entry.intent]
        if calls_to_come:
            try:
                self._file.reserve(sum(len(entry.line) for entry in group))
            except StoppedError as exc:
                loop.call_soon_threadsafe(self._fail, calls_to_come, exc)
                group = [entry for entry in group if not entry.intent]
        if not group:
            return
        try:
            self._file.append(b"".join([entry.line for entry in group]))
        except StoppedError as exc:
            loop.call_soon_threadsafe(self._fail, group, exc)
        else:
            if self._file.displaced is not None:
                # All is written, but not where the next run looks: the last who can tell must not say that all is well.
                ends = [entry for entry in group if entry.ends_run]
                loop.call_soon_threadsafe(self._fail, ends, StoppedError(self._file.displaced))
            loop.call_soon_threadsafe(_settle, group)

    def _fail(self, group: list[_Entry], exc: StoppedError) -> None:
        self._failure = exc
        for entry in group:
            if entry.intent is not None:
                self.book.restore(entry.intent.job, entry.before)
            if entry.durable is not None and not entry.durable.done():
                entry.durable.set_exception(StoppedError(str(exc)))

    def close(self) -> None:
        """Let `write_groups` end once all is written."""
        self._closing = True
        self._wake.set()

    @property
    def failure(self) -> StoppedError | None:
        """Why the ledger can no longer be relied on, if it cannot."""
        return self._failure

    @property
    def trouble(self) -> str:
        """The same in words, for those who ask how it is."""
        return str(self._failure or "")

    def release(self) -> None:
        """End the thread, then close and unlock the file."""
        self._thread.shutdown(wait=True)
        self._file.close()


def _settle(group: list[_Entry]) -> None:
    for entry in group:
        if entry.durable is not None and not entry.durable.done():
            entry.durable.set_result(None)


@asynccontextmanager
async def open_ledger(path: Path, *, concurrency: int = 32) -> AsyncIterator[FileLedger]:
    """Open, lock and read a ledger file; write out what is left and unlock it at the end.

    Raises UsageError, LedgerError (see `storage.LedgerFile.open`).
    """
    file = LedgerFile(path, headroom_bytes=max(1 << 16, concurrency << 11))
    async with _writing(file, await _open_in_thread(file)) as ledger:
        yield ledger


async def _open_in_thread(file: LedgerFile) -> LedgerState:
    """Open a file in a thread, which cannot be cancelled: what it opens for nobody is closed once it has."""
    opened = asyncio.get_running_loop().run_in_executor(None, file.open)
    try:
        return await asyncio.shield(opened)
    except asyncio.CancelledError:
        opened.add_done_callback(partial(_close_unused, file))
        raise


def _close_unused(file: LedgerFile, opened: "asyncio.Future[LedgerState]") -> None:
    if not opened.cancelled():
        opened.exception()  # nobody wants to hear of it any more
    file.close()


@asynccontextmanager
async def _writing(file: LedgerFile, book: LedgerState) -> AsyncIterator[FileLedger]:
    ledger = FileLedger(file, book)
    writer = asyncio.create_task(ledger.write_groups(), name="ledger writer")
    try:
        yield ledger
    finally:
        ledger.close()
        # Shielded: a second signal cancels us here, and what has happened must still be written down.
        try:
            await asyncio.shield(writer)
        finally:
            if writer.done():
                ledger.release()
            else:
                writer.add_done_callback(lambda _: ledger.release())
