"""An HTTP proxy that disturbs a share of all calls: what portals, gateways, dying servers and odd answers do.

A fault *instead* stands in the call's place; one *after* replaces the answer of a call that took effect.
"""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

HTML: Final = b"<html><body>Please log in to continue</body></html>"
TRICKLE_SECONDS: Final = 0.5
_HOP_HEADERS: Final = frozenset({"connection", "host", "content-length", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: None as its body cuts the connection."""

    status: int
    headers: dict[str, str]
    body: bytes | None
    is_slow: bool = False


def _html(_: Answer | None) -> Answer:
    return Answer(200, {"Content-Type": "text/html"}, HTML)


def _empty(_: Answer | None) -> Answer:
    return Answer(200, {}, b"")


def _no_members(_: Answer | None) -> Answer:
    return Answer(200, {"Content-Type": "application/x-amz-json-1.0"}, b"{}")


def _error(_: Answer | None) -> Answer:
    return Answer(500, {}, b'{"message": "Internal server error"}')


def _slow_down(_: Answer | None) -> Answer:
    return Answer(503, {"x-amzn-ErrorType": "SlowDown"}, b'{"message": "Please reduce your request rate."}')


def _cut(_: Answer | None) -> Answer:
    return Answer(0, {}, None)


def _trickle(answer: Answer | None) -> Answer:
    return Answer(answer.status, answer.headers, answer.body, is_slow=True) if answer else _html(None)


def _truncated(answer: Answer | None) -> Answer:
    body = answer.body if answer else HTML
    half = (body or b"")[: len(body or b"") // 2]
    return Answer(200, {"Content-Type": "application/json"}, half)


ANY_CALL: Final = {
    "html": _html,
    "empty": _empty,
    "no_members": _no_members,
    "error": _error,
    "slow_down": _slow_down,
    "cut": _cut,
    "trickle": _trickle,
    "truncated": _truncated,
}
"""By name; each happens before a call and after one."""


class OddJobAnswers:
    """What Clean Rooms ML should never say: unknown statuses, endless pages, jobs that Get denies, wrong ARNs."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._earlier_arns: list[str] = []

    def change(self, method: str, path: str, answer: Answer) -> tuple[str, Answer] | None:
        """A changed answer with the fault's name; None where this call has nothing to change."""
        if answer.status != 200 or "trained-model-inference-jobs" not in path:
            return None
        members: dict[str, Any] = json.loads(answer.body or b"{}")
        if "trainedModelInferenceJobs" in members:
            return self._list(members, answer)
        if method == "POST":
            return self._start(members, answer)
        if self._random.random() < 0.5:
            refusal = {"x-amzn-ErrorType": "ResourceNotFoundException", "Content-Type": "application/json"}
            return "get_404", Answer(404, refusal, b'{"message": "The job was not found."}')
        return "unknown_status", _json(answer, members | {"status": "PAUSED_BY_SERVICE"})

    def _list(self, members: dict[str, Any], answer: Answer) -> tuple[str, Answer]:
        if self._random.random() < 0.5:
            for job in members["trainedModelInferenceJobs"]:
                job["status"] = "PAUSED_BY_SERVICE"
            return "unknown_status", _json(answer, members)
        return "repeated_token", _json(answer, members | {"nextToken": "always-the-same"})

    def _start(self, members: dict[str, Any], answer: Answer) -> tuple[str, Answer] | None:
        arn = str(members["trainedModelInferenceJobArn"])
        self._earlier_arns.append(arn)
        other = self._random.choice(self._earlier_arns)
        return None if other == arn else ("other_arn", _json(answer, {"trainedModelInferenceJobArn": other}))


def _json(answer: Answer, members: dict[str, Any]) -> Answer:
    return Answer(answer.status, answer.headers, json.dumps(members).encode())


@dataclass(slots=True)
class ChaosProxy:
    """Disturbs `share` of the calls to `upstream`; `met` counts the faults by name."""

    upstream: str
    share: float
    random: Random
    url: str = ""
    met: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _odd: OddJobAnswers | None = None

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Forward a call, or disturb it."""
        with self._lock:
            is_disturbed = self.random.random() < self.share
            is_before = self.random.random() < 0.4
            name = self.random.choice(list(ANY_CALL))
            is_odd = self.random.random() < 0.3
        if not is_disturbed:
            return self._forward(method, path, headers, body)
        if is_before:
            self.met[f"{name} instead"] += 1
            return ANY_CALL[name](None)
        answer = self._forward(method, path, headers, body)
        return (is_odd and self._odd_answer(method, path, answer)) or self._replaced(name, answer)

    def _odd_answer(self, method: str, path: str, answer: Answer) -> Answer | None:
        with self._lock:
            self._odd = self._odd or OddJobAnswers(self.random)
            found = self._odd.change(method, path, answer)
        if found is None:
            return None
        self.met[found[0]] += 1
        return found[1]

    def _replaced(self, name: str, answer: Answer) -> Answer:
        self.met[f"{name} after"] += 1
        return ANY_CALL[name](answer)

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_HEADERS}
            return Answer(answer.status, kept, answer.read())
        finally:
            connection.close()


@contextmanager
def chaos_proxy(upstream: str, share: float, seed: int) -> Iterator[ChaosProxy]:
    """Serve on a free port of the loopback interface."""
    proxy = ChaosProxy(upstream, share, Random(seed))
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that was killed between two calls
                super().handle()

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_HEADERS}
            with suppress(OSError, http.client.HTTPException):  # a client that was killed, a server that has ended
                self._send(proxy.answer(self.command, self.path, headers, body))

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_call  # noqa: N815 (the library's names)

        def _send(self, answer: Answer) -> None:
            if answer.body is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            for piece in (
                [answer.body[at : at + 1] for at in range(len(answer.body))] if answer.is_slow else [answer.body]
            ):
                self.wfile.write(piece)
                if answer.is_slow and ended.wait(TRICKLE_SECONDS):
                    return

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
