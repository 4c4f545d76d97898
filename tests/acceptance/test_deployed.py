"""configs/deploy/README.md, followed from nothing: its commands, run for real, and then what its containers run."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_cli import aws_cli
from conftest import Program, Sandbox, csv_text, finish
from deploy_samples import DEPLOY, README, containers, read_json
from local_aws import free_port
from moto.server import ThreadedMotoServer
from worker_programs import jobs, until

REGION = "us-east-1"
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/batchsubmit"


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account in which the page's commands were run, and what they asked of AWS, in order."""

    url: str
    calls: list[tuple[str, dict[str, Any]]]

    def client(self, service: str) -> Any:  # noqa: ANN401 (boto3 makes clients at run time)
        """Look at it from outside."""
        names = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "dummy"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **names)


def page_commands() -> str:
    """The shell lines of the page, but those for Kubernetes."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return re.sub(r"^kubectl .*$", "", "\n".join(blocks), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A new account with a network, and the page's commands run there by a shell that has `aws` and `docker`."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "docker").write_text("#!/bin/sh\ncat > /dev/null\n")
    (folder / "docker").chmod(0o755)
    (folder / "nightly.csv").write_text(csv_text(["one", "two"]).replace("eu-central-1", REGION))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = Account(f"http://{host}:{port}", [])
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{account.url}/moto-api/reset", method="POST")):  # noqa: S310
            pass
        _samples_of_ours(folder / "configs" / "deploy", account.client("ec2"))
        environment = {**_environment(account), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
        environment["CALLS"] = str(folder / "calls")
        with aws_cli(folder):
            done = subprocess.run(
                ["sh", "-euc", page_commands()],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        account.calls.extend(tuple(json.loads(line)) for line in (folder / "calls").read_text().splitlines())
        yield account
    finally:
        server.stop()


def _environment(account: Account) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": account.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "dummy",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _samples_of_ours(folder: Path, ec2: Any) -> None:  # noqa: ANN401 (boto3 makes clients at run time)
    """Copy the samples, with subnets and a security group that there are."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ours = {
        f"subnet-0123456789abcdef{number}": ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"][
            "SubnetId"
        ]
        for number in range(2)
    }
    ours["sg-0123456789abcdef0"] = ec2.create_security_group(GroupName="b", Description="b", VpcId=vpc)["GroupId"]
    shutil.copytree(DEPLOY, folder)
    for path in folder.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        for theirs, each in ours.items():
            text = text.replace(theirs, each)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def deployed(submitting: Program, account: Account) -> Program:
    """The program, pointed at that account and at the sandbox."""
    submitting.environment |= {"AWS_REGION": REGION, "AWS_ENDPOINT_URL": account.url, "NO_PROXY": "*"}
    return submitting


def test_whatever_a_command_names_was_made_by_one_before_it(account: Account) -> None:
    """Roles, the cluster, the log group, the repository, the topic and the queue."""
    made: set[str] = set()
    for operation, request in account.calls:
        text = json.dumps(request)
        if operation not in {"PutRolePolicy", "CreateRole"}:
            assert set(re.findall(r"arn:aws:iam::\d+:role/([\w-]+)", text)) <= made, operation
        if operation == "RegisterTaskDefinition":
            groups = re.findall(r'"awslogs-group": "(.+?)"', text)
            images = re.findall(r'"image": "[\w.-]+/(\w+):', text)
            assert {*groups, *images} <= made
        if operation == "CreateService":
            assert {request["cluster"], request["taskDefinition"]} <= made
        if operation == "CreateSchedule":
            target = request["Target"]
            assert {target["Arn"].rpartition("/")[2]} <= made
            assert {target["EcsParameters"]["TaskDefinitionArn"].rpartition("/")[2]} <= made
        names = ("RoleName", "clusterName", "logGroupName", "repositoryName", "family", "QueueName", "TableName")
        made |= {request[name] for name in names if operation.startswith(("Create", "Register")) and name in request}
    assert {"batchsubmit-execution", "batch", "/ecs/batchsubmit", "batchsubmit"} <= made


def test_every_role_has_the_policy_of_its_name(account: Account) -> None:
    """And the trust that its service needs."""
    iam = account.client("iam")
    for role in ("execution", "worker", "nightly", "scheduler"):
        found = iam.get_role_policy(RoleName=f"batchsubmit-{role}", PolicyName="batchsubmit")
        assert found["PolicyDocument"] == read_json(f"iam-{role}.json")
        trust = "trust-scheduler.json" if role == "scheduler" else "trust-ecs-tasks.json"
        assert iam.get_role(RoleName=f"batchsubmit-{role}")["Role"]["AssumeRolePolicyDocument"] == read_json(trust)


def test_the_service_and_the_schedule_are_there(account: Account) -> None:
    """Two workers are wanted, and the log is kept for a while."""
    (service,) = account.client("ecs").describe_services(cluster="batch", services=["batchsubmit-worker"])["services"]
    assert service["desiredCount"] == 2
    assert account.client("scheduler").get_schedule(Name="batchsubmit-nightly")["State"] == "ENABLED"
    (group,) = account.client("logs").describe_log_groups(logGroupNamePrefix="/ecs/batchsubmit")["logGroups"]
    assert group["retentionInDays"]
    (key,) = account.client("kms").list_keys()["Keys"]
    found = account.client("kms").get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"]
    assert json.loads(found) == read_json("kms-key-policy.json")


def command_of(task: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """What a task's container runs, and its variables, with a folder of the test's in place of the container's."""
    (container,) = (each for each in containers() if each.where == task)
    variables = {**container.variables, "TMPDIR": str(folder)}
    if "BATCHSUBMIT_WORKER__METRICS_PORT" in variables:
        variables |= {
            "BATCHSUBMIT_WORKER__METRICS_PORT": str(free_port()),
            "BATCHSUBMIT_WORKER__METRICS_HOST": "127.0.0.1",
        }
    return [word.replace("/data", str(folder)) for word in container.arguments], variables


def test_what_is_enqueued_as_the_page_says_is_submitted_by_the_worker_s_container(
    deployed: Program, sandbox: Sandbox
) -> None:
    """Its command line and its variables, on the queue and the table that the scripts made."""
    (deployed.folder / "jobs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in jobs(3)))
    ended = deployed.run("enqueue", "jobs.jsonl", "--queue-url", QUEUE_URL, "--json")
    assert ended.status == 0, ended.stderr
    command, variables = command_of("ecs-task-worker.json", deployed.folder)
    brief = {"BATCHSUBMIT_WORKER__WAIT_SECONDS": "1"}  # at its end, a worker awaits its long poll
    with deployed.running(*command, **variables, **brief) as process:
        until(lambda: len(sandbox.names()) == 3)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    ended = deployed.run("status", "dynamodb://batchsubmit", "--json")
    assert ended.summary["counts"]["submitted"] == 3


def test_the_nightly_container_submits_the_manifest_that_the_page_put_there(
    deployed: Program, sandbox: Sandbox
) -> None:
    """Its command line is complete: ledger, deadline, notice."""
    sandbox.configure(job_seconds=0.2)
    command, variables = command_of("ecs-task-nightly.json", deployed.folder)
    ended = deployed.run(*command, **variables)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == ["one", "two"]
