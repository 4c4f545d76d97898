"""A server of bytes, for answers that no real server gives, and for a look at requests as they came."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def wire(
    answer: Callable[[bytes], bytes | None], *, trickles: bool = False
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers requests with these bytes (None: not at all); also gives the requests.

    Where it `trickles`, a space follows every tenth of a second until the server ends.
    """
    requests: list[bytes] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            requests.append(head + await reader.readexactly(length))
            reply = answer(requests[-1])
            if reply is None:
                await ended.wait()
            else:
                writer.write(reply)
                await writer.drain()
            while trickles and not ended.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), 0.1)
                writer.write(b" ")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


def http(status: str, body: bytes = b"<html>Hello</html>", content_type: str = "text/html") -> bytes:
    """An answer as the wire has it."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return head.encode() + b"\r\n" + body
