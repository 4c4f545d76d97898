"""Runs the real program in a child process that kills itself at a chosen step of its path. A launcher for tests.

It wraps the seams from outside; the program knows nothing of it. A step is a moment before, in the middle of or after
something that changes the ledger's file or goes over the wire. Each line on standard input is a run to make, as JSON;
each line on standard output says how it ended and which steps it took. The program is imported once and forked for
each run, so that a hundred runs do not cost a hundred imports.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from program_server import prepare

from batchsubmit.cleanrooms.client import CleanRooms
from batchsubmit.cli.main import main
from batchsubmit.ledger.file import LedgerFile

STANDARD_STREAMS = (0, 1, 2)


class Steps:
    """Counts the steps of this process, writes their names down, and dies at one of them."""

    def __init__(self, names: Path, die_at: int) -> None:
        self._names = os.open(names, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self._die_at = die_at
        self._count = 0
        self._lock = threading.Lock()
        self._write = os.write

    def take(self, name: str, last_deed: Callable[[], object] = lambda: None) -> None:
        """Take a step; if it is the last one, do the last deed and die of it."""
        with self._lock:
            self._count += 1
            self._write(self._names, f"{name}\n".encode())
            if self._count == self._die_at:
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


def die_on_the_way(names: Path, die_at: int) -> None:
    """Wrap the seams of this process."""
    steps = Steps(names, die_at)
    steps.before_and_after(LedgerFile, "append")
    steps.before_and_after(LedgerFile, "reserve")
    for method in ("start", "list_page", "get"):
        steps.before_and_after_awaiting(CleanRooms, method)
    steps.around_system_calls_on_files()
    steps.around_system_calls_on_sockets()


def run(order: dict[str, Any]) -> None:
    """Be the program. Never returns."""
    folder = Path(order["folder"])
    os.chdir(folder)
    os.environ.update(order["environment"])
    streams = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(streams, stream)
    sys.argv = ["batchsubmit", *order["arguments"]]
    if order["die_at"] is not None:
        die_on_the_way(folder / "steps.txt", order["die_at"])
    main()


def carry_out(order: dict[str, Any]) -> int:
    """Fork a run and wait for it; gives its exit status, or its signal's negative."""
    child = os.fork()
    if not child:
        try:
            run(order)
        except SystemExit as exc:
            sys.stderr.flush()
            os._exit(exc.code if isinstance(exc.code, int) else 1)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    prepare()
    for line in sys.stdin:
        sys.stdout.write(f"{carry_out(json.loads(line))}\n")
        sys.stdout.flush()
