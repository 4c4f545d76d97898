"""Signals and sudden death: nothing is lost, nothing runs twice, and the same command goes on."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from conftest import Ended, Program, Sandbox, checked, csv_text, finish

LEDGER = "jobs.ledger.jsonl"
MANY = [f"job-{number:03}" for number in range(200)]
PATIENCE_SECONDS = 20


def until(condition: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + 3 * PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks, so that the program has the processor


def write(program: Program, names: list[str]) -> None:
    """Write the manifest."""
    (program.folder / "jobs.csv").write_text(csv_text(names))


def assert_all_once(program: Program, sandbox: Sandbox, names: list[str]) -> None:
    """Hold that service and ledger have every row, each once."""
    assert sorted(sandbox.names()) == sorted(names)
    assert sorted(program.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_drains_the_run_and_the_next_run_goes_on(
    submitting: Program, sandbox: Sandbox, number: signal.Signals
) -> None:
    """Exit status 3; every call under way was awaited and recorded."""
    write(submitting, MANY)
    with submitting.running("submit", "jobs.csv", "--rate", 50, "--json") as process:
        until(lambda: len(sandbox.names()) >= 10)
        process.send_signal(number)
        ended = finish(process)
    assert ended.status == 3
    assert ended.summary["stop_reason"] == "signal"
    assert number.name in ended.stderr
    assert "run the same command again" in ended.stderr
    assert re.search(r"Stopping… \d+ calls? under way; Ctrl-C again to quit now", ended.stderr)
    assert f"batchsubmit cancel {LEDGER} cancels what runs on AWS" in ended.stderr
    assert 10 <= len(sandbox.names()) < len(MANY)
    assert_all_once(submitting, sandbox, sandbox.names())
    assert ended.summary["counts"]["unknown"] == 0
    again = submitting.run("submit", "jobs.csv", "--json")
    assert again.status == 0
    assert again.summary["submitted_before"] == ended.summary["submitted"]
    assert_all_once(submitting, sandbox, MANY)


def test_a_signal_waits_for_the_answer_of_a_call_under_way(submitting: Program, sandbox: Sandbox) -> None:
    """And for no other: no new call begins."""
    sandbox.disturb({"fault": "slow_answer", "times": 4, "seconds": 1.5})
    write(submitting, MANY[:20])
    with submitting.running("submit", "jobs.csv", "--concurrency", 4) as process:
        until(lambda: len(sandbox.names()) >= 4)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 3
    assert sandbox.calls() == 4
    assert_all_once(submitting, sandbox, sandbox.names())


def test_a_signal_ends_a_run_that_waits_for_slots(submitting: Program, sandbox: Sandbox) -> None:
    """At once, and not after the next look."""
    sandbox.configure(per_membership=2)
    write(submitting, MANY[:20])
    slow = {"BATCHSUBMIT_SLOTS__MIN_POLL_SECONDS": "600", "BATCHSUBMIT_SLOTS__MAX_POLL_SECONDS": "600"}
    with submitting.running("submit", "jobs.csv", **slow) as process:
        until(lambda: sandbox.calls() > 2)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert ended.status == 3
    assert_all_once(submitting, sandbox, sandbox.names())


def interrupted_twice(program: Program, sandbox: Sandbox) -> Ended:
    """A run that got a second signal while calls were under way that nobody answers for long."""
    sandbox.disturb({"fault": "slow_answer", "times": 4, "seconds": 45})
    write(program, MANY[:20])
    with program.running("submit", "jobs.csv", "--concurrency", 4) as process:
        until(lambda: len(sandbox.names()) >= 4)
        began = time.monotonic()
        # Two signals of one number may arrive as one: the second is sent until it has its effect.
        while process.poll() is None and time.monotonic() - began < PATIENCE_SECONDS:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        stdout, stderr = process.communicate()
    assert time.monotonic() - began < PATIENCE_SECONDS
    return Ended(process.returncode, stdout.decode(), stderr.decode())


def test_a_second_signal_ends_at_once_and_is_still_safe(submitting: Program, sandbox: Sandbox) -> None:
    """The call without its answer is looked up by the next run."""
    interrupted_twice(submitting, sandbox)
    assert sandbox.calls() == 4
    assert submitting.run("submit", "jobs.csv").status == 0
    assert_all_once(submitting, sandbox, MANY[:20])


def test_a_second_signal_ends_with_a_sentence(submitting: Program, sandbox: Sandbox) -> None:
    """And with the exit status that says: run it again."""
    ended = checked(interrupted_twice(submitting, sandbox))
    assert ended.status == 3
    assert "run the same command again" in ended.stderr


@pytest.mark.parametrize("after", [1, 100])
def test_a_killed_run_is_taken_up_where_it_died(submitting: Program, sandbox: Sandbox, after: int) -> None:
    """Whatever was under way is looked up: no job is lost and none runs twice."""
    write(submitting, MANY)
    with submitting.running("submit", "jobs.csv", "--rate", 400) as process:
        until(lambda: len(sandbox.names()) >= after)
        process.kill()
        process.communicate()
    ended = submitting.run("submit", "jobs.csv", "--json")
    assert ended.status == 0, ended.stderr
    assert ended.summary["counts"]["unknown"] == 0
    assert_all_once(submitting, sandbox, MANY)


def test_a_run_killed_again_and_again_gets_there(submitting: Program, sandbox: Sandbox) -> None:
    """With answers that are lost on the way besides."""
    sandbox.disturb(probabilities={"StartTrainedModelInferenceJob": {"lost_after": 0.05, "error_before": 0.05}}, seed=7)
    write(submitting, MANY)
    for reached in (30, 90):
        with submitting.running("submit", "jobs.csv", "--rate", 400) as process:
            until(lambda: len(sandbox.names()) >= reached or process.poll() is not None)  # noqa: B023 (used at once)
            process.kill()
            process.communicate()
    ended = submitting.run("submit", "jobs.csv")
    assert ended.status == 0, ended.stderr
    assert_all_once(submitting, sandbox, MANY)


def test_status_reads_a_ledger_while_a_run_writes_to_it(submitting: Program, sandbox: Sandbox) -> None:
    """And after the run was killed."""
    write(submitting, MANY)
    with submitting.running("submit", "jobs.csv", "--rate", 50) as process:
        until(lambda: len(sandbox.names()) >= 10)
        during = submitting.run("status", LEDGER)
        process.kill()
        process.communicate()
    assert during.status == 0
    assert "submitted" in during.stdout
    assert submitting.run("status", LEDGER).status == 0
