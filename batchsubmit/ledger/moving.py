"""Assembly of `ledger create-table` and `ledger import`: a client, and what is to be done through it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchsubmit.config import Settings
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.creation import create_table
from batchsubmit.ledger.dynamodb import DynamoTable, MissingTableError, open_dynamodb, open_table
from batchsubmit.ledger.location import TableLocation
from batchsubmit.ledger.open import check_format
from batchsubmit.ledger.read import read_ledger
from batchsubmit.ledger.transfer import Imported, import_events


async def make_table(location: TableLocation, region: str | None) -> None:
    """Make a table and mark it as a ledger. Raises UsageError, StoppedError."""
    async with open_dynamodb(region=region, concurrency=1) as client:
        await create_table(client, location.table)
        await check_format(DynamoTable(client, location.table), str(location))


async def move_in(file: Path, location: TableLocation, settings: Settings, region: str | None) -> Imported:
    """Write a file's events into a table. Raises UsageError, LedgerError, StoppedError."""
    with _at_rest(file):
        async with open_table(location.table, region=region, concurrency=settings.submit.concurrency) as table:
            try:
                await check_format(table, str(location))
            except MissingTableError as exc:
                raise UsageError(str(exc)) from exc
            return await import_events(read_ledger(file), table)


@contextmanager
def _at_rest(file: Path) -> Iterator[None]:
    """Keep runs off a file while it is read: what they wrote meanwhile would be missing in the table."""
    try:
        with file.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise LedgerError(f"a run writes to {file}; wait for it to end, then import it") from None
    except OSError as exc:
        raise UsageError(f"the ledger {file} cannot be read: {exc.strerror}") from exc
