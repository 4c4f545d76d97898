"""A rerun that has nothing to do says where all jobs stand, and sends nothing."""

from contextlib import nullcontext
from typing import Any
from unittest.mock import AsyncMock

import pytest
from conftest import Program, Sandbox, csv_text

from batchsubmit.app.run import SubmitOptions
from batchsubmit.app.submit import submit
from batchsubmit.config import load_settings
from batchsubmit.core.job_states import Retry
from batchsubmit.errors import UsageError
from batchsubmit.report.summary import Summary

NAMES = ["a", "b", "c", "d"]


class Desk:
    """A folder in which a manifest is submitted, again and again, to the sandbox process."""

    def __init__(self, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manifest = program.folder / "jobs.csv"
        self.ledger = program.folder / "jobs.ledger.jsonl"
        self.manifest.write_text(csv_text(NAMES))
        for name, value in program.environment.items():
            monkeypatch.setenv(name, value)

    async def submit(self, **options: object) -> Summary:
        """Submit the manifest."""
        asked: dict[str, Any] = {"manifest": str(self.manifest), "ledger": self.ledger, **options}
        return await submit(
            SubmitOptions(**asked),
            load_settings(),
            display=lambda *_: nullcontext(),
            approve=AsyncMock(),
        )


@pytest.fixture
def desk(submitting: Program, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A manifest of four rows, nothing submitted yet."""
    return Desk(submitting, monkeypatch)


async def test_nothing_is_to_be_done_after_a_run_that_submitted_all(desk: Desk, sandbox: Sandbox) -> None:
    """As often as it is asked."""
    await desk.submit()
    calls = sandbox.calls()
    for _ in range(2):
        summary = await desk.submit()
        assert (summary.counts.total, summary.submitted, summary.submitted_before, summary.exit_status) == (4, 0, 4, 0)
    assert sandbox.calls() == calls


async def test_what_failed_is_told_again_and_tried_again_where_that_is_asked(desk: Desk, sandbox: Sandbox) -> None:
    """Exit status 1."""
    sandbox.disturb({"fault": "validation", "name": "b"})
    await desk.submit()
    summary = await desk.submit()
    assert (summary.rejected_before, summary.submitted_before, summary.exit_status) == (1, 3, 1)
    summary = await desk.submit(retry=Retry())
    assert (summary.submitted, summary.rejected_before, summary.exit_status) == (1, 0, 0)
    summary = await desk.submit(retry=Retry())
    assert (summary.submitted_before, summary.exit_status) == (4, 0)


async def test_invalid_rows_are_told_again(desk: Desk) -> None:
    """Exit status 1, and nothing is written of them a second time."""
    desk.manifest.write_text(csv_text(NAMES).replace("ml.m5.large", "nonsense", 1))
    await desk.submit(skip_invalid=True)
    summary = await desk.submit(skip_invalid=True)
    assert (summary.invalid, summary.submitted_before, summary.exit_status) == (1, 3, 1)


async def test_jobs_that_were_followed_to_their_end_need_not_be_again(desk: Desk, sandbox: Sandbox) -> None:
    """How they ended is told again, as a failure only where --wait asks for the ends."""
    sandbox.configure(job_seconds=0.1, failing_names=["b"])
    await desk.submit(wait=True)
    summary = await desk.submit(wait=True)
    assert (summary.counts.succeeded, summary.counts.failed, summary.exit_status) == (3, 1, 1)
    summary = await desk.submit(canary=2)
    assert (summary.counts.succeeded, summary.counts.failed, summary.exit_status) == (3, 1, 0)


async def test_jobs_that_were_not_followed_are_if_it_is_asked(desk: Desk, sandbox: Sandbox) -> None:
    """With --wait in the second run."""
    sandbox.configure(job_seconds=0.3)
    await desk.submit()
    summary = await desk.submit(wait=True)
    assert (summary.submitted_before, summary.counts.succeeded) == (4, 4)


async def test_a_job_that_is_unknown_is_looked_up(desk: Desk, sandbox: Sandbox) -> None:
    """Of a row, or of one that the manifest no longer has."""
    forbidden = {"ListTrainedModelInferenceJobs": {"access_denied": 1.0}}
    sandbox.disturb({"fault": "lost_after", "name": "b"}, probabilities=forbidden)
    assert (await desk.submit()).counts.unknown == 1
    desk.manifest.write_text(csv_text("acd"))
    summary = await desk.submit()
    assert (summary.counts.unknown, summary.unknown_elsewhere, summary.exit_status) == (0, 1, 3)
    sandbox.disturb()
    assert (await desk.submit()).exit_status == 0
    assert len(sandbox.jobs()) == 4
    assert (await desk.submit()).counts.total == 3


async def test_a_rehearsals_ledger_is_refused_by_a_real_run(desk: Desk, sandbox: Sandbox) -> None:
    """Nothing is written to it."""
    await desk.submit(sandbox=True)
    assert (await desk.submit(sandbox=True)).submitted_before == 4
    before = desk.ledger.read_bytes()
    with pytest.raises(UsageError, match="was written against the sandbox"):
        await desk.submit()
    assert desk.ledger.read_bytes() == before
    assert sandbox.calls() == 0
