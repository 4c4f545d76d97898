"""Logs as a collector reads them: one JSON object a line, with run, worker and job in it."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from conftest import job_arn, job_named

from batchsubmit.config import LogSettings
from batchsubmit.core.jobs import JobSubmitted
from batchsubmit.log import configure_logging
from batchsubmit.observers.base import LogObserver

JOB = job_named("one")
EVENT = JobSubmitted(**JOB.stamp("2026-11-23T00:00:00.000000Z"), arn=job_arn("one"), attempt=1, via="start")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave no set-up behind."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged, each line parsed."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def test_a_job_s_line_says_whose_it_is_also_from_a_task_started_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run and worker are bound once, where the worker begins; the job stands in each line about it."""
    configure_logging("json", "info")
    structlog.contextvars.bind_contextvars(run="r-1", worker="w-1")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(LogObserver().saw, EVENT))
    (line,) = lines(capsys)
    assert line["event"] == "job.submitted"
    assert (line["run"], line["worker"], line["job"]) == ("r-1", "w-1", JOB.key)
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_a_library_s_complaint_is_json_too_with_its_traceback_inside(capsys: pytest.CaptureFixture[str]) -> None:
    """What asyncio and aiohttp say through the standard library reads like ours; their debug lines stay out."""
    configure_logging("json", "debug")
    structlog.contextvars.bind_contextvars(worker="w-1")
    logging.getLogger("aiohttp").debug("chatter")
    gone = OSError("gone")
    logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=gone)
    (line,) = lines(capsys)
    assert line["event"] == "Task exception was never retrieved"
    assert (line["level"], line["worker"]) == ("error", "w-1")
    assert "OSError: gone" in line["exception"]


def test_the_default_shows_no_line_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    """A million jobs are no million lines unless asked for."""
    configure_logging("json", LogSettings().level)
    LogObserver().saw(EVENT)
    assert lines(capsys) == []
