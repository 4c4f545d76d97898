"""One run's own record: what it was asked, its first and last line in the ledger, and its account of every row.

It sends nothing; `app` puts the machinery together that does.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice
from typing import TYPE_CHECKING

from batchsubmit import __version__
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.config import Settings
from batchsubmit.core.jobs import RunEnded, RunStarted, Share
from batchsubmit.core.states import Action, decide, end_words, has_failed, is_good_end
from batchsubmit.ledger.base import Ledger
from batchsubmit.ledger.location import Location
from batchsubmit.manifest.check import CheckedManifest
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.progress import Standing
from batchsubmit.observers.base import RunCounts, bind_run
from batchsubmit.report.summary import Summary, UnknownJob
from batchsubmit.submit.stopping import NO_LIMIT, FailureLimit, Stop, StopReason
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.schema import RowWarning

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """What one `submit` was asked to do, beside the settings. `moment` has the values of `{date}` and `{time}`."""

    manifest: str
    ledger: Location | None = None
    batch: str = ""
    moment: Mapping[str, str] = field(default_factory=dict)
    sandbox: bool = False
    sandbox_job_seconds: float = 10.0
    wait: bool = False
    canary: int = 0
    skip_invalid: bool = False
    allow_duplicates: bool = False
    retry_failed: bool = False
    resubmit_unknown: bool = False
    failure_limit: FailureLimit = NO_LIMIT
    deadline: datetime | None = None


class Run:
    """What one run is accountable for. Others fill in warnings, what is undecided, quotas and who holds them."""

    def __init__(self, *, options: SubmitOptions, ledger: Ledger, stop: Stop, inventory: CheckedManifest) -> None:
        self.options = options
        self.ledger = ledger
        self.stop = stop
        self.inventory = inventory
        self._clock = SystemClock()
        self._began_at = self._clock.monotonic()
        self._id = _run_name(self._clock.now())
        self.tally = RunCounts(self._judge_failures)
        self.undecided: dict[str, str] = {}
        self.waits_for: dict[str, str] = {}
        self.quotas: dict[str, int] = {}
        self.refused_by: dict[str, float | None] = {}
        self.held_by_others: dict[str, str] = {}
        self.warnings: tuple[RowWarning, ...] = ()
        self.held: dict[str, str] = {}
        self.before = Standing.of(inventory.index, ledger.book)

    async def begin(
        self, spooled: ManifestFile, work: tuple[Share, ...] = (), settings: Settings | None = None
    ) -> None:
        """Write the run's first line, with the work that is to be done, then the rows that cannot be sent."""
        self._began_at = self._clock.monotonic()  # somebody may have been asked before, and thought about it
        started = RunStarted(
            at=self._now(),
            run=self._id,
            batch=self.options.batch,
            manifest=spooled.label,
            manifest_sha256=spooled.sha256,
            version=__version__,
            holder=f"process {os.getpid()} on {socket.gethostname()}",
            sandbox=self.options.sandbox,
            to_do=self.before.left + self.before.unknown + (self.before.failed if self.options.retry_failed else 0),
            rows=self.inventory.row_count,
            work=work,
            per_membership=settings.slots.per_membership if settings else 0,
            per_account=settings.slots.per_account if settings else 0,
            per_second=settings.rate.max_per_second if settings else 0.0,
        )
        bind_run(self._id)
        await self.ledger.put(started)
        for row in self.inventory.invalid:
            if self.ledger.book.get(row.key) is None:
                self.ledger.note(row.failed(self._now()))

    @property
    def must_follow(self) -> bool:
        """Whether jobs of earlier runs are still to be followed to their end."""
        return self.options.wait and self.before.submitted > self.before.finished

    def decide(self, key: str) -> Action:
        """Say what is to be done about a row's job."""
        return decide(self.ledger.book.get(key), retry_failed=self.options.retry_failed)

    def canaries(self) -> list[str]:
        """The keys of the first rows, those that must finish well before the rest is sent."""
        return list(islice(self.inventory.index, self.options.canary))

    def judge_canaries(self) -> None:
        """Stop the run unless all canaries have finished well."""
        states = [self.ledger.book.get(key) for key in self.canaries()]
        bad = [state for state in states if state is not None and has_failed(state)]
        if bad:
            why = end_words(bad[0]) if bad[0].bad_end else f"{bad[0].code}: {bad[0].message}"
            words = (
                f"{len(bad)} of {counted(len(states), 'canary', 'canaries')} did not finish well; {bad[0].name}: {why}"
            )
            self.stop.request(
                StopReason.CANARY, f"{words}. Mend the rows, or leave --canary out; the rest was not sent"
            )
        elif not all(state is not None and is_good_end(state.status) for state in states):
            self.stop.request(StopReason.CANARY, "the canaries are not known to have finished; the rest was not sent")

    def _judge_failures(self, tally: RunCounts) -> None:
        failed = tally.failed + tally.finished_badly
        decided = tally.submitted + tally.failed
        if self.options.failure_limit.is_exceeded(failed=failed, decided=decided):
            words = f"{failed:,} of {counted(decided, 'decided job')} failed, more than --max-failures allows"
            self.stop.request(StopReason.FAILURES, words)

    async def end(self, path: Location) -> Summary:
        """Account for every row and write the run's last line."""
        after = Standing.of(self.inventory.index, self.ledger.book)
        unknown = self.ledger.book.undecided()
        failed_before = 0 if self.options.retry_failed else self.before.failed
        summary = Summary(
            run=self._id,
            batch=self.options.batch,
            manifest=self.options.manifest,
            ledger=str(path),
            rows=self.inventory.row_count,
            submitted=after.submitted - self.before.submitted,
            submitted_before=self.before.submitted,
            failed=after.failed - failed_before,
            failed_before=failed_before,
            invalid=self.inventory.invalid_count,
            unknown=after.unknown,
            unknown_elsewhere=len(unknown) - after.unknown,
            left=after.left,
            finished_well=after.finished_well,
            finished_badly=after.finished - after.finished_well,
            bad_ends=dict(after.bad_ends),
            refused_by_quota=self.tally.refused_by_quota,
            throttled=self.tally.throttled,
            seconds=round(self._clock.monotonic() - self._began_at, 3),
            is_waited_for=self.options.wait,
            stop_reason=str(self.stop.reason or ""),
            stop_message=self.stop.message,
            warnings=self.warnings,
            held_by_others=self.held_by_others,
            held=self.held,
            waits_for=self.waits_for,
            refused_by=self.refused_by,
            unknown_jobs=tuple(
                UnknownJob(
                    job=each.job,
                    membership=each.membership,
                    name=each.name,
                    reason=self.undecided.get(each.job) or each.message,
                )
                for each in unknown
            ),
        )
        if self.stop.reason is not StopReason.LEDGER:
            await self.ledger.put(
                RunEnded(
                    at=self._now(),
                    run=self._id,
                    exit_status=summary.exit_status,
                    reason=summary.stop_reason,
                    counts=summary.counts(),
                    quotas=self.quotas,
                )
            )
        return summary

    def _now(self) -> str:
        return timestamp(self._clock.now())


def _run_name(now: datetime) -> str:
    """Name a run: a process that imports us may begin several within a second."""
    number = next(_numbers)
    return f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}" + (f"-{number}" if number > 1 else "")
