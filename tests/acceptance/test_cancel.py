"""`cancel`: shows, asks, cancels what the ledger started and nothing else, and records how it ended."""

import json
import os
import pty
import re
from collections.abc import Iterable

import pytest
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, csv_text, finish, request_named, write_jsonl
from strategies import MEMBERSHIP

LEDGER = "jobs.ledger.jsonl"


@pytest.fixture(autouse=True)
def _quick(sandbox: Sandbox) -> None:
    sandbox.configure(cancel_seconds=0.1)


def submit(program: Program, names: Iterable[str], file: str = "jobs.csv") -> None:
    """Submit jobs of these names, which then run for an hour."""
    (program.folder / file).write_text(csv_text(names))
    assert program.run("submit", file).status == 0


def statuses(sandbox: Sandbox) -> dict[str, str]:
    """What the service says of each job."""
    return {job["name"]: job["status"] for job in sandbox.jobs()}


def test_only_the_ledger_s_own_jobs_are_cancelled_and_their_end_is_recorded(
    submitting: Program, sandbox: Sandbox
) -> None:
    """Another ledger's jobs in the same membership run on; the second call has nothing to do."""
    submit(submitting, "ab")
    submit(submitting, ["other"], "other.csv")
    ended = submitting.run("cancel", LEDGER, "--yes", "--json")
    assert ended.status == 0, ended.stderr
    assert (ended.summary["cancelled"], ended.summary["left"], ended.summary["exit_status"]) == (2, 0, 0)
    assert "2 jobs to cancel in 1 membership, which jobs.ledger.jsonl started" in ended.stderr
    assert statuses(sandbox) == {"a": "INACTIVE", "b": "INACTIVE", "other": "CREATE_IN_PROGRESS"}
    finished = [event for event in submitting.events(LEDGER) if event["event"] == "finished"]
    assert sorted((event["name"], event["status"]) for event in finished) == [("a", "INACTIVE"), ("b", "INACTIVE")]
    calls = sandbox.calls("CancelTrainedModelInferenceJob")
    again = submitting.run("cancel", LEDGER, "--yes", "--json")
    assert again.status == 0
    assert again.summary["running"] == []
    assert sandbox.calls("CancelTrainedModelInferenceJob") == calls == 2
    assert submitting.run("verify", LEDGER, "--known-ledger", "other.ledger.jsonl").status == 0


def test_a_cancelled_job_is_not_submitted_again(submitting: Program, sandbox: Sandbox) -> None:
    """The manifest's next run leaves it alone."""
    submit(submitting, "ab")
    assert submitting.run("cancel", LEDGER, "--yes").status == 0
    ended = submitting.run("submit", "jobs.csv")
    assert "Nothing to do" in ended.stderr
    assert sandbox.calls() == 2


def test_filters_choose_by_membership_and_by_name(submitting: Program, sandbox: Sandbox) -> None:
    """Both must fit; globs are those of a shell."""
    names = [("a-1", MEMBERSHIP), ("a-2", OTHER_MEMBERSHIP), ("b-1", MEMBERSHIP), ("[a]-1", MEMBERSHIP)]
    requests = [request_named(name, membership=membership) for name, membership in names]
    write_jsonl(submitting.folder / "jobs.jsonl", requests)
    assert submitting.run("submit", "jobs.jsonl").status == 0
    ended = submitting.run("cancel", LEDGER, "--yes", "--membership", MEMBERSHIP, "--name", "a-*", "--json")
    assert ended.summary["cancelled"] == 1
    running = {name for name, status in statuses(sandbox).items() if status == "CREATE_IN_PROGRESS"}
    assert running == {"a-2", "b-1", "[a]-1"}


def test_without_a_terminal_and_without_yes_nothing_is_asked_or_called(submitting: Program, sandbox: Sandbox) -> None:
    """A usage error that names --yes; --dry-run shows without either."""
    submit(submitting, "ab")
    ended = submitting.run("cancel", LEDGER)
    assert ended.status == 2
    assert "--yes" in ended.stderr
    assert sandbox.calls("ListTrainedModelInferenceJobs") == 0
    shown = submitting.run("cancel", LEDGER, "--dry-run", "--json")
    assert shown.status == 0
    assert sorted(job["name"] for job in shown.summary["running"]) == ["a", "b"]
    assert sandbox.calls("CancelTrainedModelInferenceJob") == 0


@pytest.mark.parametrize(("answer", "status", "expected"), [("y\nyes", 0, "INACTIVE"), ("n", 3, "CREATE_IN_PROGRESS")])
def test_on_a_terminal_a_person_is_asked(
    submitting: Program, sandbox: Sandbox, answer: str, status: int, expected: str
) -> None:
    """After they have seen where, how many, and what is lost; it takes the whole word yes, and No cancels nothing."""
    submit(submitting, "a")
    terminal, theirs = pty.openpty()
    with submitting.running("cancel", LEDGER, streams={0: theirs}) as process:
        os.write(terminal, f"{answer}\n".encode())
        ended = finish(process)
    os.close(theirs)
    os.close(terminal)
    assert ended.status == status, ended.stderr
    assert "region eu-central-1, " in ended.stderr
    assert "1 job to cancel in 1 membership, which jobs.ledger.jsonl started" in ended.stderr
    assert re.search(r"It has run for \d.* s: paid, without a result", ended.stderr)
    assert "Cancel them?" in ended.stderr
    assert statuses(sandbox) == {"a": expected}


def test_a_ledger_that_a_run_has_is_left_to_it(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 4, with the run's name: it would go on starting others."""
    sandbox.configure(per_membership=1)
    (submitting.folder / "jobs.csv").write_text(csv_text("ab"))
    with submitting.running("submit", "jobs.csv") as process:
        while not sandbox.jobs():
            assert process.poll() is None
        ended = submitting.run("cancel", LEDGER, "--yes", "--json")
        process.terminate()
        finish(process)
    assert ended.status == 4
    assert "is in use by run" in ended.stderr
    assert ended.summary["exit_status"] == 4
    assert sandbox.calls("CancelTrainedModelInferenceJob") == 0


def test_a_role_that_may_not_cancel_is_told_the_action(submitting: Program, sandbox: Sandbox) -> None:
    """And where it stands in the policy; nothing is marked as cancelled."""
    submit(submitting, "ab")
    sandbox.disturb({"fault": "access_denied", "operation": "CancelTrainedModelInferenceJob", "times": 9})
    ended = submitting.run("cancel", LEDGER, "--yes", "--json")
    assert ended.status == 3
    assert "cleanrooms-ml:CancelTrainedModelInferenceJob" in ended.stderr
    assert "batchsubmit policy cancel" in ended.stderr
    assert ended.summary["left"] == 2
    assert not [event for event in submitting.events(LEDGER) if event["event"] == "finished"]


def test_a_role_that_may_not_list_is_told_the_action(submitting: Program, sandbox: Sandbox) -> None:
    """Before anything is cancelled blindly."""
    submit(submitting, "a")
    sandbox.disturb({"fault": "access_denied", "operation": "ListTrainedModelInferenceJobs", "times": 9})
    ended = submitting.run("cancel", LEDGER, "--yes")
    assert ended.status == 3
    assert "cleanrooms-ml:ListTrainedModelInferenceJobs" in ended.stderr
    assert sandbox.calls("CancelTrainedModelInferenceJob") == 0


def test_trouble_on_the_way_is_overcome(submitting: Program, sandbox: Sandbox) -> None:
    """Throttling, lost answers, and answers that never were."""
    submit(submitting, "abcdef")
    faults = ("throttled", "lost_after", "error_before", "unavailable", "slow_down", "error_after")
    sandbox.disturb(*({"fault": fault, "operation": "CancelTrainedModelInferenceJob"} for fault in faults))
    ended = submitting.run("cancel", LEDGER, "--yes", "--json")
    assert ended.status == 0, ended.stderr
    assert ended.summary["cancelled"] == 6
    assert set(statuses(sandbox).values()) == {"INACTIVE"}


def test_a_job_that_cannot_be_cancelled_is_named(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 1, with the service's words."""
    submit(submitting, "ab")
    sandbox.disturb({"fault": "validation", "operation": "CancelTrainedModelInferenceJob"})
    ended = submitting.run("cancel", LEDGER, "--yes", "--json")
    assert ended.status == 1
    assert ended.summary["cancelled"] == 1
    [refused] = ended.summary["refused"]
    assert refused["reason"].startswith("ValidationException")
    assert f"not cancelled: {refused['name']}" in ended.stderr


def test_a_missing_ledger_is_a_usage_error_and_is_not_created(submitting: Program) -> None:
    """A typing mistake leaves nothing behind."""
    assert submitting.run("cancel", "nowhere.jsonl", "--yes").status == 2
    assert list(submitting.folder.iterdir()) == []


def test_a_rehearsal_s_ledger_is_refused(submitting: Program) -> None:
    """Its jobs ended with the sandbox that they ran in."""
    (submitting.folder / "jobs.csv").write_text(csv_text("a"))
    assert submitting.run("submit", "jobs.csv", "--sandbox").status == 0
    ended = submitting.run("cancel", "jobs.sandbox.ledger.jsonl", "--yes")
    assert ended.status == 2
    assert "sandbox" in ended.stderr


def test_not_waiting_leaves_the_end_to_the_next_run(submitting: Program, sandbox: Sandbox) -> None:
    """Which records it."""
    sandbox.configure(cancel_seconds=0.6)
    submit(submitting, "a")
    ended = submitting.run("cancel", LEDGER, "--yes", "--no-wait", "--json")
    assert ended.status == 0
    assert ended.summary["under_way"] == 1
    assert submitting.run("submit", "jobs.csv", "--wait").status == 1
    assert json.loads(submitting.run("status", LEDGER, "--json").stdout)["counts"]["cancelled"] == 1
