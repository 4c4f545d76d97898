"""What tests of worker and enqueue share: the programs pointed at a local AWS, requests, and patience."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from conftest import Program, request_named
from local_aws import LocalAws, LocalQueue
from program_server import Process

LEDGER = "worker.ledger.jsonl"
PATIENCE_SECONDS = 40


@pytest.fixture
def working(submitting: Program, aws: LocalAws) -> Program:
    """The program, pointed at sandbox and local AWS, with short waits."""
    submitting.environment |= {
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws.url,
        "BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "30",
        "BATCHSUBMIT_WORKER__WAIT_SECONDS": "1",
        "BATCHSUBMIT_WORKER__METRICS_PORT": "0",
    }
    return submitting


def until(condition: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two looks, so that the program has the processor


def jobs(count: int, *, membership: str | None = None, stem: str = "job") -> list[dict[str, object]]:
    """Requests of different names."""
    where = {"membership": membership} if membership else {}
    return [in_virginia(request_named(f"{stem}-{number:04}", **where)) for number in range(count)]


def in_virginia(request: dict[str, object]) -> dict[str, object]:
    """The same request in the region that MiniStack lives in."""
    moved: dict[str, object] = json.loads(json.dumps(request).replace("eu-central-1", "us-east-1"))
    return moved


@contextmanager
def serving(program: Program, queue: LocalQueue, *more: str, **environment: str) -> Iterator[Process]:
    """A worker on the queue, beside the test."""
    with program.running("worker", "--queue-url", queue.url, "--json", *more, **environment) as process:
        yield process
