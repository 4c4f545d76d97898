"""Output that cannot be written stops nothing, and words from outside reach no terminal raw."""

import os
import pty
import subprocess

import pytest
from conftest import CONSOLE_SCRIPT, LONGEST_RUN_SECONDS, Program, Sandbox, csv_text

NAMES = [f"job-{number}" for number in range(5)]
LEDGER = "jobs.ledger.jsonl"
SUBMIT = f"{CONSOLE_SCRIPT} submit jobs.csv --json"
ATTACK = "\x1b[2Jgone\x07 \u202ethgir\r\nbatchsubmit: all is well"


def in_shell(program: Program, line: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of bash in the program's folder."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=program.folder,
        env={**os.environ, **program.environment},
        capture_output=True,
        timeout=LONGEST_RUN_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "redirection",
    ["2>&1 | head -0", ">/dev/full 2>/dev/full", ">&- 2>&- <&-", ">&-", "2>&-", "<&-", "2>/dev/full | head -0"],
)
def test_output_that_cannot_be_written_stops_no_job(submitting: Program, sandbox: Sandbox, redirection: str) -> None:
    """Every job is submitted, the ledger is sound, and the exit status tells of the jobs."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    ended = in_shell(submitting, f"BATCHSUBMIT_LOG__LEVEL=debug {SUBMIT} {redirection}")
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr
    assert sorted(sandbox.names()) == NAMES
    assert submitting.events(LEDGER)[-1]["exit_status"] == 0


def test_a_summary_for_a_full_disk_is_one_sentence(submitting: Program) -> None:
    """On standard error; the jobs are submitted all the same."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    ended = in_shell(submitting, f"{SUBMIT} >/dev/full")
    assert ended.returncode == 0
    assert ended.stderr.decode().splitlines()[-1] == (
        "batchsubmit: standard output is not complete: No space left on device"
    )


@pytest.mark.parametrize(("target", "status"), [("/dev/full", 3), ("/dev/stdout | head -0", 0)])
def test_a_command_that_only_prints_has_failed_where_its_output_is_lost(
    submitting: Program, target: str, status: int
) -> None:
    """A reader that went away has seen what it wanted; a full disk has not."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    assert submitting.run("submit", "jobs.csv").status == 0
    for command in (f"status {LEDGER}", f"export {LEDGER}"):
        ended = in_shell(submitting, f"{CONSOLE_SCRIPT} {command} >{target}")
        assert ended.returncode == status, (command, ended.stderr)
        assert b"Traceback" not in ended.stderr


def test_a_pipe_that_nobody_reads_holds_up_no_job(submitting: Program, sandbox: Sandbox) -> None:
    """Debug lines fill standard error; the event loop goes on and the program ends."""
    (submitting.folder / "jobs.csv").write_text(csv_text([f"job-{number}" for number in range(300)]))
    with submitting.running("submit", "jobs.csv", BATCHSUBMIT_LOG__LEVEL="debug") as process:
        assert process.wait(LONGEST_RUN_SECONDS) == 0
        assert b"jobs submitted in" not in process.stderr.read()  # the pipe was full
    assert len(sandbox.names()) == 300


def test_a_terminal_that_is_closed_stops_no_job(submitting: Program, sandbox: Sandbox) -> None:
    """What is written to it then ends with EIO."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    ours, theirs = pty.openpty()
    os.close(ours)
    with submitting.running("submit", "jobs.csv", "--yes", streams=dict.fromkeys((0, 1, 2), theirs)) as process:
        os.close(theirs)
        assert process.wait(LONGEST_RUN_SECONDS) == 0
    assert sorted(sandbox.names()) == NAMES


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", f"{ATTACK}.csv"),
        ("submit", "jobs.csv", f"--{ATTACK}"),
        ("submit", "jobs.csv", "--deadline", ATTACK),
        ("submit", "jobs.csv", "--batch-id", ATTACK, "--config", ATTACK),
        ("status", ATTACK),
        (ATTACK,),
    ],
)
def test_an_argument_is_shown_in_one_line_without_control_characters(
    submitting: Program, arguments: tuple[str, ...]
) -> None:
    """A path or batch id that comes from outside forges no line."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    assert_harmless(submitting.run(*arguments).stderr)


def test_the_service_s_words_are_shown_in_one_line_without_control_characters(
    submitting: Program, sandbox: Sandbox
) -> None:
    """In the closing words, in status, and in a log for people."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    sandbox.configure(job_seconds=0.1, failing_names=NAMES, failure_messages=dict.fromkeys(NAMES, ATTACK))
    ended = submitting.run(
        "submit", "jobs.csv", "--wait", BATCHSUBMIT_LOG__FORMAT="console", BATCHSUBMIT_LOG__LEVEL="debug"
    )
    status = submitting.run("status", LEDGER)
    assert "gone" in status.stdout
    for words in (ended.stderr, status.stdout, status.stderr):
        assert_harmless(words)


def assert_harmless(words: str) -> None:
    """Hold that nothing in it moves a terminal, turns its text, or begins a line of its own."""
    assert not [char for char in words if not char.isprintable() and char != "\n"]
    assert not [line for line in words.splitlines() if line.startswith("batchsubmit: all is well")]
