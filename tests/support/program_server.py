"""Starts the real program as a process, by a fork of a process that has imported it: most of a start is imports.

What is forked has a process id, streams, environment and folder of its own, gets signals and ends as the console script
does. Run as a script, this is the process that forks.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

_LONGEST_ORDER = 1 << 18


class Process:
    """A running program, with what tests use of `subprocess.Popen`."""

    def __init__(self, report: int, stdin: int | None, stdout: int | None, stderr: int | None) -> None:
        self._report = os.fdopen(report, "rb", buffering=0)
        self.pid = int(self._report.readline())  # its end may have been reported already
        self.returncode: int | None = None
        self.stdin = os.fdopen(stdin, "wb") if stdin is not None else None
        self.stdout: Any = os.fdopen(stdout, "rb") if stdout is not None else None
        self.stderr: Any = os.fdopen(stderr, "rb") if stderr is not None else None

    def poll(self) -> int | None:
        """Return the exit status, or a signal's negative; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("batchsubmit", timeout or 0)
            self.returncode = int(self._report.readline())
        return self.returncode

    def communicate(self, content: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Write `content` to its standard input, and wait until it has ended; gives what it wrote."""
        with ThreadPoolExecutor(3) as pool:
            written = [pool.submit(stream.read if stream else bytes) for stream in (self.stdout, self.stderr)]
            if self.stdin is not None:
                pool.submit(self._feed, content)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return written[0].result(), written[1].result()

    def _feed(self, content: bytes) -> None:
        assert self.stdin is not None
        with suppress(BrokenPipeError), self.stdin:
            self.stdin.write(content)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()
        self._report.close()


class ProgramServer:
    """The process that has imported the program."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders

    def start(
        self,
        arguments: Sequence[object],
        folder: Path,
        environment: Mapping[str, str],
        *,
        with_stdin: bool = False,
        streams: Mapping[int, int] = MappingProxyType({}),
        die_at: str | None = None,
    ) -> Process:
        """Start the program; without `with_stdin` it reads from /dev/null, and writes to pipes.

        `streams` are files, such as a terminal, that it has as 0, 1 or 2 instead. `die_at` is a step at which it kills
        itself; the steps on its way are written to `steps.txt` (see `dying`).
        """
        stdin, feed = os.pipe() if with_stdin else (os.open(os.devnull, os.O_RDONLY), None)
        (report, reported), theirs, ours = os.pipe(), [stdin], [feed]
        for number in (1, 2):
            reading, writing = os.pipe() if number not in streams else (None, os.dup(streams[number]))
            theirs.append(writing)
            ours.append(reading)
        if 0 in streams:
            os.dup2(streams[0], stdin)
        theirs.append(reported)
        order = json.dumps(
            {
                "arguments": [*map(str, arguments)],
                "folder": str(folder),
                "environment": dict(environment),
                "die_at": die_at,
            }
        )
        try:
            socket.send_fds(self._orders, [order.encode()], theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return Process(report, *ours)


@contextmanager
def program_server(script: Path) -> Iterator[ProgramServer]:
    """Serve starts of a console script, until the block ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno()), str(script)]
    with ours, subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        try:
            yield ProgramServer(ours)
        finally:
            process.terminate()


def _serve(orders: socket.socket, script: str) -> None:
    """Fork for each order. Returns in the forked process, ready to be the program."""
    reports: dict[int, int] = {}

    def report_ends(*_: object) -> None:
        for pid in list(reports):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # another signal came meanwhile, and its call has reported this end
                continue
            if ended:
                _write(reports.pop(pid), f"{os.waitstatus_to_exitcode(status)}\n", last=True)

    signal.signal(signal.SIGCHLD, report_ends)
    while True:
        text, descriptors, *_ = socket.recv_fds(orders, _LONGEST_ORDER, 4)
        if not text:  # the tests have ended
            os._exit(0)
        *streams, report = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # not before its report is known
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            orders.close()
            for descriptor in (report, *reports.values()):
                os.close(descriptor)
            _become(json.loads(text), streams, script)
            return
        reports[pid] = report
        _write(report, f"{pid}\n")
        for descriptor in streams:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _write(report: int, line: str, *, last: bool = False) -> None:
    with suppress(BrokenPipeError):  # a test that does not wait for the end
        os.write(report, line.encode())
    if last:
        os.close(report)


def _become(order: dict[str, Any], streams: list[int], script: str) -> None:
    """Take the streams, the folder, the environment and the arguments of a program that begins."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.argv = [script, *order["arguments"]]
    text = {"encoding": sys.stdout.encoding, "closefd": False}
    sys.stdin = sys.__stdin__ = open(0, errors=sys.stdin.errors, **text)  # noqa: SIM115 (until it ends)
    sys.stdout = sys.__stdout__ = open(1, "w", errors=sys.stdout.errors, **text)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", **text)  # noqa: SIM115
    if order["die_at"] is not None:
        from dying import die_on_the_way  # noqa: PLC0415 (it imports the program)

        die_on_the_way(Path("steps.txt"), order["die_at"])


def _end(code: Any) -> None:  # noqa: ANN401 (as SystemExit has it)
    """Do what the interpreter does at its end, but for freeing each module, which is most of a short program's time.

    Forked memory is copied as it is freed.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201 (as the interpreter does)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # so that a task or a transport that was left open is complained about
    status = 1 if isinstance(code, str) else code or 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:  # closed by the program
            pass
        except OSError:
            status = status or 120
    os._exit(status)


def _prepare() -> None:
    """Do once what every start would do: import what commands import, and read the service models of AWS."""
    import pkgutil  # noqa: PLC0415
    from importlib import import_module  # noqa: PLC0415

    import batchsubmit  # noqa: PLC0415

    for module in pkgutil.walk_packages(batchsubmit.__path__, "batchsubmit."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    _read_models()
    gc.collect()
    gc.freeze()  # so that forks share its pages


def _read_models() -> None:
    """Let all sessions share a loader, which keeps what it has read: reading is most of what a client costs."""
    from functools import cache  # noqa: PLC0415

    import aiobotocore.session  # noqa: F401, PLC0415
    import botocore.session  # noqa: PLC0415

    from batchsubmit.schema import RequestChecker  # noqa: PLC0415

    RequestChecker()
    botocore.session.create_loader = cache(botocore.session.create_loader)
    loader = botocore.session.create_loader(None)
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for service in ("cleanroomsml", "sqs", "dynamodb", "s3", "sns", "service-quotas", "sts"):
        loader.load_service_model(service, "service-2")
        loader.load_service_model(service, "endpoint-rule-set-1")


if __name__ == "__main__":
    sys.path.append(sys.path[0])  # for `dying`
    sys.path[0] = ""  # as for the console script, without this folder
    _prepare()
    from batchsubmit.cli.main import main

    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
    try:
        main()
    except SystemExit as end:
        _end(end.code)
