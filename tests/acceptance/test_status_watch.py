"""`status --watch` beside the real program."""

import os
import pty
import signal
from contextlib import suppress

from conftest import Program, Sandbox, csv_text, finish
from test_interrupt import until

LEDGER = "jobs.ledger.jsonl"
NAMES = [f"job-{number:03}" for number in range(100)]
WATCH = ("status", LEDGER, "--watch", "--interval", 0.2)


def test_watching_ends_with_the_run_and_does_not_disturb_it(submitting: Program, sandbox: Sandbox) -> None:
    """Lines while it runs, then where things stand."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    with submitting.running("submit", "jobs.csv", "--rate", 30) as run:
        until(lambda: len(sandbox.jobs()) >= 5)
        with submitting.running(*WATCH) as watching:
            ended = finish(run)
            watched = finish(watching)
    assert ended.status == 0, ended.stderr
    assert watched.status == 0, watched.stderr
    lines = watched.stdout.splitlines()
    assert " of 100 done" in lines[0]
    assert "running" in lines[0] or "slots used" in lines[0]
    assert f"{LEDGER}: 100 jobs in 1 run" in lines
    assert "ended with exit status 0" in watched.stderr
    assert sorted(sandbox.names()) == NAMES


def test_a_run_that_is_killed_ends_the_view_which_says_so(submitting: Program, sandbox: Sandbox) -> None:
    """With what to do next; --json leaves one object on standard output."""
    sandbox.configure(per_membership=3)
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    ledger = submitting.folder / "jobs.ledger.jsonl"
    with submitting.running("submit", "jobs.csv") as run:
        until(lambda: ledger.exists() and ledger.read_text().count('"event":"submitted"') >= 3)
        with submitting.running(*WATCH, "--json") as watching:
            run.kill()
            run.communicate()
            watched = finish(watching)
    assert watched.status == 0
    assert "has died" in watched.stderr
    assert watched.summary["counts"]["submitted"] == 3


def test_ctrl_c_ends_the_view_and_not_the_run(submitting: Program, sandbox: Sandbox) -> None:
    """And is no error."""
    sandbox.configure(per_membership=3)
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    with submitting.running("submit", "jobs.csv") as run:
        until(lambda: len(sandbox.jobs()) >= 3)
        with submitting.running(*WATCH) as watching:
            assert watching.stdout is not None
            watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            watched = finish(watching)
        assert run.poll() is None
        run.terminate()
        finish(run)
    assert watched.status == 0, watched.stderr
    assert "100 jobs" in watched.stdout or "jobs in 1 run" in watched.stdout


def test_a_terminal_gets_a_table_that_is_kept_up_to_date(submitting: Program, sandbox: Sandbox) -> None:
    """Memberships, slots, the last failures."""
    sandbox.disturb({"fault": "validation", "name": "job-001"})
    sandbox.configure(per_membership=3)
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    with submitting.running("submit", "jobs.csv") as run:
        until(lambda: len(sandbox.jobs()) >= 3)
        terminal, theirs = pty.openpty()
        size = {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
        with submitting.running(*WATCH, streams={1: theirs}, **size) as watching:
            os.close(theirs)
            shown = b""
            while b"job-001" not in shown or b"slots" not in shown:
                shown += os.read(terminal, 4096)
            watching.send_signal(signal.SIGINT)
            # Read on until it has ended: what it says at the end must fit into the terminal's buffer.
            with suppress(OSError):
                while os.read(terminal, 4096):
                    pass
            watching.wait(20)
        os.close(terminal)
        run.terminate()
        finish(run)
    assert b"job-001" in shown
    assert b"membership" in shown


def test_where_no_run_is_under_way_there_is_nothing_to_wait_for(submitting: Program) -> None:
    """It prints where things stand; a missing ledger is a usage error."""
    assert submitting.run(*WATCH).status == 2
    (submitting.folder / "jobs.csv").write_text(csv_text("a"))
    assert submitting.run("submit", "jobs.csv").status == 0
    watched = submitting.run(*WATCH)
    assert watched.status == 0
    assert watched.stdout.startswith(f"{LEDGER}: 1 job in 1 run\n")
