"""Opens a ledger for writing wherever it is: assembly of file or table, client, lease."""

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.codec import require_likeness
from batchsubmit.ledger.file import FileLedger, open_ledger
from batchsubmit.ledger.items import FORMAT, TABLE_ADDRESS
from batchsubmit.ledger.leases import LeaseTerms
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.shared import SharedLedger, open_shared
from batchsubmit.ledger.table import Change, ConflictError, Table


@asynccontextmanager
async def open_for_writing(
    location: Location, settings: Settings, *, region: str | None = None, keeps_all: bool = True
) -> AsyncIterator[FileLedger | SharedLedger]:
    """Open a ledger; at the end, write out what is left and give it back.

    Of a table, `keeps_all` says whether the book keeps jobs that were let go: a batch accounts for all of its rows, a
    worker that runs for ever does not. Raises UsageError, LedgerError, StoppedError.
    """
    concurrency = settings.submit.concurrency
    async with AsyncExitStack() as stack:
        if isinstance(location, Path):
            require_likeness(location)
            yield await stack.enter_async_context(open_ledger(location, concurrency=concurrency))
            return
        # aiobotocore takes half a second, which a run with a file would spend for nothing.
        from batchsubmit.ledger.dynamodb import MissingTableError, open_table  # noqa: PLC0415

        terms = lease_terms(settings)
        opening = open_table(location.table, region=region, concurrency=concurrency)
        table = await stack.enter_async_context(opening)
        try:
            await check_format(table, str(location))
        except MissingTableError as exc:
            raise UsageError(str(exc)) from exc
        shared = open_shared(table, owner_name(), holder_name(), clock=SystemClock(), terms=terms, keeps_all=keeps_all)
        ledger = await stack.enter_async_context(shared)
        await ledger.recall_first_run()
        yield ledger


def lease_terms(settings: Settings) -> LeaseTerms:
    """How long a lease is, and how long a call may take. Raises UsageError."""
    return LeaseTerms(lease_seconds=settings.ledger.lease_seconds, call_seconds=settings.aws.call_seconds)


def owner_name() -> str:
    """A name for this process that no other has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def holder_name() -> str:
    """How a ledger names this process to a person."""
    return f"process {os.getpid()} on {socket.gethostname()}"


async def check_format(table: Table, name: str) -> None:
    """Mark a new table as a ledger, and refuse one that this version does not understand. Raises LedgerError."""
    item = await table.get(TABLE_ADDRESS)
    if item is None:
        try:
            await table.write(TABLE_ADDRESS, 0, Change(set={"format": FORMAT}))
        except ConflictError as exc:
            item = exc.item
    if item is not None and item.get("format") != FORMAT:
        raise LedgerError(f"the ledger {name} was made by another version of batchsubmit; update this one")
