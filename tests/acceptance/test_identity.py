"""What nobody sees makes no second job: white space, control characters, pipes without a name, place-holders."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import CONSOLE_SCRIPT, LONGEST_RUN_SECONDS, Program, Sandbox, csv_text, request_named

NAMES = ["a", "b", "c"]
UNSEEN = ["nightly\r", "nightly ", "night\u200bly"]


def manifest(program: Program, *names: str) -> Path:
    """Write a manifest of these."""
    path = program.folder / "jobs.csv"
    path.write_text(csv_text(names or NAMES))
    return path


@pytest.mark.parametrize("batch", UNSEEN)
def test_a_batch_id_is_what_one_sees_wherever_it_comes_from(submitting: Program, sandbox: Sandbox, batch: str) -> None:
    """Flag, variable or file: refused with its spelling, and nothing is sent."""
    manifest(submitting)
    (submitting.folder / "b.toml").write_text(f"[submit]\nbatch_id = {json.dumps(batch)}\n")
    for ended in (
        submitting.run("submit", "jobs.csv", "--batch-id", batch),
        submitting.run("submit", "jobs.csv", BATCHSUBMIT_SUBMIT__BATCH_ID=batch),
        submitting.run("submit", "jobs.csv", "--config", "b.toml"),
        submitting.run("plan", "jobs.csv", "--batch-id", batch),
    ):
        assert ended.status == 2
        assert repr(batch) in ended.stderr
    assert sandbox.names() == []


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("--ledger", "x.jsonl\r"), {}),
        ((), {"AWS_REGION": "us-east-1\r"}),
        ((), {"BATCHSUBMIT_SUBMIT__LEDGER": "x.jsonl "}),
        ((), {"BATCHSUBMIT_AWS__REGION": " us-east-1"}),
    ],
    ids=["ledger", "region", "ledger setting", "region setting"],
)
def test_other_names_are_what_one_sees_too(
    submitting: Program, sandbox: Sandbox, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    """With the fix in the sentence."""
    manifest(submitting)
    ended = submitting.run("submit", "jobs.csv", *arguments, **variables)
    assert ended.status == 2
    assert "not seen" in ended.stderr or "white space at its ends" in ended.stderr
    assert sandbox.names() == []


def test_a_job_s_name_has_no_white_space_at_its_ends(submitting: Program, sandbox: Sandbox) -> None:
    """In a file of either kind; names that differ in case or inner white space are warned of."""
    lines = [json.dumps(request_named(name)) + "\n" for name in ("job", "job ")]
    (submitting.folder / "jobs.jsonl").write_text("".join(lines))
    ended = submitting.run("submit", "jobs.jsonl")
    assert ended.status == 2
    assert "jobs.jsonl:2" in ended.stderr
    assert "white space at its ends" in ended.stderr
    manifest(submitting, "job a", "Job A", "job b", "other")
    ended = submitting.run("submit", "jobs.csv")
    assert ended.status == 0
    (warning,) = (line for line in ended.stderr.splitlines() if line.startswith("warning"))
    assert "jobs.csv:3" in warning
    assert "upper and lower case" in warning
    assert len(sandbox.names()) == 4


@pytest.mark.parametrize("source", ["<(cat jobs.csv)", "/dev/stdin < jobs.csv", "- < jobs.csv", "pipe"])
def test_a_manifest_without_a_name_of_its_own_starts_nothing_twice(
    submitting: Program, sandbox: Sandbox, source: str
) -> None:
    """It wants a ledger's name, or that of a batch."""
    manifest(submitting)
    os.mkfifo(submitting.folder / "pipe")
    feed = "cat jobs.csv > pipe & " if source == "pipe" else ""

    def submit(more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-c", f"{feed}timeout 30 {CONSOLE_SCRIPT} submit {source} {more}; exit=$?; kill %1; exit $exit"],
            cwd=submitting.folder,
            env={**os.environ, **submitting.environment},
            capture_output=True,
            timeout=LONGEST_RUN_SECONDS,
            check=False,
        )

    refused = submit("")
    assert refused.returncode == 2
    assert b"--ledger" in refused.stderr
    for _ in range(2):
        assert submit("--batch-id night").returncode == 0
        assert submit("--ledger mine.jsonl").returncode == 0
    assert sorted(sandbox.names()) == sorted([*NAMES, *NAMES])
    assert (submitting.folder / "night.ledger.jsonl").exists()


def test_a_worker_refuses_a_batch_id_that_changes_from_day_to_day(submitting: Program) -> None:
    """By flag or by settings; a message that came again would be another job."""
    queue = ("worker", "--queue-url", "http://127.0.0.1:9/000000000000/jobs")
    for ended in (
        submitting.run(*queue, "--batch-id", "nightly-{date}"),
        submitting.run(*queue, BATCHSUBMIT_SUBMIT__BATCH_ID="nightly-{time}"),
    ):
        assert ended.status == 2
        assert "changes from day to day" in ended.stderr
