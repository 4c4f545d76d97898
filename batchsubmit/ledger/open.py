"""Opens a ledger for writing wherever it is: a file, or a table with its client and lease."""

import os
import secrets
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import UsageError
from batchsubmit.ledger.file import FileLedger, open_ledger
from batchsubmit.ledger.lines import require_ledger
from batchsubmit.ledger.location import Location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batchsubmit.ledger.shared import SharedLedger


@asynccontextmanager
async def open_for_writing(
    location: Location, settings: Settings, *, region: str | None = None, keeps_all: bool = True
) -> "AsyncIterator[FileLedger | SharedLedger]":
    """Open a ledger; at the end, write out what is left and give it back.

    Of a table, `keeps_all` says whether `state` keeps jobs that were released: a batch accounts for all of its rows, a
    worker does not. Raises UsageError, LedgerError, StoppedError.
    """
    concurrency = settings.submit.concurrency
    if isinstance(location, Path):
        require_ledger(location)
        async with open_ledger(location, concurrency=concurrency) as ledger:
            yield ledger
        return
    # A run with a file needs nothing of this, and botocore and its kin take half a second.
    from batchsubmit.ledger.dynamodb import open_table  # noqa: PLC0415
    from batchsubmit.ledger.items import check_format  # noqa: PLC0415
    from batchsubmit.ledger.shared import LeaseTerms, open_shared  # noqa: PLC0415

    clock = SystemClock()
    terms = LeaseTerms(lease_seconds=settings.ledger.lease_seconds, call_seconds=settings.aws.call_seconds)
    async with open_table(location.table, region=region, concurrency=concurrency) as table:
        first_run = await check_format(table, str(location))
        opening = open_shared(table, owner_name(), process_name(), clock=clock, terms=terms, keeps_all=keeps_all)
        async with opening as shared:
            for event in first_run:
                shared.state.apply(event)
            yield shared


def owner_name() -> str:
    """A name for this process that no other has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def process_name() -> str:
    """Name this process for people who look for the holder of a ledger."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def refuse_rehearsal_mix(known: LedgerState, path: Location, *, sandbox: bool) -> None:
    """Keep a rehearsal's ledger from making a real run believe that its jobs are submitted, and the other way round."""
    if any(run.sandbox != sandbox for run in known.runs):
        was, now = ("the real service", "the sandbox") if sandbox else ("the sandbox", "the real service")
        raise UsageError(f"the ledger {path} was written against {was}; give the run on {now} another --ledger")
