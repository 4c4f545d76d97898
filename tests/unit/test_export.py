"""The formats of an export: the same rows in each, and no cell that a spreadsheet runs."""

import csv
import io
import json
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_ledgers import BEGIN, HOSTILE, Night, Story

from batchsubmit.errors import UsageError
from batchsubmit.report.export import (
    COLUMNS,
    FORMATS,
    export_rows,
    guarded,
    write_csv,
    write_jsonl,
    write_parquet,
)
from batchsubmit.report.timeline import Timeline
from batchsubmit.report.waits import Cause


def unguarded(text: str) -> str:
    """Take one leading apostrophe off, as the manual says."""
    return text.removeprefix("'")


def as_csv(timeline: Timeline) -> list[dict[str, str]]:
    """The rows of the CSV export."""
    file = io.BytesIO()
    write_csv(file, export_rows(timeline))
    return list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))


def as_jsonl(timeline: Timeline) -> list[dict[str, object]]:
    """The rows of the JSONL export."""
    file = io.BytesIO()
    write_jsonl(file, export_rows(timeline))
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.fixture
def timeline() -> Timeline:
    """A night with some of everything."""
    return Timeline.of(Night(jobs=200, hostile=HOSTILE, until_seconds=30_000).events())


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "'=1"],
)
def test_what_a_spreadsheet_might_run_gets_an_apostrophe(text: str) -> None:
    """In front, where spreadsheets take it for the mark of a text."""
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "churn-001", "arn:aws:x", "a=1", "\u00fc", "1-1", "\U0001f600"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    """An ARN is no formula."""
    assert guarded(text) == text


@given(st.text())
def test_guarding_can_be_undone(text: str) -> None:
    """By taking one leading apostrophe off, whatever the text."""
    assert unguarded(guarded(text)) == text
    assert not guarded(text).strip().startswith(("=", "+", "-", "@"))


def test_each_format_has_every_job_once_in_the_same_order(timeline: Timeline) -> None:
    """With all columns."""
    keys = [history.state.job for history in timeline.histories()]
    from_csv, from_jsonl = as_csv(timeline), as_jsonl(timeline)
    assert [row["job"] for row in from_csv] == keys
    assert [row["job"] for row in from_jsonl] == keys
    assert list(from_csv[0]) == list(from_jsonl[0]) == list(COLUMNS)


def test_csv_and_jsonl_say_the_same(timeline: Timeline) -> None:
    """Hostile names included."""
    for cells, members in zip(as_csv(timeline), as_jsonl(timeline), strict=True):
        for name, kind in COLUMNS.items():
            if kind is str:
                assert unguarded(cells[name]) == members[name]
            elif kind is tuple:
                assert cells[name] == " ".join(members[name])  # type: ignore[arg-type]
            elif kind is datetime:
                assert (cells[name] or None) == members[name]
            else:
                assert (float(cells[name]) if cells[name] else None) == members[name]


def test_a_job_s_row_tells_its_story() -> None:
    """Times as the ledger has them, seconds by cause, and no refusal of the past as the reason of now."""
    story = Story()
    story.run(0, batch="b")
    story.intent(0, "a")
    story.refused(0, "a")
    story.intent(30, "a", 2)
    story.accepted(30.5, "a", 2)
    story.finished(90.5, "a", "CREATE_FAILED", "out of memory")
    (row,) = as_jsonl(Timeline.of(story.events))
    assert row["first_intent_at"] == "2026-11-22T22:00:00.000000Z"
    assert row["accepted_at"] == "2026-11-22T22:00:30.500000Z"
    assert row["seconds_running"] == 60
    assert row["seconds_waited_quota"] == 30
    assert (row["state"], row["status"], row["attempts"], row["batch"]) == ("failed", "CREATE_FAILED", 2, "b")
    assert (row["code"], row["message"]) == ("", "out of memory")
    assert {f"seconds_waited_{cause}" for cause in Cause} <= set(row)


def test_what_did_not_happen_is_null_or_empty() -> None:
    """Never a zero time."""
    story = Story()
    story.run(0)
    story.failed(1, "a", "InvalidRow", "=no")
    (row,), (cells,) = as_jsonl(Timeline.of(story.events)), as_csv(Timeline.of(story.events))
    assert row["first_intent_at"] is None
    assert row["seconds_running"] is None
    assert (cells["first_intent_at"], cells["seconds_running"], cells["message"]) == ("", "", "'=no")


def test_parquet_has_the_same_rows_with_types(timeline: Timeline) -> None:
    """Times are timestamps, absent ones null."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    file = io.BytesIO()
    write_parquet(file, export_rows(timeline))
    table = parquet.read_table(io.BytesIO(file.getvalue()))
    assert len(table) == len(timeline)
    assert table.column_names == list(COLUMNS)
    rows = table.to_pylist()
    for row, members in zip(rows, as_jsonl(timeline), strict=True):
        assert row["name"] == members["name"]
        assert row["seconds_waited_quota"] == members["seconds_waited_quota"]
        at = members["accepted_at"]
        assert row["accepted_at"] == (datetime.fromisoformat(str(at)) if at else None)
    assert min(row["first_intent_at"] for row in rows) >= BEGIN.astimezone(UTC)


def test_without_pyarrow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'batchsubmit\[parquet\]'"):
        write_parquet(io.BytesIO(), [])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "parquet"])
def test_an_empty_ledger_gives_an_empty_table(name: str) -> None:
    """With its header, where the format has one."""
    file = io.BytesIO()
    FORMATS[name](file, [])
    assert file.getvalue() == (b"" if name == "jsonl" else ",".join(COLUMNS).encode() + b"\r\n")


def test_results_are_named_for_jobs_that_finished_well_by_account_and_name(timeline: Timeline) -> None:
    """The account is that of the job's ARN."""
    rows = as_jsonl(timeline)
    assert {bool(row["results"]) for row in rows} == {True, False}
    for row in rows:
        place = f"*/*/{str(row['arn']).split(':')[4]}/{row['name']}" if row["status"] == "ACTIVE" else ""
        assert row["results"] == place
