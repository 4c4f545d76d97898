"""Assembly of `verify`: reads a ledger, checks it, compares it with the service, and repairs on request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchsubmit.app.run import require_region
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Event, JobUnknown
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.file import holding_run, rebuild
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import DamagedLineError, fold_ledger, read_ledger, read_whole_lines
from batchsubmit.manifest.file import has_lasting_name
from batchsubmit.manifest.progress import NewRows, read_new_rows
from batchsubmit.schema.arns import region_in
from batchsubmit.submit.engine import open_reads
from batchsubmit.submit.stopping import reading
from batchsubmit.verify import Audit, Discrepancy, Mismatch, Verifier, unexplained


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was found: faults of the file by line, and discrepancies with the service, repaired ones among them.

    `active_run` writes to the ledger meanwhile, and has `under_way` jobs that were not judged. `later` jobs came after
    the ledger's last line and may be its own or not, because of the `manifest_trouble`. `misses_rows` where the ledger
    had a manifest, and jobs of its rows may run in memberships that the ledger never met.
    """

    jobs: int
    faults: list[str]
    discrepancies: list[Discrepancy] = field(default_factory=list)
    repaired: int = 0
    is_repair: bool = False
    active_run: str = ""
    under_way: int = 0
    later: int = 0
    manifest_trouble: str = ""
    misses_rows: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, or what was wrong is repaired; after a repair, nothing may be left unseen."""
        is_blind = self.is_repair and (self.later or self.misses_rows)
        return not self.faults and self.repaired == len(self.discrepancies) and not is_blind


async def inspect(
    path: Location,
    settings: Settings,
    *,
    others: Sequence[Location] = (),
    manifest: str = "",
    batch: str | None = None,
    offline: bool = False,
    repair: bool = False,
) -> Verification:
    """Check a ledger. `manifest` and `batch` are those of its last run where not given.

    Raises UsageError, LedgerError (damaged lines), StoppedError (the service does not answer).
    """
    region = resolve_region(settings.aws)
    audit, active_run, whole = await asyncio.to_thread(_read_or_salvage, path, region, repair=repair)
    state = audit.state
    if repair and active_run:
        raise LedgerError(f"the ledger {path} is in use by {active_run}; wait for it to end, then repair")
    verification = Verification(
        jobs=len(state),
        faults=audit.faults,
        is_repair=repair,
        active_run=active_run,
        under_way=len(state.undecided()) if active_run else 0,
    )
    if offline or not audit.first:
        return verification
    if any(run.sandbox for run in state.runs):
        raise UsageError(f"the ledger {path} was written against the sandbox, which has gone; check it with --offline")
    rows = await _new_rows(state, settings, manifest, batch)
    has_manifest = bool(manifest) or any(run.manifest_sha256 for run in state.runs)
    verification.manifest_trouble, verification.misses_rows = rows.trouble, bool(rows.trouble) and has_manifest
    if whole and (rows.trouble or not has_manifest):
        # A job that the damaged lines had is only known again by the manifest's row.
        raise UsageError(
            f"the ledger {path} is damaged, and only with the manifest can it be rebuilt: give it with --manifest"
        )
    if not whole and not (rows.by_key or any(job.attempt or job.arn for job in state)):
        return verification
    found, verification.later = await _compare(path, audit, settings, rows, others)
    if (found or active_run) and not whole:
        newer, run_now = await asyncio.to_thread(_read, path, region)
        if active_run or run_now or len(newer.state.runs) > len(state.runs):
            found = unexplained(found, newer.state)
            verification.active_run = active_run or run_now
            verification.under_way = len(newer.state.undecided()) if verification.active_run else 0
    verification.discrepancies = found
    if whole:
        return _rebuilt(path, verification, whole=whole)
    if repair:
        verification.repaired = await _repair(path, settings, found, state)
    return verification


_LONG_AGO = "1970-01-01T00:00:00.000000Z"


def _whole_events(path: Path) -> list[Event]:
    """The whole lines of a damaged ledger; jobs that they leave free to send may have been sent since: unknown."""
    events = list(read_whole_lines(path))
    at, reason = timestamp(SystemClock().now()), "lines of the ledger are missing"
    return events + [
        JobUnknown(**job.stamp(at), reason=reason, attempt=job.attempt)
        for job in LedgerState.of(events)
        if job.attempt and not job.arn
    ]


def _read_or_salvage(path: Location, region: str | None, *, repair: bool) -> tuple[Audit, str, list[Event]]:
    """Read a ledger and the run that writes to it; of a damaged file to be repaired, what is left of it."""
    try:
        return *_read(path, region), []
    except DamagedLineError:
        if not (repair and isinstance(path, Path)):
            raise
    whole = _whole_events(path)
    audit = Audit(whole)
    audit.faults, audit.first = [], _LONG_AGO  # what the order lacks is what is repaired
    return audit, "", whole


def _rebuilt(path: Location, verification: Verification, *, whole: list[Event]) -> Verification:
    """Rebuild a damaged ledger, if nothing is left that may have been submitted and would not be known of."""
    found = verification.discrepancies
    if isinstance(path, Path) and all(each.repair or each.kind is not Mismatch.ORPHAN for each in found):
        repairs = [each.repair for each in found if each.repair is not None]
        rebuild(path, [*whole, *repairs])
        verification.repaired = len(repairs)
    else:
        verification.faults = ["it is damaged, and was not rebuilt: the service has jobs that may be its own"]
    return verification


async def _compare(
    path: Location, audit: Audit, settings: Settings, rows: NewRows, others: Sequence[Location]
) -> tuple[list[Discrepancy], int]:
    from batchsubmit.cleanrooms.client import open_cleanrooms  # noqa: PLC0415 (half a second that the file alone is spared)

    region = resolve_region(settings.aws)
    elsewhere = {
        word
        for other in others
        for state in fold_ledger(other, region=region)
        for word in (state.job, state.arn, *state.duplicates)
    }
    now = timestamp(SystemClock().now())
    model = next((job.trained_model for job in audit.state if job.trained_model), "")
    region = require_region(region or region_in(model) or rows.region)
    async with reading() as stop, open_cleanrooms(settings, region=region) as api:
        reads = open_reads(api, settings, stop, SystemClock())
        verifier = Verifier(audit.state, reads, rows=rows, others=elsewhere, tag_jobs=settings.submit.tag_jobs, now=now)
        try:
            return await verifier.compare((audit.first, now if audit.state.work.end is None else audit.last))
        except ReadError as exc:
            raise StoppedError(f"the ledger {path} could not be compared with the service: {exc}") from exc


async def _new_rows(state: LedgerState, settings: Settings, given: str, batch: str | None) -> NewRows:
    """Read the manifest that was given, or the one that the ledger names, if it is still there."""
    last = state.runs[-1] if state.runs else None
    manifest = given or (last.manifest if last else "")
    if not manifest or (not given and (manifest == "stdin" or not has_lasting_name(manifest))):
        return NewRows(trouble="the manifest was read from standard input or a pipe: give it with --manifest")
    if batch is None:
        batch = last.batch if last else ""
    try:
        return await read_new_rows(manifest, settings, state, batch=batch, region=resolve_region(settings.aws))
    except (UsageError, StoppedError) as exc:
        if given:
            raise
        return NewRows(trouble=f"{exc}: give the manifest with --manifest")


def _read(path: Location, region: str | None) -> tuple[Audit, str]:
    """Read the ledger, and the run that writes to it; a file once more where that run seems to have ended meanwhile."""
    if not isinstance(path, Path):
        return Audit(read_ledger(path, region=region), unit="event"), ""
    audit = Audit(read_ledger(path))
    try:
        active_run = holding_run(path, audit.state)
    except OSError as exc:
        raise UsageError(f"the ledger {path} cannot be read: {exc.strerror}") from exc
    if not active_run and audit.state.open_run:
        audit = Audit(read_ledger(path))
    return audit, active_run


async def _repair(path: Location, settings: Settings, found: Sequence[Discrepancy], judged: LedgerState) -> int:
    """Append what the service proves. Raises LedgerError where a run has the ledger."""
    proven = [each.repair for each in found if each.repair is not None]
    if not proven:
        return 0
    async with open_for_writing(path, settings, region=resolve_region(settings.aws)) as ledger:
        await ledger.load(event.job for event in proven)
        # A run that ended since, or a last line that lacked only its newline, may have said so before us.
        still_true = [event for event in proven if ledger.state.get(event.job) == judged.get(event.job)]
        for event in still_true:
            await ledger.put(event)
    return len(still_true)
