"""What `submit` would do, and when all of it would be done; `plan` and the question before a run print it.

No Start call is made and nothing is written; a run may have the ledger meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from batchsubmit.app.run import Run, SubmitOptions, require_region
from batchsubmit.aws import resolve_region
from batchsubmit.cleanrooms.api import Input, inputs_of
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.job_states import is_good_end, is_running
from batchsubmit.core.jobs import JobClass, ResultPlace, Share
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.forecast import NOTHING_KNOWN, Finish, RunHistory, SlotCounts, assumed_times, forecast, lanes_of
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.open import refuse_rehearsal_mix
from batchsubmit.ledger.read import read_ledger
from batchsubmit.manifest.check import CheckedManifest, open_checked_manifest
from batchsubmit.manifest.overwrites import warnings_of_rows
from batchsubmit.manifest.rows_done import ManifestProgress
from batchsubmit.schema import Problem
from batchsubmit.submit.engine import open_reads
from batchsubmit.submit.inputs import Readiness, check_inputs, warnings_of
from batchsubmit.submit.stopping import reading
from batchsubmit.text import counted, duration

_RAISED = (2, 5)
"""How many times the slots there are a plan looks at too."""

_Running = dict[str, list[tuple[JobClass, float]]]
"""The jobs that run, with their ages in seconds, by membership."""


class InstanceWork(NamedTuple):
    """The jobs to do on one instance type, what they take (None where no run time is known), and what that costs."""

    instance_type: str
    to_do: int
    hours: float | None
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do. `running` is by membership, None where nothing shows it; `warnings` keep no row back.

    `basis` says what the estimate rests on or, without a `finish`, what is missing. `what_ifs` has other quotas, the
    slots that they leave these memberships, and when it would be done with them.
    """

    options: SubmitOptions
    made_at: datetime
    invalid: int
    progress: ManifestProgress
    running: Mapping[str, int] | None
    quotas: SlotCounts
    are_quotas_assumed: bool
    slots: int
    finish: Finish | None
    basis: str
    what_ifs: tuple[tuple[SlotCounts, int, Finish], ...]
    readiness: Readiness | None
    warnings: tuple[Problem, ...]
    models: Counter[str]
    types: tuple[InstanceWork, ...]
    repeated: int
    repeats: str

    @property
    def instance_hours(self) -> float | None:
        """What all jobs to do take; None where no run time is known."""
        hours = [each.hours for each in self.types if each.hours is not None]
        return sum(hours) if len(hours) == len(self.types) else None

    @property
    def usd(self) -> float | None:
        """What that costs, as far as the settings have prices; None where they have none."""
        costs = [each.usd for each in self.types if each.usd is not None]
        return sum(costs) if costs else None

    @property
    def rows(self) -> int:
        """The rows that can be sent."""
        return sum(lane.states.total() for lane in self.progress.lanes.values())

    def lanes(self) -> list[dict[str, Any]]:
        """What there is to say of each membership."""
        return [
            {
                "membership": membership,
                **lane.as_dict(),
                "slots": self.quotas.per_membership,
                "running": None if self.running is None else self.running.get(membership, 0),
            }
            for membership, lane in self.progress.lanes.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        ready = self.readiness
        return {
            "manifest": self.options.manifest,
            "ledger": str(self.options.place),
            "batch": self.options.batch,
            "rows": self.rows + self.invalid,
            **{name: getattr(self, name) for name in ("invalid", "slots", "basis", "instance_hours", "usd")},
            **{name: getattr(self.progress, name) for name in ("to_do", "unknown", "unknown_elsewhere", "again")},
            "memberships": self.lanes(),
            "quotas": asdict(self.quotas) | {"assumed": self.are_quotas_assumed},
            "finish": self.finish and self.finish.as_dict(self.made_at),
            "what_if": [
                {**asdict(quotas), "slots": slots, "seconds": round(finish.seconds, 3)}
                for quotas, slots, finish in self.what_ifs
            ],
            "repeats": {"jobs": self.repeated, "batch": self.repeats} if self.repeated else None,
            "models": [{"trained_model": arn, "to_do": jobs} for arn, jobs in self.models.most_common()],
            "instance_types": [each._asdict() for each in self.types],
            "warnings": list(map(asdict, self.warnings)),
            "online": ready and {name: getattr(ready, name) for name in ("checked", "problems", "untold", "warnings")},
        }


async def plan(options: SubmitOptions, settings: Settings, *, history: tuple[Location, ...], online: bool) -> Plan:
    """Say what `submit` would do. Raises ManifestError, UsageError, LedgerError, StoppedError."""
    if online and options.sandbox:
        raise UsageError("--online looks at the service, and a sandbox begins empty: leave one of them out")
    region = settings.aws.region if options.sandbox else resolve_region(settings.aws)
    async with open_checked_manifest(options.manifest, settings, region=region, terms=options.terms) as (_, inventory):
        options.refuse_problems(inventory)
        planner = _Planner(options, settings, inventory, region or inventory.region, history)
        await asyncio.to_thread(planner.read)
        seen = await planner.look() if online else None
        return await asyncio.to_thread(planner.make, seen, raised=_RAISED)


async def plan_of(run: Run) -> Plan:
    """Say in short what a run that is about to begin would do. Its manifest is checked, and is not read again."""
    planner = _Planner(run.options, run.settings, run.inventory, run.region)
    await asyncio.to_thread(planner.read)
    return await asyncio.to_thread(planner.make)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the service shows: the jobs that run, where results are, the inputs, and the rows to do by input."""

    running: _Running
    places: set[ResultPlace]
    readiness: Readiness
    wanted: Counter[Input]

    def readiness_by(self, finish: Finish | None, now: datetime) -> Readiness:
        """Whether what the jobs need is ready, and is there until they are done."""
        through_at = now + timedelta(seconds=finish.seconds) if finish else None
        words = warnings_of(self.readiness.found, self.wanted, now=now, through_at=through_at)
        return replace(self.readiness, warnings=(*self.readiness.warnings, *words))


@dataclass
class _Planner:
    """A checked manifest and, once they are read, what ledgers have: of its rows, and of how long jobs take."""

    options: SubmitOptions
    settings: Settings
    inventory: CheckedManifest
    region: str | None
    history: tuple[Location, ...] = ()
    now: datetime = field(default_factory=SystemClock().now)
    own: RunHistory = field(init=False)
    book: LedgerState = field(init=False)
    times: RunTimes = field(default_factory=RunTimes)

    def read(self) -> None:
        """Read the ledger, and the run times that it and the ledgers of `--history` show."""
        options = self.options
        self.own, self.book = self._read(options.place)
        for location in self.history:
            if isinstance(location, Path) and not location.exists():
                raise UsageError(f"--history {location}: there is no such file")
            if location != options.place:  # each job counts once
                other, _ = self._read(location)
                self.times.update(other.times())
                self.own.learned = {**other.learned, **self.own.learned}
        self.times.update(self.own.times())
        if options.job_minutes is not None:
            self.times = assumed_times(options.job_minutes * 60)
        elif options.sandbox:  # whose jobs all take the same time
            self.times = assumed_times(options.sandbox_job_seconds, doubt=0.0, spread=0.0)
        self.progress = ManifestProgress.of(self.inventory.index, self.book, retry=options.retry)

    def _read(self, location: Location) -> tuple[RunHistory, LedgerState]:
        """Read one ledger, also while a run writes to it; a file that is not there is empty.

        Raises UsageError where it cannot be read or is of a rehearsal and the plan is not, LedgerError where it is
        damaged.
        """
        history, book = RunHistory(), LedgerState()
        if not isinstance(location, Path) or location.exists():
            for event in read_ledger(location, region=self.region):
                book.apply(event)
                history.apply(event)
        refuse_rehearsal_mix(book, location, sandbox=self.options.sandbox)
        return history, book

    async def look(self) -> _Seen:
        """Ask the service who runs, where results are, and whether what the jobs need is ready; a signal ends it."""
        running, places = _Running(), set[ResultPlace]()
        async with reading() as stop, open_cleanrooms(self.settings, region=require_region(self.region)) as api:
            reads = open_reads(api, self.settings, stop, SystemClock())
            for membership in self.progress.lanes:
                try:
                    listed = await reads.jobs(membership)
                except ReadError as exc:
                    words = f"the service does not tell what runs in membership {membership}: {exc}"
                    raise StoppedError(words) from exc
                running[membership] = []
                for job in listed:
                    if is_running(job.status):
                        age = max((self.now - job.created_at).total_seconds(), 0.0)
                        running[membership].append((JobClass(job.trained_model), age))
                    if is_running(job.status) or is_good_end(job.status):
                        places.add((membership, job.trained_model, job.name))
            wanted = await asyncio.to_thread(self._wanted)
            readiness = await check_inputs(reads, wanted, waits=self.settings.submit.wait_for_inputs)
        return _Seen(running, places, readiness, wanted)

    def _wanted(self) -> Counter[Input]:
        """Count the rows to do by what they name, which the other rows name too; reads the whole manifest again."""
        wanted = Counter[Input]()
        index = self.inventory.index
        to_do = {number for lane in self.progress.lanes.values() for number in lane.rows_to_do}
        for number in range(len(index)):
            if request := index.request(number):
                for each in inputs_of(request):
                    wanted[each] += number in to_do
        return wanted

    def make(self, seen: _Seen | None = None, *, raised: tuple[int, ...] = ()) -> Plan:
        """Bring rows, ledgers, service and estimate together; `raised` are factors of other quotas to look at."""
        index, progress = self.inventory.index, self.progress
        running = seen.running if seen else self.own.running(self.now, self.times)
        is_known = seen or self.times.ended() or not running
        work = progress.work(index)
        estimate = self._estimate(work, running if is_known else {}, raised)
        repeated, repeats = progress.repeated(index, self.book, batch=self.options.batch)
        return Plan(
            options=self.options,
            made_at=self.now,
            invalid=self.inventory.invalid_count,
            progress=progress,
            running={membership: len(jobs) for membership, jobs in running.items()} if is_known else None,
            readiness=seen.readiness_by(estimate["finish"], self.now) if seen else None,
            warnings=warnings_of_rows(self.inventory, progress, self.book, seen.places if seen else frozenset()),
            models=sum((Counter({each.trained_model: each.jobs}) for each in work), Counter[str]()),
            types=self._types(work),
            repeated=repeated,
            repeats=repeats,
            **estimate,
        )

    def _estimate(self, work: Iterable[Share], running: _Running, raised: Iterable[int]) -> dict[str, Any]:
        """When it is done, by which slots: members of a `Plan`."""
        limits, per_second = self.settings.slots, self.settings.rate.max_per_second
        waiting = {(each.membership, JobClass(each.trained_model, each.instance_type)): each.jobs for each in work}
        lanes = lanes_of(waiting, running)
        quotas, assumed = self.own.slots(lanes, per_membership=limits.per_membership, per_account=limits.per_account)
        finish = forecast(lanes.values(), quotas, self.times, per_second=per_second)
        what_ifs = []
        for factor in raised:
            more = SlotCounts(per_membership=quotas.per_membership * factor, per_account=quotas.per_account * factor)
            slots = min(len(lanes) * more.usable, more.per_account)
            then = forecast(lanes.values(), more, self.times, per_second=per_second)
            if then and sum(waiting.values()) > slots:
                what_ifs.append((more, slots, then))
        return {
            "quotas": quotas,
            "are_quotas_assumed": assumed,
            "slots": min(len(lanes) * quotas.usable, quotas.per_account),
            "finish": finish,
            "basis": self._basis() if finish else NOTHING_KNOWN,
            "what_ifs": tuple(what_ifs),
        }

    def _basis(self) -> str:
        options, ended = self.options, self.times.ended()
        if options.job_minutes is not None:
            return f"your word that a job takes about {options.job_minutes:g} minutes, within a sixth or so"
        if options.sandbox:
            return f"the sandbox's jobs take {options.sandbox_job_seconds:g} s each"
        jobs = counted(len(ended), "job that has", "jobs that have")
        return f"{jobs} ended, after {duration(sum(ended) / max(len(ended), 1))} on average"

    def _types(self, work: Mapping[Share, float]) -> tuple[InstanceWork, ...]:
        """What the jobs to do take of each instance type, the most used first."""
        jobs, hours, prices = Counter[str](), dict[str, float](), self.settings.prices
        for share, instances in work.items():
            name = share.instance_type
            mean = self.times.mean_seconds(JobClass(share.trained_model, name))
            jobs[name] += share.jobs
            if mean is not None:
                hours[name] = hours.get(name, 0.0) + share.jobs * instances * mean / 3600
        usd = {name: hours[name] * prices[name] for name in hours.keys() & prices.keys()}
        return tuple(InstanceWork(name, count, hours.get(name), usd.get(name)) for name, count in jobs.most_common())
