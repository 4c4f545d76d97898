"""A manifest, wherever it is, as a local file that can be read twice.

A path is opened as it is. Standard input, a pipe, `.gz` and S3 are copied into a temporary file without a name, so
that readers may seek and nothing is left behind. This is the one place that knows where manifests come from; what
they hold is the readers' business.
"""

import asyncio
import codecs
import gzip
import hashlib
import io
import os
import re
import select
import stat
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from batchsubmit.aws import COPY_TIMEOUTS, open_client
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.outputs.templates import expand_path

Format = Literal["csv", "jsonl"]

_FORMATS: dict[str, Format] = dict.fromkeys([".csv", ".tsv", ".txt"], "csv")
_FORMATS |= dict.fromkeys([".jsonl", ".ndjson", ".json"], "jsonl")
_STDIN = {"-", "/dev/stdin"}
_DESCRIPTOR = re.compile(r"//?(dev/fd|proc/[^/]+(/task/[^/]+)?/fd)/\d+")
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_TIMES_COMPRESSED = 2
_AS_CSV = "save it as CSV UTF-8 there"
_UNPACK = "unpack it first, or compress it by gzip"
_BLANK = rb"(?:\xef\xbb\xbf)?\s*"
_MARKUP = rb"(?i:<(?:!doctype|html|\?xml|error))"
_OF_A_WORKBOOK = rb"(?:\[Content_Types\]\.xml|xl/(?:workbook|_rels|worksheets|styles|theme)|opendocument\.spreadsheet)"
_OTHER_KINDS = (
    (rb"PK\x03\x04.*" + _OF_A_WORKBOOK, "a workbook of a spreadsheet", _AS_CSV),
    (rb"\xd0\xcf\x11\xe0", "a workbook of a spreadsheet, or another Office document", _AS_CSV),
    (rb"PK(?:\x03\x04|\x05\x06)", "a zip archive", _UNPACK),
    (_GZIP_MAGIC, "compressed more than twice", "unpack it first"),
    (rb"BZh[1-9]", "bzip2 data", _UNPACK),
    (rb"\xfd7zXZ\x00", "xz data", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "zstd data", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (rb".{257}ustar", "a tar archive", _UNPACK),
    (rb"%PDF-", "a PDF page", "give the table it was made from, as CSV"),
    (rb"PAR1|ARROW1|ORC|Obj\x01", "a file of tables (Parquet, Arrow, ORC or Avro)", "write it out as CSV or JSONL"),
    (rb"SQLite format 3\x00", "an SQLite database", "write the table out as CSV or JSONL"),
    (_BLANK + _MARKUP, "a page (HTML or XML), not a manifest", "see what it says, and fetch it again"),
    (rb"\xff\xfe|\xfe\xff|\x00[^\x00]\x00|[^\x00]\x00[^\x00]\x00", "UTF-16, not UTF-8", "save it as UTF-8"),
    (_BLANK + rb"\[", "one JSON array", "write one request a line, as jq -c '.[]' does"),
    (_BLANK + rb"\{[ \t]*[\r\n]", "JSON over several lines", "write one request a line, as jq -c . does"),
)
"""Files that are no manifest, by their first bytes: the bytes, what it is and what to do."""

_CHUNK_BYTES = 1 << 22
_HEAD_BYTES = 1 << 16
_ONE_ROW_BYTES = 1 << 12
_BLOCK_BYTES = 1 << 18
_STDIN_POLL_SECONDS = 0.5
MOST_LINE_BYTES = 1 << 24  # a request with everything at its maximum, all escaped, has about 2.5 MiB

_S3_REASONS = {
    "NoSuchKey": "there is no such object",
    "NoSuchBucket": "there is no such bucket",
    "NoSuchVersion": "that version of it was deleted",
    "AccessDenied": "access is denied, the credentials need s3:GetObject (of a version s3:GetObjectVersion) on it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """A local, seekable, uncompressed manifest; `sha256` is of these bytes, `label` for messages, `etag` S3's."""

    label: str
    format: Format
    sha256: str
    file: BinaryIO
    etag: str = ""


class FetchError(UsageError):
    """A manifest could not be had this time; it is not the manifest that is wrong."""


class LineTooLongError(Exception):
    """A line is longer than any request can be, so this is no manifest."""


@asynccontextmanager
async def open_manifest(location: str, *, region: str | None = None, version: str = "") -> AsyncIterator[ManifestFile]:
    """Open a path, `-` for standard input or `s3://bucket/key`, of which there may be versions. Raises `UsageError`."""
    label = "stdin" if location == "-" else location
    with ExitStack() as stack:
        with _explained(label):
            if location.startswith("s3://"):
                raw, etag = await _from_s3(location, temporary_file(stack), region, version)
            else:
                raw, etag = await _raw(location, stack), ""
            file = await _uncompressed(raw, label, stack)
            head = await asyncio.to_thread(read_at, file, 0, _HEAD_BYTES)
            _refuse_unreadable(head, label)
            file.seek(0)
            digest = await asyncio.to_thread(hashlib.file_digest, cast("io.BufferedReader", file), "sha256")
            file.seek(0)
        kind, sha256 = _format(location, head), digest.hexdigest()
        yield ManifestFile(label=label, format=kind, sha256=sha256, file=file, etag=etag)


def path_beside(manifest: str, kind: str, *, batch: str, option: str) -> Path:
    """The file for which `option` names none: `<stem>.<kind>.jsonl` in the current folder.

    A pipe or a descriptor (`<(…)` is another one each time) has no name that lasts, so its file is named after the
    batch; raises UsageError where there is none.
    """
    stem = PurePosixPath(manifest.rstrip("/").removesuffix(".gz")).stem or "stdin"
    if manifest in _STDIN:
        stem = "stdin"
    elif not has_lasting_name(manifest):
        if not batch:
            raise UsageError(
                f"{manifest}: is a pipe, which has no name that lasts: the next run would not find what was sent. "
                f"Give {option} FILE, or --batch-id TEXT"
            )
        return Path(expand_path(f"{{batch}}.{kind}.jsonl", {}, batch=batch, what=option))
    return Path(f"{stem}.{kind}.jsonl")


def has_lasting_name(manifest: str) -> bool:
    """Whether the same name is the same manifest another time: not where it is a descriptor, a FIFO or a device."""
    if "://" in manifest:
        return True
    if manifest in _STDIN or _DESCRIPTOR.fullmatch(os.path.abspath(manifest)):  # noqa: PTH100 (a link must not be followed: it is one)
        return False
    try:
        mode = Path(manifest).stat().st_mode
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


@contextmanager
def _explained(label: str) -> Iterator[None]:
    """Turn what the operating system and gzip say into a sentence about the manifest."""
    try:
        yield
    except FileNotFoundError as exc:
        raise UsageError(f"{label}: there is no such file") from exc
    except IsADirectoryError as exc:
        raise UsageError(f"{label}: is a folder, not a manifest; name the file in it") from exc
    except PermissionError as exc:
        raise UsageError(f"{label}: may not be read; ask for read permission") from exc
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise UsageError(f"{label}: the gzip data is damaged or cut off; compress it again") from exc
    except OSError as exc:
        raise UsageError(f"{label}: cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:  # a NUL in the name
        raise UsageError(f"{label!r}: is no file name: {exc}") from exc


async def _raw(location: str, stack: ExitStack) -> BinaryIO:
    if location == "-":
        return await _copied(_stdin_chunks(), temporary_file(stack))
    file = stack.enter_context(await asyncio.to_thread(Path(location).open, "rb"))
    if stat.S_ISREG((await asyncio.to_thread(Path(location).stat)).st_mode):
        return file
    return await _copied(_chunks(file.read), temporary_file(stack))  # a pipe cannot be read twice


def temporary_file(stack: ExitStack) -> BinaryIO:
    """Make a file without a name, which ends with the stack. Raises FetchError."""
    with in_temporary_folder():
        return cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile(prefix="batchsubmit-")))


@contextmanager
def in_temporary_folder() -> Iterator[None]:
    """Name the temporary folder where it is that, and not the manifest, which cannot be used. Raises FetchError."""
    try:
        yield
    except OSError as exc:
        folder = os.environ.get("TMPDIR") or tempfile.tempdir or "/tmp"  # noqa: S108 (Python's own choice)
        raise FetchError(
            f"the temporary folder {folder} cannot be written: {exc.strerror}; set TMPDIR to one that can"
        ) from exc


async def _uncompressed(file: BinaryIO, label: str, stack: ExitStack) -> BinaryIO:
    for times in range(_MOST_TIMES_COMPRESSED):
        magic = await asyncio.to_thread(file.read, len(_GZIP_MAGIC))
        file.seek(0)
        if magic != _GZIP_MAGIC:
            if label.lower().endswith(".gz") and magic and not times:
                raise UsageError(f"{label}: is not gzip data, despite its name; rename or compress it")
            break
        with gzip.open(file) as reader:
            file = await _copied(_chunks(reader.read), temporary_file(stack))
    return file


async def _copied(chunks: AsyncIterator[bytes], target: BinaryIO) -> BinaryIO:
    async for chunk in chunks:
        with in_temporary_folder():
            await asyncio.to_thread(target.write, chunk)
    with in_temporary_folder():
        target.seek(0)
    return target


async def _chunks(read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
    # A chunk at a time in a thread, so that a signal is obeyed between two of them.
    while chunk := await asyncio.to_thread(read, _CHUNK_BYTES):
        yield chunk


async def _stdin_chunks() -> AsyncIterator[bytes]:
    stdin, waited_for = cast("io.BufferedReader", sys.stdin.buffer), list[int]()
    with suppress(io.UnsupportedOperation):  # then it is no file, and never waits
        waited_for = [stdin.fileno()]
    while True:
        # A thread that waits in read() cannot be cancelled, and the program would not end before it does.
        while waited_for and not (await asyncio.to_thread(select.select, waited_for, [], [], _STDIN_POLL_SECONDS))[0]:
            pass
        chunk = await asyncio.to_thread(stdin.read1, _CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


async def _from_s3(location: str, target: BinaryIO, region: str | None, version: str) -> tuple[BinaryIO, str]:
    """Copy an object; gives its ETag too, which every answer of S3 has, and no portal's or proxy's."""
    import aiohttp  # noqa: PLC0415 - half a second that only manifests in S3 should pay
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - the same
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 - the same

    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise UsageError(f"{location}: names no object; write s3://bucket/key")
    try:
        async with open_client("s3", region=region, timeouts=COPY_TIMEOUTS, attempts=5) as client:
            response = await client.get_object(Bucket=bucket, Key=key, **({"VersionId": version} if version else {}))
            async with response["Body"] as body:
                if "ETag" not in response:
                    raise FetchError(f"{location}: the answer is not S3's; is a proxy or a portal between?")
                return await _copied(body.iter_chunks(_CHUNK_BYTES), target), response["ETag"].strip('"')
    except ClientError as exc:
        error = exc.response.get("Error", {})
        code = str(error.get("Code"))
        reason = _S3_REASONS.get(code, f"S3 answered {code}: {error.get('Message')}")
        kind = UsageError if code in {"NoSuchKey", "NoSuchBucket", "NoSuchVersion"} else FetchError
        raise kind(f"{location}: {reason}") from exc
    except (StoppedError, BotoCoreError, ResponseParserError, aiohttp.ClientError, TimeoutError) as exc:
        raise FetchError(f"{location}: cannot be fetched from S3: {exc}") from exc


def _refuse_unreadable(head: bytes, label: str) -> None:
    if not head:
        raise UsageError(f"{label}: is empty; a manifest has a header or a request in its first line")
    for magic, kind, right in _OTHER_KINDS:
        if re.match(magic, head, re.DOTALL):
            raise UsageError(f"{label}: is {kind}; {right}")


def _format(location: str, head: bytes) -> Format:
    name = PurePosixPath(location.lower().removesuffix(".gz"))
    by_content: Format = "jsonl" if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") else "csv"
    return _FORMATS.get(name.suffix, by_content)


def physical_lines(file: BinaryIO, offset: int) -> Iterator[bytes]:
    """Yield the lines from a byte offset on, with their LF, CRLF or CR. Raises `LineTooLongError`.

    It seeks before each read, so that several may go on over one file (in one thread). The first read is a short one,
    since often one row alone is wanted.
    """
    carry, block_bytes = b"", _ONE_ROW_BYTES
    while block := read_at(file, offset, block_bytes):
        offset += len(block)
        lines = (carry + block).splitlines(keepends=True)
        # The last line may go on in the next block, even after a CR, whose LF may still come.
        carry = b"" if lines[-1].endswith(b"\n") else lines.pop()
        yield from lines
        if len(carry) > MOST_LINE_BYTES:
            raise LineTooLongError
        block_bytes = min(2 * block_bytes, _BLOCK_BYTES)
    yield from carry.splitlines(keepends=True)


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read from an offset, wherever the file stands."""
    file.seek(offset)
    return file.read(size)
