"""The scripts that make queue and table, run for real against moto's SQS and DynamoDB."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_cli import aws_cli
from deploy_samples import DEPLOY

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account of our own, and a shell with `aws` in it."""

    url: str
    folder: Path

    def run(self, script: str, *arguments: str) -> str:
        """Run a sample's script; gives what it printed."""
        environment = {
            **os.environ,
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.folder / "calls"),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
        command = [str(DEPLOY / script), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def last_call(self, operation: str) -> dict[str, Any]:
        """What a script last asked of an operation."""
        calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return dict([request for name, request in calls if name == operation][-1])

    def client(self, service: str) -> Any:  # noqa: ANN401 (boto3 makes clients at run time)
        """Look at it from outside."""
        return boto3.client(service, endpoint_url=self.url, region_name=REGION)

    def attributes(self, queue: str) -> dict[str, str]:
        """A queue's settings."""
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        attributes: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return attributes


@pytest.fixture
def account(credentials: None, tmp_path: Path, moto_url: str) -> Iterator[Account]:
    """An account; moto's is shared by the tests of a process, so each names its own things."""
    with aws_cli(tmp_path):
        yield Account(moto_url, tmp_path)


@pytest.mark.parametrize(("name", "dead"), [("batch", "batch-dead"), ("batch.fifo", "batch-dead.fifo")])
def test_a_queue_and_its_dead_letter_queue_are_made_and_made_again(account: Account, name: str, dead: str) -> None:
    """Each knows the other; a second run changes nothing and says the same."""
    url = account.run("create-queue.sh", name)
    assert url == account.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    queue, dead_queue = account.attributes(name), account.attributes(dead)
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead_queue["QueueArn"]
    assert int(redrive["maxReceiveCount"]) == 1000
    allowed = json.loads(account.last_call("SetQueueAttributes")["Attributes"]["RedriveAllowPolicy"])  # moto drops it
    assert allowed == {"redrivePermission": "byQueue", "sourceQueueArns": [queue["QueueArn"]]}
    assert queue["VisibilityTimeout"] == "300"
    assert queue["ReceiveMessageWaitTimeSeconds"] == "20"
    assert queue["MessageRetentionPeriod"] == dead_queue["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert queue.get("FifoQueue") == dead_queue.get("FifoQueue") == ("true" if name.endswith(".fifo") else None)
    assert account.run("create-queue.sh", name) == url
    assert account.attributes(name) == queue


def test_a_table_is_made_that_cannot_be_lost_easily(account: Account) -> None:
    """With the shared ledger's keys, billed by request, protected, recoverable; the ledger's name is printed."""
    assert account.run("create-table.sh", "batch") == "dynamodb://batch"
    dynamodb = account.client("dynamodb")
    table = dynamodb.describe_table(TableName="batch")["Table"]
    keys = [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]]
    assert keys == [("pk", "HASH"), ("sk", "RANGE")]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"]
    backups = dynamodb.describe_continuous_backups(TableName="batch")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_script_stops_at_the_first_thing_that_fails(account: Account) -> None:
    """A table that exists is an error, and what would follow is not done."""
    account.run("create-table.sh", "there")
    with pytest.raises(AssertionError, match="ResourceInUseException"):
        account.run("create-table.sh", "there")


@pytest.mark.parametrize("script", sorted(path.name for path in DEPLOY.glob("*.sh")))
def test_a_script_is_sound_shell(script: str) -> None:
    """A POSIX shell reads it, it stops on errors and on unset variables, and it may be executed."""
    text = (DEPLOY / script).read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in text
    assert os.access(DEPLOY / script, os.X_OK)
    subprocess.run(["sh", "-n", str(DEPLOY / script)], check=True)
