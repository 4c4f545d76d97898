"""From an empty folder to a finished first batch, and what `init` writes on the way."""

import asyncio
import csv
import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from byte_server import http, wire
from conftest import Program, Sandbox
from local_aws import LocalAws

from batchsubmit.cli.init import STEPS, FirstRows, example
from batchsubmit.config import Settings

FILES = ["NEXT-STEPS.md", "batchsubmit.schema.json", "batchsubmit.toml", "jobs.csv"]
FIRST = "11111111-1111-4111-8111-111111111111"
ASSOCIATION = (
    f"arn:aws:cleanrooms-ml:us-east-1:123456789012:membership/{FIRST}/configured-model-algorithm-association/a"
)


@pytest.fixture
def newcomer(submitting: Program, sandbox: Sandbox, aws: LocalAws) -> Program:
    """A stranger with an account: credentials and a region, nothing else."""
    submitting.environment |= {"AWS_ENDPOINT_URL": aws.url, "AWS_ENDPOINT_URL_CLEANROOMS": sandbox.url}
    submitting.environment["AWS_REGION"] = "us-east-1"
    return submitting


def files(program: Program) -> list[str]:
    """What is in the folder."""
    return sorted(path.name for path in program.folder.iterdir())


def rows(program: Program) -> list[dict[str, str]]:
    """The manifest."""
    with (program.folder / "jobs.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_stranger_gets_from_an_empty_folder_to_a_finished_batch_by_the_screen_alone(
    newcomer: Program, sandbox: Sandbox
) -> None:
    """Each step is the one that was printed, in much less than five minutes."""
    sandbox.configure(job_seconds=0.2)
    began = time.monotonic()
    said = newcomer.run("init").stderr
    for _, line in STEPS:
        assert f"  {line}\n" in said
        program, *arguments = line.split()
        assert program == "batchsubmit"
        quick = ("--sandbox-job-seconds", "0.1", "--rate", "0") if "--sandbox" in arguments else ()
        ended = newcomer.run(*arguments, *quick)
        assert ended.status == 0, (line, ended.stdout, ended.stderr)
    assert time.monotonic() - began < 300
    assert len(sandbox.jobs()) == len(newcomer.arns("jobs.ledger.jsonl")) == len(rows(newcomer)) == 6
    assert (newcomer.folder / ended.stdout.strip()).read_bytes().startswith(b"<!DOCTYPE html>")
    state = json.loads(newcomer.run("status", "jobs.ledger.jsonl", "--json").stdout)
    assert state["counts"]["succeeded"] == 6


def test_a_row_names_the_membership_s_own_things_and_says_in_words_what_they_are(newcomer: Program) -> None:
    """One for each trained model, narrowed to a membership."""
    ended = newcomer.run("init", "--membership", FIRST, "--json")
    assert ended.summary == {
        "written": ["jobs.csv", "batchsubmit.toml", *FILES[1::-1]],
        "kept": [],
        "rows": 2,
        "notes": [],
    }
    first, second = rows(newcomer)
    assert {each["membershipIdentifier"] for each in (first, second)} == {FIRST}
    assert first["trainedModelArn"] != second["trainedModelArn"]
    assert first["outputConfiguration.members.0.accountId"] == "123456789012"
    assert first["var.comment"] == "sandbox 1111: model model-1 by sandbox, data channel-2"
    assert 'region = "us-east-1"' in (newcomer.folder / "batchsubmit.toml").read_text()


def test_nothing_is_overwritten_and_a_folder_is_made(newcomer: Program) -> None:
    """What is there is kept, and said to be."""
    folder = newcomer.folder / "new" / "churn"
    assert newcomer.run("init", "new/churn").status == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    (folder / "jobs.csv").write_text("mine")
    (folder / "NEXT-STEPS.md").unlink()
    again = newcomer.run("init", "new/churn")
    assert (folder / "jobs.csv").read_text() == "mine"
    assert "written: NEXT-STEPS.md\n" in again.stderr
    assert "kept as they were: jobs.csv, batchsubmit.toml, batchsubmit.schema.json" in again.stderr
    assert "  cd new/churn\n" in again.stderr


def test_a_link_is_kept_too_and_nothing_is_written_where_it_leads(newcomer: Program) -> None:
    """Also one to a file that is not there just now."""
    (newcomer.folder / "jobs.csv").symlink_to("elsewhere.csv")
    assert "kept as they were: jobs.csv\n" in newcomer.run("init").stderr
    assert not (newcomer.folder / "elsewhere.csv").exists()


@pytest.mark.parametrize("lacks", ["AWS_REGION", "AWS_SECRET_ACCESS_KEY"])
def test_without_an_account_there_is_an_example_that_can_be_rehearsed(
    program: Program, newcomer: Program, lacks: str
) -> None:
    """It is valid, says what to put in, and why it is no more."""
    ended = newcomer.run("init", **{lacks: None})
    assert ended.status == 0
    assert "note: " in ended.stderr
    [row] = rows(newcomer)
    assert row["var.comment"].startswith("An example: put your own")
    quick = ("--sandbox", "--sandbox-job-seconds", "0.1")
    assert newcomer.run("submit", "jobs.csv", *quick, "--ledger", "r.jsonl").status == 0


@pytest.mark.parametrize("operation", ["ListMemberships", "ListTrainedModels"])
def test_what_may_not_be_listed_is_named_with_its_action(newcomer: Program, sandbox: Sandbox, operation: str) -> None:
    """The other memberships are still looked into."""
    sandbox.disturb({"fault": "access_denied", "operation": operation})
    ended = newcomer.run("init")
    assert operation in ended.stderr
    assert "batchsubmit policy init" in ended.stderr
    assert len(rows(newcomer)) == (4 if operation == "ListTrainedModels" else 1)


def test_an_answer_without_its_list_is_a_note(newcomer: Program, sandbox: Sandbox) -> None:
    """And no bug: the example is written all the same."""
    sandbox.disturb({"fault": "no_arn", "operation": "ListMemberships"})
    ended = newcomer.run("init")
    assert ended.status == 0, ended.stderr
    assert "note: ListMemberships: " in ended.stderr
    assert len(rows(newcomer)) == 1


async def test_the_pages_of_a_list_are_paced(newcomer: Program) -> None:
    """Each is asked for a tenth of a second after the one before, at the least."""
    asked: list[float] = []

    def page(_: bytes) -> bytes:
        asked.append(time.monotonic())
        more = {"nextToken": f"{len(asked)}"} if len(asked) < 3 else {}
        return http("200 OK", json.dumps({"membershipSummaries": [], **more}).encode(), "application/json")

    async with wire(page) as (url, _):
        ended = await asyncio.to_thread(newcomer.run, "init", AWS_ENDPOINT_URL_CLEANROOMS=url)
    assert "this account has no active membership" in ended.stderr
    assert len(asked) == 3
    assert min(later - sooner for sooner, later in pairwise(asked)) >= 0.1


def test_an_editor_is_told_the_schema_and_the_settings_are_found(newcomer: Program) -> None:
    """The file names it; commands say that they read the settings."""
    newcomer.run("init")
    text = (newcomer.folder / "batchsubmit.toml").read_text()
    assert text.startswith("#:schema batchsubmit.schema.json\n")
    assert json.loads((newcomer.folder / "batchsubmit.schema.json").read_text()) == Settings.model_json_schema()
    assert "settings: batchsubmit.toml of this folder\n" in newcomer.run("validate", "jobs.csv").stderr
    (newcomer.folder / "other.toml").write_text("")
    assert "of this folder" not in newcomer.run("validate", "jobs.csv", "--config", "other.toml").stderr
    (newcomer.folder / "batchsubmit.toml").write_text("[submit]\nnonsense = 1\n")
    ended = newcomer.run("validate", "jobs.csv")
    assert ended.status == 2
    assert "batchsubmit.toml: there is no setting submit.nonsense" in ended.stderr


def listed(kind: str, name: str, day: int, status: str = "ACTIVE", algorithm: str = ASSOCIATION) -> dict[str, Any]:
    """A trained model or channel as the service lists it."""
    member = {"trained-model": "trainedModelArn", "ml-input-channel": "mlInputChannelArn"}[kind]
    return {
        member: f"arn:aws:cleanrooms-ml:us-east-1:123456789012:membership/{FIRST}/{kind}/{name}",
        "name": name,
        "status": status,
        "createTime": datetime(2026, 11, day, tzinfo=UTC),
        "configuredModelAlgorithmAssociationArn": algorithm,
        "configuredModelAlgorithmAssociations": [algorithm],
    }


def test_only_active_models_get_a_row_each_with_the_newest_active_channel_of_its_algorithm() -> None:
    """The rest is said."""
    found = FirstRows()
    membership = {
        "id": FIRST,
        "arn": f"arn:aws:cleanrooms:us-east-1:123456789012:membership/{FIRST}",
        "collaborationName": "c",
    }
    models = [
        listed("trained-model", "good", 1),
        listed("trained-model", "old", 1, "INACTIVE"),
        listed("trained-model", "alone", 1, algorithm="other"),
    ]
    channels = [
        listed("ml-input-channel", "newest", 4, "CREATE_PENDING"),
        listed("ml-input-channel", "newer", 3),
        listed("ml-input-channel", "older", 2),
    ]
    found.add(membership, models, channels, [])
    [row] = found.rows
    assert row["trainedModelArn"].endswith("/good")
    assert row["dataSource.mlInputChannelArn"].endswith("/newer")
    assert found.notes == ["trained model alone has no active ML input channel: it has no row"]
    assert row.keys() == example("").keys()
