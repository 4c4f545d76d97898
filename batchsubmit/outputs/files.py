"""A file is written whole or not at all: beside its place first, then moved there in one step.

Its name says what it holds: one that ends in `.gz` is compressed, one that promises another kind is refused.
"""

import gzip
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from batchsubmit.errors import UsageError

ENDINGS = {
    "csv": (".csv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet",),
    "html": (".html", ".htm"),
}
_NEVER_WRITTEN = (".tsv", ".xlsx", ".xls", ".ods", ".zip", ".tgz", ".7z", ".bz2", ".xz", ".zst", ".pdf")


def ending(path: Path | str) -> str:
    """The ending of a name, in lower case and without `.gz`."""
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def refuse_other_kind(target: Path, kind: str) -> None:
    """Raise UsageError where a name promises another kind of file; a name without a known ending promises nothing."""
    known = {*_NEVER_WRITTEN, *(each for endings in ENDINGS.values() for each in endings)}
    if ending(target) in known.difference(ENDINGS[kind]):
        raise UsageError(f"{target} would hold {kind.upper()}; give it a name that ends in {ENDINGS[kind][0]}")
    if kind == "parquet" and target.suffix.lower() == ".gz":
        raise UsageError(f"{target}: Parquet is compressed already; give it a name that ends in .parquet")


@contextmanager
def saving(target: Path, *, inputs: Iterable[object] = (), kind: str = "") -> Iterator[BinaryIO]:
    """Open a file that takes its place once all of it is on the disk; on any error nothing is left of it.

    Folders that it needs are made. What is no regular file (a pipe, /dev/stdout) is written to as it is. Raises
    UsageError where the file cannot be written, where it is one of the files among the `inputs`, which would be lost,
    and where its name promises another `kind`.
    """
    for source in inputs:
        with suppress(OSError):
            if isinstance(source, str | Path) and target.samefile(source):
                raise UsageError(f"{target} is what is read from; give --output another file")
    if kind:
        refuse_other_kind(target, kind)
    try:
        is_special = target.exists() and not target.is_file()
        with ExitStack() as stack:
            file = stack.enter_context(target.open("wb") if is_special else _beside(target))
            if target.suffix.lower() == ".gz":
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
                file = cast("BinaryIO", stack.enter_context(packed))
            yield file
    except OSError as exc:
        raise UsageError(f"{target} cannot be written: {exc.strerror or exc}") from exc


@contextmanager
def _beside(target: Path) -> Iterator[BinaryIO]:
    target = target.resolve()  # a link stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            with suppress(FileNotFoundError):
                shutil.copymode(target, part)  # of the file that is replaced; a new one has what the umask leaves
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
