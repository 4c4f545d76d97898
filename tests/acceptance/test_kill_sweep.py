"""The kill sweep: SIGKILL at random moments, again and again, until the program ends by itself; then jobs are counted.

This is the short form. The long one is in the benchmarks.
"""

import random
import subprocess
import time
from collections.abc import Iterator

import pytest
from conftest import Program, Sandbox, csv_text, finish

LEDGER = "jobs.ledger.jsonl"
NAMES = [f"job-{number:03}" for number in range(300)]
KILLS = 12
LONGEST_LIFE_SECONDS = 1.5
"""After the first line of a run; with the pace below, all rows together take longer than all lives."""

PACE = 50


def lives(seed: int) -> Iterator[float]:
    """How long each run lives: some die at once, most at work."""
    draw = random.Random(seed)
    for _ in range(KILLS):
        yield draw.uniform(0, LONGEST_LIFE_SECONDS)


def runs_begun(program: Program) -> int:
    """How many runs have written their first line."""
    if not (program.folder / LEDGER).exists():
        return 0
    return sum(event["event"] == "run_started" for event in program.events(LEDGER))


def killed_after(program: Program, seconds: float) -> bool:
    """Start a run and kill it so long after its first line; False where it had ended by itself."""
    begun = runs_begun(program)
    with program.running("submit", "jobs.csv", "--rate", PACE) as process:
        deadline = time.monotonic() + 30
        while runs_begun(program) == begun and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        assert finish(process).status == 0
    return False


@pytest.mark.parametrize("seed", [1])
def test_no_kill_loses_a_job_or_starts_one_twice(submitting: Program, sandbox: Sandbox, seed: int) -> None:
    """By the service's own count."""
    submitting.environment["BATCHSUBMIT_LOOKUP__SETTLE_SECONDS"] = "0.5"
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    kills = sum(killed_after(submitting, seconds) for seconds in lives(seed))
    assert kills >= KILLS // 2
    assert 0 < len(sandbox.names()) < len(NAMES)
    ended = submitting.run("submit", "jobs.csv", "--json", "--rate", 400)
    assert ended.status == 0, ended.stderr
    assert ended.summary["submitted"] + ended.summary["submitted_before"] == len(NAMES)
    assert sorted(sandbox.names()) == NAMES
    assert sorted(submitting.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())
    assert any(event.get("via") == "lookup" or event["event"] == "absent" for event in submitting.events(LEDGER))
