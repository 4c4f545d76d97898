"""What a `submit` is asked for, by flags and settings together: placeholders filled in, zones and targets read."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from batchsubmit.app.after_run import AfterRun
from batchsubmit.app.run import SubmitOptions
from batchsubmit.app.submit import submit_options
from batchsubmit.aws import resolve_region
from batchsubmit.cli.export import format_of, write_export
from batchsubmit.cli.report import write_report
from batchsubmit.config import Settings
from batchsubmit.errors import UsageError
from batchsubmit.ledger.base import TableLocation, parse_location
from batchsubmit.outputs.files import refuse_other_kind
from batchsubmit.outputs.notify import read_target
from batchsubmit.outputs.templates import expand, expand_path, placeholders_at
from batchsubmit.outputs.upload import Destination

_FLAGS = (
    "manifest",
    "sandbox",
    "sandbox_job_seconds",
    "canary",
    "skip_invalid",
    "allow_duplicates",
    "retry_failed",
    "resubmit_unknown",
)


def read_request(given: Mapping[str, Any], settings: Settings, now: datetime) -> tuple[SubmitOptions, AfterRun]:
    """Say what is to be run and what follows it; `now` is any aware moment. Raises UsageError."""
    chosen = settings.submit
    values = placeholders_at(now, chosen)
    batch = expand(chosen.batch_id, values, what="--batch-id")

    def path(template: str, what: str) -> str:
        return expand_path(template, values, batch=batch, what=what)

    ledger = parse_location(path(chosen.ledger, "--ledger")) if chosen.ledger else None
    flags = {name: given[name] for name in _FLAGS if name in given}
    options = submit_options(settings, now, ledger=ledger, batch=batch, **flags)
    if settings.night.upload and isinstance(options.ledger, TableLocation):
        raise UsageError("--upload copies a ledger file; a table is copied by batchsubmit ledger export")
    return options, _after_run(settings, path, rehearsing=options.sandbox)


def _after_run(settings: Settings, path: Callable[[str, str], str], *, rehearsing: bool) -> AfterRun:
    """Read what follows the run. A rehearsal writes files, but its ledger must not go where a real one belongs."""
    night = settings.night
    report = Path(path(night.report, "--report")) if night.report else None
    export = Path(path(night.export, "--export")) if night.export else None
    if report:
        refuse_other_kind(report, "html")
    if export:
        refuse_other_kind(export, format_of(export))
    destination = Destination.parse(path(night.upload, "--upload")) if night.upload else None
    targets = tuple(map(read_target, night.notify))
    if rehearsing:
        destination, targets = None, ()
    files = ((report, write_report), (export, write_export))
    return AfterRun(
        files=tuple((file, writer) for file, writer in files if file is not None),
        report=report,
        destination=destination,
        overwrite=night.upload_overwrite,
        targets=targets,
        secret=night.webhook_secret.get_secret_value() if night.webhook_secret else None,
        notify_timeout_seconds=night.notify_timeout_seconds,
        region=resolve_region(settings.aws) if destination or targets else None,
    )
