"""How a ledger's file is opened, named and written as the operating system wants it, whatever is in it."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from batchsubmit.errors import UsageError


def beside(path: Path, why: str) -> Path:
    """Name a file beside the ledger for what must not be lost."""
    return path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")


def open_regular(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a regular file to append to; the name of a new one is durable. Raises UsageError."""
    created = not path.exists()
    try:
        fd = os.open(path, flags | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as exc:
        raise UsageError(f"the ledger {path} cannot be opened for writing: {exc.strerror}") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"the ledger {path} is not a regular file; give --ledger a file's path")
    if created:
        sync_folder(path.parent)
    return fd


def sync_folder(folder: Path) -> None:
    """Make a new file's name durable, not only its content."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, in as many steps as the system takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
