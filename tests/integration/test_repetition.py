"""A rerun that has nothing to do says the same, whether it read the rows or trusted the ledger's seal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Program, Sandbox, csv_text
from msgspec.structs import replace

from batchsubmit.app import submitting
from batchsubmit.app.run import SubmitOptions
from batchsubmit.app.submitting import submit
from batchsubmit.config import Settings, load_settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.jobs import Intent, RunEnded
from batchsubmit.ledger.lines import decode_line, encode_line
from batchsubmit.report.summary import Summary
from batchsubmit.stopping import Stop, StopReason

NAMES = ["a", "b", "c", "d"]


class Desk:
    """A folder in which a manifest is submitted, again and again, to the sandbox process."""

    def __init__(self, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manifest = program.folder / "jobs.csv"
        self.ledger = program.folder / "jobs.ledger.jsonl"
        self.manifest.write_text(csv_text(NAMES))
        self._patch = monkeypatch
        for name, value in program.environment.items():
            monkeypatch.setenv(name, value)

    async def submit(self, *, settings: Settings | None = None, **options: object) -> Summary:
        """Submit the manifest."""
        asked: dict[str, Any] = {"manifest": str(self.manifest), "ledger": self.ledger, **options}
        return await submit(SubmitOptions(**asked), settings or load_settings())

    async def submit_unread(self, *, settings: Settings | None = None, **options: object) -> Summary:
        """The same, and no row may be read for it."""
        with self._patch.context() as patch:
            patch.setattr(submitting, "check_manifest", lambda *_, **__: pytest.fail("the rows were read"))
            return await self.submit(settings=settings, **options)

    def unseal(self) -> None:
        """Take the seal out of the ledger's last line, and leave all else as it is."""
        lines = self.ledger.read_bytes().splitlines(keepends=True)
        ended = decode_line(lines[-1])
        assert isinstance(ended, RunEnded)
        assert ended.seal is not None
        self.ledger.write_bytes(b"".join([*lines[:-1], encode_line(replace(ended, seal=None))]))

    async def rerun_both_ways(self, **options: object) -> Summary:
        """Submit by the seal, and by the rows; what is told and what is written is the same."""
        before = self.ledger.read_bytes()
        by_seal = await self.submit_unread(**options)
        written_by_seal = self.ledger.read_bytes()[len(before) :]
        self.ledger.write_bytes(before)
        self.unseal()
        size = self.ledger.stat().st_size
        by_rows = await self.submit(**options)
        written_by_rows = self.ledger.read_bytes()[size:]
        assert _told(by_seal) == _told(by_rows)
        assert by_seal.exit_status == by_rows.exit_status
        assert _lines(written_by_seal) == _lines(written_by_rows)
        return by_seal


def _told(summary: Summary) -> dict[str, Any]:
    """A summary without what differs between any two runs."""
    return {**summary.as_dict(), "run": "", "seconds": 0}


def _lines(written: bytes) -> list[dict[str, Any]]:
    """The same of lines of a ledger."""
    changing = {"at": "", "run": "", "seal": None, "crc": "", "crc32": ""}
    return [{**json.loads(line), **changing} for line in written.splitlines()]


@pytest.fixture
def desk(submitting: Program, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A manifest of four rows, nothing submitted yet."""
    return Desk(submitting, monkeypatch)


async def test_nothing_is_to_be_done_after_a_run_that_submitted_all(desk: Desk, sandbox: Sandbox) -> None:
    """As often as it is asked: each such run seals its ledger again."""
    await desk.submit()
    calls = sandbox.calls()
    for _ in range(2):
        summary = await desk.rerun_both_ways()
        assert (summary.rows, summary.submitted, summary.submitted_before, summary.exit_status) == (4, 0, 4, 0)
    assert sandbox.calls() == calls


async def test_what_failed_is_told_again_and_tried_again_where_that_is_asked(desk: Desk, sandbox: Sandbox) -> None:
    """Exit status 1; --retry-failed reads the rows."""
    sandbox.disturb({"fault": "validation", "name": "b"})
    await desk.submit()
    summary = await desk.rerun_both_ways()
    assert (summary.failed_before, summary.submitted_before, summary.exit_status) == (1, 3, 1)
    summary = await desk.submit(retry_failed=True)
    assert (summary.submitted, summary.failed_before, summary.exit_status) == (1, 0, 0)
    summary = await desk.rerun_both_ways(retry_failed=True)
    assert (summary.submitted_before, summary.exit_status) == (4, 0)


async def test_invalid_rows_are_told_again(desk: Desk) -> None:
    """Exit status 1, and nothing is written of them a second time."""
    desk.manifest.write_text(csv_text(NAMES).replace("ml.m5.large", "nonsense", 1))
    await desk.submit(skip_invalid=True)
    summary = await desk.rerun_both_ways(skip_invalid=True)
    assert (summary.invalid, summary.submitted_before, summary.exit_status) == (1, 3, 1)


async def test_jobs_that_were_followed_to_their_end_need_not_be_again(desk: Desk, sandbox: Sandbox) -> None:
    """How they ended is told again, as a failure only where --wait asks for the ends."""
    sandbox.configure(job_seconds=0.1, failing_names=["b"])
    await desk.submit(wait=True)
    summary = await desk.rerun_both_ways(wait=True)
    assert (summary.finished_well, summary.finished_badly, summary.exit_status) == (3, 1, 1)
    summary = await desk.rerun_both_ways(canary=2)
    assert (summary.finished_well, summary.finished_badly, summary.exit_status) == (3, 1, 0)


async def test_jobs_that_were_not_followed_are_if_it_is_asked(desk: Desk, sandbox: Sandbox) -> None:
    """The rows are read then."""
    sandbox.configure(job_seconds=0.3)
    await desk.submit()
    summary = await desk.submit(wait=True)
    assert (summary.submitted_before, summary.finished_well) == (4, 4)


async def test_a_job_that_is_unknown_is_looked_up(desk: Desk, sandbox: Sandbox) -> None:
    """Of a row, or of one that the manifest no longer has."""
    forbidden = {"ListTrainedModelInferenceJobs": {"access_denied": 1.0}}
    sandbox.disturb({"fault": "lost_after", "name": "b"}, probabilities=forbidden)
    assert (await desk.submit()).unknown == 1
    desk.manifest.write_text(csv_text("acd"))
    summary = await desk.submit()
    assert (summary.unknown, summary.unknown_elsewhere, summary.exit_status) == (0, 1, 3)
    sandbox.disturb()
    assert (await desk.submit()).exit_status == 0
    assert len(sandbox.jobs()) == 4
    assert (await desk.rerun_both_ways()).rows == 3


def _other_row(desk: Desk) -> dict[str, Any]:
    desk.manifest.write_text(csv_text([*NAMES, "e"]))
    return {}


def _other_name(desk: Desk) -> dict[str, Any]:
    desk.manifest = desk.manifest.rename(desk.manifest.with_suffix(".jsonl"))
    return {}


def _killed_run(desk: Desk) -> dict[str, Any]:
    lines = desk.ledger.read_bytes().splitlines(keepends=True)
    desk.ledger.write_bytes(b"".join([*lines, lines[0]]))
    return {}


def _intent_of_another(desk: Desk) -> dict[str, Any]:
    lines = desk.ledger.read_bytes().splitlines(keepends=True)
    intent = next(event for event in map(decode_line, lines) if isinstance(event, Intent))
    desk.ledger.write_bytes(b"".join([*lines, encode_line(replace(intent, job="another", name="another"))]))
    return {}


@pytest.mark.parametrize(
    "change",
    [
        _other_row,
        _other_name,
        _killed_run,
        _intent_of_another,
        lambda _: {"batch": "another"},
        lambda _: {"allow_duplicates": True},
        lambda _: {"skip_invalid": True},
        lambda _: {"settings": load_settings(flags={"aws": {"region": "eu-west-1"}})},
        lambda _: {"settings": load_settings(flags={"submit": {"tag_jobs": False}})},
        lambda _: {"settings": load_settings(flags={"defaults": {"description": "another"}})},
    ],
)
async def test_rows_are_read_where_anything_differs(desk: Desk, change: Callable[[Desk], dict[str, Any]]) -> None:
    """Manifest, batch, settings, or a line that is not a run's end."""
    await desk.submit()
    await desk.submit_unread()
    changed = change(desk)
    with pytest.raises(pytest.fail.Exception, match="the rows were read"):
        await desk.submit_unread(**changed)


async def test_a_manifest_that_changed_while_it_was_read_proves_nothing(
    desk: Desk, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed back, it is one whose rows nobody has read yet."""
    check = submitting.check_manifest
    text = desk.manifest.read_text()

    async def check_another(*given: Any, **more: Any) -> object:  # noqa: ANN401 (passed on)
        desk.manifest.write_text(csv_text("xy"))
        return await check(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(submitting, "check_manifest", check_another)
        assert (await desk.submit()).submitted == 2
    desk.manifest.write_text(text)
    assert (await desk.submit()).submitted == 4
    assert sorted(sandbox.names()) == [*NAMES, "x", "y"]


async def test_a_rehearsals_ledger_is_refused_by_a_real_run(desk: Desk, sandbox: Sandbox) -> None:
    """Sealed or not."""
    await desk.submit(sandbox=True)
    assert (await desk.rerun_both_ways(sandbox=True)).submitted_before == 4
    before = desk.ledger.read_bytes()
    with pytest.raises(UsageError, match="was written against the sandbox"):
        await desk.submit()
    assert desk.ledger.read_bytes() == before
    assert sandbox.calls() == 0


async def test_a_run_that_is_stopped_while_it_looks_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves the ledger as it was, open to the next run."""
    await desk.submit()
    before = desk.ledger.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(submitting, "Stop", _stopped)
        with pytest.raises(StoppedError, match="nothing was sent"):
            await desk.submit()
    assert desk.ledger.read_bytes() == before
    assert (await desk.submit_unread()).exit_status == 0


def _stopped() -> Stop:
    stop = Stop()
    stop.request(StopReason.SIGNAL, "a signal")
    return stop


def test_people_are_told_the_same(submitting: Program, sandbox: Sandbox, tmp_path: Path) -> None:
    """By the real program, on both ways."""
    (tmp_path / "jobs.csv").write_text(csv_text(NAMES))
    assert submitting.run("submit", "jobs.csv").status == 0
    by_seal = submitting.run("submit", "jobs.csv")
    ledger = tmp_path / "jobs.ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    by_rows = submitting.run("submit", "jobs.csv")
    assert by_seal.status == by_rows.status == 0
    for told, sealed in zip(by_rows.stderr.splitlines(), by_seal.stderr.splitlines(), strict=True):
        assert told.partition(" in ")[0] == sealed.partition(" in ")[0]
    assert "Nothing to do: all 4 jobs" in by_seal.stderr
