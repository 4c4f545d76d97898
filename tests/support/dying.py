"""Lets the program kill itself at a chosen step of its path: what `program_server` calls in a start that shall die.

It wraps the seams from outside; the program knows nothing of it. A step is a moment before, in the middle of or after
something that changes the ledger's file or goes over the wire. Its name tells how often the ledger was written before
and which call is the last: `2 start: after send`. A step that is repeated, as looks are until a job is seen, counts
once: nothing has changed since.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from batchsubmit.cleanrooms.client import CleanRooms
from batchsubmit.ledger.file import LedgerFile

STANDARD_STREAMS = (0, 1, 2)


class Steps:
    """Names the steps of this process, writes the names down, and dies at one of them."""

    def __init__(self, names: Path, die_at: str) -> None:
        self._names = os.open(names, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self._die_at = die_at
        self._writes, self._call = 0, "begin"
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        self._write = os.write

    def take(self, name: str, last_deed: Callable[[], object] = lambda: None) -> None:
        """Take a step; if it is the last one, do the last deed and die of it."""
        with self._lock:
            step = f"{self._writes} {self._call}: {name}"
            self._writes += name == "after write"
            if step in self._taken:
                return
            self._taken.add(step)
            self._write(self._names, f"{step}\n".encode())
            if step == self._die_at:
                last_deed()
                os.kill(os.getpid(), signal.SIGKILL)

    def before_and_after(self, owner: type, method: str) -> None:
        """Make each call of a blocking method two steps."""
        real = getattr(owner, method)

        @wraps(real)
        def stepping(*given: Any, **named: Any) -> Any:  # noqa: ANN401 (whatever it takes and gives)
            self.take(f"before {method}")
            result = real(*given, **named)
            self.take(f"after {method}")
            return result

        setattr(owner, method, stepping)

    def before_and_after_awaiting(self, owner: type, method: str) -> None:
        """Make each call of an async method two steps."""
        real = getattr(owner, method)

        @wraps(real)
        async def stepping(*given: Any, **named: Any) -> Any:  # noqa: ANN401 (whatever it takes and gives)
            self._call = method
            self.take(f"before {method}")
            result = await real(*given, **named)
            self.take(f"after {method}")
            return result

        setattr(owner, method, stepping)

    def around_system_calls_on_files(self) -> None:
        """Steps before, in the middle of and after each write, and around what makes it durable or takes it back."""
        for name in ("fsync", "fdatasync", "ftruncate"):
            self._around_system_call(name)
        real = os.write

        @wraps(real)
        def stepping(fd: int, data: Any) -> int:  # noqa: ANN401 (bytes or a view)
            if fd in STANDARD_STREAMS or fd == self._names:
                return real(fd, data)
            self.take("before write")
            self.take("in the middle of write", lambda: real(fd, data[: len(data) // 2]))
            self.take("at the last byte of write", lambda: real(fd, data[:-1]))
            written = real(fd, data)
            self.take("after write")
            return written

        os.write = stepping

    def _around_system_call(self, name: str) -> None:
        real = getattr(os, name)

        @wraps(real)
        def stepping(*given: Any) -> Any:  # noqa: ANN401 (whatever it takes and gives)
            self.take(f"before {name}")
            result = real(*given)
            self.take(f"after {name}")
            return result

        setattr(os, name, stepping)

    def around_system_calls_on_sockets(self) -> None:
        """Steps around what leaves and what arrives by TCP; a request's last byte may stay behind."""
        steps, real_send, real_receive = self, socket.socket.send, socket.socket.recv

        def send(self: socket.socket, data: Any, *flags: int) -> int:  # noqa: ANN401 (bytes or a view)
            if self.family != socket.AF_INET:
                return real_send(self, data, *flags)
            steps.take("before send")
            steps.take("in the middle of send", lambda: real_send(self, data[: len(data) // 2], *flags))
            sent = real_send(self, data, *flags)
            steps.take("after send")
            return sent

        def receive(self: socket.socket, *given: int) -> bytes:
            data = real_receive(self, *given)
            if self.family == socket.AF_INET:
                steps.take("after receive")
            return data

        # asyncio also gathers buffers by sendmsg, where the platform has it: let it have only send.
        socket.socket.send, socket.socket.recv = send, receive  # type: ignore[method-assign, assignment]


def die_on_the_way(names: Path, die_at: str) -> None:
    """Wrap the seams of this process."""
    steps = Steps(names, die_at)
    steps.before_and_after(LedgerFile, "append")
    steps.before_and_after(LedgerFile, "reserve")
    for method in ("start", "list_page", "get"):
        steps.before_and_after_awaiting(CleanRooms, method)
    steps.around_system_calls_on_files()
    steps.around_system_calls_on_sockets()
