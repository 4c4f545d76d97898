"""What `status` says of the last run: under way, died, or ended with something left."""

import os
import socket
import subprocess
import sys
import time

import pytest

from batchsubmit.cli.status import last_run_words
from batchsubmit.core.jobs import RunEnded, RunStarted
from batchsubmit.core.ledger_state import LedgerState

AT = "2026-11-23T16:00:00.000000Z"


def words(holder: str, end: RunEnded | None = None) -> list[str]:
    """What is said of a run of this process, with that end."""
    book = LedgerState()
    book.apply(
        RunStarted(
            at=AT,
            run="r",
            batch="",
            manifest="jobs.csv",
            manifest_sha256="0",
            version="1",
            holder=holder,
            to_do=31,
            rows=40,
        )
    )
    if end:
        book.apply(end)
    return list(last_run_words(book))


def ended(left: int) -> RunEnded:
    """The end of a run that was stopped."""
    return RunEnded(at=AT, run="r", exit_status=3, reason="signal", counts={"rows": 40, "left": left})


def test_a_run_that_was_stopped_says_what_is_left() -> None:
    """Rows that were never begun stand in no job's event."""
    [line] = words("process 1 on elsewhere", ended(left=30))
    assert line == "the last run ended (signal) with 30 of its 40 rows left: run the same command again to go on"


def test_a_run_that_left_nothing_says_when_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """And how; a ledger without runs has nothing to say."""
    [line] = words("process 1 on elsewhere", ended(left=0))
    assert line == "the last run ended 2026-11-23 16:00 UTC with exit status 3, stopped by signal"
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    [line] = words("process 1 on elsewhere", ended(left=0))
    assert line.startswith("the last run ended 2026-11-23 16:00 UTC (17:00 CET) with exit status 3")
    monkeypatch.undo()
    time.tzset()
    assert list(last_run_words(LedgerState())) == []


def test_a_run_of_a_living_process_is_under_way() -> None:
    """So is one on another machine, which cannot be asked."""
    for holder in (f"process {os.getpid()} on {socket.gethostname()}", "process 1 on elsewhere"):
        [line] = words(holder)
        assert line.startswith(f"the last run is under way ({holder}), 31 of its 40 rows to do")


def test_a_run_whose_process_is_gone_has_died() -> None:
    """After `kill -9` the ledger has no end of the run."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    [line] = words(f"process {process.pid} on {socket.gethostname()}")
    assert line.startswith("the last run has died")
    assert line.endswith("run the same command again to go on")
