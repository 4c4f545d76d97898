"""`batchsubmit verify`: reads a ledger, checks it, compares it with the service, and repairs on request."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from batchsubmit.app.run import require_region
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.cli.options import command, conclude, settings_and_json
from batchsubmit.cli.output import say
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Event, JobUnknown
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import EXIT_FAILED, EXIT_LEDGER, LedgerError, StoppedError, UsageError
from batchsubmit.ledger.file import holding_run, rebuild
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.open import open_for_writing
from batchsubmit.ledger.read import DamagedLineError, fold_ledger, read_ledger, read_whole_lines
from batchsubmit.manifest.file import has_lasting_name
from batchsubmit.manifest.rows_done import NewRows, read_new_rows
from batchsubmit.outputs.templates import batch_now
from batchsubmit.schema.arns import region_in
from batchsubmit.submit.engine import open_reads
from batchsubmit.submit.stopping import reading
from batchsubmit.text import counted
from batchsubmit.verify import Audit, Discrepancy, Mismatch, Verifier, unexplained


@command(
    ("the ledger against the service", "batchsubmit verify jobs.ledger.jsonl"),
    ("append what the service proves, after a copy was restored", "batchsubmit verify jobs.ledger.jsonl --repair"),
    ("the file alone, without a call", "batchsubmit verify jobs.ledger.jsonl --offline"),
    exits={
        0: "nothing is wrong, or all of it was repaired",
        1: "the service says otherwise",
        2: "usage or settings wrong",
        3: "the service does not answer: run it again",
        4: "the file is damaged or unsound, or in use (--repair)",
    },
)
@click.argument("ledger", type=parse_location)
@click.option(
    "--known-ledger",
    "others",
    multiple=True,
    type=parse_location,
    metavar="LEDGER",
    help="Another ledger with jobs in the same memberships; may be repeated.",
)
@click.option(
    "--manifest",
    default="",
    metavar="MANIFEST",
    help="The manifest, to know lost jobs from another ledger's.  [default: that of the ledger's last run]",
)
@click.option("--batch-id", "batch", metavar="TEXT", help="Its batch id.  [default: that of the ledger's last run]")
@click.option("--offline", is_flag=True, help="Check the ledger alone; no call is made.")
@click.option("--repair", is_flag=True, help="Append what the service proves; nothing is ever removed.")
@settings_and_json
def verify(ledger: Location, settings: Settings, *, as_json: bool, **how: Any) -> int:  # noqa: ANN401 (click's)
    """Check LEDGER in itself and against the service: ghosts, orphans, duplicates, unknown jobs.

    Exit status 0 only where nothing is wrong or all of it was repaired, 1 where the service says otherwise, 4 where the
    file itself is unsound.

    After LEDGER was restored from an older copy, run this with --repair before the next submit, with the manifest and
    the --config of that submit. A job that the copy does not have is recorded where its tag is the key of one of the
    manifest's rows, so that it is not started again. Where the manifest cannot be read, jobs after the ledger's last
    line are counted but not judged, and --repair then ends with 1.

    While a run writes to LEDGER, its calls under way are not judged, and nothing can be repaired.
    """
    if how["offline"] and how["repair"]:
        raise click.UsageError("--repair needs the service: leave out --offline, or --repair")
    how["batch"] = None if how["batch"] is None else batch_now(how["batch"], settings.submit)
    found = asyncio.run(_inspect(ledger, settings, **how))
    # What was paid twice first, then kind by kind.
    grouped = sorted(found.discrepancies, key=lambda each: (each.kind != Mismatch.DUPLICATE, each.kind))
    lines = (*(f"{ledger}: {fault}" for fault in found.faults), *grouped)
    conclude(lines, {"ledger": str(ledger), **found.as_dict()}, as_json=as_json, are_data=True)
    say(*found.words(ledger, "itself" if how["offline"] else "itself and the service"))
    if found.faults:
        return EXIT_LEDGER
    return 0 if found.is_clean else EXIT_FAILED


@dataclass(slots=True, kw_only=True)
class _Verification:
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

    def words(self, ledger: Location, against: str) -> Iterator[str]:
        """Say how it came out, and what to do."""
        kinds = Counter(each.kind.replace("_", " ") for each in self.discrepancies)
        if wrong := len(self.faults) + len(self.discrepancies):
            of_kinds = f" ({', '.join(f'{count:,} {kind}' for kind, count in kinds.items())})" if kinds else ""
            repaired = f", {self.repaired:,} repaired" if self.repaired else ""
            yield f"{ledger}: {counted(self.jobs, 'job')}, {wrong:,} wrong against {against}{of_kinds}{repaired}"
        else:
            yield f"{ledger}: {counted(self.jobs, 'job')}, sound against {against}"
        if self.active_run:
            under_way = counted(self.under_way, "job")
            yield f"  in use by {self.active_run}: {under_way} under way not judged; verify again when it has ended"
        if self.later:
            yield (
                f"  {counted(self.later, 'job')} started after the ledger's last line not judged: of other ledgers, "
                "or lost from this one if it was restored from a copy"
            )
        if self.manifest_trouble and (self.later or self.discrepancies or self.is_repair):
            yield f"  the manifest's rows are not known: {self.manifest_trouble}"
        if not self.is_repair and any(each.kind is Mismatch.ORPHAN and not each.repair for each in self.discrepancies):
            yield "  where another ledger started the orphans, name it: --known-ledger LEDGER"
        if not self.is_repair and any(each.repair for each in self.discrepancies):
            yield f"  next: batchsubmit verify {ledger} --repair records what the service proves"

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        counts = ("jobs", "faults", "repaired", "active_run", "under_way", "later", "manifest_trouble")
        texts = ("kind", "job", "membership", "name", "arn", "detail")
        discrepancies = [
            {name: getattr(each, name) for name in texts} | {"repairable": each.repair is not None}
            for each in self.discrepancies
        ]
        known = {name: getattr(self, name) for name in counts}
        return {"clean": self.is_clean, **known, "discrepancies": discrepancies}


async def _inspect(
    path: Location,
    settings: Settings,
    *,
    others: Sequence[Location],
    manifest: str,
    batch: str | None,
    offline: bool,
    repair: bool,
) -> _Verification:
    """Check a ledger. `manifest` and `batch` are those of its last run where not given.

    Raises UsageError, LedgerError (damaged lines), StoppedError (the service does not answer).
    """
    region = resolve_region(settings.aws)
    audit, active_run, whole = await asyncio.to_thread(_read_or_salvage, path, region, repair=repair)
    state = audit.state
    if repair and active_run:
        raise LedgerError(f"the ledger {path} is in use by {active_run}; wait for it to end, then repair")
    verification = _Verification(
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
        _rebuild(path, verification, whole)
    elif repair:
        verification.repaired = await _repair(path, settings, found, state)
    return verification


_LONG_AGO = "1970-01-01T00:00:00.000000Z"


def _read_or_salvage(path: Location, region: str | None, *, repair: bool) -> tuple[Audit, str, list[Event]]:
    """Read a ledger and the run that writes to it; of a damaged file to be repaired, what is left of it.

    Jobs that the whole lines of a damaged ledger leave free to send may have been sent since: they are unknown.
    """
    try:
        return *_read(path, region), []
    except DamagedLineError:
        if not (repair and isinstance(path, Path)):
            raise
    whole = list(read_whole_lines(path))
    at, reason = timestamp(SystemClock().now()), "lines of the ledger are missing"
    whole += [
        JobUnknown(**job.stamp(at), reason=reason, attempt=job.attempt)
        for job in LedgerState.of(whole)
        if job.attempt and not job.arn
    ]
    audit = Audit(whole)
    audit.faults, audit.first = [], _LONG_AGO  # what the order lacks is what is repaired
    return audit, "", whole


def _rebuild(path: Location, verification: _Verification, whole: list[Event]) -> None:
    """Rebuild a damaged ledger, if nothing is left that may have been submitted and would not be known of."""
    found = verification.discrepancies
    if isinstance(path, Path) and all(each.repair or each.kind is not Mismatch.ORPHAN for each in found):
        repairs = [each.repair for each in found if each.repair is not None]
        rebuild(path, [*whole, *repairs])
        verification.repaired = len(repairs)
    else:
        verification.faults = ["it is damaged, and was not rebuilt: the service has jobs that may be its own"]


async def _compare(
    path: Location, audit: Audit, settings: Settings, rows: NewRows, others: Sequence[Location]
) -> tuple[list[Discrepancy], int]:
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
