"""What follows a run: report, export, copies in S3, notices. In that order, each in spite of the others.

Nothing here touches the ledger or raises: what went wrong is a sentence, and a copy or a page that is missing makes the
run one to be repeated (exit status 3). A notice that could not be sent changes no exit status.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchsubmit.clock import timestamp
from batchsubmit.errors import EXIT_STOPPED, BatchsubmitError, exit_status
from batchsubmit.forecast import RunHistory
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.outputs.notify import Target, notice, notify
from batchsubmit.outputs.upload import Destination, upload
from batchsubmit.report.summary import Summary

Writer = Callable[[Location, Path], object]
"""Writes something (the path) from a ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterRun:
    """What is to be done when the run has ended. Files are written in the order given; `report` is one of them."""

    files: tuple[tuple[Path, Writer], ...] = ()
    report: Path | None = None
    destination: Destination | None = None
    overwrite: bool = False
    targets: tuple[Target, ...] = ()
    secret: str | None = field(default=None, repr=False)
    notify_timeout_seconds: float = 10.0
    region: str | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.files or self.destination or self.targets)


@dataclass(slots=True, kw_only=True)
class Deeds:
    """What was done. `problems` call for a repetition, `untold` are notices that did not arrive."""

    written: list[Path] = field(default_factory=list)
    uploaded: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)

    def exit_status(self, of_run: int) -> int:
        """What remains to be done outranks what failed."""
        return max(of_run, EXIT_STOPPED) if self.problems else of_run

    def as_dict(self) -> dict[str, Any]:
        """As the JSON summary has it."""
        return {
            "written": [str(path) for path in self.written],
            "uploaded": self.uploaded,
            "problems": self.problems,
            "untold": self.untold,
        }


async def follow_up(summary: Summary, headline: str, after: AfterRun) -> Deeds:
    """Do what is asked for after a run that came to an end."""
    deeds = Deeds()
    ledger = parse_location(summary.ledger)
    for path, write in after.files:
        try:
            await asyncio.to_thread(_write, write, ledger, path)
        except (OSError, BatchsubmitError) as exc:
            deeds.problems.append(f"{path} could not be written: {getattr(exc, 'strerror', None) or exc}")
        else:
            deeds.written.append(path)
    if after.destination and isinstance(ledger, Path):
        sent = await upload(ledger, deeds.written, after.destination, region=after.region, overwrite=after.overwrite)
        deeds.uploaded.extend(sent.urls)
        deeds.problems.extend(sent.problems)
    body = notice(
        at=timestamp(datetime.now(UTC)),
        exit_status=deeds.exit_status(summary.exit_status),
        headline=headline,
        batch=summary.batch,
        manifest=summary.manifest,
        ledger=summary.ledger,
        run=summary.run,
        reason=summary.stop_message,
        counts=summary.counts(),
        expected_finish=await asyncio.to_thread(_expected, ledger, after) if after.targets else None,
        report=str(after.report) if after.report in deeds.written else "",
        uploaded=deeds.uploaded,
        problems=deeds.problems,
    )
    deeds.untold.extend(await _tell(body, after))
    return deeds


def _expected(ledger: Location, after: AfterRun) -> dict[str, float | str] | None:
    """When all will be done, were what is left sent at once; None where that is not known, or nothing runs."""
    progress, now = RunHistory(), datetime.now(UTC)
    try:
        for event in read_ledger(ledger, region=after.region):
            progress.apply(event)
    except (OSError, BatchsubmitError):
        return None  # what is wrong with it the run has said
    finish = progress.finish(now)
    return finish.as_dict(now) if finish and finish.seconds else None


async def tell_of_failure(error: BatchsubmitError, after: AfterRun, *, batch: str, manifest: str) -> list[str]:
    """Tell of a run that did not come about or broke off; give a sentence for each notice that did not arrive."""
    body = notice(
        at=timestamp(datetime.now(UTC)),
        exit_status=exit_status(error),
        headline="not run to its end",
        batch=batch,
        manifest=manifest,
        reason=str(error),
    )
    return await _tell(body, after)


async def _tell(body: dict[str, Any], after: AfterRun) -> list[str]:
    return await notify(after.targets, body, secret=after.secret, timeout_seconds=after.notify_timeout_seconds)


def _write(write: Writer, ledger: Location, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(ledger, path)
