"""The least that a client takes for Clean Rooms ML: answers every Start with an ARN at once, and notes when it came.

A raw asyncio protocol, so that it costs a small part of what any client does and is never the bottleneck. It checks
nothing and keeps no jobs: for those there is `batchsubmit sandbox`.

    python tests/bench/minimal_server.py        prints its URL and serves until it is terminated
    GET /calls                                  the moments of all calls by the monotonic clock, and CPU seconds used
    POST /reset                                 forgets them
"""

import asyncio
import json
import time
from typing import Final

_ARN: Final = (
    '{"trainedModelInferenceJobArn":"arn:aws:cleanrooms-ml:us-east-1:123456789012:'
    'membership/%s/trained-model-inference-job/%08x-0000-4000-8000-000000000000"}'
)
_HEAD: Final = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Calls:
    """When each Start call was there as a whole; seconds of the monotonic clock, which all processes share."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def answer(self, method: bytes, path: str) -> str:
        """Answer one request."""
        if path.startswith("/memberships/"):
            self.times.append(time.monotonic())
            return _ARN % (path.split("/", 3)[2], len(self.times))
        if method == b"POST":
            self.times.clear()
            return "{}"
        return json.dumps({"times": self.times, "cpu_seconds": time.process_time()})


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is there as a whole."""
        self._received += data
        while (end := self._received.find(_END_OF_HEAD)) >= 0:
            head = self._received[:end]
            whole = end + len(_END_OF_HEAD) + _body_length(head)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            method, path, _ = head.split(b" ", 2)
            body = self._calls.answer(method, path.decode())
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.write((_HEAD % len(body) + body).encode())


def _body_length(head: bytes) -> int:
    lower = head.lower()
    begin = lower.find(_LENGTH)
    return int(lower[begin + len(_LENGTH) :].split(b"\r\n", 1)[0]) if begin >= 0 else 0


async def _serve() -> None:
    calls = Calls()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(calls), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
