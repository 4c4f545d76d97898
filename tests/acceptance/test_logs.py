"""`logs`: why a job failed, where its log is, and its last lines. MiniStack stands for CloudWatch."""

import asyncio
import json
import time
from itertools import count
from typing import Any

import boto3
import pytest
from byte_server import http, wire
from conftest import Program, Sandbox, csv_text
from local_aws import LocalAws

from batchsubmit.core.job_states import LOG_GROUP

LEDGER = "jobs.ledger.jsonl"


@pytest.fixture
def failed(submitting: Program, sandbox: Sandbox, aws: LocalAws) -> Program:
    """A program whose one batch has a job that failed and one that did not."""
    sandbox.configure(job_seconds=0.05, failing_names=["bad"], failure_messages={"bad": "out of memory"})
    submitting.environment["AWS_ENDPOINT_URL"] = aws.url
    (submitting.folder / "jobs.csv").write_text(csv_text(["bad", "good"]))
    assert submitting.run("submit", "jobs.csv", "--wait").status == 1
    return submitting


def cloudwatch(url: str, region: str) -> Any:  # noqa: ANN401 (boto3 makes clients at run time)
    """The log group, made if need be."""
    access = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "x", "region_name": region}
    client = boto3.client("logs", endpoint_url=url, **access)
    if not client.describe_log_groups(logGroupNamePrefix=LOG_GROUP)["logGroups"]:
        client.create_log_group(logGroupName=LOG_GROUP)
    return client


def test_a_failed_job_is_explained_with_the_last_lines_of_its_own_log(failed: Program, aws: LocalAws) -> None:
    """Another job's lines are not among them."""
    [job] = [event for event in failed.events(LEDGER) if event["event"] == "finished" and event["name"] == "bad"]
    client = cloudwatch(aws.url, failed.environment["AWS_REGION"])
    for stream, words in ((job["arn"].rpartition("/")[2] + "/1", "line"), ("another", "not ours")):
        client.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
        now = round(time.time() * 1000)
        lines = [{"timestamp": now + number, "message": f"{words} {number}"} for number in range(5)]
        client.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=lines)
    client.close()
    ended = failed.run("logs", LEDGER, "--lines", "3")
    assert ended.status == 0, ended.stderr
    assert "CREATE_FAILED: INTERNAL_ERROR: out of memory" in ended.stdout
    assert [line for line in ended.stdout.splitlines() if line.startswith("  |")] == [
        f"  | line {n}" for n in (2, 3, 4)
    ]
    assert "good" not in ended.stdout
    assert "not ours" not in ended.stdout


def test_where_the_lines_cannot_be_read_the_command_is_printed(failed: Program) -> None:
    """With the group and the beginning of the streams' names; what the service said stands all the same."""
    ended = failed.run("logs", LEDGER, "--json", AWS_ENDPOINT_URL_CLOUDWATCH_LOGS="http://127.0.0.1:9")
    [job] = ended.summary["jobs"]
    assert job["said"].endswith("out of memory")
    assert job["lines"] == []
    assert "FilterLogEvents" in job["trouble"]
    assert f"aws logs tail {LOG_GROUP} --log-stream-name-prefix {job['arn'].rpartition('/')[2]} " in job["command"]


async def test_a_log_of_empty_pages_without_end_is_left(failed: Program) -> None:
    """CloudWatch may give any number of them, each with a new token."""
    tokens = map(str, count())

    def page(_: bytes) -> bytes:
        body = {"events": [], "nextToken": next(tokens)}
        return http("200 OK", json.dumps(body).encode(), "application/x-amz-json-1.1")

    async with wire(page) as (url, requests):
        ended = await asyncio.to_thread(failed.run, "logs", LEDGER, AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=url)
    assert "there is no line for it in CloudWatch" in ended.stdout
    assert 1 < len(requests) <= 50


def test_without_credentials_the_ledger_s_own_words_are_printed(failed: Program) -> None:
    """And why there are no more."""
    ended = failed.run("logs", LEDGER, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert ended.status == 0
    assert "out of memory" in ended.stdout
    assert "no AWS credentials" in ended.stdout
    assert "read them with: aws logs tail" in ended.stdout


def test_a_job_is_found_by_its_name_and_one_that_was_rejected_has_no_logs(failed: Program, sandbox: Sandbox) -> None:
    """A name that the ledger does not have is status 2."""
    assert "good (membership" in failed.run("logs", LEDGER, "good").stdout
    unknown = failed.run("logs", LEDGER, "nobody")
    assert unknown.status == 2
    assert "has no job named 'nobody'" in unknown.stderr
    sandbox.disturb({"fault": "validation", "operation": "StartTrainedModelInferenceJob"})
    (failed.folder / "more.csv").write_text(csv_text(["refused"]))
    assert failed.run("submit", "more.csv").status == 1
    assert "never ran" in failed.run("logs", "more.ledger.jsonl").stdout


def test_a_rehearsal_has_no_logs(submitting: Program) -> None:
    """Its service has gone."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a"]))
    assert submitting.run("submit", "jobs.csv", "--sandbox", "--sandbox-job-seconds", "0.1").status == 0
    rehearsed = "jobs.sandbox.ledger.jsonl"
    assert "no job failed" in submitting.run("logs", rehearsed).stderr
    assert "rehearsal" in submitting.run("logs", rehearsed, "a").stdout
