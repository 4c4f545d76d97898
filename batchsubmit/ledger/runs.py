"""The runs in the table: each an item with its first line and its last."""

from collections.abc import Iterable
from contextlib import suppress

from batchsubmit.core.jobs import RunEnded, RunStarted
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.items import FORMAT, TABLE_ADDRESS, line_of, read_run, run_address
from batchsubmit.ledger.table import Change, ConflictError, Table


class Runs:
    """Writes the beginning and the end of this process's run."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._current: RunStarted | None = None

    async def write(self, event: RunStarted | RunEnded) -> None:
        """Write a run's beginning, or the end of the run that was begun last. Raises StoppedError."""
        if isinstance(event, RunStarted):
            self._current = event
            await self._mark_first(event)
        if self._current is None:
            raise StoppedError(f"run {event.run} ended without a beginning")
        name, follows = ("started", 0) if isinstance(event, RunStarted) else ("ended", 1)
        try:
            await self._table.write(run_address(self._current), follows, Change(set={name: line_of(event)}))
        except ConflictError as exc:
            raise StoppedError(f"run {event.run} stands in the ledger already") from exc

    async def import_all(self, events: Iterable[RunStarted | RunEnded]) -> None:
        """Write the runs of another ledger, as far as they are not there. Raises StoppedError."""
        for event in events:
            if isinstance(event, RunStarted):
                self._current = event
                await self._mark_first(event)
            if self._current is not None and event.run == self._current.run:
                name, follows = ("started", 0) if isinstance(event, RunStarted) else ("ended", 1)
                with suppress(ConflictError):
                    await self._table.write(run_address(self._current), follows, Change(set={name: line_of(event)}))

    async def first(self) -> RunStarted | None:
        """The run that was begun first."""
        item = await self._table.get(TABLE_ADDRESS)
        runs = read_run(item) if item else []
        return runs[0] if runs and isinstance(runs[0], RunStarted) else None

    async def _mark_first(self, started: RunStarted) -> None:
        """Note on the table what its first run was; the others are made against the same service."""
        item = await self._table.get(TABLE_ADDRESS)
        if item is not None and "started" in item:
            return
        change = Change(set={"format": FORMAT, "started": line_of(started)})
        try:
            await self._table.write(TABLE_ADDRESS, int(str(item["version"])) if item else 0, change)
        except ConflictError:
            return
