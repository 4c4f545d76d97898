"""Assembly of `plan`: opens manifest and ledgers to read, looks at the service on request, and forecasts.

It makes no Start call and writes nothing; a ledger may be in use by a run meanwhile.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from batchsubmit.app.readiness import Need, Readier, Readiness
from batchsubmit.app.run import SubmitOptions
from batchsubmit.app.submitting import Undertaking, default_ledger, refuse_rehearsal_mix
from batchsubmit.book import Book
from batchsubmit.cleanrooms import RUNNING_STATUSES
from batchsubmit.cleanrooms.catalog import Catalog, ReadError
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.errors import ManifestError, StoppedError, UsageError
from batchsubmit.forecast.futures import RunningAhead
from batchsubmit.forecast.history import History
from batchsubmit.forecast.outlook import Observatory, Outlook, Word
from batchsubmit.jobs import Event
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.reading import read_ledger
from batchsubmit.region import resolve_region
from batchsubmit.schema import RowWarning
from batchsubmit.sources import Reader
from batchsubmit.sources.checked import open_checked_manifest
from batchsubmit.sources.inventory import Inventory, Terms
from batchsubmit.standing.overwritten import IN_THE_LEDGER, Place, ledger_places, overwriting
from batchsubmit.standing.prospect import Prospect


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What a plan is asked, beside the settings; the names are those of `SubmitOptions`."""

    manifest: str
    ledger: Location | None = None
    batch: str = ""
    moment: Mapping[str, str] = field(default_factory=dict)
    sandbox: bool = False
    sandbox_job_seconds: float = 2.0
    skip_invalid: bool = False
    allow_duplicates: bool = False
    retry_failed: bool = False
    job_minutes: float | None = None
    history: tuple[Location, ...] = ()
    online: bool = False

    @classmethod
    def of(
        cls,
        asked: SubmitOptions,
        *,
        job_minutes: float | None = None,
        history: tuple[Location, ...] = (),
        online: bool = False,
    ) -> "PlanOptions":
        """Plan what was asked of `submit`."""
        return cls(
            manifest=asked.manifest,
            ledger=asked.ledger,
            batch=asked.batch,
            moment=asked.moment,
            sandbox=asked.sandbox,
            sandbox_job_seconds=asked.sandbox_job_seconds,
            skip_invalid=asked.skip_invalid,
            allow_duplicates=asked.allow_duplicates,
            retry_failed=asked.retry_failed,
            job_minutes=job_minutes,
            history=history,
            online=online,
        )

    @property
    def word(self) -> Word:
        """What the user said of the jobs' length."""
        if self.sandbox and self.job_minutes is None:
            return Word(sandbox_job_seconds=self.sandbox_job_seconds)
        return Word(job_minutes=self.job_minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do. `running` is by membership; None where nothing tells. `warnings` keep no row back."""

    manifest: str
    ledger: Location
    batch: str
    made_at: datetime
    invalid: int
    prospect: Prospect
    running: Mapping[str, int] | None
    outlook: Outlook
    readiness: Readiness | None = None
    warnings: tuple[RowWarning, ...] = ()


async def plan(options: PlanOptions, settings: Settings) -> Plan:
    """Say what `submit` would do. Raises ManifestError, UsageError, LedgerError, StoppedError."""
    if options.online and options.sandbox:
        raise UsageError("--online looks at the service, and a sandbox begins empty: leave one of them out")
    region = settings.aws.region if options.sandbox else resolve_region(settings.aws)
    terms = Terms(
        batch=options.batch,
        allow_duplicates=options.allow_duplicates,
        keep_invalid=options.skip_invalid,
        moment=options.moment,
    )
    async with open_checked_manifest(options.manifest, settings, region=region, terms=terms) as checked:
        _, reader, inventory = checked
        if inventory.problems and not (options.skip_invalid and inventory.is_readable):
            raise ManifestError(options.manifest, inventory.problems, inventory.problem_count, inventory.alike.lines())
        path = options.ledger or default_ledger(options.manifest)
        ledger_region = region or inventory.region
        own, book = await asyncio.to_thread(read_history, path, sandbox=options.sandbox, region=ledger_region)
        known = await asyncio.to_thread(_with_others, own, path, options, ledger_region)
        planner = Planner(options, settings, reader=reader, inventory=inventory)
        return await planner.make(path, book, own, known, quick=False)


async def plan_of(undertaking: Undertaking) -> Plan:
    """Say in short what a run that is about to begin would do. Its manifest is checked, and is not read again."""
    options, path = PlanOptions.of(undertaking.run.options), undertaking.path
    own, book = await asyncio.to_thread(read_history, path, sandbox=options.sandbox, region=undertaking.region)
    inventory = undertaking.run.inventory
    planner = Planner(options, undertaking.settings, reader=undertaking.reader, inventory=inventory)
    return await planner.make(path, book, own, own, quick=True)


class Planner:
    """One plan in the making."""

    def __init__(self, options: PlanOptions, settings: Settings, *, reader: Reader, inventory: Inventory) -> None:
        self._options = options
        self._settings = settings
        self._reader = reader
        self._inventory = inventory
        self._now = SystemClock().now()
        self._listed: set[Place] = set()

    async def make(self, path: Location, book: Book, own: History, known: History, *, quick: bool) -> Plan:
        """Bring rows, ledger, service and forecast together."""
        prospect = Prospect.of(self._inventory.index, book, retry_failed=self._options.retry_failed)
        observatory = Observatory(
            settings=self._settings,
            index=self._inventory.index,
            reader=self._reader,
            prospect=prospect,
            history=known,
            word=self._options.word,
        )
        readiness = None
        running = observatory.running(own, self._now)
        if self._options.online:
            running, readiness = await self._look(prospect)
        counts = None if running is None else {membership: len(jobs) for membership, jobs in running.items()}
        seen = counts if self._options.online else None
        outlook = await asyncio.to_thread(observatory.look_ahead, running or {}, seen=seen, quick=quick)
        return Plan(
            manifest=self._options.manifest,
            ledger=path,
            batch=self._options.batch,
            made_at=self._now,
            invalid=self._inventory.invalid_count,
            prospect=prospect,
            running=counts,
            outlook=outlook,
            readiness=readiness,
            warnings=tuple(await asyncio.to_thread(self._warnings, prospect, book)),
        )

    def _warnings(self, prospect: Prospect, book: Book) -> list[RowWarning]:
        """Say of which jobs, in the ledger or listed by the service, the rows would overwrite the results."""
        inventory, places = self._inventory, ledger_places(self._inventory.index, book)
        find = partial(overwriting, self._reader, inventory.index, prospect)
        return [
            *inventory.warnings,
            *find(places, IN_THE_LEDGER),
            *find(self._listed - places, "is already listed by the service"),
        ]

    async def _look(self, prospect: Prospect) -> tuple[dict[str, list[RunningAhead]], Readiness]:
        """See on the service who runs and whether what the jobs need is there."""
        region = resolve_region(self._settings.aws) or self._inventory.region
        if not region:
            raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
        access = open_cleanrooms(
            self._settings.aws,
            region=region,
            concurrency=self._settings.submit.concurrency,
            tag_jobs=self._settings.submit.tag_jobs,
        )
        needs = await asyncio.to_thread(self._needs)
        async with access as api:
            running = await self._running(api, prospect)
            return running, await Readier(api, self._settings.retry).check(needs)

    async def _running(self, api: CleanRooms, prospect: Prospect) -> dict[str, list[RunningAhead]]:
        catalog = Catalog(api, self._settings.retry, sleep=asyncio.sleep)
        found = {}
        for membership in prospect.lanes:
            try:
                listed = await catalog.jobs(membership)
            except ReadError as exc:
                raise StoppedError(f"the service does not tell what runs in membership {membership}: {exc}") from exc
            self._listed |= {
                (membership, job.trained_model, job.name)
                for job in listed
                if job.status in {*RUNNING_STATUSES, "ACTIVE"}
            }
            found[membership] = [
                RunningAhead("", max((self._now - job.created_at).total_seconds(), 0.0))
                for job in listed
                if job.status in RUNNING_STATUSES
            ]
        return found

    def _needs(self) -> set[Need]:
        """What the rows name; reads the whole manifest again."""
        needs = set()
        index = self._inventory.index
        for number in range(len(index)):
            request = self._reader.request_at(index.offsets[number], index.lines[number])
            if request is not None:
                membership = request["membershipIdentifier"]
                version = request.get("trainedModelVersionIdentifier", "")
                needs.add(Need("trained model", membership, request["trainedModelArn"], version))
                needs.add(Need("channel", membership, request["dataSource"]["mlInputChannelArn"]))
        return needs


def read_history(location: Location, *, sandbox: bool, region: str | None) -> tuple[History, Book]:
    """Read one ledger, also while a run writes to it; a file that is not there is empty.

    Raises UsageError where it cannot be read or is of a rehearsal and the plan is not, LedgerError where it is damaged.
    """
    history, book = History(), Book()

    def passing() -> Iterator[Event]:
        for event in read_ledger(location, region=region):
            book.apply(event)
            yield event

    if not isinstance(location, Path) or location.exists():
        history.read(passing())
    refuse_rehearsal_mix(book, location, sandbox=sandbox)
    return history, book


def _with_others(own: History, path: Location, options: PlanOptions, region: str | None) -> History:
    """Add the ledgers of `--history` to what the own one tells."""
    known = History()
    for location in options.history:
        if isinstance(location, Path) and not location.exists():
            raise UsageError(f"--history {location}: there is no such file")
        if location == path:
            continue  # each job counts once
        known.add(read_history(location, sandbox=options.sandbox, region=region)[0])
    known.add(own)
    return known
