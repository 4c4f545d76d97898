"""A webhook of our own: an HTTP server that answers as planned and keeps what it was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """Answers with the planned statuses (`None`: not at all), then with `body`, or 204 where there is none."""

    url: str = ""
    body: bytes = b""
    planned: list[int | None] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was told."""
        return [json.loads(body) for _, body in self.requests]


@contextmanager
def listening() -> Iterator[Hook]:
    """Serve a hook on a free port of this machine."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.requests.append((dict(self.headers.items()), body))
            status = hook.planned.pop(0) if hook.planned else 200 if hook.body else 204
            if status is None:
                hook.closing.wait(20)  # as long as the test, and no longer
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", hook.url)
            if status == 200:
                self.send_header("Content-Length", str(len(hook.body)))
            self.end_headers()
            self.wfile.write(hook.body if status == 200 else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}/services/s3cr3t"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hook
    finally:
        hook.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
