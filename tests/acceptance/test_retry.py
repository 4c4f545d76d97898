"""`batchsubmit retry`, by the real program against the sandbox as another process: each round of a job is sent once."""

from collections import Counter

import pytest
from conftest import Program, Sandbox, csv_text
from worker_programs import until

LEDGER = "jobs.ledger.jsonl"
NAMES = [f"job-{number}" for number in range(6)]
REFUSED = ({"operation": "StartTrainedModelInferenceJob", "name": "job-1", "fault": "validation"},)


@pytest.fixture
def batch(submitting: Program, sandbox: Sandbox) -> Program:
    """A batch of which job-1 was rejected, job-2 and job-3 ran and failed; the cause of all three is gone."""
    sandbox.configure(job_seconds=0.1, pending_seconds=0.0, failing_names=["job-2", "job-3"])
    sandbox.disturb(*REFUSED)
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    ended = submitting.run("submit", "jobs.csv", "--wait")
    assert ended.status == 1
    assert f"batchsubmit retry {LEDGER} sends them again" in ended.stderr
    sandbox.disturb()
    sandbox.configure(failing_names=[])
    return submitting


def sent(sandbox: Sandbox) -> Counter[str]:
    """How many jobs of each name the service has."""
    return Counter(sandbox.names())


def test_what_failed_is_sent_again_and_nothing_else(batch: Program, sandbox: Sandbox) -> None:
    """Both kinds; the ledger then has a batch that is well, and another retry finds nothing."""
    ended = batch.run("retry", LEDGER, "--wait", "--json")
    assert (ended.status, ended.summary["submitted"]) == (0, 3), ended.stderr
    assert sent(sandbox) == Counter(NAMES) + Counter(["job-2", "job-3"])
    tags = Counter(job["tags"]["batchsubmit:key"] for job in sandbox.jobs())
    assert set(tags.values()) == {1}
    assert sorted(tag[26:] for tag in tags) == ["", "", "", "", "", "", ".1", ".1"]
    calls = sandbox.calls()
    assert batch.run("retry", LEDGER, "--wait").status == 0
    assert batch.run("submit", "jobs.csv").status == 0
    assert sandbox.calls() == calls
    verified = batch.run("verify", LEDGER)
    assert verified.status == 0, verified.stdout


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--status", "rejected"), ["job-1"]),
        (("--status", "failed"), ["job-2", "job-3"]),
        (("--code", "INTERNAL_ERROR", "--name", "*-3"), ["job-3"]),
        (("--code", "ValidationException"), ["job-1"]),
    ],
)
def test_only_what_is_asked_for_is_sent_again(
    batch: Program, sandbox: Sandbox, options: tuple[str, ...], names: list[str]
) -> None:
    """By status, code and name."""
    before = sent(sandbox)
    batch.run("retry", LEDGER, *options)
    assert sent(sandbox) - before == Counter(names)


def test_rows_that_were_never_sent_stay_so(batch: Program, sandbox: Sandbox) -> None:
    """A retry is no submit of the manifest."""
    (batch.folder / "jobs.csv").write_text(csv_text([*NAMES, "new"]))
    assert batch.run("retry", LEDGER, "--wait").status == 0
    assert "new" not in sandbox.names()


def test_ends_that_nobody_saw_count(submitting: Program, sandbox: Sandbox) -> None:
    """Without --wait nobody has recorded that a job failed: the service is asked."""
    sandbox.configure(job_seconds=0.05, pending_seconds=0.0, failing_names=["job-0"])
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES[:2]))
    assert submitting.run("submit", "jobs.csv", "--wait", "--no-wait").status == 0
    sandbox.configure(failing_names=[])
    until(lambda: not any(job["status"].endswith(("PENDING", "PROGRESS")) for job in sandbox.jobs()))
    assert submitting.run("submit", "jobs.csv", "--retry-failed").status == 0
    assert sent(sandbox) == {"job-0": 2, "job-1": 1}


@pytest.mark.parametrize("count", range(1, 7))
def test_a_killed_retry_goes_on_and_sends_each_round_once(batch: Program, sandbox: Sandbox, count: int) -> None:
    """Killed at each of its first lines; what failed in it is not sent a third time."""
    sandbox.configure(failing_names=["job-2"], job_seconds=0.05)
    lines = len(batch.events(LEDGER))
    batch.environment |= {"BATCHSUBMIT_SUBMIT__CONCURRENCY": "1"}
    with batch.running("retry", LEDGER, "--wait") as process:
        until(lambda: len(batch.events(LEDGER)) >= lines + count)
        process.kill()
        process.wait()
    ended = batch.run("retry", LEDGER, "--wait", "--json")
    assert sent(sandbox) == Counter(NAMES) + Counter(["job-2", "job-3"]), ended.stderr
    assert len({job["tags"]["batchsubmit:key"] for job in sandbox.jobs()}) == len(sandbox.jobs())
    assert ended.status == 1


def test_the_manifest_may_be_elsewhere_by_now(batch: Program, sandbox: Sandbox) -> None:
    """It is named; without that, it says how."""
    (batch.folder / "jobs.csv").rename(batch.folder / "moved.csv")
    refused = batch.run("retry", LEDGER)
    assert refused.status == 2
    assert "--manifest" in refused.stderr
    assert batch.run("retry", LEDGER, "--manifest", "moved.csv").status == 0
    assert sent(sandbox)["job-2"] == 2
