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


@dataclass(frozen=True, slots=True, eq=False)
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
            failed, reason = group, self._broken
            try:
                if reason is None:
                    failed, reason = await loop.run_in_executor(self._thread, self._commit, group)
            except Exception as exc:  # noqa: BLE001 (whatever it is: a waiter that is not answered never ends)
                reason = self._broken = StoppedError(f"the ledger cannot be written: {type(exc).__name__}: {exc}")
            for line in group:
                self._answer(line, reason if line in failed else None)

    def _commit(self, group: list[_Line]) -> tuple[list[_Line], StoppedError | None]:
        """Write one group, in the ledger's thread; give those of its lines that do not count as written, and why."""
        failed: list[_Line] = []
        reason: StoppedError | None = None
        intents = [line for line in group if isinstance(line.event, Intent)]
        try:
            if intents:
                self._file.reserve(sum(len(line.data) + CHAIN_LENGTH for line in group))
        except StoppedError as exc:
            failed, reason = intents, exc
        try:
            if to_write := [line.data for line in group if line not in failed]:
                self._file.append_lines(to_write)
        except StoppedError as exc:
            return group, exc
        if self._file.displaced is not None:
            # All is written, but not where the next run looks: the run's end must not say that all is well.
            reason = LostLedgerError(self._file.displaced)
            failed = [*failed, *(line for line in group if isinstance(line.event, RunEnded))]
        return failed, reason

    def _answer(self, line: _Line, reason: StoppedError | None) -> None:
        if reason is not None:
            self.failure = reason
            if isinstance(line.event, Intent):
                self.state.restore(line.event.job, line.before)
        if line.durable is None or line.durable.done():
            return
        if reason is None:
            line.durable.set_result(None)
        else:
            line.durable.set_exception(reason)

    def close(self) -> None:
        """Let `write_groups` end once all is written."""
        self._closing = True
        self._wake.set()

    def close_file(self) -> None:
        """End the thread, then close and unlock the file."""
        self._thread.shutdown(wait=True)
        self._file.close()


@asynccontextmanager
async def open_ledger(path: Path, *, concurrency: int = 32) -> AsyncIterator[FileLedger]:
    """Open, lock and read a ledger file; write out what is left and unlock it at the end.

    Raises UsageError, LedgerError (see `storage.LedgerFile.open`).
    """
    file = LedgerFile(path, headroom_bytes=max(1 << 16, concurrency << 11))
    opening = asyncio.get_running_loop().run_in_executor(None, file.open)
    try:
        ledger = FileLedger(file, await asyncio.shield(opening))
    except asyncio.CancelledError:  # a thread cannot be cancelled: the file is closed as soon as it is open
        opening.add_done_callback(partial(_close_unused, file))
        raise
    writer = asyncio.create_task(ledger.write_groups(), name="ledger writer")
    writer.add_done_callback(lambda _: ledger.close_file())
    try:
        yield ledger
    finally:
        ledger.close()
        # Shielded: a second signal cancels us here, and what has happened must still be written down.
        await asyncio.shield(writer)


def _close_unused(file: LedgerFile, opened: "asyncio.Future[LedgerState]") -> None:
    if not opened.cancelled():
        opened.exception()  # fetched, or asyncio complains that nobody did
    file.close()
