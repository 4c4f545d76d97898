"""What AWS's own limit does to a batch, by default in sandbox and program: 1 Start call a second, three at once."""

import pytest
from conftest import Program, Sandbox, csv_text

DOCUMENTED = {"starts_per_second": 1, "start_burst": 3, "reads_per_second": 50}
NAMES = [f"job-{number:02}" for number in range(12)]


@pytest.fixture
def limited(submitting: Program, sandbox: Sandbox) -> Program:
    """The program at its default rate and waits, before a service that has free slots and AWS's limit of calls."""
    sandbox.configure(**DOCUMENTED)
    for name in ("RATE__MAX_PER_SECOND", "RETRY__BASE_SECONDS", "RETRY__CAP_SECONDS"):
        del submitting.environment[f"BATCHSUBMIT_{name}"]
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    return submitting


def test_jobs_leave_at_one_a_second_and_are_hardly_throttled(limited: Program, sandbox: Sandbox) -> None:
    """Three at once, then one a second."""
    ended = limited.run("submit", "jobs.csv", "--json")
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == NAMES
    assert sandbox.calls() <= len(NAMES) + 2
    assert ended.summary["throttled"] == sandbox.calls() - len(NAMES)
    assert ended.summary["seconds"] <= len(NAMES)


def test_a_rate_above_the_limit_is_throttled_and_gives_way(limited: Program, sandbox: Sandbox) -> None:
    """All jobs are submitted all the same, each once."""
    names = NAMES[:8]
    (limited.folder / "jobs.csv").write_text(csv_text(names))
    ended = limited.run("submit", "jobs.csv", "--rate", 10, "--json")
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == names
    assert ended.summary["throttled"] > 2
