"""Requests from a program as a manifest: each becomes a line of JSONL, and is from then on what a file's would be.

So the checks, the defaults and above all the keys are the same, whoever submits a job.
"""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, TypeAlias, cast

from batchsubmit.errors import ManifestError
from batchsubmit.manifest.file import Spooled
from batchsubmit.manifest.rows import Problem

LABEL = "requests"
_MOST_PROBLEMS = 100
_AT_A_TIME = 256

Requests: TypeAlias = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]


@asynccontextmanager
async def open_requests(requests: Requests) -> AsyncIterator[Spooled]:
    """Read all requests into a file without a name. Raises ManifestError where one is no JSON."""
    with tempfile.TemporaryFile(prefix="batchsubmit-") as temporary:
        file, digest = cast("BinaryIO", temporary), hashlib.sha256()
        problems: list[Problem] = []
        row = 0
        async for request in _each(requests):
            row += 1
            try:
                line = _line(request)
            except (TypeError, ValueError, RecursionError) as exc:
                problems.append(_problem(row, exc))
                continue
            digest.update(line)
            file.write(line)
        if problems:
            raise ManifestError(LABEL, problems[:_MOST_PROBLEMS], len(problems))
        file.seek(0)
        yield Spooled(label=LABEL, format="jsonl", sha256=digest.hexdigest(), file=file)


async def _each(requests: Requests) -> AsyncIterator[object]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
        return
    for number, request in enumerate(requests, 1):
        yield request
        if number % _AT_A_TIME == 0:
            await asyncio.sleep(0)  # the loop is the caller's, who may have other things to do


def _line(request: object) -> bytes:
    """Spell a request as JSON; its text is ASCII, so a line end in it is escaped."""
    whole = dict(request) if isinstance(request, Mapping) else request
    return json.dumps(whole, allow_nan=False).encode() + b"\n"


def _problem(row: int, exc: Exception) -> Problem:
    right = "give objects, lists, texts, numbers, booleans and None, as the API takes them"
    return Problem(label=LABEL, line=row, column=1, path="", wrong=f"cannot be JSON: {exc}", right=right)
