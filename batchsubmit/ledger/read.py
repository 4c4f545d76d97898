"""The one way in which commands read a ledger, wherever it is: location in, events out, in order for each job.

Nothing is locked: a ledger is read also while runs write to it.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from batchsubmit.core.jobs import Event, RunEnded, RunStarted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.items import JOB, RUNS, JobRow, Table, events_of, page_address, run_events
from batchsubmit.ledger.lines import Chain, LineDamagedError, decode_line, require_ledger
from batchsubmit.ledger.location import Location, TableLocation

_Result = TypeVar("_Result")


class DamagedLineError(LedgerError):
    """A line of a ledger file is not what was once written."""

    def __init__(self, path: Path, number: int, reason: LineDamagedError) -> None:
        super().__init__(
            f"line {number} of the ledger {path} was written by a newer version; update batchsubmit: {reason}"
            if reason.is_newer
            else f"the ledger {path} is damaged at line {number}: {reason}. Restore the file from a copy, then run "
            "batchsubmit verify --repair on it; without a copy, it rebuilds the file from whole lines and the service"
        )
        self.number = number
        self.reason = reason


def read_events(file: BinaryIO, path: Path, chain: Chain) -> Iterator[Event]:
    """Yield the event of each whole line that follows those of `chain`. Raises DamagedLineError.

    A last line without a newline is left out: a run may be writing it just now, or a crash tore it.
    """
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            event = decode_line(line)
            chain.follow(line)
        except LineDamagedError as exc:
            raise DamagedLineError(path, chain.count + 1, exc) from exc
        yield event


@contextmanager
def open_to_read(path: Path) -> Iterator[BinaryIO]:
    """Open a ledger file. Raises UsageError where it is no ledger, or cannot be read."""
    require_ledger(path)
    try:
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise UsageError(f"the ledger {path} cannot be read: {exc.strerror}") from exc


def read_ledger(
    location: Location, *, region: str | None = None, warn: Callable[[str], None] | None = None
) -> Iterator[Event]:
    """Yield the events of a file in the order of its lines, or of a table by time. `region` is a table's.

    For who only reports, `warn` gets a sentence on a file's last line that was left out, also where that is damaged.
    Raises UsageError where it cannot be read, LedgerError where it is damaged, StoppedError where DynamoDB fails.
    """
    if not isinstance(location, Path):
        yield from by_time(_read_table(location, region))
        return
    chain, why = Chain(), "not whole"
    with open_to_read(location) as file:
        try:
            yield from read_events(file, location, chain)
        except DamagedLineError as exc:
            if warn is None or exc.reason.is_newer or file.readline():
                raise
            why = f"damaged ({exc.reason})"
        if warn and file.tell() > chain.size:
            warn(f"line {chain.count + 1}, the last one, is {why} and was left out")


def _read_table(location: TableLocation, region: str | None) -> list[Event]:
    from batchsubmit.ledger.dynamodb import open_table  # noqa: PLC0415 (botocore takes a fifth of a second)

    async def read() -> list[Event]:
        async with open_table(location.table, region=region, concurrency=1) as table:
            return await table_events(table, str(location))

    return run_blocking(read())


def run_blocking(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run it in a thread, since the caller, a notebook perhaps, may have an event loop of its own.

    Where the caller is interrupted meanwhile, cancel it and wait until it has ended in good order.
    """
    began: Future[Callable[[], object]] = Future()

    async def main() -> _Result:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine always runs in a task)
        began.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="batchsubmit") as pool:
        result = pool.submit(copy_context().run, asyncio.run, main())
        try:
            return result.result()
        except BaseException:
            if not result.done():  # it is the wait that was interrupted, not the work that failed
                began.result()()
            raise


async def table_events(table: Table, name: str) -> list[Event]:
    """Read the events of all runs, and those of each job in their order. Raises LedgerError (damaged), StoppedError.

    Every read is consistent, so each job's events are whole and in order as of the moment at which its item was read.
    """
    items = {address: item async for page in table.scan() for address, item in page.items()}
    events: list[Event] = []
    for address, item in items.items():
        if address.pk == RUNS:
            events += run_events(item, f"run {address.sk} in {name}")
        elif address.sk == JOB:
            row = JobRow.read(address.pk.removeprefix("job#"), item)
            lines: list[str] = []
            for start, end in pairwise((0, *row.pages)):
                place = page_address(row.key, start, end)
                page = items.get(place) or await table.get(place)  # the scan may have passed its place before
                if page is None or len(page.get("lines", ())) != end - start:
                    raise LedgerError(f"the ledger {name} lacks events {start + 1} to {end} of job {row.key}")
                lines += page["lines"]
            events += events_of([*lines, *row.lines], f"job {row.key} in {name}")
    return events


def by_time(events: Iterable[Event]) -> list[Event]:
    """Order a table's events by time, but none before an earlier one of its job: clocks differ, and step.

    The last run that has not ended counts as the only one in progress. Its beginning comes after those of all other
    runs and before what was done to jobs since, by any run: they work on the same jobs.
    """
    events = list(events)
    ended = {event.run for event in events if isinstance(event, RunEnded)}
    begun = [event for event in events if isinstance(event, RunStarted) and event.run not in ended]
    last = max(begun, key=lambda event: event.at, default=None)
    latest: dict[str, str] = {}

    def position(event: Event) -> tuple[str, int]:
        if not isinstance(event, RunStarted | RunEnded):
            at = latest[event.job] = max(event.at, latest.get(event.job, ""))
            return at, 2
        return (event.at, 1) if last is None or event is last else (min(event.at, last.at), 0)

    return sorted(events, key=position)


def fold_ledger(location: Location, *, region: str | None = None) -> LedgerState:
    """Fold all events of a ledger. Raises as `read_ledger` does."""
    return LedgerState.of(read_ledger(location, region=region))


def read_whole_lines(path: Path) -> Iterator[Event]:
    """Yield the events of a damaged file that are whole, whatever is between them. Raises DamagedLineError (newer)."""
    with open_to_read(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decode_line(line)
            except LineDamagedError as exc:
                if exc.is_newer:
                    raise DamagedLineError(path, number, exc) from exc


class Tail:
    """The feed (see `observers.progress`) of a ledger file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beginnings = 1
        self._chain = Chain()
        self._inode = -1

    def poll(self) -> Iterator[Event]:
        """Yield what was appended since the last poll. Raises OSError, DamagedLineError.

        Starts over where the file was replaced, or cut off before what we read: a write that failed is taken back.
        """
        with self.path.open("rb") as file:
            now = os.fstat(file.fileno())
            if self._chain.size and (now.st_ino != self._inode or now.st_size < self._chain.size):
                self._start_over()
            self._inode, before = now.st_ino, self._chain.size
            try:
                file.seek(self._chain.size)
                yield from read_events(file, self.path, self._chain)
            except DamagedLineError:
                if not before or self._chain.size != before:
                    raise
                # What was read may have been taken back and written over since: read all of it once more.
                self._start_over()
                file.seek(0)
                yield from read_events(file, self.path, self._chain)

    def _start_over(self) -> None:
        self.beginnings += 1
        self._chain = Chain()


@dataclass
class TableFollower:
    """The feed (see `observers.progress`) of a table."""

    location: TableLocation
    region: str | None
    beginnings: int = 1

    def poll(self) -> Iterator[Event]:
        """Yield all events there are. Raises UsageError, LedgerError, StoppedError."""
        self.beginnings += 1
        yield from read_ledger(self.location, region=self.region)
