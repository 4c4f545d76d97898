"""`batchsubmit enqueue`: a manifest is checked as a whole, then sent in batches. No job is submitted here.

Each message carries its job's key and batch id as attributes, so that a worker knows a job again however often it was
sent. The membership is its group, which makes a standard queue fair between memberships; on a FIFO queue the key is the
deduplication id.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from batchsubmit.app.worker import queue_and_region
from batchsubmit.cli.help import EXITS
from batchsubmit.cli.options import (
    command,
    conclude,
    json_option,
    manifest_options,
    queue_url_option,
    run_command,
    tell_warnings,
)
from batchsubmit.config import Settings
from batchsubmit.errors import ManifestError, StoppedError, UsageError, status_of_work
from batchsubmit.log import configure_logging
from batchsubmit.manifest.check import Terms, open_checked_manifest
from batchsubmit.manifest.file import path_beside
from batchsubmit.manifest.index import Index
from batchsubmit.queue.client import BUSY, Outgoing, Queue, batches, open_queue, text_attributes
from batchsubmit.queue.message import BATCH_ATTRIBUTE, KEY_ATTRIBUTE, ORDINAL_ATTRIBUTE
from batchsubmit.submit.stopping import Stop, stop_on_signals
from batchsubmit.text import agreeing, counted

_MOST_TRIES = 8
_PAUSE_SECONDS = 0.25


@command(
    (
        "put jobs on a queue, and go on where it ended when run again",
        'batchsubmit enqueue jobs.csv --queue-url "$QUEUE_URL"',
    ),
    ("the same rows as a round of their own", "batchsubmit enqueue jobs.csv --config worker.toml --batch-id 2026-w48"),
    exits={
        0: EXITS[0],
        2: "usage, settings or manifest wrong, or there is no such queue: nothing was sent",
        3: EXITS[3],
    },
)
@manifest_options
@queue_url_option
@click.option(
    "--progress",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="What was sent. [default: <manifest stem>.enqueue.jsonl in the current folder]",
)
@json_option
def enqueue(manifest: str, progress: Path | None, settings: Settings, *, allow_duplicates: bool, as_json: bool) -> int:
    """Put the jobs of MANIFEST on an SQS queue, for batchsubmit worker.

    Every row is checked before anything is sent. A second run goes on where the first one ended, and sends nothing
    twice that SQS is known to have.
    """
    configure_logging(settings.log.format, settings.log.level)
    terms = Terms.now(settings.submit, allow_duplicates=allow_duplicates)
    content = run_command(_send(manifest, settings, terms, progress))
    jobs, sent, before, left = counted(content["rows"], "job"), content["sent"], content["sent_before"], content["left"]
    words = f"{sent:,} of {jobs} sent to the queue in {content['seconds']:.1f} s"
    if before:
        words += f", {before:,} by earlier runs"
    if left:
        words += f"; {left:,} left, run the same command again to go on"
    if not (sent or left):
        were = agreeing(before, "was", "were")
        words = f"Nothing to do: {before:,} of {jobs} {were} sent before; see {content['progress']}"
    return conclude([words], content, as_json=as_json)


async def _send(manifest: str, settings: Settings, terms: Terms, progress: Path | None) -> dict[str, Any]:
    """Send what was not sent before, as the file `progress` says, if one is named; give the command's JSON object.

    Raises ManifestError (problems in rows; nothing was sent), UsageError, StoppedError.
    """
    began_at, stop = time.monotonic(), Stop()
    url, region = queue_and_region(settings)
    path = progress or path_beside(manifest, "enqueue", batch=terms.batch, option="--progress")
    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        terms = replace(terms, is_stopped=lambda: stop.requested)
        opening = open_checked_manifest(manifest, settings, region=region, terms=terms)
        _, checked = await stack.enter_async_context(opening)
        if checked.problems:
            raise ManifestError(manifest, checked.problems, checked.problem_count, checked.alike.lines())
        tell_warnings(checked.warnings)
        index = checked.index
        queue = await stack.enter_async_context(open_queue(url, settings, region=region))
        sent = stack.enter_context(_open_sent(path, url))
        before = sum(key in sent.keys for key in index)
        numbers = (number for number, key in enumerate(index) if key not in sent.keys)
        queued = batches(_message(index, number, terms.batch) for number in numbers)
        await _send_batches(queue, sent, queued, stop)
        count = sum(key in sent.keys for key in index) - before
        left = len(index) - before - count
        return {
            "manifest": manifest,
            "queue": url,
            "batch": terms.batch,
            "progress": str(path),
            "rows": len(index),
            "sent": count,
            "sent_before": before,
            "left": left,
            "seconds": round(time.monotonic() - began_at, 3),
            "warnings": list(map(asdict, checked.warnings)),
            "exit_status": status_of_work(left=left),
        }


def _message(index: Index, number: int, batch: str) -> Outgoing:
    """Make a row's message. Raises StoppedError where the manifest has changed since it was checked."""
    job, ordinal = index.job(number, batch=batch), index.ordinal(number)
    if job is None:
        raise StoppedError(
            f"the manifest changed while it was being sent, at line {index.lines[number]}; "
            "run the same command again to go on"
        )
    own = {KEY_ATTRIBUTE: job.key, BATCH_ATTRIBUTE: batch, ORDINAL_ATTRIBUTE: str(ordinal or "")}
    # ASCII: SQS refuses a few characters that JSON allows.
    body = json.dumps(job.request, separators=(",", ":"))
    return Outgoing(id=job.key, body=body, attributes=text_attributes(own), group=job.membership)


class _SentJobs:
    """The keys that were sent to one queue, in a file beside the manifest's ledger, so that a rerun goes on.

    One line a batch, appended once SQS has it. A crash between the two sends a batch twice; its messages carry their
    keys, and the worker knows them again.
    """

    def __init__(self, path: Path, file: BinaryIO, queue: str) -> None:
        self._path = path
        self._file = file
        self._queue = queue
        self.keys = set(_read_keys(file, queue))

    def add(self, keys: Sequence[str]) -> None:
        """Write down that SQS has these, and wait for the disk. Raises StoppedError."""
        line = json.dumps({"queue": self._queue, "keys": keys}) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as exc:
            raise StoppedError(
                f"{self._path} cannot be written: {exc.strerror}; what was sent since is sent again by the next run, "
                "and known to the worker by its keys"
            ) from exc
        self.keys.update(keys)


@contextmanager
def _open_sent(path: Path, queue: str) -> Iterator[_SentJobs]:
    """Open the file for one run at a time, creating it if need be. Raises UsageError."""
    try:
        file = path.open("a+b")
    except OSError as exc:
        raise UsageError(f"{path} cannot be opened: {exc.strerror}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path} is in use by another run of batchsubmit enqueue; wait for it to end") from None
        yield _SentJobs(path, file, queue)


def _read_keys(file: BinaryIO, queue: str) -> Iterator[str]:
    file.seek(0)
    line = b"\n"
    for line in file:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("queue") == queue:
            yield from entry["keys"]
    if not line.endswith(b"\n"):  # a crash left half a line, which counts for nothing
        file.write(b"\n")


async def _send_batches(queue: Queue, sent: _SentJobs, queued: Iterator[list[Outgoing]], stop: Stop) -> None:
    """Send batches, each until SQS has all of it, as long as the run is not asked to stop. Raises StoppedError."""
    while not stop.requested and (batch := next(queued, None)):
        failures: list[str | None] = []
        for tries in range(1, _MOST_TRIES + 1):
            failures = await queue.send(batch)
            if BUSY in failures:
                why = queue.trouble
                raise StoppedError(f"the queue cannot be reached: {why}; run the same command again to go on")
            if accepted := [each.id for each, code in zip(batch, failures, strict=True) if code is None]:
                sent.add(accepted)
            batch = [each for each, code in zip(batch, failures, strict=True) if code is not None]
            if not batch:
                break
            await stop.pause(_PAUSE_SECONDS * tries)
        else:
            code = next(filter(None, failures))
            raise StoppedError(
                f"SQS refuses the job {batch[0].id} again and again: {code}; run the same command again to go on"
            )
