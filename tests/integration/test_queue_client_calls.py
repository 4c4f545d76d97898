"""Calls of SQS whose answers never end: each is given up in its time, although bytes keep coming."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from batchsubmit.aws import open_client
from batchsubmit.queue.client import BUSY, Outgoing, Queue, QueueBusyError

CALL_SECONDS = 0.4
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 100000\r\n\r\n"

pytestmark = pytest.mark.usefixtures("credentials")


@asynccontextmanager
async def trickling() -> AsyncIterator[str]:
    """A server whose answers come byte by byte, each well within a read's time-out."""
    ended, served = asyncio.Event(), set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            while not ended.is_set():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        ended.set()
        await asyncio.gather(*served)


@asynccontextmanager
async def open_queue() -> AsyncIterator[Queue]:
    """A queue on such a server; no call of it is tried twice."""
    async with trickling() as url, open_client("sqs", region="us-east-1", endpoint_url=url) as client:
        yield Queue(client, f"{url}/1/queue", call_seconds=CALL_SECONDS)


CALLS: dict[str, Callable[[Queue], Awaitable[object]]] = {
    "attributes": lambda queue: queue.read_attributes(),
    "delete": lambda queue: queue.delete(["r"]),
    "hide": lambda queue: queue.hide([("r", 1)]),
    "send": lambda queue: queue.send([Outgoing(id="1", body="b")]),
    "dead_letters": lambda queue: queue.find_dead_letters("arn:aws:sqs:us-east-1:1:dead"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_given_up_in_its_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so to the readiness probe."""
    async with open_queue() as queue:
        # Once is enough here: it would be tried again for a minute.
        monkeypatch.setitem(Queue._call.__kwdefaults__, "stop", lambda _: True)
        async with asyncio.timeout(20):
            if name in {"delete", "hide", "send"}:  # of many messages: each has its own reason
                assert await CALLS[name](queue) == [BUSY]
            else:
                with pytest.raises(QueueBusyError, match=r"no whole answer within 0\.4 s"):
                    await CALLS[name](queue)
        assert "no whole answer" in queue.trouble


async def test_a_poll_has_its_own_wait_beside_that() -> None:
    """So that one that finds nothing is not given up, and one that never ends is."""
    async with open_queue() as queue:
        began = time.monotonic()
        async with asyncio.timeout(20):
            with pytest.raises(QueueBusyError, match=r"no whole answer within 1\.4 s"):
                await queue.receive(1, visibility_seconds=30, wait_seconds=1, is_over=lambda: True)
        assert time.monotonic() - began >= 1 + CALL_SECONDS
