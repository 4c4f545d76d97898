"""`policy`: what it prints is what the samples have, with the names that were given."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from deploy_samples import DEPLOY

from batchsubmit.cli.help import SUMMARIES
from batchsubmit.cli.main import commands
from batchsubmit.cli.policy import ALSO, POLICIES

SAMPLES = {"iam-execution.json", "iam-scheduler.json", "iam-step-functions.json"}
"""Policies of ECS, EventBridge and Step Functions, which no command needs."""


def run(*arguments: str) -> Result:
    """Run `policy`."""
    return CliRunner().invoke(commands, ["policy", *arguments], catch_exceptions=False)


def resources(printed: Result) -> dict[str, Any]:
    """The resources by Sid."""
    return {each["Sid"]: each["Resource"] for each in json.loads(printed.stdout)["Statement"]}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_sample_is_what_the_command_prints(name: str) -> None:
    """Word for word: there is one source."""
    assert run(name).stdout == (DEPLOY / f"iam-{name}.json").read_text(encoding="utf-8")


def test_every_sample_of_a_command_is_printed_and_every_alias_leads_to_one() -> None:
    """None is kept by hand."""
    assert {path.name for path in DEPLOY.glob("iam-*.json")} - SAMPLES == {f"iam-{name}.json" for name in POLICIES}
    assert set(ALSO.values()) <= set(POLICIES)
    assert set(ALSO) <= set(SUMMARIES) | {"logs"}
    assert run("status").stdout == run("read").stdout


def test_names_that_are_given_stand_in_for_the_examples_and_the_others_are_listed() -> None:
    """The region is also that of the environment; the partition follows it."""
    given = ("--account", "111122223333", "--region", "cn-north-1", "--queue", "jobs.fifo")
    printed = run("worker", *given)
    places = resources(printed)
    assert places["ServeQueue"] == "arn:aws-cn:sqs:cn-north-1:111122223333:jobs.fifo"
    assert places["SetPoisonAside"] == "arn:aws-cn:sqs:cn-north-1:111122223333:jobs-dead.fifo"
    assert "give your own: --ledger-table batchsubmit, --bucket example-batches" in printed.stderr
    assert "123456789012" not in printed.stdout + printed.stderr


def test_the_environment_s_region_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every command."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "eu-west-1" in resources(run("submit"))["ActInMemberships"]


def test_memberships_and_a_table_narrow_and_widen_a_policy() -> None:
    """One ARN for each membership; a table only where one is named or always needed."""
    places = resources(run("submit", "--membership", "a", "--membership", "b", "--ledger-table", "t"))
    assert [place.rpartition("/")[2] for place in places["ActInMemberships"]] == ["a", "b"]
    assert places["KeepLedger"].endswith(":table/t")
    assert "KeepLedger" not in resources(run("submit"))
    assert list(resources(run("worker", "--ledger-table", "t"))).count("KeepLedger") == 1
