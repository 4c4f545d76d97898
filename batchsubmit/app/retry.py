"""`retry`: what sends the failed jobs of a ledger again. Its last run names the manifest, which has the requests."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from batchsubmit.app.run import SubmitOptions, submit_options
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.api import is_running
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.jobs import RunStarted
from batchsubmit.core.states import JobState, Phase, Retry, is_good_end
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.base import Ledger, Location
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.outputs.templates import placeholders_at
from batchsubmit.submit.engine import open_reads
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop


def retry_options(
    ledger: Location, settings: Settings, retry: Retry, *, manifest: str | None, batch: str | None
) -> SubmitOptions:
    """Say what a `submit` is to do that sends a ledger's failed jobs again. Raises UsageError, LedgerError."""
    if isinstance(ledger, Path) and not ledger.is_file():
        raise UsageError(f"the ledger {ledger} cannot be read: there is no such file")
    runs = fold_ledger(ledger, region=resolve_region(settings.aws)).runs
    run = next((run for run in reversed(runs) if batch is None or run.batch == batch), None)
    if run is None:
        known = ", ".join(sorted({repr(run.batch) for run in runs})) or "none"
        raise UsageError(f"the ledger {ledger} has no run of batch {batch or ''!r}; its batches: {known}")
    options = submit_options(
        settings,
        datetime.now(UTC),
        manifest=manifest or _manifest_of(run, ledger),
        ledger=ledger,
        batch=run.batch,
        moment=placeholders_at(datetime.fromisoformat(run.at), settings.submit),
        sandbox=run.sandbox,
        # A row that an earlier run recorded as invalid or identical is none of the jobs that are sent again.
        skip_invalid=True,
        allow_duplicates=True,
    )
    return replace(options, retry=retry, known_only=True)


def _manifest_of(run: RunStarted, ledger: Location) -> str:
    """Find the manifest where the run had it, or beside the ledger."""
    name = run.manifest
    if not name or name == "stdin":
        raise UsageError(f"the jobs of {ledger} came by a pipe or a queue: give the file that has them with --manifest")
    places = [Path(name), *([ledger.parent / name] if isinstance(ledger, Path) else [])]
    found = [str(place) for place in places if place.exists()]
    if not found and "://" not in name:
        raise UsageError(f"the manifest {name} of the last run is not there: say with --manifest where it is now")
    return found[0] if found else name


async def record_ends_unseen(ledger: Ledger, settings: Settings, region: str, stop: Stop) -> None:
    """Record the ends that no run saw: what nobody followed may have failed. Raises StoppedError."""
    lanes: dict[str, list[JobState]] = {}
    for state in ledger.state:
        if state.phase is Phase.SUBMITTED:
            lanes.setdefault(state.membership, []).append(state)
    if not lanes:
        return
    recorder = Recorder(ledger, SystemClock())
    async with stop.cutting_off(), open_cleanrooms(settings, region=region) as api:
        reads = open_reads(api, settings, stop, recorder.clock)
        try:
            for membership, states in lanes.items():
                listed = {job.arn: job for job in await reads.jobs(membership)}
                for state in states:
                    job = listed.get(state.arn)
                    if job and not is_running(job.status):
                        good = is_good_end(job.status)
                        details = None if good else await reads.details(membership, state.arn)
                        await recorder.record(recorder.finished(state, job.status, job.updated_at, details))
        except ReadError as exc:
            raise StoppedError(f"the service does not say how the jobs ended; nothing was sent: {exc}") from exc
