"""The ledger as a JSONL file with group commit: all that wait at one moment share one write and one fsync.

The event loop never blocks on the disk: a single thread writes, and while it does, the next group gathers.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchsubmit.core.jobs import Event, Intent, RunEnded
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import JobState
from batchsubmit.errors import LostLedgerError, StoppedError
from batchsubmit.ledger.base import SoleWriter
from batchsubmit.ledger.codec import CHAIN_LENGTH, encode_line
from batchsubmit.ledger.storage import LedgerFile


@dataclass(frozen=True, slots=True)
class _Line:
    """A line to write, and who waits for it. `before` is the job's state before an intent, to undo it."""

    event: Event
    data: bytes
    durable: asyncio.Future[None] | None
    before: JobState | None = None


class FileLedger(SoleWriter):
    """Records events in a file; use `open_ledger`, which also closes it.

    `failure` says why the ledger can no longer be relied on, if it cannot.
    """

    def __init__(self, file: LedgerFile, state: LedgerState) -> None:
        super().__init__(state)
        self._file = file
        self._gathering: list[_Line] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self.failure: StoppedError | None = None
        self._broken: StoppedError | None = None  # by something that was not foreseen; nothing is written any more

    @property
    def trouble(self) -> str:
        """The failure in words, for health checks."""
        return str(self.failure or "")

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; the returned future resolves once it is on the disk."""
        self.refuse_claimed(event)
        durable = asyncio.get_running_loop().create_future()
        self._gather(event, durable)
        return durable

    def note(self, event: Event) -> None:
        """Record an event with the next group, without waiting for it."""
        self._gather(event, None)

    def _gather(self, event: Event, durable: asyncio.Future[None] | None) -> None:
        before = None
        if isinstance(event, Intent):
            if self.failure is not None:
                raise self.failure
            before = self.state.get(event.job)
        self._gathering.append(_Line(event, encode_line(event), durable, before))
        self.state.apply(event)
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
                except Exception as exc:  # noqa: BLE001 (whatever it is: a waiter that is not answered never ends)
                    self._broken = StoppedError(f"the ledger cannot be written: {type(exc).__name__}: {exc}")
            if group and self._broken is not None:
                self._fail(group, self._broken)

    def _commit(self, group: list[_Line], loop: asyncio.AbstractEventLoop) -> None:
        """Write one group. Runs in the ledger's thread; answers the waiters through the loop."""
        calls_to_come = [line for line in group if isinstance(line.event, Intent)]
        if calls_to_come:
            try:
                self._file.reserve(sum(len(line.data) + CHAIN_LENGTH for line in group))
            except StoppedError as exc:
                loop.call_soon_threadsafe(self._fail, calls_to_come, exc)
                group = [line for line in group if not isinstance(line.event, Intent)]
        if not group:
            return
        try:
            self._file.append_lines([line.data for line in group])
        except StoppedError as exc:
            loop.call_soon_threadsafe(self._fail, group, exc)
            return
        if self._file.displaced is not None:
            # All is written, but not where the next run looks: the run's end must not say that all is well.
            ends = [line for line in group if isinstance(line.event, RunEnded)]
            loop.call_soon_threadsafe(self._fail, ends, LostLedgerError(self._file.displaced))
        loop.call_soon_threadsafe(_confirm, group)

    def _fail(self, group: list[_Line], exc: StoppedError) -> None:
        self.failure = exc
        for line in group:
            if isinstance(line.event, Intent):
                self.state.restore(line.event.job, line.before)
            if line.durable is not None and not line.durable.done():
                line.durable.set_exception(exc)

    def close(self) -> None:
        """Let `write_groups` end once all is written."""
        self._closing = True
        self._wake.set()

    def close_file(self) -> None:
        """End the thread, then close and unlock the file."""
        self._thread.shutdown(wait=True)
        self._file.close()


def _confirm(group: list[_Line]) -> None:
    for line in group:
        if line.durable is not None and not line.durable.done():
            line.durable.set_result(None)


@asynccontextmanager
async def open_ledger(path: Path, *, concurrency: int = 32) -> AsyncIterator[FileLedger]:
    """Open, lock and read a ledger file; write out what is left and unlock it at the end.

    Raises UsageError, LedgerError (see `storage.LedgerFile.open`).
    """
    file = LedgerFile(path, headroom_bytes=max(1 << 16, concurrency << 11))
    ledger = FileLedger(file, await _open_in_thread(file))
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
                ledger.close_file()
            else:
                writer.add_done_callback(lambda _: ledger.close_file())


async def _open_in_thread(file: LedgerFile) -> LedgerState:
    """Open a file in a thread, which cannot be cancelled: if this is, the file is closed as soon as it is open."""
    opened = asyncio.get_running_loop().run_in_executor(None, file.open)
    try:
        return await asyncio.shield(opened)
    except asyncio.CancelledError:
        opened.add_done_callback(partial(_close_unused, file))
        raise


def _close_unused(file: LedgerFile, opened: "asyncio.Future[LedgerState]") -> None:
    if not opened.cancelled():
        opened.exception()  # fetched, or asyncio complains that nobody did
    file.close()
