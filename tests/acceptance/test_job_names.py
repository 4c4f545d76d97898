"""Names that overwrite results, and names by date, by the real program."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import CSV_HEADER, Program, Sandbox, csv_text, finish, request_named, write_jsonl
from local_aws import LocalAws
from worker_programs import in_virginia, serving, until, working

from batchsubmit import ManifestError, submit_jobs

__all__ = ["working"]

CONFIGS = Path(__file__).parents[2] / "configs"
ONE_DAY, NEXT_DAY = "Etc/GMT+12", "Etc/GMT-14"  # 26 hours apart: never the same date
LEDGER = "jobs.ledger.jsonl"


def write(program: Program, *requests: Mapping[str, Any]) -> None:
    """The manifest."""
    write_jsonl(program.folder / "jobs.jsonl", requests)


def write_unnamed(program: Program, *jobs: str, name: str = "{job}-{date}") -> None:
    """A manifest whose rows have a variable for a name, and settings that name them."""
    text = csv_text(jobs).replace(CSV_HEADER, CSV_HEADER.replace("name,", "var.job,"))
    (program.folder / "jobs.csv").write_text(text)
    (program.folder / "names.toml").write_text(f'[defaults]\nname = "{name}"\n')


def test_one_name_for_two_models_is_two_jobs(submitting: Program, sandbox: Sandbox) -> None:
    """Their results go to two places; in CSV as in JSONL."""
    write(submitting, request_named("a"), request_named("a", model="two"))
    assert submitting.run("submit", "jobs.jsonl").status == 0
    rows = csv_text(["b", "c"]) + csv_text(["b"]).removeprefix(CSV_HEADER).replace(
        "/trained-model/one", "/trained-model/2"
    )
    (submitting.folder / "jobs.csv").write_text(rows)
    assert submitting.run("submit", "jobs.csv", "--ledger", "csv.jsonl").status == 0
    assert sorted(sandbox.names()) == ["a", "a", "b", "b", "c"]


def test_one_name_twice_for_one_model_is_still_a_problem(submitting: Program, sandbox: Sandbox) -> None:
    """Also among hundreds of rows, and with identical ones allowed."""
    text = csv_text([f"job-{number}" for number in range(400)]) + csv_text(["job-7"]).removeprefix(CSV_HEADER)
    (submitting.folder / "jobs.csv").write_text(text)
    ended = submitting.run("submit", "jobs.csv")
    assert (ended.status, sandbox.calls()) == (2, 0)
    write(submitting, request_named("a"), request_named("a", description="other"))
    ended = submitting.run("submit", "jobs.jsonl", "--allow-duplicates")
    assert (ended.status, sandbox.calls()) == (2, 0)
    assert "for the same membership and trained model" in ended.stderr


def test_another_batch_of_the_same_names_is_warned_of(submitting: Program, sandbox: Sandbox) -> None:
    """By plan and submit: the earlier results are overwritten; the exit status stays."""
    write(submitting, *map(request_named, "abc"))
    first = submitting.run("submit", "jobs.jsonl", "--batch-id", "monday", "--json")
    assert first.summary["warnings"] == []
    write(submitting, *map(request_named, "xabc"))
    for command in ("plan", "submit"):
        yes = ("--yes",) if command == "submit" else ()
        ended = submitting.run(command, "jobs.jsonl", "--batch-id", "tuesday", "--json", *yes)
        assert ended.status == 0
        [warning] = ended.summary["warnings"]
        assert (warning["path"], warning["line"], warning["count"]) == ("name", 2, 3)
        assert "overwritten" in warning["right"]
        assert "warning: jobs.jsonl:2:1: name: 'a' with this trained model was submitted before" in ended.stderr
    assert len(sandbox.names()) == 7
    again = submitting.run("submit", "jobs.jsonl", "--batch-id", "tuesday", "--json")
    assert (again.status, again.summary["submitted"], again.summary["warnings"]) == (0, 0, [])


def test_another_model_or_a_job_that_failed_is_not_warned_of(submitting: Program, sandbox: Sandbox) -> None:
    """Nothing of theirs is overwritten."""
    sandbox.configure(job_seconds=0.0, failing_names=["bad"])
    write(submitting, request_named("a"), request_named("bad"))
    assert submitting.run("submit", "jobs.jsonl", "--wait").status == 1
    write(submitting, request_named("a", model="two"), request_named("bad"))
    ended = submitting.run("plan", "jobs.jsonl", "--batch-id", "again", "--json")
    assert (ended.status, ended.summary["to_do"], ended.summary["warnings"]) == (0, 2, [])


def test_an_online_plan_warns_of_names_that_the_service_lists(submitting: Program) -> None:
    """Jobs of other ledgers too."""
    write(submitting, *map(request_named, "ab"))
    assert submitting.run("submit", "jobs.jsonl", "--ledger", "elsewhere.jsonl").status == 0
    assert submitting.run("plan", "jobs.jsonl", "--json").summary["warnings"] == []
    ended = submitting.run("plan", "jobs.jsonl", "--online", "--json")
    [warning] = ended.summary["warnings"]
    assert (ended.status, warning["count"]) == (0, 2)
    assert "listed by the service" in warning["wrong"]


def test_jobs_are_named_by_date_and_resumed_within_it(submitting: Program, sandbox: Sandbox) -> None:
    """The same row on another day is another job, without a warning."""
    write_unnamed(submitting, "churn-001", "churn-002")
    options = ("jobs.csv", "--config", "names.toml", "--json")
    assert submitting.run("validate", *options, BATCHSUBMIT_SUBMIT__TIME_ZONE=ONE_DAY).status == 0
    for submitted in (2, 0):
        ended = submitting.run("submit", *options, BATCHSUBMIT_SUBMIT__TIME_ZONE=ONE_DAY)
        assert (ended.status, ended.summary["submitted"]) == (0, submitted)
    made = submitting.run("plan", *options, BATCHSUBMIT_SUBMIT__TIME_ZONE=ONE_DAY).summary
    assert made["to_do"] == 0
    ended = submitting.run("submit", *options, BATCHSUBMIT_SUBMIT__TIME_ZONE=NEXT_DAY)
    assert (ended.summary["submitted"], ended.summary["warnings"]) == (2, [])
    assert len({name for name in sandbox.names() if name.startswith("churn-001-20")}) == 2


def test_a_batch_in_a_name_is_the_run_s(submitting: Program, sandbox: Sandbox) -> None:
    """Without one, every row says so."""
    write_unnamed(submitting, "a", name="{job}-{batch}")
    options = ("jobs.csv", "--config", "names.toml")
    refused = submitting.run("submit", *options)
    assert refused.status == 2
    assert "its default needs {batch}, and there is none" in refused.stderr
    assert submitting.run("validate", *options).status == 2
    for command in ("validate", "plan", "submit"):
        assert submitting.run(command, *options, "--batch-id", "b-{date}").status == 0
    assert sandbox.names()[0].startswith("a-b-20")


def test_the_nightly_settings_name_jobs_by_date(submitting: Program, sandbox: Sandbox) -> None:
    """As the README says."""
    sandbox.configure(job_seconds=0.0)
    write_unnamed(submitting, "churn-001")
    ended = submitting.run(
        "submit", "jobs.csv", "--config", CONFIGS / "nightly.toml", "--deadline", "2100-01-01T00:00:00Z"
    )
    assert ended.status == 0, ended.stderr
    [name] = sandbox.names()
    [ledger] = submitting.folder.glob("nightly-*.ledger.jsonl")
    assert name == ledger.name.removesuffix(".ledger.jsonl").replace("nightly", "churn-001")


def test_enqueue_fills_names_in_and_a_worker_takes_them_as_they_are(
    working: Program, aws: LocalAws, sandbox: Sandbox
) -> None:
    """A worker's own settings may hold the batch of a message, but no date."""
    queue = aws.make_queue()
    write_unnamed(working, "a", name="{job}-{batch}-{date}")
    (working.folder / "jobs.csv").write_text(
        (working.folder / "jobs.csv").read_text().replace("eu-central-1", "us-east-1")
    )
    options = ("--queue-url", queue.url, "--batch-id", "n-{date}", "--config", "names.toml", "--json")
    sent = working.run("enqueue", "jobs.csv", *options)
    assert (sent.status, sent.summary["sent"]) == (0, 1), sent.stderr
    date = sent.summary["batch"].removeprefix("n-")
    refused = working.run("worker", "--queue-url", queue.url, "--config", "names.toml")
    assert refused.status == 2
    assert "a worker cannot fill in {date}" in refused.stderr
    (working.folder / "worker.toml").write_text('[defaults]\nname = "named-{batch}"\n')
    unnamed = {name: value for name, value in in_virginia(request_named("?")).items() if name != "name"}
    queue.put({"request": unnamed, "batch": "mine"})
    with serving(working, queue, "--config", "worker.toml") as process:
        until(lambda: len(sandbox.names()) == 2)
        process.terminate()
        assert finish(process).status == 0
    assert sorted(sandbox.names()) == [f"a-n-{date}-{date}", "named-mine"]


def test_the_python_api_names_jobs_like_the_command(
    submitting: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same place-holders, same rule of names, same warning."""
    for name, value in submitting.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BATCHSUBMIT_DEFAULTS", json.dumps({"name": "{job}-{batch}-{date}"}))
    unnamed = {name: value for name, value in request_named("?").items() if name != "name"} | {"var": {"job": "a"}}
    ledger = submitting.folder / "api.jsonl"
    assert submit_jobs([unnamed], ledger=ledger, batch="one").is_good
    [name] = sandbox.names()
    assert name.startswith("a-one-20")
    with pytest.raises(ManifestError):
        submit_jobs([request_named("x"), request_named("x", description="y")], ledger=ledger)
    report = submit_jobs([request_named(name), request_named(name, model="two")], ledger=ledger, batch="two")
    assert [(each.path, each.count) for each in report.summary.warnings] == [("name", 1)]


def test_verify_and_failed_rows_know_rows_that_were_named_by_date(submitting: Program, sandbox: Sandbox) -> None:
    """The keys are those of the ledger's run."""
    date = datetime.now(timezone(timedelta(hours=-12))).date()
    sandbox.configure(job_seconds=0.0, failing_names=[f"b-{date}"])
    write_unnamed(submitting, "a", "b")
    environment = {"BATCHSUBMIT_SUBMIT__TIME_ZONE": ONE_DAY}
    assert submitting.run("submit", "jobs.csv", "--config", "names.toml", "--wait", **environment).status == 1
    checked = submitting.run("verify", LEDGER, "--config", "names.toml", "--json", **environment)
    assert checked.status == 0, checked.stderr
    options = ("--failed-manifest", "jobs.csv", "--config", "names.toml", "--output", "failed.csv")
    exported = submitting.run("export", LEDGER, *options, **environment)
    assert exported.status == 0, exported.stderr
    [_, row] = (submitting.folder / "failed.csv").read_text().splitlines()
    assert row.startswith("b,")


def test_a_manifest_that_a_message_points_to_has_the_same_rules(
    working: Program, aws: LocalAws, sandbox: Sandbox
) -> None:
    """One name for two models, a default with the message's batch; a name twice for one model is a dead letter."""
    queue = aws.make_queue()
    unnamed = [{**in_virginia(request_named("?", model=model)), "name": None} for model in ("one", "two")]
    twice = [in_virginia(request_named("x")), in_virginia(request_named("x", description="y"))]
    for key, rows in (("good.jsonl", unnamed), ("bad.jsonl", twice)):
        aws.put_object("names", key, "".join(json.dumps(each) + "\n" for each in rows))
        queue.put({"manifest": f"s3://names/{key}", "batch": "night"})
    (working.folder / "worker.toml").write_text('[defaults]\nname = "job-{batch}"\n')
    with serving(working, queue, "--config", "worker.toml") as process:
        until(lambda: len(sandbox.names()) == 2 and queue.dead is not None and queue.dead.size() == 1)
        process.terminate()
        assert finish(process).status == 0
    assert sandbox.names() == ["job-night", "job-night"]
