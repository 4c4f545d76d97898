"""Puts a manifest's jobs on a queue: checked as a whole first, sent in batches, resumable. No job is submitted here.

Each message carries its job's key and batch id as attributes, so that a worker knows a job again however often it was
sent. The membership is its group, which makes a standard queue fair between memberships; on a FIFO queue the key is the
deduplication id.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from batchsubmit.config import Settings
from batchsubmit.core.jobs import Job
from batchsubmit.errors import ManifestError, StoppedError, status_of_work
from batchsubmit.manifest.check import CheckedManifest, Terms, open_checked_manifest
from batchsubmit.manifest.file import path_beside
from batchsubmit.manifest.index import job_at
from batchsubmit.manifest.rows import Problem, ProblemGroups, Reader
from batchsubmit.queue.client import Outgoing, Queue, QueueBusyError, batches, text_attributes
from batchsubmit.queue.message import BATCH_ATTRIBUTE, KEY_ATTRIBUTE, ORDINAL_ATTRIBUTE
from batchsubmit.queue.open import open_reached
from batchsubmit.queue.sent import SentJobs, open_sent
from batchsubmit.queue.settings import QueueAttributes
from batchsubmit.schema import Fault, RowWarning
from batchsubmit.submit.stopping import Stop, stop_on_signals

_CONCURRENCY = 8
_MOST_TRIES = 8
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueOptions:
    """What one `enqueue` was asked to do, beside the settings."""

    manifest: str
    url: str
    region: str
    batch: str = ""
    moment: Mapping[str, str] = field(default_factory=dict)
    allow_duplicates: bool = False
    progress: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueSummary:
    """What was sent, in messages."""

    manifest: str
    queue: str
    batch: str
    progress: str
    rows: int
    sent: int
    sent_before: int
    left: int
    seconds: float
    warnings: tuple[RowWarning, ...] = ()

    @property
    def exit_status(self) -> int:
        """Done, or to be gone on with."""
        return status_of_work(left=self.left)

    def as_dict(self) -> dict[str, Any]:
        """The JSON summary: the same names, and the exit status."""
        return {**asdict(self), "exit_status": self.exit_status}


async def enqueue(options: EnqueueOptions, settings: Settings) -> EnqueueSummary:
    """Send what was not sent before.

    Raises ManifestError (problems in rows; nothing was sent), UsageError, StoppedError.
    """
    began_at = time.monotonic()
    stop = Stop()
    task = asyncio.current_task()
    terms = Terms(batch=options.batch, allow_duplicates=options.allow_duplicates, moment=options.moment)
    path = options.progress or path_beside(options.manifest, "enqueue", batch=options.batch, option="--progress")
    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, at_once=lambda: task.cancel() if task else None))
        checked = open_checked_manifest(
            options.manifest, settings, region=options.region, terms=terms, is_stopped=lambda: stop.requested
        )
        _, reader, inventory = await stack.enter_async_context(checked)
        served, _ = await stack.enter_async_context(open_reached(options.url, settings, region=options.region))
        rows = _Rows(reader, inventory, options.batch)
        problems = inventory.problems or await asyncio.to_thread(rows.too_large, served.attributes)
        if problems:
            alike = inventory.alike if inventory.problems else ProblemGroups.of(problems)
            count = max(inventory.problem_count, len(problems))
            raise ManifestError(options.manifest, problems, count, alike.lines())
        sent = stack.enter_context(open_sent(path, options.url))
        before = sum(key in sent for key in inventory.index)
        count = await _Sender(served.queue, sent, stop).send(rows)
        return EnqueueSummary(
            manifest=options.manifest,
            queue=options.url,
            batch=options.batch,
            progress=str(path),
            rows=len(inventory.index),
            sent=count,
            sent_before=before,
            left=len(inventory.index) - before - count,
            seconds=round(time.monotonic() - began_at, 3),
            warnings=inventory.warnings,
        )


class _Rows:
    """The rows of a checked manifest as messages."""

    def __init__(self, reader: Reader, inventory: CheckedManifest, batch: str) -> None:
        self._reader = reader
        self._index = inventory.index
        self._batch = batch

    def messages(self, sent: SentJobs) -> Iterator[Outgoing]:
        """Give the messages that were not sent. Raises StoppedError where the manifest changed meanwhile."""
        for number, key in enumerate(self._index):
            if key not in sent:
                yield self._message(number)

    def too_large(self, terms: QueueAttributes) -> list[Problem]:
        """Find the rows that are larger than the queue takes."""
        return [
            self._problem(number, size, terms.most_bytes)
            for number in range(len(self._index))
            if (size := self._message(number).size) > terms.most_bytes
        ]

    def _problem(self, number: int, size: int, most: int) -> Problem:
        wrong = f"makes a message of {size:,} bytes, and the queue takes {most:,}"
        right = "raise its MaximumMessageSize, or submit the row by batchsubmit submit"
        return self._reader.problem(self._index.lines[number], Fault(path="", wrong=wrong, right=right))

    def _job(self, number: int) -> Job:
        job = job_at(self._reader, self._index, number, batch=self._batch)
        if job is None:
            line = self._index.lines[number]
            raise StoppedError(
                f"the manifest changed while it was being sent, at line {line}; run the same command again to go on"
            )
        return job

    def _message(self, number: int) -> Outgoing:
        job, ordinal = self._job(number), self._index.ordinal(number)
        own = {KEY_ATTRIBUTE: job.key, BATCH_ATTRIBUTE: self._batch, ORDINAL_ATTRIBUTE: str(ordinal or "")}
        return Outgoing(
            id=job.key,
            # ASCII: SQS refuses a few characters that JSON allows.
            body=json.dumps(job.request, separators=(",", ":")),
            attributes=text_attributes(**own),
            group=job.membership,
        )


class _Sender:
    """Sends batches, several at a time, and writes down which SQS has."""

    def __init__(self, queue: Queue, sent: SentJobs, stop: Stop) -> None:
        self._queue = queue
        self._sent = sent
        self._stop = stop
        self._count = 0

    async def send(self, rows: _Rows) -> int:
        """Send everything, or until the run is asked to stop; gives the number of messages."""
        queued = batches(rows.messages(self._sent))
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(_CONCURRENCY):
                    tasks.create_task(self._send_batches(queued), name=f"enqueue {number}")
        except* StoppedError as group:
            raise next(_leaves(group)) from group
        return self._count

    async def _send_batches(self, queued: Iterator[list[Outgoing]]) -> None:
        while not self._stop.requested and (batch := next(queued, None)):
            await self._send(batch)

    async def _send(self, batch: list[Outgoing]) -> None:
        """Send one batch until SQS has all of it."""
        failures: list[str | None] = []
        for tries in range(1, _MOST_TRIES + 1):
            try:
                failures = await self._queue.send(batch)
            except QueueBusyError as exc:
                raise StoppedError(f"the queue cannot be reached: {exc}; run the same command again to go on") from exc
            accepted = [each.id for each, code in zip(batch, failures, strict=True) if code is None]
            if accepted:
                self._sent.add(accepted)
                self._count += len(accepted)
            batch = [each for each, code in zip(batch, failures, strict=True) if code is not None]
            if not batch:
                return
            await self._stop.pause(_PAUSE_SECONDS * tries)
        code = next(filter(None, failures))
        raise StoppedError(
            f"SQS refuses the job {batch[0].id} again and again: {code}; run the same command again to go on"
        )


def _leaves(group: BaseExceptionGroup[StoppedError]) -> Iterator[StoppedError]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc
