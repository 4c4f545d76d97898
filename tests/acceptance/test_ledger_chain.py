"""A ledger with lines missing, of another ledger, or lost under its run: no job starts twice."""

import os
import shlex
import subprocess

import pytest
from conftest import Program, Sandbox, csv_text, finish

LEDGER = "jobs.ledger.jsonl"
NAMES = [str(number) for number in range(6)]


def submitted(program: Program, *, stem: str = "jobs") -> list[bytes]:
    """Submit a manifest; give the lines of its ledger."""
    (program.folder / f"{stem}.csv").write_text(csv_text(NAMES))
    assert program.run("submit", f"{stem}.csv").status == 0
    return (program.folder / f"{stem}.ledger.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(("first", "last", "number"), [(0, 11, 1), (4, 7, 5)], ids=["head", "middle"])
def test_missing_lines_end_with_4_and_are_rebuilt(
    submitting: Program, sandbox: Sandbox, first: int, last: int, number: int
) -> None:
    """Nothing is sent; `verify --repair` records what the service has, and then there is nothing to do."""
    lines = submitted(submitting)
    (submitting.folder / LEDGER).write_bytes(b"".join(lines[:first] + lines[last:]))
    ended = submitting.run("submit", "jobs.csv")
    assert ended.status == 4
    assert f"line {number}" in ended.stderr
    assert "missing" in ended.stderr
    repaired = submitting.run("verify", LEDGER, "--repair", "--manifest", "jobs.csv")
    assert repaired.status == 0, repaired
    assert submitting.run("submit", "jobs.csv").status == 0
    assert sorted(sandbox.names()) == NAMES


def test_a_line_of_another_ledger_ends_with_4(submitting: Program) -> None:
    """Though its own checksum fits."""
    lines = submitted(submitting)
    ledger = submitting.folder / LEDGER
    for foreign in (lines[2], lines[-1]):
        ledger.write_bytes(b"".join([*lines, foreign]))
        ended = submitting.run("submit", "jobs.csv")
        assert ended.status == 4
        assert f"line {len(lines) + 1}" in ended.stderr


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_run_that_lost_its_ledger_ends_with_4_and_no_other_begins(
    submitting: Program, sandbox: Sandbox, *, is_cut: bool
) -> None:
    """Until the command that the message gives was run."""
    (submitting.folder / "jobs.csv").write_text(csv_text(map(str, range(60))))
    path = submitting.folder / LEDGER
    with submitting.running("submit", "jobs.csv", "--rate", 40) as process:
        while len(sandbox.names()) < 5:
            assert process.poll() is None
            os.sched_yield()
        os.truncate(path, 0) if is_cut else path.unlink()
        assert finish(process).status == 4
    again = submitting.run("submit", "jobs.csv")
    assert again.status == 4
    command = again.stderr.rpartition("Put it back: ")[2]
    if is_cut:
        assert submitting.run("verify", LEDGER, "--repair", "--manifest", "jobs.csv").status == 0
    else:
        subprocess.run(shlex.split(command), cwd=submitting.folder, check=True)
    assert submitting.run("submit", "jobs.csv").status == 0
    assert len(sandbox.names()) == len(set(sandbox.names())) == 60
