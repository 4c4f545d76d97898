"""The worker as a process on a real queue protocol: all jobs once, nothing lost, nothing in the wrong place."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aws_local import LocalAws, LocalQueue, local_aws
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, finish, request_named

LEDGER = "worker.ledger.jsonl"
PATIENCE_SECONDS = 40


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS for all tests of this module; each makes queues of its own."""
    with local_aws(tmp_path_factory.mktemp("aws")) as started:
        yield started


@pytest.fixture
def working(submitting: Program, aws: LocalAws) -> Program:
    """The program, pointed at sandbox and local AWS, with short waits."""
    submitting.environment |= {
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws.url,
        "BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "30",
        "BATCHSUBMIT_WORKER__WAIT_SECONDS": "1",
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
def serving(program: Program, queue: LocalQueue, *more: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A worker on the queue, beside the test."""
    with program.running("worker", "--queue-url", queue.url, "--json", *more, **environment) as process:
        yield process


def test_every_message_becomes_one_job_and_the_queue_ends_empty(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Of two memberships, some sent twice; SIGTERM then ends the worker with exit status 0."""
    queue = aws.make_queue()
    wanted = [*jobs(150), *jobs(150, membership=OTHER_MEMBERSHIP, stem="other")]
    queue.put(*wanted, *wanted[::30])
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in wanted)
    assert sorted(working.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())
    assert ended.summary["queue_counts"]["deleted"] == 310
    assert queue.dead is not None
    assert queue.dead.size() == 0


def test_check_tells_what_the_queue_lacks(working: Program, aws: LocalAws, tmp_path: Path) -> None:
    """And receives nothing."""
    queue = aws.make_queue(receives=None, MessageRetentionPeriod="3600")
    queue.put(*jobs(1))
    ended = working.run("worker", "--check", "--queue-url", queue.url, "--json")
    assert ended.status == 0
    assert "dead-letter queue" in ended.summary["advice"][0]
    assert "MessageRetentionPeriod" in ended.stderr
    assert queue.counts() == (1, 0, 0)
