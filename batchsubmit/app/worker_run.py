"""A worker's own record: its first and last line in the ledger, and its account in numbers.

A queue has no end, so there is no account of every row as `run` has it; what counts is what this worker did.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from batchsubmit import __version__
from batchsubmit.clock import SystemClock
from batchsubmit.core.jobs import JobRejected, RunEnded, RunStarted
from batchsubmit.core.states import Action, decide
from batchsubmit.errors import EXIT_DONE, EXIT_STOPPED
from batchsubmit.ledger.base import LostJobError, Mine
from batchsubmit.log import get_logger
from batchsubmit.observers.base import RunCounts, bind_run
from batchsubmit.queue.client import QueueCounters
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSummary:
    """One worker's life in numbers. `queue_*` are of messages, the others of jobs."""

    run: str
    queue: str
    ledger: str
    submitted: int
    failed: int
    unknown: int
    refused_by_quota: int
    throttled: int
    seconds: float
    queue_counts: dict[str, int]
    held_by_others: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    is_cut_short: bool = False
    stop_reason: str = ""
    stop_message: str = ""

    @property
    def exit_status(self) -> int:
        """A worker that was asked to end, and ended in its time, has done its duty; anything else stopped it."""
        is_asked = self.stop_reason in {"", str(StopReason.SIGNAL)}
        return EXIT_DONE if is_asked and not self.is_cut_short else EXIT_STOPPED

    def as_dict(self) -> dict[str, Any]:
        """The JSON summary: the same names, and the exit status."""
        return {**asdict(self), "exit_status": self.exit_status}


class WorkerRun:
    """What one worker is accountable for."""

    def __init__(self, *, queue: str, ledger_name: str, stop: Stop, sandbox: bool) -> None:
        self.tally = RunCounts()
        self.stop = stop
        self._queue = queue
        self._ledger_name = ledger_name
        self._sandbox = sandbox
        self._clock = SystemClock()
        self._began_at = self._clock.monotonic()
        self.id = f"{self._clock.now():%Y%m%dT%H%M%SZ}-{os.getpid()}"
        self._cut_short = ""
        self.held_by_others: dict[str, str] = {}
        self.held: dict[str, str] = {}

    def cut_short(self, grace_seconds: float, *, calls: int) -> None:
        """Some of what was under way was given up when the grace was over."""
        log = get_logger()
        log.warning("worker.grace_over", grace_seconds=grace_seconds, calls_under_way=calls)
        self._cut_short = (
            f"; the grace of {grace_seconds:g} s was over, and what was under way ({calls} calls) was given up: "
            "its next owner looks it up"
        )

    async def begin(self, recorder: Recorder, batch: str) -> None:
        """Write the first line."""
        bind_run(self.id)
        started = RunStarted(
            at=recorder.now(),
            run=self.id,
            batch=batch,
            manifest=self._queue,
            manifest_sha256="",
            version=__version__,
            holder=f"process {os.getpid()} on {socket.gethostname()}",
            sandbox=self._sandbox,
        )
        await recorder.ledger.put(started)

    async def end(self, recorder: Recorder, counters: QueueCounters) -> WorkerSummary:
        """Write the last line, and account."""
        summary = WorkerSummary(
            run=self.id,
            queue=self._queue,
            ledger=self._ledger_name,
            submitted=self.tally.submitted,
            failed=self.tally.failed,
            unknown=self.tally.unknown,
            refused_by_quota=self.tally.refused_by_quota,
            throttled=self.tally.throttled,
            seconds=round(self._clock.monotonic() - self._began_at, 3),
            queue_counts=asdict(counters),
            held_by_others=self.held_by_others,
            held=self.held,
            stop_reason=str(self.stop.reason or ""),
            is_cut_short=bool(self._cut_short),
            stop_message=self.stop.message + self._cut_short,
        )
        if self.stop.reason is not StopReason.LEDGER:
            counts = {name: value for name, value in asdict(summary).items() if type(value) is int}
            ended = RunEnded(
                at=recorder.now(),
                run=self.id,
                exit_status=summary.exit_status,
                reason=summary.stop_reason,
                counts=counts,
            )
            await recorder.ledger.put(ended)
        return summary


class LedgerBooks:
    """`sources.sqs.books.Books` on a recorder: the queue's side of the ledger."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def standing(self, keys: Sequence[str]) -> Sequence[Action]:
        """Say for each key what may be done with the job."""
        states = await self._recorder.ledger.states(keys)
        return [decide(states.get(key)) for key in keys]

    def standing_now(self, key: str) -> Action:
        """Say the same of one."""
        return decide(self._recorder.ledger.book.get(key))

    async def record(self, event: JobRejected) -> bool:
        """Write down that a message can never work, unless that is done, or is being done by somebody else."""
        claim = await self._recorder.ledger.claim(event.job)
        if not isinstance(claim, Mine):
            return False
        try:
            if decide(claim.state) is not Action.SUBMIT:
                return False
            await self._recorder.record(event)
        except LostJobError:
            return False
        finally:
            self._recorder.ledger.let_go(event.job)
        return True

    def now(self) -> str:
        """The time for an event's `at`."""
        return self._recorder.now()
