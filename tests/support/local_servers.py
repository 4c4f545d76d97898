"""Local AWS for tests, on free ports of the loopback interface: MiniStack as a process of its own, moto in a thread."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_START_SECONDS = 30


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """Start MiniStack; gives its URL once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hidden = ("AWS_", "BATCHSUBMIT_", "LOCALSTACK_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR", "TMPDIR": str(folder)}
    with (
        (folder / "ministack.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=environment, cwd=folder, stdout=log, stderr=log
        ) as process,
    ):
        try:
            _await_answer(f"http://127.0.0.1:{port}/_ministack/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def moto() -> Iterator[str]:
    """Start moto; gives its URL."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 (a second that few tests need)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def _await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _LONGEST_START_SECONDS
    while True:
        assert process.poll() is None, "MiniStack ended"
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 (our own URL)
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "MiniStack does not answer"
            time.sleep(0.05)
