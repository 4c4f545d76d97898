"""What follows a run: report, export, copies in S3, notices. In that order, each one even if another fails.

Nothing here touches the ledger or raises: what went wrong is a sentence, and a copy or a page that is missing makes the
run one to be repeated (exit status 3). A notice that could not be sent changes no exit status.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchsubmit.app.run import SubmitOptions
from batchsubmit.aws import resolve_region
from batchsubmit.clock import timestamp
from batchsubmit.config import Settings
from batchsubmit.core.job_states import has_failed
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import EXIT_STOPPED, BatchsubmitError, exit_status
from batchsubmit.forecast import RunHistory
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.outputs.notify import Target, notice, notify, report_link
from batchsubmit.outputs.upload import Destination, upload
from batchsubmit.report.reasons import Reasons
from batchsubmit.report.summary import Summary, outcome_words
from batchsubmit.text import with_names

_MOST_REASONS = 3

Writer = Callable[[Location, Path, Settings], object]
"""Writes something (the path) from a ledger."""


@dataclass(slots=True, kw_only=True)
class AfterRunResult:
    """What was done. `problems` call for a repetition, `not_notified` are notices that did not arrive."""

    written: list[Path] = field(default_factory=list)
    uploaded: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_notified: list[str] = field(default_factory=list)

    def exit_status(self, of_run: int) -> int:
        """What remains to be done outranks what failed."""
        return max(of_run, EXIT_STOPPED) if self.problems else of_run

    def as_dict(self) -> dict[str, Any]:
        """As the JSON summary has it."""
        return {
            "written": [str(path) for path in self.written],
            "uploaded": self.uploaded,
            "problems": self.problems,
            "untold": self.not_notified,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterRun:
    """What is to be done when the run has ended. Files are written in the order given; `report` is one of them."""

    settings: Settings
    files: Mapping[Path, Writer] = field(default_factory=dict)
    report: str = ""
    destination: Destination | None = None
    targets: tuple[Target, ...] = ()

    async def follow_up(self, summary: Summary) -> AfterRunResult:
        """Do it after a run that came to an end."""
        result = AfterRunResult()
        ledger, region = parse_location(summary.ledger), resolve_region(self.settings.aws)
        for path, write in self.files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                await asyncio.to_thread(write, ledger, path, self.settings)
            except (OSError, BatchsubmitError) as exc:
                result.problems.append(f"{path} could not be written: {getattr(exc, 'strerror', None) or exc}")
            else:
                result.written.append(path)
        if self.destination and isinstance(ledger, Path):
            overwrite = self.settings.night.upload_overwrite
            sent = await upload(ledger, result.written, self.destination, region=region, overwrite=overwrite)
            result.uploaded.extend(sent.urls)
            result.problems.extend(sent.problems)
        if self.targets:
            report = self.report if Path(self.report) in result.written else ""
            finish, reasons = await asyncio.to_thread(_outlook, ledger, region)
            result.not_notified = await self._notify(
                exit_status=result.exit_status(summary.exit_status),
                headline=outcome_words(summary) + ("; what follows a run was not all done" if result.problems else ""),
                batch=summary.batch,
                manifest=summary.manifest,
                ledger=summary.ledger,
                run=summary.run,
                reason=summary.stop_message,
                reasons=reasons,
                counts=summary.counts.as_dict(),
                expected_finish=finish,
                report=report,
                link=report_link(report, result.uploaded, region),
                uploaded=result.uploaded,
                problems=result.problems,
            )
        return result

    async def notify_failure(self, error: BatchsubmitError, options: SubmitOptions) -> list[str]:
        """Notify of a run that did not begin or broke off; give a sentence for each notice that did not arrive."""
        return await self._notify(
            exit_status=exit_status(error),
            headline="not run to its end",
            batch=options.batch,
            manifest=options.manifest,
            reason=str(error),
        )

    async def _notify(self, **members: Any) -> list[str]:  # noqa: ANN401 (a notice's)
        night = self.settings.night
        for name in ("headline", "reason"):
            members[name] = with_names(members[name], self.settings.names)
        return await notify(
            self.targets,
            notice(at=timestamp(datetime.now(UTC)), **members),
            secret=night.webhook_secret.get_secret_value() if night.webhook_secret else None,
            timeout_seconds=night.notify_timeout_seconds,
        )


def _outlook(ledger: Location, region: str | None) -> tuple[dict[str, float | str] | None, list[str]]:
    """When all will be done, were what is left sent at once (None where unknown), and the top reasons of failures."""
    progress, state, now = RunHistory(), LedgerState(), datetime.now(UTC)
    try:
        for event in read_ledger(ledger, region=region):
            progress.apply(event)
            state.apply(event)
    except (OSError, BatchsubmitError):
        return None, []  # the run has reported what is wrong with it
    reasons = Reasons()
    for job in filter(has_failed, state):
        reasons.add(job)
    top = [f"{each.count:,} {each.state}: {each.kind}" for each in reasons.most_frequent_first()[:_MOST_REASONS]]
    finish = progress.finish(now)
    return finish.as_dict(now) if finish and finish.seconds else None, top
