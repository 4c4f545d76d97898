"""An HTTP proxy in front of a local SQS, for what no local SQS produces: throttling, double deliveries, half failures.

It counts the calls by operation, refuses some of them, fails entries of batches, and delivers messages twice.
"""

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Answer = tuple[int, dict[str, Any]]
_KEPT_HEADERS = ("Content-Type", "X-Amz-Target", "Authorization", "X-Amz-Date")


@dataclass(slots=True)
class SqsProxy:
    """What the proxy does.

    `before` may answer in SQS's place, also with the bytes of a page that has status 200. `edit` may take something out
    of a request, and says what the answer has in its stead. `after` may change SQS's answer.
    """

    upstream: str
    url: str = ""
    before: Callable[[str, dict[str, Any], int], Answer | bytes | None] = lambda _operation, _members, _number: None
    edit: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _operation, _members: {}
    after: Callable[[str, dict[str, Any], dict[str, Any]], None] = lambda _operation, _members, _answer: None
    calls: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def answer(self, operation: str, headers: dict[str, str], body: bytes) -> Answer | bytes:
        """Answer one call."""
        members = json.loads(body or b"{}")
        with self._lock:
            self.calls[operation] += 1
            refused = self.before(operation, members, self.calls[operation])
        if refused is not None:
            return refused
        more = self.edit(operation, members)
        if not members.get("Entries", ["no batch"]):
            return 200, {"Successful": [], **more}
        status, answer = self._forward(headers, json.dumps(members).encode())
        if status == 200:
            answer |= {"Failed": [*answer.get("Failed", ()), *more["Failed"]]} if "Failed" in more else more
            with self._lock:
                self.after(operation, members, answer)
        return status, answer

    def _forward(self, headers: dict[str, str], body: bytes) -> Answer:
        request = urllib.request.Request(self.upstream, body, headers)  # noqa: S310 (our own URL)
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310 (our own URL)
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, json.loads(exc.read() or b"{}")


def refusal(code: str, message: str = "", status: int = 400) -> Answer:
    """An error as SQS's JSON protocol spells it."""
    return status, {"__type": f"com.amazonaws.sqs#{code}", "message": message or code}


def as_sqs_refuses(operation: str, members: dict[str, Any]) -> dict[str, Any]:
    """An `edit` that fails entries as SQS does and a local one does not: each kind of queue has members of its own."""
    if operation != "SendMessageBatch":
        return {}
    wrong = "DelaySeconds" if members["QueueUrl"].endswith(".fifo") else "MessageDeduplicationId"
    failed = [each["Id"] for each in members["Entries"] if wrong in each]
    members["Entries"] = [each for each in members["Entries"] if wrong not in each]
    message = f"Value for parameter {wrong} is invalid. Reason: it is not valid for this queue type."
    return {
        "Failed": [
            {"Id": each, "Code": "InvalidParameterValue", "Message": message, "SenderFault": True} for each in failed
        ]
    }


@contextmanager
def sqs_proxy(upstream: str) -> Iterator[SqsProxy]:
    """Serve on a free port of the loopback interface."""
    proxy = SqsProxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept = {name: self.headers[name] for name in _KEPT_HEADERS if name in self.headers}
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            answer = proxy.answer(operation, kept, body)
            status, members = (200, None) if isinstance(answer, bytes) else answer
            data = answer if isinstance(answer, bytes) else json.dumps(members).encode()
            self.send_response(status)
            is_json = members is not None or data[:1] in b"[{"
            self.send_header("Content-Type", "application/x-amz-json-1.0" if is_json else "text/html")
            self.send_header("Content-Length", str(len(data)))
            with suppress(ConnectionError):  # a client that was killed
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
