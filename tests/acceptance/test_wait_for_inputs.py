"""Jobs whose trained model or channel is still being created, by the real program: they wait, and others do not."""

import json
import signal
import time

import pytest
from conftest import Program, Sandbox, finish, request_named, write_jsonl
from local_aws import LocalAws
from strategies import arn
from worker_programs import LEDGER as WORKER_LEDGER
from worker_programs import in_virginia, jobs, serving, until, working

from batchsubmit import submit_jobs

__all__ = ["working"]

LEDGER = "jobs.ledger.jsonl"
NEW, CHANNEL = arn("trained-model", "new"), arn("ml-input-channel")
SETTING = "BATCHSUBMIT_SUBMIT__WAIT_FOR_INPUTS"


def in_us(name: str) -> str:
    """The same ARN in the region that the local queue lives in."""
    return name.replace("eu-central-1", "us-east-1")


def write_manifest(program: Program) -> None:
    """Three jobs of a model that is being trained, then two of one that is ready, all in one membership."""
    requests = [request_named(f"new-{number}", model="new") for number in range(3)]
    requests += [request_named(f"old-{number}", model="one") for number in range(2)]
    write_jsonl(program.folder / "jobs.jsonl", requests)


@pytest.mark.parametrize("asked", ["flag", "setting"])
def test_jobs_wait_for_a_model_that_is_being_created_and_their_lane_goes_on(
    submitting: Program, sandbox: Sandbox, asked: str
) -> None:
    """Each is sent once, in order, and no call is made in vain."""
    write_manifest(submitting)
    sandbox.configure(creating_seconds={NEW: 3600})
    flags, environment = (["--wait-for-inputs"], {}) if asked == "flag" else ([], {SETTING: "true"})
    with submitting.running("submit", "jobs.jsonl", *flags, "--concurrency", 1, **environment) as process:
        until(lambda: len(sandbox.names()) == 2)
        sandbox.configure(creating_seconds={})
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sandbox.names() == ["old-0", "old-1", "new-0", "new-1", "new-2"]
    assert sandbox.calls() == 5
    assert f"trained model {NEW}" in ended.stderr
    assert sandbox.calls("GetTrainedModel") >= 3
    assert sandbox.calls("GetMLInputChannel") == 1


def test_without_the_setting_nothing_is_read_and_the_service_decides(submitting: Program, sandbox: Sandbox) -> None:
    """As ever: its 409 is met again some times, then the job is rejected."""
    write_manifest(submitting)
    sandbox.configure(creating_seconds={NEW: 3600})
    ended = submitting.run("submit", "jobs.jsonl", "--json")
    assert (ended.status, ended.summary["submitted"], ended.summary["rejected"]) == (1, 2, 3)
    assert sandbox.calls("GetTrainedModel") == sandbox.calls("GetMLInputChannel") == 0


def test_jobs_wait_for_a_channel_whose_creation_then_fails(submitting: Program, sandbox: Sandbox) -> None:
    """They are rejected with that reason, without a call."""
    write_manifest(submitting)
    sandbox.configure(creating_seconds={CHANNEL: 1.0}, input_statuses={CHANNEL: "CREATE_FAILED"})
    ended = submitting.run("submit", "jobs.jsonl", "--wait-for-inputs", "--json")
    assert (ended.status, ended.summary["rejected"]) == (1, 5)
    rejected = [event for event in submitting.events(LEDGER) if event["event"] == "rejected"]
    assert len(rejected) == 5
    assert all(event["message"] == f"channel {CHANNEL} is CREATE_FAILED" for event in rejected)
    assert sandbox.calls() == 0


def test_a_run_that_is_stopped_meanwhile_says_what_its_jobs_wait_for(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 3; the next run sends them once the channel is there."""
    write_manifest(submitting)
    sandbox.configure(creating_seconds={NEW: 3600})
    with submitting.running("submit", "jobs.jsonl", "--wait-for-inputs") as process:
        until(lambda: len(sandbox.names()) == 2)
        time.sleep(0.5)  # a run that does not wait would have ended by now
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert ended.status == 3
    assert "3 pending" in ended.stderr
    assert f"jobs wait for trained model {NEW}, which is CREATE_PENDING" in ended.stderr
    sandbox.configure(creating_seconds={})
    assert submitting.run("submit", "jobs.jsonl", "--wait-for-inputs").status == 0
    assert sorted(sandbox.names()) == ["new-0", "new-1", "new-2", "old-0", "old-1"]


def test_what_may_not_be_read_is_left_to_the_call_itself(submitting: Program, sandbox: Sandbox) -> None:
    """A role that may only start jobs, or the model of another member."""
    write_manifest(submitting)
    sandbox.disturb(probabilities={"GetTrainedModel": {"access_denied": 1.0}, "GetMLInputChannel": {"not_found": 1.0}})
    assert submitting.run("submit", "jobs.jsonl", "--wait-for-inputs").status == 0
    assert len(sandbox.names()) == 5


def test_a_worker_hands_messages_back_whose_model_is_being_created(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Those behind them come through; when the model is there, so do they, and none goes to the dead-letter queue."""
    sandbox.configure(creating_seconds={in_us(NEW): 3600})
    queue = aws.make_queue(receives=3)
    waiting = [in_virginia(request_named(f"new-{number}", model="new")) for number in range(3)]
    queue.put(*waiting, *jobs(3))
    visibility = {"BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "1", "BATCHSUBMIT_WORKER__MAX_DELAY_SECONDS": "2"}
    with serving(working, queue, **visibility, **{SETTING: "true"}) as process:
        until(lambda: len(sandbox.names()) == 3)
        assert not any(name.startswith("new") for name in sandbox.names())
        until(lambda: queue.size() == 3)
        sandbox.configure(creating_seconds={})
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert len(sandbox.names()) == sandbox.calls() == 6
    assert ended.summary["queue_counts"]["undecided"] == 0
    assert queue.dead is not None
    assert queue.dead.size() == 0
    assert not any(event["event"] in {"refused", "rejected"} for event in working.events(WORKER_LEDGER))


def test_the_rows_of_a_manifest_on_the_queue_wait_one_by_one(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """The message stays in hand until all of its rows are decided."""
    sandbox.configure(creating_seconds={in_us(NEW): 3600})
    queue = aws.make_queue()
    rows = [in_virginia(request_named(f"new-{number}", model="new")) for number in range(2)] + jobs(2)
    aws.put_object("jobs", "waiting.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
    queue.put({"manifest": "s3://jobs/waiting.jsonl"})
    with serving(working, queue, **{SETTING: "true"}) as process:
        until(lambda: len(sandbox.names()) == 2)
        assert not any(name.startswith("new") for name in sandbox.names())
        sandbox.configure(creating_seconds={})
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 0
    assert sorted(sandbox.names())[2:] == ["new-0", "new-1"]
    assert sandbox.calls() == 4


def test_the_python_api_waits_by_the_same_setting(
    submitting: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every job is told of in the end."""
    for name, value in (submitting.environment | {SETTING: "true"}).items():
        monkeypatch.setenv(name, value)
    sandbox.configure(creating_seconds={NEW: 1.0})
    report = submit_jobs([request_named(name, model="new") for name in "ab"], ledger=submitting.folder / "api.jsonl")
    assert [each.name for each in report.submitted] == ["a", "b"]
    assert sandbox.calls() == 2
