"""The main job, by the real program against the sandbox as another process, counted on the service's side."""

import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, csv_text, request_named, write_jsonl
from strategies import MEMBERSHIP

MANIFEST = "jobs.csv"
LEDGER = "jobs.ledger.jsonl"


def write_csv(program: Program, *names: str, file: str = MANIFEST) -> None:
    """Write a CSV manifest into the program's folder."""
    (program.folder / file).write_text(csv_text(names))


def agree(program: Program, sandbox: Sandbox, ledger: str = LEDGER) -> bool:
    """Whether the ledger and the service have the same jobs, each once."""
    arns = program.arns(ledger)
    return len(set(arns)) == len(arns) and set(arns) == {job["arn"] for job in sandbox.jobs()}


def test_a_thousand_jobs_are_submitted_once_and_a_second_run_calls_nobody(
    submitting: Program, sandbox: Sandbox
) -> None:
    """1,000 distinct ARNs, each the sandbox's own; the second run ends within seconds."""
    names = [f"job-{number:04}" for number in range(1000)]
    write_csv(submitting, *names)
    first = submitting.run("submit", MANIFEST, "--rate", 0)
    assert first.status == 0, first.stderr
    assert "1,000 of 1,000 jobs submitted" in first.stderr
    assert LEDGER in first.stderr
    assert first.stdout == ""
    assert len(set(submitting.arns(LEDGER))) == 1000
    jobs = {job["arn"]: job for job in sandbox.jobs()}
    events = [event for event in submitting.events(LEDGER) if event["event"] == "submitted"]
    assert {event["arn"]: event["name"] for event in events} == {arn: job["name"] for arn, job in jobs.items()}
    assert {event["arn"]: event["job"] for event in events} == {
        arn: job["tags"]["batchsubmit:key"] for arn, job in jobs.items()
    }
    calls = sandbox.calls()
    assert calls == 1000
    began = time.monotonic()
    second = submitting.run("submit", MANIFEST, "--rate", 0)
    assert second.status == 0
    assert "Nothing to do" in second.stderr
    assert sandbox.calls() == calls
    assert time.monotonic() - began < 5


def test_rows_may_be_reordered_inserted_edited_and_removed_between_runs(submitting: Program, sandbox: Sandbox) -> None:
    """Only what is new is sent: a key goes by the row's content, not by its place."""
    manifest = submitting.folder / "jobs.jsonl"
    write_jsonl(manifest, [request_named(name) for name in "abcd"])
    assert submitting.run("submit", manifest).status == 0
    changed = [request_named("d"), request_named("new"), request_named("b", description="edited"), request_named("a")]
    write_jsonl(manifest, changed)
    ended = submitting.run("submit", manifest, "--json")
    assert ended.status == 0
    assert sandbox.names() == ["a", "b", "c", "d", *sandbox.names()[4:]]
    assert sorted(sandbox.names()[4:]) == ["b", "new"]
    assert (ended.summary["counts"]["total"], ended.summary["submitted"], ended.summary["submitted_before"]) == (
        4,
        2,
        2,
    )
    assert agree(submitting, sandbox)


def test_a_batch_id_makes_a_new_round_of_the_same_rows(submitting: Program, sandbox: Sandbox) -> None:
    """In the same ledger."""
    write_csv(submitting, "a", "b")
    for batch in ("monday", "tuesday", "tuesday"):
        assert submitting.run("submit", MANIFEST, "--batch-id", batch, "--yes").status == 0
    assert sorted(sandbox.names()) == ["a", "a", "b", "b"]


def test_one_bad_row_keeps_everything_back(submitting: Program, sandbox: Sandbox) -> None:
    """With its line and what would be right."""
    write_csv(submitting, "a", "b", "c")
    manifest = submitting.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace("ml.m5.large", "ml.m5.lrge", 2).replace("ml.m5.lrge", "x", 1))
    ended = submitting.run("submit", MANIFEST)
    assert ended.status == 2
    assert f"{MANIFEST}:2:4: resourceConfig.instanceType" in ended.stderr
    assert f"{MANIFEST}:3:4: resourceConfig.instanceType" in ended.stderr
    assert "nothing was sent" in ended.stderr
    assert sandbox.calls() == 0
    assert not (submitting.folder / LEDGER).exists()


def test_skip_invalid_sends_the_good_rows_and_records_the_others(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 1, as often as it is run; a mended row is sent."""
    write_csv(submitting, "a", "b", "c")
    manifest = submitting.folder / MANIFEST
    good = manifest.read_text()
    manifest.write_text(good.replace("ml.m5.large", "nonsense", 1))
    for _ in range(2):
        ended = submitting.run("submit", MANIFEST, "--skip-invalid", "--json")
        assert ended.status == 1
        assert ended.summary["invalid"] == 1
    assert sorted(sandbox.names()) == ["b", "c"]
    failed = [event for event in submitting.events(LEDGER) if event["event"] == "rejected"]
    assert [(event["name"], event["code"]) for event in failed] == [("a", "InvalidRow")]
    assert "instanceType" in failed[0]["message"]
    manifest.write_text(good)
    assert submitting.run("submit", MANIFEST).status == 0
    assert sorted(sandbox.names()) == ["a", "b", "c"]


def test_identical_rows_are_an_error_unless_they_are_meant(submitting: Program, sandbox: Sandbox) -> None:
    """Then each is a job of its own, and the second run knows them all."""
    write_csv(submitting, "a", "a", "a")
    refused = submitting.run("submit", MANIFEST)
    assert refused.status == 2
    assert "identical to line 2" in refused.stderr
    assert sandbox.calls() == 0
    for _ in range(2):
        assert submitting.run("submit", MANIFEST, "--allow-duplicates").status == 0
    assert sandbox.names() == ["a", "a", "a"]
    assert agree(submitting, sandbox)


def test_failing_jobs_leave_exit_status_1_and_are_left_alone_until_asked(submitting: Program, sandbox: Sandbox) -> None:
    """The service's own words stand in the ledger and in `status`."""
    sandbox.disturb({"fault": "validation", "name": "b"})
    write_csv(submitting, "a", "b", "c")
    for _ in range(2):
        ended = submitting.run("submit", MANIFEST)
        assert ended.status == 1
        assert f"batchsubmit retry {LEDGER}" in ended.stderr
    assert sorted(sandbox.names()) == ["a", "c"]
    assert sandbox.calls() == 3
    status = submitting.run("status", LEDGER)
    assert status.status == 0
    assert "1 rejected: ValidationException: The request is not valid (injected).\n  b\n" in status.stdout
    assert submitting.run("submit", MANIFEST, "--retry-failed").status == 0
    assert sorted(sandbox.names()) == ["a", "b", "c"]


def test_a_failed_job_that_is_retried_well_is_no_failure_any_more(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 0, and counts that add up to the rows."""
    sandbox.disturb({"fault": "validation", "name": "b"})
    write_csv(submitting, "a", "b")
    assert submitting.run("submit", MANIFEST).status == 1
    ended = submitting.run("submit", MANIFEST, "--retry-failed", "--json")
    assert ended.summary["submitted"] == 1
    assert ended.summary["rejected"] == 0
    assert ended.status == 0


def test_too_many_failures_stop_the_run(submitting: Program, sandbox: Sandbox) -> None:
    """Before the whole batch is burned; the rest is left for another run."""
    sandbox.disturb(probabilities={"StartTrainedModelInferenceJob": {"validation": 1.0}})
    write_csv(submitting, *(f"job-{number}" for number in range(100)))
    ended = submitting.run("submit", MANIFEST, "--max-failures", 5, "--concurrency", 2, "--json")
    assert ended.status == 3
    assert "--max-failures" in ended.stderr
    assert ended.summary["stop_reason"] == "failures"
    assert 6 <= ended.summary["rejected"] <= 5 + 2 * 2  # two jobs in progress for each call at once
    assert ended.summary["counts"]["pending"] == 100 - ended.summary["rejected"]
    sandbox.disturb()
    assert submitting.run("submit", MANIFEST).status == 1
    assert submitting.run("submit", MANIFEST, "--retry-failed").status == 0
    assert len(set(sandbox.names())) == len(sandbox.names()) == 100


def test_a_deadline_ends_the_run_resumably(submitting: Program, sandbox: Sandbox) -> None:
    """Jobs that wait for slots are left; those under way are recorded."""
    sandbox.configure(per_membership=3)
    write_csv(submitting, *(f"job-{number}" for number in range(10)))
    deadline = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    ended = submitting.run("submit", MANIFEST, "--deadline", deadline, "--json")
    assert ended.status == 3
    assert ended.summary["stop_reason"] == "deadline"
    assert "has passed" in ended.stderr
    assert len(sandbox.names()) == 3
    sandbox.configure(per_membership=0)
    assert submitting.run("submit", MANIFEST).status == 0
    assert len(set(sandbox.names())) == len(sandbox.names()) == 10


def test_a_deadline_that_has_passed_sends_nothing(submitting: Program, sandbox: Sandbox) -> None:
    """Not even one job."""
    write_csv(submitting, *(f"job-{number}" for number in range(50)))
    ended = submitting.run("submit", MANIFEST, "--deadline", "2020-01-01T00:00:00Z", "--rate", 50)
    assert ended.status == 3
    assert sandbox.calls() == 0


def test_waiting_follows_the_jobs_and_tells_of_those_that_end_badly(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 1, and the service's words in the ledger; a second run has nothing to wait for."""
    sandbox.configure(job_seconds=0.2, failing_names=["b"])
    write_csv(submitting, "a", "b", "c")
    ended = submitting.run("submit", MANIFEST, "--wait", "--json")
    assert ended.status == 1
    assert (ended.summary["counts"]["succeeded"], ended.summary["counts"]["failed"]) == (2, 1)
    finished = {each["name"]: each for each in submitting.events(LEDGER) if each["event"] == "finished"}
    assert {name: each["status"] for name, each in finished.items()} == {
        "a": "ACTIVE",
        "b": "CREATE_FAILED",
        "c": "ACTIVE",
    }
    assert "non-zero status" in finished["b"]["message"]
    lists = sandbox.calls("ListTrainedModelInferenceJobs")
    assert submitting.run("submit", MANIFEST, "--wait").status == 1
    assert sandbox.calls("ListTrainedModelInferenceJobs") == lists


def test_waiting_may_begin_in_a_later_run(submitting: Program, sandbox: Sandbox) -> None:
    """For what an earlier one submitted."""
    sandbox.configure(job_seconds=0.2)
    write_csv(submitting, "a", "b")
    assert submitting.run("submit", MANIFEST).status == 0
    ended = submitting.run("submit", MANIFEST, "--wait", "--json")
    assert ended.status == 0
    assert ended.summary["counts"]["succeeded"] == 2


def test_the_quota_is_kept_and_every_job_gets_its_slot(submitting: Program, sandbox: Sandbox) -> None:
    """Two memberships of two slots each, three in the account."""
    sandbox.configure(per_membership=2, per_account=3, job_seconds=0.2)
    requests = [request_named(f"job-{n}", membership=(MEMBERSHIP, OTHER_MEMBERSHIP)[n % 2]) for n in range(12)]
    write_jsonl(submitting.folder / "jobs.jsonl", requests)
    assert submitting.run("submit", "jobs.jsonl").status == 0
    assert agree(submitting, sandbox)
    assert len(sandbox.jobs()) == 12


def test_json_is_one_object_on_standard_output_and_nothing_else(submitting: Program) -> None:
    """Whatever people are told stands on standard error."""
    write_csv(submitting, "a", "b")
    ended = submitting.run("submit", MANIFEST, "--json")
    assert ended.stdout.count("\n") == 1
    assert ended.summary["submitted"] == 2
    assert ended.summary["exit_status"] == 0
    assert ended.summary["ledger"] == LEDGER
    assert "2 of 2 jobs submitted" in ended.stderr


@pytest.mark.parametrize(
    ("manifest", "ledger"),
    [
        ("jobs.csv", "jobs.ledger.jsonl"),
        ("in/nightly.2026.csv", "nightly.2026.ledger.jsonl"),
        ("jobs.csv.gz", "jobs.ledger.jsonl"),
        ("jobs", "jobs.ledger.jsonl"),
    ],
)
def test_the_ledger_is_named_after_the_manifest_in_the_current_folder(
    submitting: Program, sandbox: Sandbox, manifest: str, ledger: str
) -> None:
    """Wherever the manifest is; compressed or not."""
    (submitting.folder / "in").mkdir()
    content = csv_text("ab").encode()
    (submitting.folder / manifest).write_bytes(gzip.compress(content) if manifest.endswith(".gz") else content)
    assert submitting.run("submit", manifest).status == 0
    assert agree(submitting, sandbox, ledger)
    assert len(sandbox.jobs()) == 2


def test_a_manifest_may_come_on_standard_input(submitting: Program, sandbox: Sandbox) -> None:
    """Plain or compressed; the second run knows its jobs."""
    content = csv_text("ab").encode()
    assert submitting.run("submit", "-", stdin=content).status == 0
    assert submitting.run("submit", "-", stdin=gzip.compress(content)).status == 0
    assert sorted(sandbox.names()) == ["a", "b"]
    assert agree(submitting, sandbox, "stdin.ledger.jsonl")


def test_a_ledger_may_be_anywhere(submitting: Program, sandbox: Sandbox, tmp_path: Path) -> None:
    """And then nothing is left in the current folder."""
    write_csv(submitting, "a")
    path = tmp_path / "elsewhere"
    path.mkdir()
    assert submitting.run("submit", MANIFEST, "--ledger", path / "l.jsonl").status == 0
    assert agree(submitting, sandbox, "elsewhere/l.jsonl")
    assert sorted(each.name for each in submitting.folder.iterdir()) == ["elsewhere", MANIFEST]


def test_the_ledger_has_the_lines_of_the_contract_and_no_request(submitting: Program) -> None:
    """Each is JSON with event, time and checksum; no environment value is ever in it."""
    secret = "hunter2-of-the-environment"
    write_jsonl(submitting.folder / "jobs.jsonl", [request_named("a", environment={"TOKEN": secret})])
    assert submitting.run("submit", "jobs.jsonl", "--batch-id", "b").status == 0
    events = submitting.events(LEDGER)
    assert [event["event"] for event in events] == ["run_started", "intent", "submitted", "run_ended"]
    for event in events:
        assert datetime.fromisoformat(event["at"]).tzinfo is not None
        assert list(event)[-1] == "crc"
    assert events[0]["batch"] == "b"
    assert events[-1]["counts"]["submitted"] == 1
    text = (submitting.folder / LEDGER).read_text()
    assert secret not in text
    assert "dummy" not in text


AFTER = ("lost_after", "reset_after", "error_after", "truncated", "unreadable", "no_arn")
BEFORE = ("error_before", "unavailable", "cut_before", "throttled", "slow_down", "conflict", "quota_bare", "quota")


def test_answers_that_are_lost_after_acceptance_never_start_a_job_twice(submitting: Program, sandbox: Sandbox) -> None:
    """The jobs are found on the service instead, in whatever way the answer was lost."""
    sandbox.disturb(*({"fault": fault, "name": f"job-{fault}"} for fault in AFTER))
    write_csv(submitting, *(f"job-{fault}" for fault in AFTER), "plain")
    ended = submitting.run("submit", MANIFEST)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted([*(f"job-{fault}" for fault in AFTER), "plain"])
    assert agree(submitting, sandbox)
    found = {each["name"] for each in submitting.events(LEDGER) if each.get("via") == "lookup"}
    assert found == {f"job-{fault}" for fault in AFTER}
    assert sandbox.calls() == len(AFTER) + 1


def test_calls_that_were_not_accepted_are_made_again(submitting: Program, sandbox: Sandbox) -> None:
    """Every job arrives, once, whatever the service said at first."""
    sandbox.disturb(*({"fault": fault, "name": f"job-{fault}", "times": 2} for fault in BEFORE))
    write_csv(submitting, *(f"job-{fault}" for fault in BEFORE), "plain")
    ended = submitting.run("submit", MANIFEST, BATCHSUBMIT_RATE__MAX_PER_SECOND="100")
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted([*(f"job-{fault}" for fault in BEFORE), "plain"])
    assert agree(submitting, sandbox)
    assert sandbox.calls() == 3 * len(BEFORE) + 1


def test_settings_come_from_a_file_too(submitting: Program, sandbox: Sandbox) -> None:
    """With defaults for members that the rows lack, filled from their own variables."""
    manifest = submitting.folder / "thin.csv"
    manifest.write_text("name,var.part\na,001\nb,002\n")
    template = request_named("x")
    del template["name"]
    template["environment"] = {"PART": "{part}"}
    lines = [f"{name} = {_toml(value)}" for name, value in template.items()]
    (submitting.folder / "night.toml").write_text("[defaults]\n" + "\n".join(lines) + "\n")
    ended = submitting.run("submit", manifest, "--config", "night.toml")
    assert ended.status == 0, ended.stderr
    assert sorted(job["environment"]["PART"] for job in sandbox.jobs()) == ["001", "002"]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def test_jobs_that_the_service_lost_are_not_taken_for_well(submitting: Program, sandbox: Sandbox) -> None:
    """--wait did not see them end: status 3, and verify says which they are."""
    (submitting.folder / MANIFEST).write_text(csv_text(["a", "b"]))
    assert submitting.run("submit", MANIFEST).status == 0
    sandbox.change("POST", "reset")
    ended = submitting.run("submit", MANIFEST, "--wait")
    assert ended.status == 3
    assert "2 submitted, 2 of them by earlier runs" in ended.stderr
    assert "verify jobs.ledger.jsonl names them" in ended.stderr
    assert submitting.run("verify", "jobs.ledger.jsonl").status == 1
