"""Assembly of `plan`: opens manifest and ledgers to read, looks at the service on request, and forecasts.

It makes no Start call and writes nothing; a ledger may be in use by a run meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from batchsubmit.app.readiness import InputCheck, Readiness, warnings_of
from batchsubmit.app.run import Run, SubmitOptions, refuse_rehearsal_mix, require_region
from batchsubmit.app.submit import default_ledger
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.api import Input, inputs_of, is_running
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.cleanrooms.reads import JobReads, ReadError
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.jobs import JobClass
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.states import is_good_end
from batchsubmit.errors import ManifestError, StoppedError, UsageError
from batchsubmit.forecast import (
    NOTHING_KNOWN,
    AssumedTime,
    Finish,
    LaneWork,
    RunHistory,
    RunTimes,
    SlotCounts,
    forecast,
    lanes_of,
    lasting,
)
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.manifest.check import CheckedManifest, Terms, open_checked_manifest
from batchsubmit.manifest.progress import IN_THE_LEDGER, ManifestProgress, Place, ledger_places, overwriting
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import RowWarning

_RAISED = (2, 5)
"""How much more slots a plan looks at beside those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What a plan is asked, beside the settings; the names are those of `SubmitOptions`."""

    manifest: str
    ledger: Location | None = None
    batch: str = ""
    moment: Mapping[str, str] = field(default_factory=dict)
    sandbox: bool = False
    sandbox_job_seconds: float = 10.0
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
    def assumed(self) -> AssumedTime | None:
        """What the user said of the jobs' length; a sandbox's jobs all take the same time."""
        if self.job_minutes is not None:
            return AssumedTime(self.job_minutes * 60)
        return AssumedTime(max(self.sandbox_job_seconds, 1e-3), doubt=0.0, spread=0.0) if self.sandbox else None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """When the batch would be done with other quotas."""

    quotas: SlotCounts
    slots: int
    finish: Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimate and what it rests on; without `finish`, `basis` says what is missing."""

    quotas: SlotCounts
    are_quotas_assumed: bool
    finish: Finish | None
    basis: str
    slots: int
    what_ifs: tuple[WhatIf, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do. `running` is by membership; None where nothing tells. `warnings` keep no row back."""

    manifest: str
    ledger: Location
    batch: str
    made_at: datetime
    invalid: int
    progress: ManifestProgress
    running: Mapping[str, int] | None
    estimate: Estimate
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
        path = options.ledger or default_ledger(options.manifest, options.batch)
        ledger_region = region or inventory.region
        own, book = await asyncio.to_thread(read_history, path, sandbox=options.sandbox, region=ledger_region)
        times = await asyncio.to_thread(_times, own, path, options, ledger_region)
        planner = Planner(options, settings, reader=reader, inventory=inventory)
        return await planner.make(path, book, own, times, with_what_ifs=True)


async def plan_of(run: Run) -> Plan:
    """Say in short what a run that is about to begin would do. Its manifest is checked, and is not read again."""
    options = PlanOptions.of(run.options)
    own, book = await asyncio.to_thread(read_history, run.path, sandbox=options.sandbox, region=run.region)
    planner = Planner(options, run.settings, reader=run.reader, inventory=run.inventory)
    return await planner.make(run.path, book, own, own.times(options.assumed), with_what_ifs=False)


class Planner:
    """One plan in the making."""

    def __init__(self, options: PlanOptions, settings: Settings, *, reader: Reader, inventory: CheckedManifest) -> None:
        self._options = options
        self._settings = settings
        self._reader = reader
        self._inventory = inventory
        self._now = SystemClock().now()
        self._listed: set[Place] = set()

    async def make(
        self, path: Location, book: LedgerState, own: RunHistory, times: RunTimes, *, with_what_ifs: bool
    ) -> Plan:
        """Bring rows, ledger, service and estimate together."""
        index = self._inventory.index
        progress = ManifestProgress.of(index, book, retry_failed=self._options.retry_failed)
        readiness, wanted = None, Counter[Input]()
        longest = times.longest_seconds
        running: dict[str, list[tuple[JobClass, float]]] | None = own.running(self._now, longest)
        if running and longest is None:
            running = None
        if self._options.online:
            wanted = await asyncio.to_thread(self._wanted, progress)
            running, readiness = await self._look(progress, wanted)
        work = await asyncio.to_thread(progress.work, self._reader, index)
        waiting = {(each.membership, JobClass(each.trained_model, each.instance_type)): each.jobs for each in work}
        lanes = lanes_of(waiting, running or {})
        estimate = await asyncio.to_thread(self._estimate, own, lanes, times, with_what_ifs=with_what_ifs)
        if readiness is not None:
            through_at = self._now + timedelta(seconds=estimate.finish.seconds) if estimate.finish else None
            words = warnings_of(readiness.found, wanted, now=self._now, through_at=through_at)
            readiness = replace(readiness, warnings=(*readiness.warnings, *words))
        return Plan(
            manifest=self._options.manifest,
            ledger=path,
            batch=self._options.batch,
            made_at=self._now,
            invalid=self._inventory.invalid_count,
            progress=progress,
            running=None if running is None else {membership: len(jobs) for membership, jobs in running.items()},
            estimate=estimate,
            readiness=readiness,
            warnings=tuple(await asyncio.to_thread(self._warnings, progress, book)),
        )

    def _warnings(self, progress: ManifestProgress, book: LedgerState) -> list[RowWarning]:
        """Say of which jobs, in the ledger or listed by the service, the rows would overwrite the results."""
        inventory, places = self._inventory, ledger_places(self._inventory.index, book)
        find = partial(overwriting, self._reader, inventory.index, progress)
        return [
            *inventory.warnings,
            *find(places, IN_THE_LEDGER),
            *find(self._listed - places, "is already listed by the service"),
        ]

    def _estimate(
        self, own: RunHistory, lanes: dict[str, LaneWork], times: RunTimes, *, with_what_ifs: bool
    ) -> Estimate:
        slots, per_second = self._settings.slots, self._settings.rate.max_per_second
        quotas, assumed = own.slots(lanes, per_membership=slots.per_membership, per_account=slots.per_account)
        finish = forecast(lanes.values(), quotas, times, per_second=per_second)
        what_ifs = []
        for factor in _RAISED if with_what_ifs and finish else ():
            raised = SlotCounts(per_membership=quotas.per_membership * factor, per_account=quotas.per_account * factor)
            then = forecast(lanes.values(), raised, times, per_second=per_second)
            if then and sum(lane.waiting.total() for lane in lanes.values()) > slots_of(lanes, raised):
                what_ifs.append(WhatIf(quotas=raised, slots=slots_of(lanes, raised), finish=then))
        return Estimate(
            quotas=quotas,
            are_quotas_assumed=assumed,
            finish=finish,
            basis=self._basis(times) if finish else NOTHING_KNOWN,
            slots=slots_of(lanes, quotas),
            what_ifs=tuple(what_ifs),
        )

    def _basis(self, times: RunTimes) -> str:
        if self._options.job_minutes is not None:
            return f"your word that a job takes about {self._options.job_minutes:g} minutes, within a sixth or so"
        if self._options.sandbox:
            return f"the sandbox's jobs take {self._options.sandbox_job_seconds:g} s each"
        ended = times.ended
        jobs = "1 job that has" if len(ended) == 1 else f"{len(ended):,} jobs that have"
        return f"{jobs} ended, after {lasting(sum(ended) / max(len(ended), 1))} on average"

    async def _look(
        self, progress: ManifestProgress, wanted: Iterable[Input]
    ) -> tuple[dict[str, list[tuple[JobClass, float]]], Readiness]:
        """See on the service who runs and whether what the jobs need is there."""
        region = require_region(resolve_region(self._settings.aws) or self._inventory.region)
        access = open_cleanrooms(
            self._settings.aws,
            region=region,
            concurrency=self._settings.submit.concurrency,
            tag_jobs=self._settings.submit.tag_jobs,
        )
        async with access as api:
            running = await self._running(api, progress)
            return running, await InputCheck(api, self._settings.retry).check(
                wanted, waits=self._settings.submit.wait_for_inputs
            )

    async def _running(self, api: CleanRooms, progress: ManifestProgress) -> dict[str, list[tuple[JobClass, float]]]:
        catalog = JobReads(api, self._settings.retry, sleep=asyncio.sleep)
        found = {}
        for membership in progress.lanes:
            try:
                listed = await catalog.jobs(membership)
            except ReadError as exc:
                raise StoppedError(f"the service does not tell what runs in membership {membership}: {exc}") from exc
            self._listed |= {
                (membership, job.trained_model, job.name)
                for job in listed
                if is_running(job.status) or is_good_end(job.status)
            }
            found[membership] = [
                (JobClass(job.trained_model), max((self._now - job.created_at).total_seconds(), 0.0))
                for job in listed
                if is_running(job.status)
            ]
        return found

    def _wanted(self, progress: ManifestProgress) -> Counter[Input]:
        """Count the rows to do by what they name, which the other rows name too; reads the whole manifest again."""
        wanted = Counter[Input]()
        index = self._inventory.index
        to_do = {number for lane in progress.lanes.values() for number in lane.rows_to_do}
        for number in range(len(index)):
            if request := self._reader.request_at(*index.place(number)):
                for each in inputs_of(request):
                    wanted[each] += number in to_do
        return wanted


def slots_of(lanes: Mapping[str, LaneWork], quotas: SlotCounts) -> int:
    """How many slots the quotas leave these memberships."""
    by_account = Counter(lane.account for lane in lanes.values())
    return sum(min(number * quotas.usable, quotas.per_account) for number in by_account.values())


def read_history(location: Location, *, sandbox: bool, region: str | None) -> tuple[RunHistory, LedgerState]:
    """Read one ledger, also while a run writes to it; a file that is not there is empty.

    Raises UsageError where it cannot be read or is of a rehearsal and the plan is not, LedgerError where it is damaged.
    """
    progress, book = RunHistory(), LedgerState()
    if not isinstance(location, Path) or location.exists():
        for event in read_ledger(location, region=region):
            book.apply(event)
            progress.apply(event)
    refuse_rehearsal_mix(book, location, sandbox=sandbox)
    return progress, book


def _times(own: RunHistory, path: Location, options: PlanOptions, region: str | None) -> RunTimes:
    """Add what the ledgers of `--history` tell to what the own one does."""
    times = RunTimes(options.assumed)
    for location in options.history:
        if isinstance(location, Path) and not location.exists():
            raise UsageError(f"--history {location}: there is no such file")
        if location != path:  # each job counts once
            other, _ = read_history(location, sandbox=options.sandbox, region=region)
            times.update(other.times())
            own.learned = {**other.learned, **own.learned}
    times.update(own.times())
    return times
