"""Standard streams that cannot stop the work: what cannot be written is dropped, and nothing waits for a reader.

A run is paid for; whether somebody reads along is not its business. `main` sets these up before anything is opened.
"""

import io
import os
import select
import sys
from pathlib import Path

_WAIT_SECONDS = 0.2
"""How long a line waits for the reader of standard error. After the first that waited in vain, none waits."""

_CHUNK = 4096
"""Linux's PIPE_BUF: where a pipe can be written to at all, so much can be written without waiting (pipe(7))."""


class _Output(io.FileIO):
    """A stream that takes everything; `lost` is the first error for which something was dropped."""

    def __init__(self, descriptor: int, *, may_wait: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.lost: OSError | None = None
        self._may_wait = may_wait
        self._patience_seconds = _WAIT_SECONDS

    def write(self, data: object) -> int:
        """Write what can be written; the rest is dropped."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type] # a buffer, as FileIO takes it
        sent = 0
        try:
            while sent < len(view) and self._is_writable():
                sent += os.write(self.fileno(), view[sent : sent + _CHUNK])
        except OSError as exc:
            self.lost = self.lost or exc
        return len(view)

    def _is_writable(self) -> bool:
        if self._may_wait:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        is_writable = bool(poll.poll(self._patience_seconds * 1000))
        self._patience_seconds = _WAIT_SECONDS if is_writable else 0.0
        return is_writable


def secure_streams() -> None:
    """Replace standard output and error by streams that never fail, and closed ones by the null device.

    A closed descriptor would otherwise be given to the next file that is opened: the ledger, say.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (as long as the process)
    # Only the process's own: a test that captures output keeps what it has put there.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, may_wait=True), line_buffering=False)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Output(2, may_wait=False), line_buffering=True)


def _text(raw: _Output, *, line_buffering: bool) -> io.TextIOWrapper:
    line_buffering = line_buffering or raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=line_buffering
    )


def output_error() -> OSError | None:
    """Why some of standard output was lost, if any was and its reader had not simply gone (`| head`)."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = raw.lost if isinstance(raw, _Output) else None
    return None if isinstance(lost, BrokenPipeError) else lost
