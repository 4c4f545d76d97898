"""Standard output and error: what cannot be written stops nothing, and what comes from outside is made printable.

Every line for people goes through `say`. Nothing here knows a command.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from queue import Full, Queue
from select import select
from shutil import get_terminal_size
from threading import Thread
from typing import IO, Any

import click

from batchsubmit.text import printable, with_names, wrapped

_MOST_LINES = 10_000
"""What waits for a reader of standard error; more is dropped."""

_PATIENCE_SECONDS = 1.0
"""At the end, for a reader of standard error that takes nothing."""

_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""The reader went away (`| head`), or the terminal: that is no fault of the output."""


membership_names: dict[str, str] = {}
"""What the settings call memberships: every line for people shows it instead of the id."""


def screen_width(stream: IO[str]) -> int:
    """How many columns a stream's terminal has; 0 where it is none."""
    return get_terminal_size().columns if stream.isatty() else 0


def say(*lines: object, to_stdout: bool = False, nl: bool = True, is_odd: bool = False) -> None:
    """Print lines for people; control characters and line breaks in them are spelled out. What is odd is red."""
    width = screen_width(sys.stdout if to_stdout else sys.stderr)
    in_red = is_odd and not os.environ.get("NO_COLOR")
    for line in lines:
        text = printable(with_names(str(line), membership_names))
        text = wrapped(text, width) if width else text
        click.echo(click.style(text, fg="red") if in_red else text, err=not to_stdout, nl=nl)


class _Output(io.FileIO):
    """A file descriptor that takes everything; the first error that cost data is kept in `problem`."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.problem = ""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 (any buffer)
        self._put(bytes(data))
        return len(data)

    def _put(self, data: bytes) -> None:
        """Write all of it, or drop it."""
        try:
            while data:
                select([], [self], [])  # someone else may have set a terminal or pipe to non-blocking
                data = data[os.write(self.fileno(), data) :]
        except OSError as exc:
            if exc.errno not in _GONE:
                self.problem = self.problem or exc.strerror or str(exc)


class _PatientOutput(_Output):
    """One that a thread of its own writes to: a reader that does not read holds nothing up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._waiting = Queue[bytes](_MOST_LINES)
        Thread(target=self._write_all, name="stderr", daemon=True).start()

    def write(self, data: Any, /) -> int:  # noqa: ANN401 (any buffer)
        with suppress(Full):
            self._waiting.put_nowait(bytes(data))
        return len(data)

    def wait(self) -> None:
        """Wait until all is written, unless nothing of it is taken."""
        done = self._waiting.all_tasks_done
        with done:
            while left := self._waiting.unfinished_tasks:
                done.wait(_PATIENCE_SECONDS)
                if self._waiting.unfinished_tasks == left:
                    return

    def _write_all(self) -> None:
        while True:
            self._put(self._waiting.get())
            self._waiting.task_done()


class Streams:
    """Puts both streams of this process behind ones that always take what they get."""

    def __init__(self) -> None:
        # 0, 1 and 2 get the null device where they are closed: a ledger that got one of them would be printed into.
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        self._out, self._err = _Output(1), _PatientOutput(2)
        sys.stdout, sys.stderr = _text(self._out, sys.stdout), _text(self._err, sys.stderr)

    def finish(self) -> str:
        """Write what is left; give why standard output is not whole, or nothing."""
        sys.stdout.flush()
        if self._out.problem:
            say(f"batchsubmit: standard output is not complete: {self._out.problem}")
        sys.stderr.flush()
        self._err.wait()
        return self._out.problem


def _text(raw: _Output, before: object) -> io.TextIOWrapper:
    """Make a text stream in the encoding of the one before, which can write any text in some way."""
    encoding = getattr(before, "encoding", None)
    buffered: Any = io.BufferedWriter(raw)
    is_by_line = raw.fileno() == 2 or raw.isatty()
    return io.TextIOWrapper(buffered, encoding, "backslashreplace", line_buffering=is_by_line)
