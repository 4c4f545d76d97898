"""Probes and metrics over real HTTP, asked by urllib, by the health check and by Prometheus' own parser."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import job_arn, job_named
from prometheus_client.parser import text_string_to_metric_families

from batchsubmit.cli.worker import worker
from batchsubmit.clock import SystemClock
from batchsubmit.config import WorkerSettings
from batchsubmit.core.jobs import Intent, JobSubmitted
from batchsubmit.errors import UsageError
from batchsubmit.health import ask_probe, serving_probes
from batchsubmit.ledger.file import open_ledger
from batchsubmit.observers.base import Readings
from batchsubmit.observers.metrics import Metrics
from batchsubmit.submit.recorder import Recorder


def fetch(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    """GET: status, content type, text."""
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 (our own URL)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 (our own URL)
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.headers["Content-Type"], exc.read().decode()


def free_port() -> int:
    """A port that nobody has, just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class ServedWorker:
    """A live worker without metrics, on a free port; `queue` is what its queue lacks."""

    settings: WorkerSettings
    queue: str = "not reached yet"

    @property
    def url(self) -> str:
        """The base of its addresses."""
        return f"http://127.0.0.1:{self.settings.metrics_port}"


@pytest.fixture
async def server() -> AsyncIterator[ServedWorker]:
    """A worker whose queue was not reached yet."""
    served = ServedWorker(WorkerSettings(metrics_port=free_port()))
    live, ready = {"engine": lambda: ""}, {"queue": lambda: served.queue}
    async with serving_probes(served.settings, live=live, ready=ready, metrics=None):
        yield served


async def test_a_probe_says_yes_or_what_is_lacking(server: ServedWorker) -> None:
    """200 or 503, and each condition by name."""
    status, content_type, text = await asyncio.to_thread(fetch, f"{server.url}/readyz")
    assert (status, json.loads(text)) == (503, {"queue": "not reached yet"})
    assert content_type.startswith("application/json")
    server.queue = ""
    status, _, text = await asyncio.to_thread(fetch, f"{server.url}/readyz")
    assert (status, json.loads(text)) == (200, {"queue": "ok"})
    assert (await asyncio.to_thread(fetch, f"{server.url}/livez"))[0] == 200


async def test_without_the_extra_metrics_are_refused_in_a_sentence(server: ServedWorker) -> None:
    """The probes work all the same."""
    status, _, text = await asyncio.to_thread(fetch, f"{server.url}/metrics")
    assert status == 501
    assert "pip install 'batchsubmit[metrics]'" in text


async def test_a_scrape_parses_and_holds_what_a_real_ledger_and_recorder_saw(tmp_path: Path) -> None:
    """The whole way: event, file, observer, HTTP, Prometheus' parser."""
    metrics = Metrics(lambda: Readings(jobs_waiting={"m": 3}, slots_used={"m": 5}, slots_known={"m": 5}))
    job = job_named("one")
    async with open_ledger(tmp_path / "ledger.jsonl") as ledger:
        recorder = Recorder(ledger, SystemClock(), [metrics])
        stamp = job.stamp(recorder.now())
        await recorder.record(Intent(**stamp, attempt=1, trained_model=job.trained_model))
        await recorder.record(JobSubmitted(**stamp, arn=job_arn("one"), attempt=1, via="start"))
    served = ServedWorker(WorkerSettings(metrics_port=free_port()))
    async with serving_probes(served.settings, live={}, ready={}, metrics=metrics.exposition):
        _, content_type, text = await asyncio.to_thread(fetch, f"{served.url}/metrics")
    assert content_type.startswith("text/plain; version=0.0.4")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert values["batchsubmit_jobs_submitted_total", "start"] == 1
    assert values["batchsubmit_ledger_write_seconds_count",] == 2
    assert values["batchsubmit_attempt_seconds_count",] == 1
    assert values["batchsubmit_slots_used", "m"] == 5
    assert values["process_resident_memory_bytes",] > 0


async def test_the_check_passes_for_a_live_worker_only(server: ServedWorker) -> None:
    """Well, lacking something, no such page, and gone."""
    assert await asyncio.to_thread(ask_probe, server.settings, "livez") == (True, '{"engine": "ok"}')
    assert (await asyncio.to_thread(ask_probe, server.settings, "readyz"))[0] is False
    assert (await asyncio.to_thread(ask_probe, server.settings, "nowhere"))[0] is False
    is_well, words = await asyncio.to_thread(ask_probe, WorkerSettings(metrics_port=1), "livez")
    assert not is_well
    assert "does not answer" in words


async def test_a_worker_whose_loop_is_stuck_is_not_live() -> None:
    """It takes the connection and answers nothing; the check waits no longer than it has to."""
    with socket.create_server(("127.0.0.1", 0)) as stuck:
        settings = WorkerSettings(metrics_port=stuck.getsockname()[1])
        is_well, words = await asyncio.to_thread(ask_probe, settings, "livez", 0.2)
    assert not is_well
    assert "timed out" in words


def test_the_check_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's proxy settings are for elsewhere."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as here:
        here.settimeout(5)
        _, words = ask_probe(WorkerSettings(metrics_port=here.getsockname()[1]), "livez", 0.2)
        here.accept()[0].close()
    assert "timed out" in words


async def test_a_port_in_use_is_said_in_a_sentence(server: ServedWorker) -> None:
    """With the setting that helps."""
    with pytest.raises(UsageError, match=r"worker\.metrics_port"):
        async with serving_probes(server.settings, live={}, ready={}, metrics=None):
            pass


async def test_a_worker_shows_nothing_where_its_port_is_none() -> None:
    """Port 0 is none, and not any free one."""
    async with serving_probes(WorkerSettings(metrics_port=0), live={}, ready={}, metrics=None):
        is_well, words = ask_probe(WorkerSettings(metrics_port=0), "livez")
    assert (is_well, "metrics_port is 0" in words) == (False, True)


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[object, str]]:
    """Call `worker` on a machine whose worker's port is this."""

    def call(port: int, *arguments: str) -> tuple[object, str]:
        monkeypatch.setenv("BATCHSUBMIT_WORKER__METRICS_PORT", str(port))
        result = CliRunner().invoke(worker, arguments, standalone_mode=False, catch_exceptions=False)
        return result.return_value, result.stderr

    return call


async def test_the_option_asks_and_leaves(server: ServedWorker, invoke: Callable[..., tuple[object, str]]) -> None:
    """0 for a live worker, 1 for one that is not ready; without the option it is a worker, and wants a queue."""
    assert (await asyncio.to_thread(invoke, server.settings.metrics_port, "--check"))[0] == 0
    assert (await asyncio.to_thread(invoke, server.settings.metrics_port, "--check", "live"))[0] == 0
    status, words = await asyncio.to_thread(invoke, server.settings.metrics_port, "--check", "ready")
    assert status == 1
    assert "not reached yet" in words
    with pytest.raises(UsageError, match="no queue"):
        await asyncio.to_thread(invoke, server.settings.metrics_port)


def test_whatever_keeps_the_check_from_asking_is_a_one(
    tmp_path: Path, invoke: Callable[..., tuple[object, str]]
) -> None:
    """Docker knows 0 and 1 and keeps 2 for itself: no probes, a missing file, a wrong setting."""
    status, words = invoke(0, "--check")
    assert status == 1
    assert "metrics_port is 0" in words
    assert invoke(9464, "--check", "--config", str(tmp_path / "none.toml"))[0] == 1
