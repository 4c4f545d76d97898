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
from pathlib import Path
from typing import Any, BinaryIO

from batchsubmit.aws import COPY_TIMEOUTS, open_client
from batchsubmit.errors import UsageError

BYTES, SHA256 = "batchsubmit-ledger-bytes", "batchsubmit-ledger-sha256"
_COPY_BYTES = 1 << 20
_TRIES = 3
_CHANGED_MEANWHILE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"})
_TYPES = {".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".jsonl": "application/x-ndjson"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:[\w:/-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """The state of a ledger: how long it was, and what it held."""

    length: int
    sha256: str

    def metadata(self) -> dict[str, str]:
        """As an object carries it."""
        return {BYTES: str(self.length), SHA256: self.sha256}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Origin | None":
        """Read an object's metadata; None where no run wrote it."""
        length, sha256 = metadata.get(BYTES, ""), metadata.get(SHA256, "")
        return cls(int(length), sha256) if length.isdigit() and length.isascii() and sha256 else None


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


class UploadError(Exception):
    """A file could not be copied; the message says why and how to fix it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The URLs that hold the files now, and a sentence for each file that could not be copied."""

    urls: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


async def upload(
    ledger: Path, others: Sequence[Path], destination: Destination, *, region: str | None, overwrite: bool
) -> Uploaded:
    """Copy a ledger, as it is at this moment, and the files that were made from it. Raises nothing."""
    urls, problems = [], []
    with tempfile.TemporaryFile(prefix="batchsubmit-") as copy:
        try:
            origin = await asyncio.to_thread(_snapshot, ledger, copy)
            async with open_client("s3", region=region, timeouts=COPY_TIMEOUTS, attempts=4) as client:
                uploader = _Uploader(client, destination, copy, origin, overwrite=overwrite)
                for path in (ledger, *others):
                    try:
                        urls.append(await uploader.send(path, copy if path is ledger else None))
                    except UploadError as exc:
                        problems.append(str(exc))
        except Exception as exc:  # noqa: BLE001 (a copy that fails is reported, and does not fail the run)
            problems.append(f"{destination.url('')}: nothing more could be copied: {exc}")
    return Uploaded(urls=tuple(urls), problems=tuple(problems))


@dataclass(frozen=True, slots=True)
class _Uploader:
    """Puts files under one destination; `ledger` is the copy of the ledger that they were made from."""

    client: Any
    destination: Destination
    ledger: BinaryIO
    origin: Origin
    overwrite: bool

    async def send(self, path: Path, content: BinaryIO | None) -> str:
        """Copy one file (its content, where it is open already); give its URL. Raises UploadError."""
        url = self.destination.url(path.name)
        try:
            with nullcontext(content) if content else path.open("rb") as file:
                await self._put(path, file)
        except UploadError:
            raise
        except Exception as exc:
            raise UploadError(f"{url}: {_words(exc)}. {path} is complete on this machine") from exc
        return url

    async def _put(self, path: Path, content: BinaryIO) -> None:
        """Write the object if there is none, or over the one that may be replaced."""
        url, condition = self.destination.url(path.name), {"IfNoneMatch": "*"}
        for _ in range(_TRIES):
            if await self._write(path, content, condition):
                return
            etag, origin = await self._find(path)
            condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
            if not etag or self.overwrite:
                continue
            if origin == self.origin:
                return
            if origin is None or await asyncio.to_thread(_digest, self.ledger, origin.length) != origin.sha256:
                raise UploadError(
                    f"{url} holds something that this ledger did not grow from, and was not overwritten; "
                    "give another --upload, or --upload-overwrite to replace it"
                )
        raise UploadError(f"{url} is being written by another; run the same command again")

    async def _write(self, path: Path, content: BinaryIO, condition: Mapping[str, str]) -> bool:
        """Put the object under a condition; False where that does not hold."""
        content.seek(0)
        try:
            await self.client.put_object(
                Bucket=self.destination.bucket,
                Key=self.destination.prefix + path.name,
                Body=content,
                ContentType=_TYPES.get(path.suffix, "application/octet-stream"),
                Metadata=self.origin.metadata(),
                **condition,
            )
        except Exception as exc:
            if _code(exc) in _CHANGED_MEANWHILE:
                return False
            raise
        return True

    async def _find(self, path: Path) -> tuple[str, Origin | None]:
        """ETag and origin of the object; an empty ETag where there is none (any more)."""
        try:
            head = await self.client.head_object(
                Bucket=self.destination.bucket, Key=self.destination.prefix + path.name
            )
        except Exception as exc:
            if _code(exc) in {"404", "NoSuchKey"}:
                return "", None
            raise
        return head["ETag"], Origin.of(head.get("Metadata", {}))


def _snapshot(path: Path, copy: BinaryIO) -> Origin:
    """Copy the whole lines of a ledger, which another run may be writing to again."""
    copied = length = 0
    with path.open("rb") as file:
        while block := file.read(_COPY_BYTES):
            copy.write(block)
            if end := block.rfind(b"\n") + 1:
                length = copied + end
            copied += len(block)
    copy.truncate(length)
    return Origin(length, _digest(copy, length))


def _digest(file: BinaryIO, length: int) -> str:
    """The SHA-256 of a file's beginning."""
    file.seek(0)
    digest = hashlib.sha256()
    while length and (block := file.read(min(_COPY_BYTES, length))):
        digest.update(block)
        length -= len(block)
    return digest.hexdigest()


def _code(exc: Exception) -> str:
    """AWS's code for an error; empty for one that did not come from there."""
    response = getattr(exc, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _words(exc: Exception) -> str:
    match _code(exc):
        case "NoSuchBucket":
            return "there is no such bucket"
        case "AccessDenied" | "403":
            return f"{exc}; allow s3:PutObject and s3:GetObject on the prefix"
        case _:
            return str(exc) or type(exc).__name__
