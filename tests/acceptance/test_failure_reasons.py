"""What AWS says of jobs that ran and failed, by the real program: its stable code, its words, what its logs lack."""

import csv
import io
import re
import zlib
from binascii import b2a_base64

from conftest import Program, Sandbox, csv_text

LEDGER = "jobs.ledger.jsonl"
LOG_GROUP = "/aws/cleanroomsml/TrainedModelInferenceJobs"
SAID = {"a": "Out of patience near row one", "b": "Another wording of the same"}


def failed_run(program: Program, sandbox: Sandbox, **settings: object) -> str:
    """Submit three jobs of which two fail, each with a message of its own, and wait; gives what people were shown."""
    sandbox.configure(job_seconds=0.1, failing_names=list(SAID), failure_messages=SAID, **settings)
    (program.folder / "jobs.csv").write_text(csv_text("abc"))
    ended = program.run("submit", "jobs.csv", "--wait")
    assert ended.status == 1, ended.stderr
    return ended.stderr


def test_the_code_of_a_failed_job_is_kept(submitting: Program, sandbox: Sandbox) -> None:
    """Beside its message; a job that ended well has neither."""
    failed_run(submitting, sandbox)
    finished = {each["name"]: each for each in submitting.events(LEDGER) if each["event"] == "finished"}
    assert {name: finished[name]["code"] for name in SAID} == dict.fromkeys(SAID, "INTERNAL_ERROR")
    assert {name: finished[name]["message"] for name in SAID} == SAID
    assert "code" not in finished["c"]


def test_reasons_go_by_code_whatever_the_message_says(submitting: Program, sandbox: Sandbox) -> None:
    """AWS keeps its codes and may change its messages: one reason in summary, status and report."""
    said = failed_run(submitting, sandbox)
    assert "2 failed: INTERNAL_ERROR 2" in said
    assert LOG_GROUP in said
    status = submitting.run("status", LEDGER)
    assert "2 failed: CREATE_FAILED: INTERNAL_ERROR" in status.stdout
    assert (
        "CREATE_FAILED: INTERNAL_ERROR: Another wording of the same" in submitting.run("status", LEDGER, "--all").stdout
    )
    assert LOG_GROUP in status.stdout
    badly = submitting.run("status", LEDGER, "--json").summary["failed"]
    assert {each["code"] for each in badly} == {"INTERNAL_ERROR"}
    assert submitting.run("report", LEDGER, "--output", "page.html").status == 0
    page = (submitting.folder / "page.html").read_text()
    assert page.count("<h3>INTERNAL_ERROR") == 1
    assert LOG_GROUP in page


def test_what_did_not_reach_cloudwatch_is_shown(submitting: Program, sandbox: Sandbox) -> None:
    """Someone who looks for logs that are not there reads why: in status, report and export."""
    failed_run(submitting, sandbox, unpublished="the log group is missing")
    why = "logs PUBLISH_FAILED: the log group is missing; metrics PUBLISH_FAILED: the log group is missing"
    assert why in submitting.run("status", LEDGER).stdout
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(submitting.run("export", LEDGER).stdout))}
    assert [rows[name]["logs"] for name in "abc"] == [why, why, ""]
    assert submitting.run("report", LEDGER, "--output", "page.html").status == 0
    assert why in (submitting.folder / "page.html").read_text()


def test_a_job_refused_for_good_is_rejected_in_the_ledger(submitting: Program, sandbox: Sandbox) -> None:
    """The contract's word on the disk. A ledger of an earlier version, which said `failed`, reads the same."""
    sandbox.disturb({"operation": "StartTrainedModelInferenceJob", "name": "a", "fault": "validation"})
    (submitting.folder / "jobs.csv").write_text(csv_text("ab"))
    assert submitting.run("submit", "jobs.csv").status == 1
    [rejected] = [event for event in submitting.events(LEDGER) if event["event"] == "rejected"]
    assert (rejected["name"], rejected["code"], rejected["attempt"]) == ("a", "ValidationException", 1)
    status = submitting.run("status", LEDGER, "--json").summary
    assert (status["counts"]["rejected"], status["rejected"][0]["code"]) == (1, "ValidationException")
    ledger = submitting.folder / LEDGER
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(map(earlier, lines)))
    assert [each["event"] for each in submitting.events(LEDGER)].count("failed") == 1
    assert submitting.run("status", LEDGER, "--json").summary == status
    assert submitting.run("submit", "jobs.csv", "--retry-failed").status == 0
    assert sorted(sandbox.names()) == ["a", "b"]


def earlier(line: bytes) -> bytes:
    """A line of a ledger as an earlier version wrote it."""
    body = re.sub(rb',"(?:previous|crc)":.*', b"", line.rstrip()).replace(b'{"event":"rejected"', b'{"event":"failed"')
    return b'%s,"crc":"%.6s"}\n' % (body, b2a_base64(zlib.crc32(body).to_bytes(4, "big")))
