"""What makes a job the same job: batch id and ledger name mean one thing in every command and from every source."""

from datetime import UTC, datetime

import pytest
from conftest import Program, write_jsonl
from local_aws import LocalAws
from worker_programs import aws, jobs, working

__all__ = ["aws", "working"]


@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_enqueue_fills_in_the_date_wherever_the_batch_id_stands(working: Program, aws: LocalAws, place: str) -> None:
    """Else the second night has nothing to do."""
    queue = aws.make_queue()
    write_jsonl(working.folder / "jobs.jsonl", jobs(1))
    (working.folder / "s.toml").write_text('[submit]\nbatch_id = "n-{date}"\n' if place == "file" else "")
    flags = ["--batch-id", "n-{date}"] if place == "flag" else []
    environment = {"BATCHSUBMIT_SUBMIT__BATCH_ID": "n-{date}"} if place == "variable" else {}
    ended = working.run(
        "enqueue", "jobs.jsonl", "--queue-url", queue.url, "--config", "s.toml", "--json", *flags, **environment
    )
    assert ended.status == 0, ended.stderr
    assert ended.summary["batch"] == f"n-{datetime.now(UTC):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["--batch-id", "n-{date}"], {}),
        ([], {"BATCHSUBMIT_SUBMIT__BATCH_ID": "n-{time}"}),
        ([], {"BATCHSUBMIT_DEFAULTS": '{"name": "n-{date}"}'}),
    ],
)
def test_a_worker_refuses_a_batch_id_of_a_day(program: Program, flags: list[str], environment: dict[str, str]) -> None:
    """It runs for days: a message that comes again would be another job."""
    url = "https://sqs.us-east-1.amazonaws.com/123456789012/q"
    ended = program.run("worker", "--queue-url", url, *flags, **environment)
    assert ended.status == 2
    assert "a worker cannot fill in {" in ended.stderr
