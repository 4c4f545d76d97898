"""Local AWS for tests, on free ports of the loopback interface: MiniStack as a process of its own, moto in a thread."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

_START_SECONDS = 30
_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class LocalAws:
    """A MiniStack process."""

    url: str
    pid: int = 0

    def call(self, service: str, operation: str, **members: object) -> dict[str, Any]:
        """Make one call in the JSON protocol."""
        request = urllib.request.Request(  # noqa: S310 (our own URL)
            self.url,
            json.dumps(members).encode(),
            {
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"{service}.{operation}",
                "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/us-east-1/sqs/aws4_request",
            },
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 (our own URL)
            read: dict[str, Any] = json.loads(answer.read() or b"{}")
            return read

    def put_object(self, bucket: str, key: str, content: str) -> None:
        """Store an object, in a bucket that is made if need be."""
        for path, data in ((bucket, b""), (f"{bucket}/{quote(key)}", content.encode())):
            request = urllib.request.Request(f"{self.url}/{path}", data, method="PUT")  # noqa: S310 (our own URL)
            with suppress(urllib.error.HTTPError), urllib.request.urlopen(request):  # noqa: S310 (our own URL)
                pass

    def make_queue(self, *, receives: int | None = 1000, fifo: bool = False, **attributes: str) -> "LocalQueue":
        """Make a queue with a dead-letter queue of its own, or, where `receives` is None, without one."""
        suffix = ".fifo" if fifo else ""
        kind = {"FifoQueue": "true"} if fifo else {}
        name = f"queue-{next(_NUMBERS)}"
        dead = None
        if receives is not None:
            dead = self._queue(f"{name}-dead{suffix}", {**kind, "MessageRetentionPeriod": "1209600"})
            redrive = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": str(receives)}
            attributes["RedrivePolicy"] = json.dumps(redrive)
        return self._queue(name + suffix, {"MessageRetentionPeriod": "1209600", **kind, **attributes}, dead)

    def _queue(self, name: str, attributes: Mapping[str, str], dead: "LocalQueue | None" = None) -> "LocalQueue":
        url = self.call("AmazonSQS", "CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        return LocalQueue(self, url, dead)


@dataclass(frozen=True, slots=True)
class LocalQueue:
    """A queue, and its dead-letter queue if it has one."""

    aws: LocalAws
    url: str
    dead: "LocalQueue | None" = None

    def call(self, operation: str, **members: object) -> dict[str, Any]:
        """Make one call on this queue."""
        return self.aws.call("AmazonSQS", operation, QueueUrl=self.url, **members)

    @property
    def attributes(self) -> dict[str, str]:
        """All of them."""
        found: dict[str, str] = self.call("GetQueueAttributes", AttributeNames=["All"])["Attributes"]
        return found

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.attributes["QueueArn"]

    def counts(self) -> tuple[int, int, int]:
        """Messages to be had, hidden by a receive, and delayed."""
        kinds = ("", "NotVisible", "Delayed")
        attributes = self.attributes
        visible, hidden, delayed = (int(attributes[f"ApproximateNumberOfMessages{kind}"]) for kind in kinds)
        return visible, hidden, delayed

    def size(self) -> int:
        """All messages."""
        return sum(self.counts())

    def put(self, *bodies: object, **more: object) -> None:
        """Send messages, each an object to be spelled as JSON or a text as it is."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        for start in range(0, len(texts), 10):
            entries = [
                {"Id": str(number), "MessageBody": text, **more}
                for number, text in enumerate(texts[start : start + 10])
            ]
            answer = self.call("SendMessageBatch", Entries=entries)
            assert not answer.get("Failed"), answer

    def drain(self) -> list[dict[str, Any]]:
        """Receive whatever is to be had, and hide it for an hour."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.call(
                "ReceiveMessage",
                MaxNumberOfMessages=10,
                VisibilityTimeout=3600,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
            )
            if not answer.get("Messages"):
                return found
            found += answer["Messages"]


@contextmanager
def local_aws(folder: Path, *, script: Path | None = None) -> Iterator[LocalAws]:
    """Start MiniStack, or a script that does, and end it."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "ERROR",
    }
    program = [sys.executable, str(script)] if script else [str(Path(sys.executable).with_name("ministack"))]
    log = (folder / "ministack.log").open("wb")
    with log, subprocess.Popen(program, env=environment, cwd=folder, stdout=log, stderr=log) as process:
        try:
            aws = LocalAws(f"http://127.0.0.1:{port}", process.pid)
            _await_answer(aws, process)
            yield aws
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()


@contextmanager
def moto() -> Iterator[str]:
    """Start moto, which answers one request after the other; gives its URL.

    On threads, its conditional writes are no conditions: two that come at once both succeed.
    """
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 (a second that few tests need)
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415 (a second that few tests need)

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_answer(aws: LocalAws, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            aws.call("AmazonSQS", "ListQueues")
        except (OSError, urllib.error.URLError):
            assert process.poll() is None, "MiniStack ended at once"
            assert time.monotonic() < deadline, "MiniStack does not answer"
            time.sleep(0.05)  # between two looks, so that it has the processor
        else:
            return
