"""One run of `submit`: what it was asked, its first and last line in the ledger, and its account of every row.

`RunRecord`, which writes the two lines, is the same for a worker. Nothing is sent from here.
"""

import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from structlog.contextvars import bind_contextvars

from batchsubmit import __version__
from batchsubmit.clock import SystemClock, parse_deadline, timestamp
from batchsubmit.config import Settings, changed
from batchsubmit.core.job_states import Action, Retry, decide
from batchsubmit.core.jobs import RunEnded, RunStarted
from batchsubmit.core.ledger_state import Counts, LedgerState
from batchsubmit.errors import EXIT_STOPPED, LostLedgerError, ManifestError, UsageError
from batchsubmit.ledger.base import Ledger
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.open import process_name
from batchsubmit.manifest.check import CheckedManifest, Terms
from batchsubmit.manifest.file import ManifestFile, path_beside
from batchsubmit.manifest.rows_done import ManifestProgress
from batchsubmit.manifest.source import ManifestSource
from batchsubmit.observers.base import RunCounts
from batchsubmit.outputs.templates import expand, expand_path, placeholders_at, zone_named
from batchsubmit.report.summary import Summary, UnknownJob
from batchsubmit.schema import Problem
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.stopping import FailureLimit, Stop, StopReason, canary_trouble
from batchsubmit.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """What one `submit` was asked to do, beside the settings. `moment` has the values of `{date}` and `{time}`.

    With `known_only`, rows are left alone that the ledger does not know.
    """

    manifest: str
    ledger: Location | None = None
    batch: str = ""
    moment: Mapping[str, str] = field(default_factory=dict)
    sandbox: bool = False
    sandbox_job_seconds: float = 10.0
    faults: Path | None = None
    job_minutes: float | None = None
    max_instance_hours: float | None = None
    wait: bool = False
    canary: int = 0
    skip_invalid: bool = False
    allow_duplicates: bool = False
    retry: Retry | None = None
    known_only: bool = False
    resubmit_unknown: bool = False
    failure_limit: FailureLimit | None = None
    deadline: datetime | None = None

    @property
    def terms(self) -> Terms:
        """How the manifest's rows are checked."""
        return Terms(
            batch=self.batch, allow_duplicates=self.allow_duplicates, keep_invalid=self.skip_invalid, moment=self.moment
        )

    @property
    def place(self) -> Location:
        """Where the ledger is. A rehearsal has its own, or it would keep the real run from its jobs.

        Raises UsageError where none is named, and a pipe gives no name.
        """
        kind = "sandbox.ledger" if self.sandbox else "ledger"
        return self.ledger or path_beside(self.manifest, kind, batch=self.batch, option="--ledger")

    def refuse_problems(self, inventory: CheckedManifest) -> None:
        """Raise ManifestError where rows are wrong that are not to be skipped."""
        if inventory.problems and not (self.skip_invalid and inventory.is_readable):
            raise ManifestError(self.manifest, inventory.problems, inventory.problem_count, inventory.alike.lines())


def submit_options(settings: Settings, now: datetime, **given: Any) -> SubmitOptions:  # noqa: ANN401 (its members)
    """Say what `submit` is asked, by `given` over the settings; `now` is any aware moment. Raises UsageError."""
    chosen = settings.submit
    zone, moment = zone_named(chosen.time_zone) if chosen.time_zone else None, placeholders_at(now, chosen)
    local = now.astimezone(zone) if zone else now.astimezone().replace(tzinfo=None)
    batch = given["batch"] if "batch" in given else expand(chosen.batch_id, moment, what="--batch-id")
    ledger = expand_path(chosen.ledger, moment, batch=batch, what="--ledger") if chosen.ledger else None
    by_settings: dict[str, Any] = {
        "moment": moment,
        "batch": batch,
        "retry": Retry() if given.pop("retry_failed", False) else None,
        "ledger": parse_location(ledger) if ledger and "ledger" not in given else None,
        "wait": chosen.wait,
        "failure_limit": FailureLimit.parse(chosen.max_failures) if chosen.max_failures is not None else None,
        "deadline": parse_deadline(chosen.deadline, local) if chosen.deadline is not None else None,
    }
    return SubmitOptions(**by_settings | given)


class RunRecord:
    """A run's name and time, and its first and last line in the ledger."""

    def __init__(self, ledger: Ledger, stop: Stop) -> None:
        self._ledger = ledger
        self._stop = stop
        self._clock = SystemClock()
        self._began_at = self._clock.monotonic()
        # Also two runs of one process that begin in one second have different names.
        self.id = f"{self._clock.now():%Y%m%dT%H%M%SZ}-{os.getpid()}-{secrets.token_hex(2)}"

    async def begin(self, **facts: Any) -> None:  # noqa: ANN401 (the members of RunStarted)
        """Write the first line. The run's time begins here: the user may have been asked before."""
        self._began_at = self._clock.monotonic()
        bind_contextvars(run=self.id)
        await self._ledger.put(
            RunStarted(at=self.now(), run=self.id, version=__version__, holder=process_name(), **facts)
        )

    async def end(self, exit_status: int, counts: dict[str, int], quotas: dict[str, int] | None = None) -> None:
        """Write the last line, unless the ledger is why the run stopped.

        A ledger that was lost gets it: of one that was cut, the next run sees by it that lines are missing before it.
        Raises LostLedgerError where that was not reported yet.
        """
        if self._stop.reason is StopReason.LEDGER:
            return
        with suppress(LostLedgerError) if self._stop.reason is StopReason.LEDGER_LOST else nullcontext():
            ended = RunEnded(
                at=self.now(),
                run=self.id,
                exit_status=exit_status,
                reason=str(self._stop.reason or ""),
                counts=counts,
                quotas=quotas or {},
            )
            await self._ledger.put(ended)

    def now(self) -> str:
        """The time for an event's `at`."""
        return timestamp(self._clock.now())

    def seconds(self) -> float:
        """How long the run has taken."""
        return round(self._clock.monotonic() - self._began_at, 3)


@dataclass(kw_only=True)
class Run:
    """A manifest that was checked and a ledger that is ours, and what one run does with them by its `engine`.

    The `canaries`, the keys of the first rows, must finish well before the rest is sent by an engine of its own.
    """

    options: SubmitOptions
    settings: Settings
    region: str
    ledger: Ledger
    stop: Stop
    manifest: ManifestFile
    inventory: CheckedManifest
    warnings: tuple[Problem, ...] = ()
    engine: Engine | None = None

    def __post_init__(self) -> None:
        """Count the rows as the ledger has them now."""
        self.tally = RunCounts(self._judge_failures)
        self.canaries = list(islice(self.inventory.index, self.options.canary))
        self.rows, self.before = self._count()
        self._record = RunRecord(self.ledger, self.stop)

    @property
    def has_work(self) -> bool:
        """Whether there are jobs to send, to look up, or to follow to their end."""
        has_open_ends = self.before.running or self.before.not_checked
        return bool(self.before.pending or self.ledger.state.undecided() or (self.options.wait and has_open_ends))

    async def begin(self) -> None:
        """Write the run's first line, with the work that is to be done, then the rows that cannot be sent."""
        before, settings, retry = self.before, self.settings, self.options.retry
        await self._record.begin(
            batch=self.options.batch,
            manifest=self.manifest.label,
            manifest_sha256=self.manifest.sha256,
            sandbox=self.options.sandbox,
            to_do=before.pending + before.unknown,
            rows=self.inventory.row_count,
            work=tuple(self.rows.work(self.inventory.index)),
            per_membership=settings.slots.per_membership,
            per_account=settings.slots.per_account,
            per_second=settings.rate.max_per_second,
            retry=retry.before if retry else "",
            settings=changed(settings),
            again=dict(self.rows.retried),
        )
        for event in self.inventory.invalid.values():
            if self.ledger.state.get(event.job) is None:
                self.ledger.note(msgspec.structs.replace(event, at=self._record.now()))

    def open_source(self, only: Collection[str] | None = None) -> ManifestSource:
        """Open the rows that are left to send; `only` these keys, where they are given."""

        def decision(key: str) -> Action:
            if only is not None and key not in only:
                return Action.NOTHING
            return decide(self.ledger.state.get(key), retry=self.options.retry)

        return ManifestSource(self.inventory.index, batch=self.options.batch, decision=decision)

    def judge_canaries(self) -> None:
        """Stop the run unless all canaries have finished well."""
        if why := canary_trouble([self.ledger.state.get(key) for key in self.canaries]):
            self.stop.request(StopReason.CANARY, f"{why}; the rest was not sent")

    def _judge_failures(self, tally: RunCounts) -> None:
        ended = tally.succeeded + tally.failed + tally.cancelled  # some of them may be jobs of earlier runs
        failed, decided = tally.rejected + tally.failed, tally.rejected + max(tally.submitted, ended)
        limit = self.options.failure_limit
        if limit and limit.is_exceeded(failed=failed, decided=decided):
            words = f"{failed:,} of {counted(decided, 'decided job')} failed, more than --max-failures allows"
            self.stop.request(StopReason.FAILURES, words)

    def _count(self) -> tuple[ManifestProgress, Counts]:
        """Where the manifest's rows stand, one by one and in numbers."""
        rows = ManifestProgress.of(self.inventory.index, self.ledger.state, retry=self.options.retry)
        learned = self.engine.slots.quotas() if self.engine else {}
        limits = self.ledger.state.work.limits(rows.lanes) | learned
        return rows, rows.counts(limits, invalid=self.inventory.invalid_count)

    def counts_now(self, *, running: int, in_progress: int) -> Counts:
        """Where the rows stand while the run lasts, without a look at each: what was, and what events brought since."""
        before, tally = self.before, self.tally
        unknown = max(len(self.ledger.state.undecided()) - in_progress, 0)
        rejected = tally.rejected + before.rejected
        submitted = before.submitted + tally.submitted
        ended = {name: getattr(before, name) + getattr(tally, name) for name in ("succeeded", "failed", "cancelled")}
        return Counts(
            total=before.total,
            pending=max(before.total - submitted - rejected - unknown, 0),
            submitted=submitted,
            running=min(running, submitted - sum(ended.values())),
            rejected=rejected,
            unknown=unknown,
            **ended,
        )

    async def end(self) -> Summary:
        """Account for every row and write the run's last line."""
        before, engine, unknown = self.before, self.engine, self.ledger.state.undecided()
        rows, after = self._count()
        why = engine.in_progress.undecided if engine else {}
        unknown_jobs = tuple(
            UnknownJob(job=job.job, membership=job.membership, name=job.name, reason=why.get(job.job) or job.message)
            for job in unknown
        )
        summary = Summary(
            run=self._record.id,
            batch=self.options.batch,
            manifest=self.options.manifest,
            ledger=str(self.options.place),
            counts=after,
            submitted=after.submitted - before.submitted,
            submitted_before=before.submitted,
            rejected=after.rejected - before.rejected,
            rejected_before=before.rejected - self.inventory.invalid_count,
            invalid=self.inventory.invalid_count,
            unknown_elsewhere=len(unknown) - after.unknown,
            bad_ends=dict(rows.bad_ends),
            refused_by_quota=self.tally.refused_by_quota,
            throttled=self.tally.throttled,
            seconds=self._record.seconds(),
            is_waited_for=self.options.wait,
            stop_reason=str(self.stop.reason or ""),
            stop_message=self.stop.message,
            warnings=self.warnings,
            held=engine.slots.other_quotas if engine else {},
            held_by_others=engine.slots.held_by_others() if engine else {},
            waits_for=engine.inputs.unfinished if engine else {},
            refused_by=engine.slots.refused_by if engine else {},
            unknown_jobs=unknown_jobs,
        )
        await self._record.end(summary.exit_status, after.as_dict(), engine.slots.quotas() if engine else {})
        return summary


def dated(retry: Retry, known: LedgerState, now: str) -> Retry:
    """Say what is old enough to be sent again: what failed by now or, where an interrupted retry goes on, before it."""
    last, end = (known.runs[-1] if known.runs else None), known.work.end
    if last and last.retry and (end is None or end.exit_status == EXIT_STOPPED):
        return replace(retry, before=last.retry)
    return replace(retry, before=now)


def require_region(region: str | None) -> str:
    """Give the region, if one was found. Raises UsageError."""
    if not region:
        raise UsageError("no AWS region: set AWS_REGION, or region under [aws] in the settings")
    return region
