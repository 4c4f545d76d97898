"""What follows a run: each thing is done even if another fails, and the exit status that comes of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import job_named
from strategies import MEMBERSHIP
from webhook import Hook, listening

from batchsubmit.app.after_run import AfterRun, AfterRunResult
from batchsubmit.app.run import SubmitOptions
from batchsubmit.config import Settings
from batchsubmit.core.jobs import JobRejected
from batchsubmit.core.ledger_state import Counts
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.lines import encode_line
from batchsubmit.outputs.notify import Target, report_link
from batchsubmit.report.summary import Summary


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook."""
    with listening() as hook:
        yield hook


def summary(ledger: Path, *, submitted: int = 0) -> Summary:
    """A run that submitted so many jobs."""
    numbers = [
        "submitted_before",
        "rejected",
        "rejected_before",
        "invalid",
        "unknown_elsewhere",
        "refused_by_quota",
        "throttled",
    ]
    return Summary(
        run="r",
        batch="n-1",
        manifest="jobs.csv",
        ledger=str(ledger),
        seconds=1.0,
        counts=Counts(total=submitted, submitted=submitted),
        submitted=submitted,
        **dict.fromkeys(numbers, 0),
    )


def copy(ledger: Path, path: Path, _: Settings) -> None:
    """Write something from a ledger."""
    path.write_text(f"from {ledger.read_text()}")


def full(ledger: Path, path: Path, _: Settings) -> None:
    """Meet a full disk."""
    raise OSError(28, "No space left on device")


def stubborn(ledger: Path, path: Path, _: Settings) -> None:
    """Find the ledger damaged."""
    raise LedgerError("the ledger is damaged at line 3")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger."""
    path = tmp_path / "n-1.jsonl"
    path.write_text("ledger")
    return path


async def test_files_are_written_in_folders_that_need_not_be_there(ledger: Path, hook: Hook) -> None:
    """And named in the notice."""
    page, table = ledger.parent / "out" / "deep" / "n.html", ledger.parent / "out" / "n.csv"
    after = AfterRun(
        settings=Settings(),
        files={page: copy, table: copy},
        report=str(page),
        targets=(Target(hook.url),),
    )
    result = await after.follow_up(summary(ledger, submitted=1))
    assert result == AfterRunResult(written=[page, table])
    assert page.read_text() == table.read_text() == "from ledger"
    [told] = hook.bodies
    assert told["report"] == str(page)
    assert (told["headline"], told["exit_status"], told["run"]) == ("1 of 1 job submitted", 0, "r")
    assert told["counts"]["submitted"] == 1
    assert told["link"] == page.as_uri()


async def test_a_notice_has_the_top_three_reasons_without_names(tmp_path: Path, hook: Hook) -> None:
    """And memberships by the names that people give them; a headline that is not better than the exit status."""
    path = tmp_path / "n-1.jsonl"
    codes = ["A"] * 4 + ["B"] * 3 + ["C"] * 2 + ["D"]
    jobs = [job_named(f"job-{number}") for number in range(len(codes))]
    rejected = (
        JobRejected(**job.stamp("2026-11-23T00:00:00.000000Z"), code=code, message=f"no '{job.name}'", attempt=1)
        for job, code in zip(jobs, codes, strict=True)
    )
    path.write_bytes(b"".join(map(encode_line, rejected)))
    after = AfterRun(
        settings=Settings(names={MEMBERSHIP: "Retail"}),
        files={tmp_path / "x": full},
        targets=(Target(hook.url),),
    )
    stopped = replace(summary(path, submitted=1), stop_reason="held", stop_message=f"held in {MEMBERSHIP}")
    await after.follow_up(stopped)
    [told] = hook.bodies
    assert told["reasons"] == ["4 rejected: A: no …", "3 rejected: B: no …", "2 rejected: C: no …"]
    assert told["reason"] == "held in Retail"
    assert told["headline"].endswith("; what follows a run was not all done")


def test_the_link_to_a_report_is_that_of_its_copy_in_s3() -> None:
    """Where there is one: a browser opens it by the console."""
    uploaded = ["s3://b/p/n.ledger.jsonl", "s3://b/p/n 1.html"]
    link = "https://console.aws.amazon.com/s3/object/b?prefix=p%2Fn+1.html&region=eu-central-1"
    assert report_link("out/n 1.html", uploaded, "eu-central-1") == link
    assert report_link("out/n 1.html", [], None) == Path("out/n 1.html").absolute().as_uri()
    assert report_link("", uploaded, None) == ""


async def test_a_file_that_cannot_be_written_keeps_nothing_else_from_being_done(ledger: Path, hook: Hook) -> None:
    """The run is one to be repeated, and the notice says why."""
    paths = [ledger.parent / name for name in ("a", "b", "c")]
    after = AfterRun(
        settings=Settings(),
        files=dict(zip(paths, (full, stubborn, copy), strict=True)),
        report=str(paths[0]),
        targets=(Target(hook.url),),
    )
    result = await after.follow_up(summary(ledger))
    assert result.written == [paths[2]]
    assert result.problems == [
        f"{paths[0]} could not be written: No space left on device",
        f"{paths[1]} could not be written: the ledger is damaged at line 3",
    ]
    [told] = hook.bodies
    assert (told["exit_status"], told["problems"], told["report"]) == (3, result.problems, "")


@pytest.mark.parametrize(
    ("of_run", "problems", "status"), [(0, [], 0), (1, [], 1), (0, ["x"], 3), (1, ["x"], 3), (3, ["x"], 3)]
)
def test_what_remains_to_be_done_outranks_what_failed(of_run: int, problems: list[str], status: int) -> None:
    """As in a run itself; a notice that was not sent changes nothing."""
    assert AfterRunResult(problems=problems, not_notified=["y"]).exit_status(of_run) == status


async def test_a_run_that_did_not_begin_is_notified_with_its_exit_status(hook: Hook) -> None:
    """And nothing else is done."""
    after = AfterRun(settings=Settings(), files={Path("never"): full}, targets=(Target(hook.url),))
    for error, status in ((LedgerError("in use"), 4), (UsageError("wrong"), 2)):
        assert await after.notify_failure(error, SubmitOptions(manifest="jobs.csv", batch="n-1")) == []
        assert (hook.bodies[-1]["exit_status"], hook.bodies[-1]["reason"]) == (status, str(error))
