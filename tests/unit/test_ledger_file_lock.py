"""Who holds a ledger, as someone sees who does not want it."""

from pathlib import Path

import pytest
from conftest import EPOCH

from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import RunEnded, RunStarted
from batchsubmit.ledger.file import holding_run, open_ledger
from batchsubmit.ledger.read import fold_ledger

AT = timestamp(EPOCH)
STARTED = RunStarted(
    at=AT, run="run-1", batch="", manifest="m", manifest_sha256="0", version="0", holder="process 7 on host"
)
ENDED = RunEnded(at=AT, run="run-1", exit_status=0, reason="", counts={})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger's file."""
    return tmp_path / "jobs.ledger.jsonl"


async def test_a_run_that_writes_is_named(path: Path) -> None:
    """By its own first line."""
    async with open_ledger(path) as ledger:
        await ledger.put(STARTED)
        assert holding_run(path, fold_ledger(path)) == f"run run-1 (process 7 on host, since {AT})"


async def test_a_run_that_died_holds_nothing(path: Path) -> None:
    """It has no last line, but the lock went with it; asking leaves the ledger to the next run."""
    async with open_ledger(path) as ledger:
        await ledger.put(STARTED)
    assert holding_run(path, fold_ledger(path)) == ""
    async with open_ledger(path) as ledger:
        assert len(ledger.state.runs) == 1


async def test_a_run_that_ended_is_not_asked_for_its_lock(path: Path) -> None:
    """Whoever has the file then is no run yet; and nobody is kept from starting one."""
    async with open_ledger(path) as ledger:
        await ledger.put(STARTED)
        await ledger.put(ENDED)
        assert holding_run(path, fold_ledger(path)) == ""
