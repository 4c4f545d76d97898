"""Assembly of `verify`: reads a ledger, checks the file, holds it against the service, and repairs on request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.reads import JobReads, ReadError
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import read_ledger
from batchsubmit.ledger.storage import holding_run
from batchsubmit.manifest.progress import NewRows, read_new_rows
from batchsubmit.pacing import Pace, RateGate
from batchsubmit.verify import Audit, Comparison, Discrepancy, Known, Verifier, unexplained


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What one `verify` was asked to do. `manifest` and `batch` are those of the ledger's last run where not given."""

    others: Sequence[Location] = ()
    manifest: str = ""
    batch: str | None = None
    offline: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found: faults of the file by line, and discrepancies with the service, repaired ones among them.

    `active_run` writes to the ledger meanwhile, and has `under_way` jobs that were not judged. `later` jobs came after
    the ledger's last line and could not be told from its own, because of the `manifest_trouble`. `misses_rows` where
    the ledger had a manifest, and jobs of its rows may run in memberships that the ledger never met.
    """

    jobs: int
    faults: list[str]
    discrepancies: list[Discrepancy]
    repaired: int = 0
    is_offline: bool = False
    is_repair: bool = False
    active_run: str = ""
    under_way: int = 0
    later: int = 0
    manifest_trouble: str = ""
    misses_rows: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, or what was wrong is repaired; after a repair, nothing may be left out of sight."""
        is_blind = self.is_repair and (self.later or self.misses_rows)
        return not self.faults and self.repaired == len(self.discrepancies) and not is_blind


@dataclass(frozen=True, slots=True)
class _Reading:
    """A ledger as it was at one moment: its audit, the time of its first and last event, and who was writing to it."""

    audit: Audit
    window: tuple[str, str] | None
    active_run: str

    @property
    def book(self) -> LedgerState:
        return self.audit.book


async def inspect(path: Location, settings: Settings, options: VerifyOptions) -> Verification:
    """Check a ledger. Raises UsageError, LedgerError (damaged lines), StoppedError (the service does not tell)."""
    region = resolve_region(settings.aws)
    reading = await asyncio.to_thread(_read, path, region)
    if options.repair and reading.active_run:
        raise LedgerError(f"the ledger {path} is in use by {reading.active_run}; wait for it to end, then repair")
    inspection = Verification(
        jobs=len(reading.book),
        faults=reading.audit.faults,
        discrepancies=[],
        is_offline=options.offline,
        is_repair=options.repair,
        active_run=reading.active_run,
        under_way=len(reading.book.undecided()) if reading.active_run else 0,
    )
    if options.offline or reading.window is None:
        return inspection
    if any(run.sandbox for run in reading.book.runs):
        raise UsageError(f"the ledger {path} was written against the sandbox, which has gone; check it with --offline")
    rows = await _new_rows(reading.book, settings, options)
    has_manifest = bool(options.manifest) or any(run.manifest_sha256 for run in reading.book.runs)
    inspection = replace(inspection, manifest_trouble=rows.trouble, misses_rows=bool(rows.trouble) and has_manifest)
    if not (rows.by_key or any(state.attempt or state.arn for state in reading.book)):
        return inspection
    compared = await _compare(path, reading, settings, rows, options.others)
    found = compared.discrepancies
    newer = await asyncio.to_thread(_read, path, region) if found or reading.active_run else reading
    active_run = reading.active_run or newer.active_run
    if active_run or len(newer.book.runs) > len(reading.book.runs):
        found = unexplained(found, newer.book)
        inspection = replace(inspection, active_run=active_run, under_way=len(newer.book.undecided()))
    repaired = 0
    if options.repair:
        repaired = await _repair(path, settings, found, reading.book)
    return replace(inspection, discrepancies=found, repaired=repaired, later=compared.later)


async def _compare(
    path: Location, reading: _Reading, settings: Settings, rows: NewRows, others: Sequence[Location]
) -> Comparison:
    from batchsubmit.cleanrooms.client import open_cleanrooms  # noqa: PLC0415 (half a second that the file alone is spared)

    region = resolve_region(settings.aws)
    elsewhere = {
        word
        for other in others
        for state in _read(other, region).book
        for word in (state.job, state.arn, *state.duplicates)
    }
    known = Known(rows=rows, others=elsewhere, tag_jobs=settings.submit.tag_jobs)
    now = timestamp(SystemClock().now())
    first, last = reading.window or (now, now)
    access = open_cleanrooms(
        settings.aws,
        region=region or _region_of(reading.book) or rows.region or _no_region(),
        concurrency=settings.submit.concurrency,
        tag_jobs=settings.submit.tag_jobs,
    )
    async with access as api:
        reads = RateGate(Pace(settings.rate.reads_per_second))
        catalog = JobReads(api, settings.retry, gate=reads, sleep=asyncio.sleep)
        verifier = Verifier(reading.book, catalog, known, now=now)
        try:
            return await verifier.compare((first, now if reading.book.last_end is None else last))
        except ReadError as exc:
            raise StoppedError(f"the ledger {path} could not be held against the service: {exc}") from exc


async def _new_rows(book: LedgerState, settings: Settings, options: VerifyOptions) -> NewRows:
    """Read the manifest that was given, or the one that the ledger names, if it is still there."""
    last = book.runs[-1] if book.runs else None
    named = last.manifest if last else ""
    manifest = options.manifest or named
    batch = options.batch if options.batch is not None else last.batch if last else ""
    if not manifest or (manifest == named == "stdin"):
        return NewRows(trouble="the manifest was read from standard input: give it with --manifest")
    try:
        return await read_new_rows(manifest, settings, book, batch=batch, region=resolve_region(settings.aws))
    except (UsageError, StoppedError) as exc:
        if options.manifest:
            raise
        return NewRows(trouble=f"{exc}: give the manifest with --manifest")


def _read(path: Location, region: str | None) -> _Reading:
    """Read the ledger; a file once more where a run seems to have ended while it was read."""
    audit, window = _audit(path, region)
    if not isinstance(path, Path):
        return _Reading(audit, window, "")
    try:
        active = holding_run(path, audit.book)
    except OSError as exc:
        raise UsageError(f"the ledger {path} cannot be read: {exc.strerror}") from exc
    if not active and audit.book.runs and audit.book.last_end is None:
        audit, window = _audit(path, region)
    return _Reading(audit, window, active)


def _audit(path: Location, region: str | None) -> tuple[Audit, tuple[str, str] | None]:
    """Read the ledger; the window is the time of its earliest and latest event."""
    audit = Audit(unit="line" if isinstance(path, Path) else "event")
    first = last = ""
    for number, event in enumerate(read_ledger(path, region=region), start=1):
        audit.read(number, event)
        first, last = min(first or event.at, event.at), max(last, event.at)
    return audit, (first, last) if first else None


def _region_of(book: LedgerState) -> str:
    """The region in the ARN of the first job's trained model; empty where there is none."""
    model = next((state.trained_model for state in book if state.trained_model), "")
    return (model.split(":") + [""] * 4)[3]


def _no_region() -> str:
    raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")


async def _repair(path: Location, settings: Settings, found: Sequence[Discrepancy], judged: LedgerState) -> int:
    """Append what the service proves. Raises LedgerError where a run has the ledger."""
    proven = [each.repair for each in found if each.repair is not None]
    if not proven:
        return 0
    async with open_for_writing(path, settings, region=resolve_region(settings.aws)) as ledger:
        await ledger.load(event.job for event in proven)
        # A run that ended since, or a last line that lacked but its newline, may have said so before us.
        still_true = [event for event in proven if ledger.state.get(event.job) == judged.get(event.job)]
        for event in still_true:
            await ledger.put(event)
    return len(still_true)
