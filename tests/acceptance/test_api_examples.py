"""The Python examples of the book, run as they stand there."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from book import blocks
from conftest import Program, Sandbox

SCRIPT, STREAM, AIRFLOW = (each.text for each in blocks() if (each.page, each.language) == ("python", "python"))
NAMES = [f"churn-{number:03}" for number in range(20)]
AWS_REGION = "us-east-1"


@pytest.fixture
def here(submitting: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Program:
    """This process is pointed at the sandbox, in the program's folder."""
    monkeypatch.chdir(submitting.folder)
    for name, value in (submitting.environment | {"AWS_REGION": AWS_REGION}).items():
        monkeypatch.setenv(name, value)
    return submitting


def run_script(text: str) -> list[str]:
    """Run a text as a script; gives its lines."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_script_submits_and_tells_the_same_when_it_is_run_again(here: Program, sandbox: Sandbox) -> None:
    """As a process of its own."""
    first = run_script(SCRIPT)
    assert sorted(line.split()[0] for line in first) == NAMES
    assert sorted(run_script(SCRIPT)) == sorted(first)
    assert sorted(sandbox.names()) == NAMES


def test_the_stream_tells_refusals_beside_arns(here: Program, sandbox: Sandbox) -> None:
    """It goes on from the script, in a batch of its own."""
    sandbox.disturb({"fault": "validation", "name": "churn-007"})
    requests = SCRIPT.split("report =")[0]
    told = dict(line.split(" ", 1) for line in run_script(requests + STREAM))
    assert sorted(told) == NAMES
    assert [name for name in NAMES if not told[name].startswith("arn:")] == ["churn-007"]


def airflow_task(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 (what the example defines)
    """Load the example beside a stand-in for the one thing that it takes from Airflow."""
    airflow, decorators = ModuleType("airflow"), ModuleType("airflow.decorators")
    decorators.task = lambda **given: lambda function: (given, function)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow", airflow)
    monkeypatch.setitem(sys.modules, "airflow.decorators", decorators)
    names: dict[str, Any] = {}
    exec(SCRIPT.split("report =")[0] + AIRFLOW, names)  # noqa: S102 (the page's own code)
    given, function = names["submit_batch"]
    assert given == {"retries": 3}
    return lambda day: function(names["requests"], ds=day)


def test_the_airflow_task_goes_on_when_it_is_retried(
    here: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that is stopped by expired credentials fails; the next one sends the rest, and no job twice."""
    monkeypatch.setenv("BATCH_LEDGER", "nightly.ledger.jsonl")
    sandbox.configure(job_seconds=0.1, per_membership=5)
    sandbox.disturb(*[{"fault": "none"}] * 8, {"fault": "expired_token", "times": 20})
    submit_batch = airflow_task(monkeypatch)
    with pytest.raises(Exception, match="submit the same requests again"):
        submit_batch("2026-11-23")
    sandbox.disturb()
    arns = submit_batch("2026-11-23")
    assert sorted(arns) == NAMES
    assert sorted(arns.values()) == sorted(job["arn"] for job in sandbox.jobs())


def test_the_airflow_task_fails_where_a_job_ends_badly(
    here: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the jobs in its words."""
    monkeypatch.setenv("BATCH_LEDGER", "nightly.ledger.jsonl")
    sandbox.configure(job_seconds=0.1, failing_names=["churn-003"])
    with pytest.raises(RuntimeError, match="churn-003"):
        airflow_task(monkeypatch)("2026-11-23")
