"""The state machine of configs/deploy, run by MiniStack with tasks that ended in every way."""

import json
import time
from typing import Any

import boto3
import pytest
from deploy_samples import read_json
from local_aws import LocalAws

from batchsubmit import errors as exits

ROLE = "arn:aws:iam::123456789012:role/batchsubmit-step-functions"


def ended_with(container: dict[str, object] | None) -> dict[str, Any]:
    """The state machine in which the task has ended so, None for well; another task is an end of its own here."""
    machine: dict[str, Any] = read_json("step-functions-nightly.json")
    [caught] = machine["States"]["Night"].pop("Catch")
    assert caught["ErrorEquals"] == ["States.TaskFailed"]
    after = machine["States"]["Night"]["Next"]
    night: dict[str, Any] = {"Type": "Pass", "Next": after}
    if container is not None:
        cause = json.dumps({"Containers": [{"Name": "nightly", **container}], "LastStatus": "STOPPED"})
        failed = {"Error": "States.TaskFailed", "Cause": cause}
        night = {"Type": "Pass", "Result": failed, "ResultPath": caught["ResultPath"], "Next": caught["Next"]}
    assert machine["States"]["WaitForAnotherTask"]["Next"] == "Night"
    machine["States"] |= {"Night": night, "WaitForAnotherTask": {"Type": "Fail", "Error": "again"}}
    return machine


@pytest.mark.parametrize(
    ("container", "error"),
    [
        (None, ""),
        ({"ExitCode": exits.EXIT_FAILED}, "batchsubmit.SomeJobsFailed"),
        ({"ExitCode": exits.EXIT_USAGE}, "batchsubmit.NothingSent"),
        ({"ExitCode": exits.EXIT_STOPPED}, "batchsubmit.SomethingLeft"),
        ({"ExitCode": exits.EXIT_LEDGER}, "batchsubmit.LedgerUnusable"),
        ({"ExitCode": 137}, "again"),
        ({"Reason": "CannotPullContainerError"}, "again"),
    ],
)
def test_each_exit_status_has_its_own_end(aws: LocalAws, container: dict[str, object] | None, error: str) -> None:
    """A task that was killed or never ran is followed by another."""
    access = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client = boto3.client("stepfunctions", endpoint_url=aws.url, **access)
    definition = json.dumps(ended_with(container))
    name = f"night-{time.monotonic_ns()}"
    machine = client.create_state_machine(name=name, definition=definition, roleArn=ROLE)["stateMachineArn"]
    execution = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    deadline = time.monotonic() + 30
    while (found := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)  # between two looks at another process
    client.close()
    assert (found["status"], found.get("error", "")) == ("FAILED" if error else "SUCCEEDED", error)
