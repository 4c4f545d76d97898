"""Assembly of `verify`: reads a ledger, checks the file, holds it against the service, and repairs on request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchsubmit.book import Book
from batchsubmit.catalog import Catalog, ReadError
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.file import open_ledger
from batchsubmit.ledger.storage import read_events
from batchsubmit.region import resolve_region
from batchsubmit.soundness import Audit
from batchsubmit.verify import Discrepancy, Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found: faults of the file by line, and discrepancies with the service, repaired ones among them."""

    jobs: int
    faults: list[str]
    discrepancies: list[Discrepancy]
    repaired: int = 0
    is_offline: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, or what was wrong is repaired."""
        return not self.faults and self.repaired == len(self.discrepancies)


async def inspect(
    path: Path, settings: Settings, *, others: Sequence[Path] = (), offline: bool = False, repair: bool = False
) -> Inspection:
    """Check a ledger. Raises UsageError, LedgerError (damaged lines), StoppedError (the service does not tell)."""
    audit, window = await asyncio.to_thread(_audit, path)
    if offline or window is None or not any(state.attempt for state in audit.book):
        return Inspection(jobs=len(audit.book), faults=audit.faults, discrepancies=[], is_offline=offline)
    if any(run.sandbox for run in audit.book.runs):
        raise UsageError(f"the ledger {path} was written against the sandbox, which has gone; check it with --offline")
    from batchsubmit.cleanrooms.client import open_cleanrooms  # noqa: PLC0415 (half a second that the file alone is spared)

    known_elsewhere = {state.job for other in others for state in _audit(other)[0].book}
    settled = (window[0], timestamp(SystemClock().now())) if audit.book.last_end is None else window
    access = open_cleanrooms(
        settings.aws,
        region=resolve_region(settings.aws) or _region_of(audit),
        concurrency=settings.submit.concurrency,
        tag_jobs=settings.submit.tag_jobs,
    )
    async with access as api:
        catalog = Catalog(api, settings.retry, sleep=asyncio.sleep)
        verifier = Verifier(audit.book, catalog, others=known_elsewhere, now=timestamp(SystemClock().now()))
        try:
            found = await verifier.compare(settled)
        except ReadError as exc:
            raise StoppedError(f"the ledger {path} could not be held against the service: {exc}") from exc
    repaired = await _repair(path, found, audit.book) if repair else 0
    return Inspection(jobs=len(audit.book), faults=audit.faults, discrepancies=found, repaired=repaired)


def _audit(path: Path) -> tuple[Audit, tuple[str, str] | None]:
    """Read the file; the window is the time of its first and last event."""
    audit = Audit()
    first = last = ""
    try:
        with path.open("rb") as file:
            for number, (event, _) in enumerate(read_events(file, path), start=1):
                audit.read(number, event)
                first, last = first or event.at, event.at
    except OSError as exc:
        raise UsageError(f"the ledger {path} cannot be read: {exc.strerror}") from exc
    return audit, (first, last) if first else None


def _region_of(audit: Audit) -> str:
    """The region in the ARN of the first job's trained model."""
    model = next((state.trained_model for state in audit.book if state.trained_model), "")
    parts = model.split(":")
    if len(parts) < 4:
        raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
    return parts[3]


async def _repair(path: Path, found: Sequence[Discrepancy], judged: Book) -> int:
    """Append what the service proves. Raises LedgerError where a run has the ledger."""
    proven = [each.repair for each in found if each.repair is not None]
    if not proven:
        return 0
    async with open_ledger(path) as ledger:
        # A run that ended since, or a last line that lacked but its newline, may have said so before us.
        still_true = [event for event in proven if ledger.book.get(event.job) == judged.get(event.job)]
        for event in still_true:
            await ledger.put(event)
    return len(still_true)
