"""Copies a ledger and what was made from it to S3, and overwrites nothing but their own earlier states.

A ledger only ever grows. So each object carries, as metadata, the length and SHA-256 of the ledger that it was made
from, and may be replaced where that is a beginning of the present ledger: a resumed run replaces its own
earlier objects, and nothing is lost. All writes are conditional, so two runs cannot overwrite one another either.
"""

import asyncio
import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from batchsubmit.aws import COPY_TIMEOUTS, error_code, open_client
from batchsubmit.errors import UsageError

BYTES, SHA256 = "batchsubmit-ledger-bytes", "batchsubmit-ledger-sha256"
_COPY_BYTES = 1 << 20
_TRIES = 3
_CHANGED_MEANWHILE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"})
_TYPES = {".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".jsonl": "application/x-ndjson"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:[\w:/-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Destination:
    """A bucket and a prefix that ends in a slash or is empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Read `s3://bucket/prefix/`. Raises UsageError."""
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not text.startswith("s3://") or not _BUCKET.fullmatch(bucket):
            raise UsageError(f"--upload {text}: names no bucket; write s3://bucket/prefix/")
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    def url(self, name: str) -> str:
        """Where a file of this name goes."""
        return f"s3://{self.bucket}/{self.prefix}{name}"


class Uploaded(NamedTuple):
    """The URLs that hold the files now, and a sentence for each file that could not be copied."""

    urls: list[str]
    problems: list[str]


async def upload(
    ledger: Path, others: Sequence[Path], destination: Destination, *, region: str | None, overwrite: bool
) -> Uploaded:
    """Copy a ledger, as it is at this moment, and the files that were made from it. Raises nothing."""
    done = Uploaded([], [])
    with tempfile.TemporaryFile(prefix="batchsubmit-") as copy:
        try:
            origin = await asyncio.to_thread(_snapshot, ledger, copy)
            async with open_client("s3", region=region, timeouts=COPY_TIMEOUTS, attempts=4) as client:
                uploader = _Uploader(client, destination, copy, origin, overwrite=overwrite)
                for path in (ledger, *others):
                    if problem := await uploader.send(path, copy if path is ledger else None):
                        done.problems.append(problem)
                    else:
                        done.urls.append(destination.url(path.name))
        except Exception as exc:  # noqa: BLE001 (a copy that fails is reported, and does not fail the run)
            done.problems.append(f"{destination.url('')}: nothing more could be copied: {exc}")
    return done


@dataclass(frozen=True, slots=True)
class _Uploader:
    """Puts files under one destination; `ledger` is a copy of it, `origin` what objects say of it as metadata."""

    client: Any
    destination: Destination
    ledger: BinaryIO
    origin: Mapping[str, str]
    overwrite: bool

    async def send(self, path: Path, content: BinaryIO | None) -> str:
        """Copy one file (its content, where it is open already); say why that could not be done, and how to fix it."""
        url = self.destination.url(path.name)
        try:
            with nullcontext(content) if content else path.open("rb") as file:
                problem = await self._put(path, file)
        except Exception as exc:  # noqa: BLE001 (the next file may be copied)
            return f"{url}: {_words(exc)}. {path} is complete on this machine"
        return problem and f"{url} {problem}"

    async def _put(self, path: Path, content: BinaryIO) -> str:
        """Write the object, or over the one that we saw and may replace; say what keeps it from that, if anything."""
        where = {"Bucket": self.destination.bucket, "Key": self.destination.prefix + path.name}
        content_type = _TYPES.get(path.suffix, "application/octet-stream")
        condition = {"IfNoneMatch": "*"}
        for _ in range(_TRIES):
            content.seek(0)
            try:
                await self.client.put_object(
                    **where, **condition, Body=content, ContentType=content_type, Metadata=self.origin
                )
            except Exception as exc:
                if error_code(exc) not in _CHANGED_MEANWHILE:
                    raise
            else:
                return ""
            found = await self._find(where)
            condition = {"IfMatch": found["ETag"]} if found else {"IfNoneMatch": "*"}
            if not found or self.overwrite:
                continue
            if found["Metadata"] == self.origin:
                return ""
            if not await asyncio.to_thread(_grew_from, self.ledger, found["Metadata"]):
                return (
                    "holds something that this ledger did not grow from, and was not overwritten; give another "
                    "--upload, or --upload-overwrite to replace it"
                )
        return "is being written by another; run the same command again"

    async def _find(self, where: Mapping[str, str]) -> Mapping[str, Any] | None:
        """What is said of the object; None where there is none (any more)."""
        try:
            return {"Metadata": {}, **await self.client.head_object(**where)}
        except Exception as exc:
            if error_code(exc) in {"404", "NoSuchKey"}:
                return None
            raise


def _snapshot(path: Path, copy: BinaryIO) -> dict[str, str]:
    """Copy the whole lines of a ledger, which another run may be writing to again; gives the copy's origin."""
    with path.open("rb") as file:
        copy.writelines(takewhile(lambda line: line.endswith(b"\n"), file))
    length = copy.tell()
    return {BYTES: str(length), SHA256: _digest(copy, length)}


def _grew_from(ledger: BinaryIO, origin: Mapping[str, str]) -> bool:
    """Whether the ledger begins with what an object was made from; not so for one that no run wrote."""
    length = origin.get(BYTES, "")
    return length.isdigit() and length.isascii() and _digest(ledger, int(length)) == origin.get(SHA256)


def _digest(file: BinaryIO, length: int) -> str:
    """The SHA-256 of a file's beginning."""
    file.seek(0)
    digest = hashlib.sha256()
    while length and (block := file.read(min(_COPY_BYTES, length))):
        digest.update(block)
        length -= len(block)
    return digest.hexdigest()


def _words(exc: Exception) -> str:
    code, words = error_code(exc), str(exc) or type(exc).__name__
    if code == "NoSuchBucket":
        return "there is no such bucket"
    return f"{words}; allow s3:PutObject and s3:GetObject on the prefix" if code in {"AccessDenied", "403"} else words
