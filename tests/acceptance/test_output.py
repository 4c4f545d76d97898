"""What cannot be told does not stop the work: closed, full and unread outputs."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import CONSOLE_SCRIPT, LONGEST_RUN_SECONDS, Program, Sandbox, csv_text
from test_interrupt import until

NAMES = [f"job-{number:03}" for number in range(20)]


def in_shell(program: Program, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which `$B` is the program."""
    (program.folder / "jobs.csv").write_text(csv_text(NAMES))
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        cwd=program.folder,
        env={**os.environ, **program.environment, "B": str(CONSOLE_SCRIPT)},
        capture_output=True,
        timeout=LONGEST_RUN_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "redirection",
    [
        "2>&1 | head -0",
        "--json | head -0",
        "2>/dev/full",
        "--json >/dev/full",
        "--json >/dev/full 2>&1",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
    ],
)
def test_jobs_are_submitted_whatever_becomes_of_the_output(
    submitting: Program, sandbox: Sandbox, redirection: str
) -> None:
    """Each once, with the exit status of the jobs, and no traceback."""
    ended = in_shell(submitting, f"$B submit jobs.csv {redirection}")
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr
    assert sorted(sandbox.names()) == NAMES
    events = submitting.events("jobs.ledger.jsonl")
    assert [event["event"] for event in events].count("submitted") == len(NAMES)
    assert events[-1]["event"] == "run_ended"


def test_a_summary_that_does_not_fit_on_the_disk_is_one_sentence(submitting: Program) -> None:
    """The status stays that of the jobs; of a command that only writes, it is not done."""
    ended = in_shell(submitting, "$B submit jobs.csv --json >/dev/full")
    (line,) = (line for line in ended.stderr.splitlines() if b"standard output" in line)
    assert line == b"batchsubmit: standard output could not be written: No space left on device"
    assert in_shell(submitting, "$B export jobs.ledger.jsonl >/dev/full").returncode == 2


@pytest.mark.parametrize("command", ["export jobs.ledger.jsonl", "status jobs.ledger.jsonl", "schema", "--help"])
def test_a_reader_that_has_seen_enough_is_no_failure(submitting: Program, command: str) -> None:
    """As of any command in a pipe."""
    in_shell(submitting, "$B submit jobs.csv")
    ended = in_shell(submitting, f"$B {command} | head -1")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == b""


def test_an_unread_pipe_does_not_hold_the_run_up(submitting: Program, sandbox: Sandbox) -> None:
    """A thousand lines of log, more than a pipe holds, and nobody reads."""
    (submitting.folder / "jobs.csv").write_text(csv_text(f"job-{number:04}" for number in range(400)))
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [CONSOLE_SCRIPT, "submit", "jobs.csv"],
            cwd=submitting.folder,
            env={**os.environ, **submitting.environment, "BATCHSUBMIT_LOG__LEVEL": "debug"},
            stdout=subprocess.DEVNULL,
            stderr=write,
        )
        assert process.wait(LONGEST_RUN_SECONDS) == 0
    finally:
        os.close(read)
        os.close(write)
    assert len(sandbox.names()) == 400


def test_a_credential_program_that_hangs_does_not_hold_up_a_signal(submitting: Program, tmp_path: Path) -> None:
    """Nothing was begun, and the run ends in order."""
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {tmp_path}/slow\n")
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexec sleep 100\n")
    slow.chmod(0o755)
    (tmp_path / "jobs.csv").write_text(csv_text(NAMES))
    environment = {
        "AWS_ACCESS_KEY_ID": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }
    with submitting.running("submit", "jobs.csv", "--json", **environment) as process:
        until((tmp_path / "asked").exists)
        process.terminate()
        stdout, _ = process.communicate(timeout=10)
    assert process.returncode == 3
    assert json.loads(stdout)["stop_reason"] == "signal"


def test_a_hang_up_drains_unless_it_was_ignored_from_the_start(submitting: Program, sandbox: Sandbox) -> None:
    """A terminal that closes ends the run in order; `nohup` lets it go on."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    slow = {"BATCHSUBMIT_RATE__MAX_PER_SECOND": "10"}
    with submitting.running("submit", "jobs.csv", **slow) as process:
        until(lambda: len(sandbox.names()) >= 3)
        process.send_signal(1)
        process.communicate(timeout=LONGEST_RUN_SECONDS)
    assert process.returncode == 3
    assert submitting.events("jobs.ledger.jsonl")[-1]["event"] == "run_ended"
    ended = in_shell(submitting, "trap '' HUP; $B submit jobs.csv & sleep 0.5; kill -HUP $!; wait $!")
    assert ended.returncode == 0, ended.stderr
    assert sorted(sandbox.names()) == NAMES
