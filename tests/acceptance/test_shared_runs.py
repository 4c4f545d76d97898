"""The real program on a table that several runs share."""

import json
import signal
import time
from itertools import count
from pathlib import Path

import pytest
from conftest import Program, Sandbox, finish, request_named, write_jsonl
from local_aws import LocalAws

JOBS = 40
_numbers = count()


@pytest.fixture
def sharing(submitting: Program, aws: LocalAws) -> Program:
    """The program with a local DynamoDB, and leases that are over soon."""
    submitting.environment |= {
        "AWS_ENDPOINT_URL_DYNAMODB": aws.url,
        "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": "0.5",
        "BATCHSUBMIT_AWS__CONNECT_TIMEOUT_SECONDS": "0.5",
        "BATCHSUBMIT_LEDGER__LEASE_SECONDS": "2",
    }
    return submitting


@pytest.fixture
def table(sharing: Program) -> str:
    """The location of an empty table."""
    name = f"shared-{next(_numbers)}"
    made = sharing.run("ledger", "create-table", name)
    assert made.status == 0, made.stderr
    return f"dynamodb://{name}"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Jobs enough for several runs."""
    return write_jsonl(tmp_path / "jobs.jsonl", (request_named(f"job-{number:03d}") for number in range(JOBS)))


def test_a_batch_is_submitted_and_resumes_on_a_table(
    sharing: Program, sandbox: Sandbox, table: str, manifest: Path
) -> None:
    """And every reading command takes the table."""
    assert sharing.run("submit", manifest, "--ledger", table).status == 0
    again = sharing.run("submit", manifest, "--ledger", table)
    assert again.status == 0
    assert "Nothing to do" in again.stderr
    assert len(sandbox.names()) == JOBS
    status = json.loads(sharing.run("status", table, "--json").stdout)
    assert (status["counts"]["submitted"], status["counts"]["total"], status["runs"]) == (JOBS, JOBS, 2)
    verified = sharing.run("verify", table)
    assert verified.status == 0, verified.stdout
    assert len(sharing.run("export", table, "--format", "jsonl").stdout.splitlines()) == JOBS
    reported = sharing.run("report", table, "--output", "table.html", "--json")
    assert reported.status == 0, reported.stderr
    assert (reported.summary["ledger"], reported.summary["counts"]["submitted"]) == (table, JOBS)
    page = (sharing.folder / "table.html").read_text(encoding="utf-8")
    assert f"{JOBS} of {JOBS} jobs submitted" in page
    assert "Nothing is pending." in page


def test_runs_at_the_same_time_share_the_jobs(sharing: Program, sandbox: Sandbox, table: str, manifest: Path) -> None:
    """Three runs of one manifest: each job once, and all of them end well."""
    with (
        sharing.running("submit", manifest, "--ledger", table) as first,
        sharing.running("submit", manifest, "--ledger", table) as second,
        sharing.running("submit", manifest, "--ledger", table) as third,
    ):
        ended = [finish(process) for process in (first, second, third)]
    assert [each.status for each in ended] == [0, 0, 0], [each.stderr for each in ended]
    assert sorted(sandbox.names()) == [f"job-{number:03d}" for number in range(JOBS)]
    assert sharing.run("verify", table).status == 0


def test_what_a_killed_run_left_open_is_looked_up_by_another(
    sharing: Program, sandbox: Sandbox, table: str, manifest: Path
) -> None:
    """After its lease: not before, and never twice."""
    sandbox.disturb(probabilities={"StartTrainedModelInferenceJob": {"slow_answer": 1.0}}, slow_seconds=0.2)
    with sharing.running("submit", manifest, "--ledger", table, "--concurrency", "4") as killed:
        while len(sandbox.jobs()) < JOBS // 4:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    sandbox.disturb()
    done = sharing.run("submit", manifest, "--ledger", table)
    assert done.status == 0, done.stderr
    assert sorted(sandbox.names()) == [f"job-{number:03d}" for number in range(JOBS)]
    assert sharing.run("verify", table).status == 0


def test_a_ledger_goes_into_a_table_and_out_again(
    sharing: Program, sandbox: Sandbox, table: str, manifest: Path, tmp_path: Path
) -> None:
    """It is sound afterwards, and the batch goes on in the table where the file ended."""
    assert sharing.run("submit", manifest, "--ledger", "a.jsonl").status == 0
    for expected in ((JOBS, 0), (0, JOBS)):
        done = json.loads(sharing.run("ledger", "import", "a.jsonl", table, "--json").stdout)
        assert (done["written"], done["known"]) == expected
    assert "Nothing to do" in sharing.run("submit", manifest, "--ledger", table).stderr
    assert sharing.run("ledger", "export", table, "b.jsonl").status == 0
    assert sharing.run("verify", "b.jsonl", "--offline").status == 0
    before, after = ((tmp_path / name).read_bytes().splitlines() for name in ("a.jsonl", "b.jsonl"))
    assert set(before) < set(after)
    assert len(sandbox.names()) == JOBS


def test_a_run_on_a_table_is_watched_to_its_end(sharing: Program, sandbox: Sandbox, table: str, manifest: Path) -> None:
    """As one on a file is; where none is under way, what stands in the table is told at once."""
    with sharing.running("submit", manifest, "--ledger", table, "--rate", 20) as run:
        while len(sandbox.jobs()) < 5:
            time.sleep(0.02)
        with sharing.running("status", table, "--watch", "--interval", 0.2) as watching:
            assert finish(run).status == 0
            watched = finish(watching)
    assert watched.status == 0, watched.stderr
    assert f" of {JOBS} done" in watched.stdout.splitlines()[0]
    assert f"{table}: {JOBS} jobs in 1 run" in watched.stdout.splitlines()
    assert "ended with exit status 0" in watched.stderr
    again = sharing.run("status", table, "--watch", "--json")
    assert again.summary["counts"]["submitted"] == again.summary["counts"]["total"] == JOBS


def test_the_jobs_of_a_table_are_cancelled_and_their_ends_recorded_there(
    sharing: Program, sandbox: Sandbox, table: str, manifest: Path
) -> None:
    """Those that it started; the second call has nothing to do."""
    sandbox.configure(cancel_seconds=0.1)
    assert sharing.run("submit", manifest, "--ledger", table).status == 0
    seen = sharing.run("cancel", table, "--dry-run", "--json", "--name", "job-00*")
    assert len(seen.summary["running"]) == 10
    ended = sharing.run("cancel", table, "--yes", "--json", "--name", "job-00*")
    assert ended.status == 0, ended.stderr
    assert (ended.summary["cancelled"], ended.summary["left"]) == (10, 0)
    status = sharing.run("status", table, "--json").summary
    assert (status["counts"]["cancelled"], status["counts"]["submitted"]) == (10, JOBS)
    again = sharing.run("cancel", table, "--yes", "--json", "--name", "job-00*")
    assert (again.status, again.summary["running"]) == (0, [])
    assert sharing.run("verify", table).status == 0
    assert "Nothing to do" in sharing.run("submit", manifest, "--ledger", table).stderr


def test_a_table_is_not_uploaded_and_it_is_said_what_copies_it(sharing: Program, table: str, manifest: Path) -> None:
    """Before anything is sent."""
    refused = sharing.run("submit", manifest, "--ledger", table, "--upload", "s3://bucket/copies/")
    assert (refused.status, "batchsubmit ledger export" in refused.stderr) == (2, True)
    assert sharing.run("status", table, "--json").summary["runs"] == 0


def test_mistakes_are_told_in_a_sentence(sharing: Program, table: str, manifest: Path) -> None:
    """Each with its exit status."""
    missing = sharing.run("submit", manifest, "--ledger", "dynamodb://no-such-table")
    assert (missing.status, "ledger create-table no-such-table" in missing.stderr) == (2, True)
    missing = sharing.run("status", "dynamodb://no-such-table")
    assert (missing.status, "no DynamoDB table no-such-table" in missing.stderr) == (2, True)
    scheme = sharing.run("status", "s3://bucket/key")
    assert (scheme.status, "names no ledger" in scheme.stderr) == (2, True)
    twice = sharing.run("ledger", "create-table", table)
    assert (twice.status, "already" in twice.stderr) == (2, True)
    short = sharing.run("submit", manifest, "--ledger", table, BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS="60")
    assert (short.status, "ledger.lease_seconds" in short.stderr) == (2, True)
