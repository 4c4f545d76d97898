"""The rows of a manifest that a ledger does not know: what the next run would start, and a lost line may have started.

Their keys tell a job that a ledger has lost from one of another ledger. Nothing here knows the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from batchsubmit.config import Settings
from batchsubmit.core.jobs import Job
from batchsubmit.core.ledger_state import Book
from batchsubmit.counting import counted
from batchsubmit.manifest.check import Terms
from batchsubmit.manifest.index import job_at
from batchsubmit.outputs.templates import placeholders_at
from batchsubmit.sources.checked import open_checked_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """Where a row's job belongs; its key covers both."""

    membership: str
    name: str
    trained_model: str


def _row(job: Job) -> NewRow:
    return NewRow(membership=job.membership, name=job.name, trained_model=job.trained_model)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRows:
    """Rows by key. Where `trouble` says why not all of them are known, a key that is not here may still be a row's."""

    by_key: Mapping[str, NewRow] = field(default_factory=dict)
    region: str = ""
    trouble: str = ""


async def read_new_rows(manifest: str, settings: Settings, book: Book, *, batch: str, region: str | None) -> NewRows:
    """Read a manifest as the last run did, and leave out what the ledger knows. Raises UsageError, StoppedError."""
    moment = placeholders_at(datetime.fromisoformat(book.runs[-1].at), settings.submit) if book.runs else {}
    terms = Terms(batch=batch, allow_duplicates=True, keep_invalid=True, moment=moment)
    async with open_checked_manifest(manifest, settings, region=region, terms=terms) as (spooled, reader, inventory):
        index = inventory.index
        jobs = (job_at(reader, index, number, batch=batch) for number, key in enumerate(index) if book.get(key) is None)
        by_key = {job.key: _row(job) for job in jobs if job is not None}
        trouble = ""
        if inventory.problem_count:
            trouble = (
                f"{spooled.label} has problems in {counted(inventory.invalid_count, 'row')} under these settings: "
                "give the --config of its submit"
            )
        return NewRows(by_key=by_key, region=inventory.region, trouble=trouble)
