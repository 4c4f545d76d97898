"""Resources of another membership or account, by the real program against a sandbox that takes them as AWS does."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, csv_text, finish, request_named, write_jsonl
from local_aws import LocalAws
from strategies import ACCOUNT, MEMBERSHIP, arn
from worker_programs import in_virginia, serving, until, working

from batchsubmit import ManifestError, submit_jobs

__all__ = ["working"]

OTHER_ACCOUNT = "999988887777"
ASSOCIATION = "configured-model-algorithm-association"


def foreign(kind: str, name: str = "theirs") -> str:
    """The ARN of a resource of another member."""
    return arn(kind, name, membership=OTHER_MEMBERSHIP, account=OTHER_ACCOUNT)


def with_foreign_channel(name: str) -> dict[str, Any]:
    """A request that reads another member's channel."""
    return {**request_named(name), "dataSource": {"mlInputChannelArn": foreign("ml-input-channel")}}


def write(program: Program, *requests: Mapping[str, Any]) -> None:
    """The manifest."""
    write_jsonl(program.folder / "jobs.jsonl", requests)


def test_an_algorithm_association_of_another_member_is_submitted_without_a_word(
    submitting: Program, sandbox: Sandbox
) -> None:
    """AWS documents it."""
    write(submitting, request_named("a", configuredModelAlgorithmAssociationArn=foreign(ASSOCIATION)))
    for command in ("validate", "plan", "submit"):
        ended = submitting.run(command, "jobs.jsonl", "--json", BATCHSUBMIT_CHECKS__FOREIGN_ARNS="error")
        assert ended.status == 0, ended.stderr
        assert ended.summary["warnings"] == []
        assert "warning" not in ended.stderr
    assert sandbox.names() == ["a"]


def test_an_association_in_another_region_is_a_problem(submitting: Program) -> None:
    """A client serves one region and one partition."""
    far = foreign(ASSOCIATION).replace("eu-central-1", "us-east-1")
    china = foreign(ASSOCIATION).replace("arn:aws:", "arn:aws-cn:")
    write(
        submitting,
        request_named("a", configuredModelAlgorithmAssociationArn=far),
        request_named("b", configuredModelAlgorithmAssociationArn=china),
    )
    ended = submitting.run("validate", "jobs.jsonl")
    assert ended.status == 2
    assert "configuredModelAlgorithmAssociationArn: is in region us-east-1" in ended.stdout
    assert "configuredModelAlgorithmAssociationArn: is in partition aws-cn" in ended.stdout


def test_foreign_models_and_channels_are_warned_of_once_a_kind_and_submitted(
    submitting: Program, sandbox: Sandbox
) -> None:
    """One line with the first row and the count, on every command, and no other exit status."""
    theirs = {**request_named("model"), "trainedModelArn": foreign("trained-model")}
    write(submitting, request_named("own"), *map(with_foreign_channel, "abcdefgh"), theirs)
    for command in ("validate", "plan", "submit"):
        ended = submitting.run(command, "jobs.jsonl", "--json")
        assert ended.status == 0, ended.stderr
        told = {each["path"]: (each["line"], each["count"]) for each in ended.summary["warnings"]}
        assert told == {"dataSource.mlInputChannelArn": (2, 8), "trainedModelArn": (10, 1)}
        lines = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
        assert len(lines) == 2
        assert "jobs.jsonl:2:1: dataSource.mlInputChannelArn" in lines[0]
        assert "(8 rows)" in lines[0]
    assert len(sandbox.names()) == 10
    assert {job["account"] for job in sandbox.jobs()} == {ACCOUNT}


def test_a_csv_manifest_of_foreign_channels_is_warned_of_too(submitting: Program) -> None:
    """Also in its long stretches of rows that are alike."""
    text = csv_text(f"job-{number}" for number in range(500))
    (submitting.folder / "jobs.csv").write_text(text.replace(arn("ml-input-channel"), foreign("ml-input-channel")))
    ended = submitting.run("validate", "jobs.csv", "--json")
    [warning] = ended.summary["warnings"]
    assert (ended.status, warning["line"], warning["column"], warning["count"]) == (0, 2, 6, 500)


def test_an_account_that_a_membership_does_not_have_elsewhere_is_foreign(submitting: Program) -> None:
    """In one row, or between two."""
    mixed = {**request_named("a"), "dataSource": {"mlInputChannelArn": arn("ml-input-channel", account=OTHER_ACCOUNT)}}
    later = {
        **request_named("b"),
        "trainedModelArn": arn("trained-model", account=OTHER_ACCOUNT),
        "dataSource": {"mlInputChannelArn": arn("ml-input-channel", account=OTHER_ACCOUNT)},
    }
    write(submitting, mixed, later)
    ended = submitting.run("validate", "jobs.jsonl", "--json")
    assert ended.status == 0
    assert {each["path"]: each["count"] for each in ended.summary["warnings"]} == {
        "dataSource.mlInputChannelArn": 2,
        "trainedModelArn": 1,
    }


@pytest.mark.parametrize("command", ["validate", "plan", "submit"])
def test_a_setting_makes_foreign_arns_an_error_or_nothing(submitting: Program, sandbox: Sandbox, command: str) -> None:
    """`checks.foreign_arns`, in a file or the environment."""
    write(submitting, with_foreign_channel("a"))
    refused = submitting.run(command, "jobs.jsonl", BATCHSUBMIT_CHECKS__FOREIGN_ARNS="error")
    assert refused.status == 2
    assert "jobs.jsonl:1:1: dataSource.mlInputChannelArn: is of another membership" in refused.stdout + refused.stderr
    assert sandbox.calls() == 0
    (submitting.folder / "allow.toml").write_text('[checks]\nforeign_arns = "allow"\n')
    allowed = submitting.run(command, "jobs.jsonl", "--config", "allow.toml", "--json")
    assert (allowed.status, allowed.summary["warnings"]) == (0, [])
    assert "warning" not in allowed.stderr


def test_invalid_rows_can_be_skipped_where_foreign_arns_are_errors(submitting: Program, sandbox: Sandbox) -> None:
    """The others are sent, also one that has the name of an invalid row."""
    write(submitting, with_foreign_channel("a"), request_named("a"), request_named("b"))
    ended = submitting.run("submit", "jobs.jsonl", "--skip-invalid", "--json", BATCHSUBMIT_CHECKS__FOREIGN_ARNS="error")
    assert (ended.status, ended.summary["invalid"]) == (1, 1)
    assert sorted(sandbox.names()) == ["a", "b"]


def test_a_worker_warns_of_foreign_arns_once_and_submits(working: Program, aws: LocalAws, sandbox: Sandbox) -> None:
    """As many messages as there are."""
    queue = aws.make_queue()
    queue.put(*(in_virginia(with_foreign_channel(name)) for name in "abc"))
    with serving(working, queue) as process:
        until(lambda: len(sandbox.names()) == 3)
        process.terminate()
        ended = finish(process)
    assert ended.status == 0
    assert ended.stderr.count("checks.warning") == 1


def test_a_worker_moves_foreign_arns_to_the_dead_letter_queue_where_they_are_errors(
    working: Program, aws: LocalAws, sandbox: Sandbox
) -> None:
    """With the reason in the ledger."""
    queue = aws.make_queue()
    queue.put(in_virginia(with_foreign_channel("bad")), in_virginia(request_named("good")))
    with serving(working, queue, BATCHSUBMIT_CHECKS__FOREIGN_ARNS="error") as process:
        until(lambda: sandbox.names() == ["good"] and queue.dead is not None and queue.dead.size() == 1)
        process.terminate()
        finish(process)
    [failed] = [each for each in working.events("worker.ledger.jsonl") if each["event"] == "rejected"]
    assert "another membership" in failed["message"]


def test_the_python_api_warns_or_refuses_by_the_same_setting(
    submitting: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, and in the summary."""
    for name, value in submitting.environment.items():
        monkeypatch.setenv(name, value)
    report = submit_jobs([with_foreign_channel(name) for name in "ab"], ledger=submitting.folder / "api.jsonl")
    assert sorted(sandbox.names()) == ["a", "b"]
    assert [each.count for each in report.summary.warnings] == [2]
    assert caplog.text.count("checks.warning") == 1
    monkeypatch.setenv("BATCHSUBMIT_CHECKS__FOREIGN_ARNS", "error")
    with pytest.raises(ManifestError, match="problem"):
        submit_jobs([with_foreign_channel("c")], ledger=submitting.folder / "api.jsonl")
    assert json.dumps(sorted(sandbox.names())) == '["a", "b"]'


def test_an_online_plan_looks_at_resources_of_others(submitting: Program) -> None:
    """The service shows them to a member that may use them."""
    write(submitting, with_foreign_channel("a"))
    ended = submitting.run("plan", "jobs.jsonl", "--online", "--json")
    assert (ended.status, ended.summary["online"]["problems"]) == (0, [])
    assert MEMBERSHIP in {lane["membership"] for lane in ended.summary["memberships"]}
