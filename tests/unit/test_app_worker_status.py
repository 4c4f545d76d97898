"""When a worker counts as alive, and when as ready."""

import sys
import time
from typing import TYPE_CHECKING, cast

import pytest

from batchsubmit.app.worker import WorkerStatus
from batchsubmit.config import AwsSettings, Settings, WorkerSettings
from batchsubmit.health import ask_probe
from batchsubmit.observers.base import RunCounts
from batchsubmit.queue.client import Queue
from batchsubmit.submit.stopping import Stop, StopReason

if TYPE_CHECKING:
    from batchsubmit.ledger.file import FileLedger
    from batchsubmit.queue.source import SqsSource
    from batchsubmit.submit.engine import Engine


class Ledger:
    """A ledger on a disk that is full."""

    trouble = "the disk is full"


@pytest.fixture
def queue() -> Queue:
    """A queue that was not called yet."""
    return Queue(None, "https://queue", call_seconds=70)


@pytest.fixture
def stop() -> Stop:
    """A worker that is not asked to end."""
    return Stop()


@pytest.fixture
def status(queue: Queue, stop: Stop) -> WorkerStatus:
    """The status of a worker that begins."""
    return status_of(queue, stop)


def status_of(queue: Queue, stop: Stop) -> WorkerStatus:
    """The same, for a test that needs several."""
    settings = Settings(aws=AwsSettings(read_timeout_seconds=5), worker=WorkerSettings(visibility_timeout_seconds=5))
    ledger = cast("FileLedger", Ledger())
    return WorkerStatus(queue=queue, settings=settings, ledger=ledger, tally=RunCounts(), stop=stop)


def test_without_the_extra_there_are_no_metrics_and_no_failure(
    queue: Queue, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probes' side then says so."""
    assert len(status_of(queue, stop).metrics) == 1
    monkeypatch.setitem(sys.modules, "batchsubmit.observers.metrics", None)
    assert status_of(queue, stop).metrics == []


def test_a_worker_that_calls_no_more_is_stalled_after_its_time(queue: Queue, status: WorkerStatus) -> None:
    """The next call ends that."""
    queue.called_at = time.monotonic() - 25
    assert status.trouble() == ""
    queue.called_at -= 6
    assert status.trouble() == "no progress for 31 s, allowed are 30 s"
    queue.called_at = time.monotonic()
    assert status.trouble() == ""


def test_a_worker_that_drains_for_long_is_alive(queue: Queue, stop: Stop, status: WorkerStatus) -> None:
    """It must not be killed for that."""
    stop.request(StopReason.SIGNAL, "SIGTERM")
    queue.called_at -= 3600
    assert status.trouble() == ""


def test_a_worker_is_ready_as_its_last_call_went(queue: Queue, stop: Stop, status: WorkerStatus) -> None:
    """Not before the first call, before the engine is there, or once it drains."""
    ready = status.ready()
    found = {name: condition() for name, condition in ready.items()}
    assert found == {"queue": "not reached yet", "ledger": "the disk is full", "manifests": "", "worker": "starting"}
    queue.trouble = ""
    assert ready["queue"]() == ""
    queue.trouble = "ReceiveMessage: TimeoutError"
    assert ready["queue"]() == "ReceiveMessage: TimeoutError"
    status.parts = cast("SqsSource", None), cast("Engine", None)
    assert ready["worker"]() == ""
    stop.request(StopReason.SIGNAL, "SIGTERM")
    assert ready["worker"]() == "draining"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:1/livez"),  # noqa: S104 (asked, not bound)
        ("::", "http://[::1]:1/livez"),
        ("127.0.0.7", "http://127.0.0.7:1/livez"),
    ],
)
def test_a_worker_that_listens_everywhere_is_asked_on_loopback(host: str, url: str) -> None:
    """An address to bind is none to connect to."""
    is_well, words = ask_probe(WorkerSettings(metrics_host=host, metrics_port=1), "livez")
    assert not is_well
    assert words.startswith(f"{url} does not answer: ")
