"""One signal drains a run, whatever came before it and however often its sender repeats it."""

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from byte_server import http, wire
from conftest import Program, Sandbox, csv_text, finish, job_arn
from strategies import MEMBERSHIP
from test_interrupt import until

NAMES = [f"job-{number}" for number in range(20)]
LEDGER = "jobs.ledger.jsonl"


def slow_calls(program: Program, sandbox: Sandbox) -> None:
    """Write a manifest, and let its first four calls take their time."""
    sandbox.disturb({"fault": "slow_answer", "times": 4, "seconds": 3})
    (program.folder / "jobs.csv").write_text(csv_text(NAMES))


def assert_drained(program: Program, sandbox: Sandbox, status: int) -> None:
    """Hold that the calls in progress were awaited, recorded, and followed by the run's last line."""
    assert status == 3
    assert len(sandbox.names()) == 4
    assert sorted(program.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())
    assert program.events(LEDGER)[-1]["event"] == "run_ended"


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGINT), (signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP,)]
)
def test_signals_in_quick_succession_are_one(
    submitting: Program, sandbox: Sandbox, numbers: tuple[signal.Signals, ...]
) -> None:
    """As timeout, systemd and uv send them; SIGHUP drains as SIGTERM does."""
    slow_calls(submitting, sandbox)
    with submitting.running("submit", "jobs.csv", "--concurrency", 4) as process:
        until(lambda: len(sandbox.names()) >= 4)
        for number in numbers:
            process.send_signal(number)
        ended = finish(process)
    assert_drained(submitting, sandbox, ended.status)
    assert "second signal" not in ended.stderr


def test_one_signal_after_the_deadline_is_the_first(submitting: Program, sandbox: Sandbox) -> None:
    """What stopped the run before was no signal: the calls in progress are still awaited."""
    slow_calls(submitting, sandbox)
    sandbox.disturb({"fault": "slow_answer", "times": 4, "seconds": 8})
    deadline = datetime.now(UTC) + timedelta(seconds=6)
    with submitting.running("submit", "jobs.csv", "--concurrency", 4, "--deadline", deadline.isoformat()) as process:
        until(lambda: len(sandbox.names()) >= 4 and datetime.now(UTC) > deadline + timedelta(seconds=0.3))
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert_drained(submitting, sandbox, ended.status)
    assert "deadline" in ended.stderr
    assert "second signal" not in ended.stderr


def test_a_credential_program_that_hangs_does_not_hold_the_first_signal(submitting: Program, tmp_path: Path) -> None:
    """The run ends with its last line, and nothing was sent."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    started = tmp_path / "started"
    program = tmp_path / "credentials.sh"
    program.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 50 >/dev/null 2>&1 </dev/null\n")
    program.chmod(0o755)
    config = tmp_path / "aws-config"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    environment = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_CONFIG_FILE": str(config)}
    with submitting.running("submit", "jobs.csv", **environment) as process:
        until(started.exists)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 3
    assert submitting.events(LEDGER)[-1]["event"] == "run_ended"


@pytest.mark.parametrize("is_silent", [False, True], ids=["new jobs on each page", "no answer"])
@pytest.mark.parametrize("command", ["verify", "plan", "cancel"])
async def test_a_list_without_an_end_ends_at_the_first_signal(
    submitting: Program, sandbox: Sandbox, command: str, *, is_silent: bool
) -> None:
    """Each page has a new job and a new token, or none ever comes; nothing is cancelled."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a"]))
    assert (await asyncio.to_thread(submitting.run, "submit", "jobs.csv", "--yes")).status == 0
    arguments = {"verify": [LEDGER], "plan": ["jobs.csv", "--online"], "cancel": [LEDGER, "--yes"]}[command]
    numbers = count(1)

    def page(_: bytes) -> bytes | None:
        return None if is_silent else _page(next(numbers))

    async with wire(page) as (url, requests):
        with submitting.running(command, *arguments, AWS_ENDPOINT_URL_CLEANROOMSML=url) as process:
            await asyncio.to_thread(until, lambda: len(requests) >= (1 if is_silent else 40))
            process.send_signal(signal.SIGTERM)
            ended = await asyncio.wait_for(asyncio.to_thread(finish, process), 10)
    assert ended.status == 3, ended.stderr
    assert "stopped by SIGTERM; nothing was sent" in ended.stderr
    assert [job["status"] for job in sandbox.jobs()] == ["CREATE_IN_PROGRESS"]


def _page(number: int) -> bytes:
    job = {
        "trainedModelInferenceJobArn": job_arn(str(number)),
        "membershipIdentifier": MEMBERSHIP,
        "name": "other",
        "status": "CREATE_IN_PROGRESS",
        "createTime": "2026-11-23T00:00:00Z",
        "updateTime": "2026-11-23T00:00:00Z",
    }
    content = {"trainedModelInferenceJobs": [job], "nextToken": str(number)}
    return http("200 OK", json.dumps(content).encode(), "application/json")
