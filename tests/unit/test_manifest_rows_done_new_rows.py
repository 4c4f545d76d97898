"""The rows of a manifest that a ledger does not know, by the keys that a run gives them."""

from pathlib import Path

import pytest
from conftest import CSV_HEADER, EPOCH, OTHER_MEMBERSHIP, csv_text, job_named, request_named, write_jsonl
from strategies import MEMBERSHIP, REGION, arn

from batchsubmit.clock import timestamp
from batchsubmit.config import Settings
from batchsubmit.core.jobs import JobSubmitted, RunStarted, job_digest, key_text
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import UsageError
from batchsubmit.manifest.rows_done import NewRows, read_new_rows
from batchsubmit.schema import canonical


async def new_rows(manifest: Path, book: LedgerState | None = None, *, batch: str = "") -> NewRows:
    """Read them under the default settings."""
    return await read_new_rows(str(manifest), Settings(), book or LedgerState(), batch=batch, region=REGION)


async def test_rows_have_the_keys_that_a_run_gives_them(tmp_path: Path) -> None:
    """With membership and name, and the batch in the key."""
    far = request_named("far", membership=OTHER_MEMBERSHIP)
    manifest = write_jsonl(tmp_path / "jobs.jsonl", [request_named("a"), far])
    rows = await new_rows(manifest)
    assert rows.by_key == {
        job_named("a").key: (MEMBERSHIP, arn("trained-model"), "a"),
        job_named("far", membership=OTHER_MEMBERSHIP).key: (
            OTHER_MEMBERSHIP,
            arn("trained-model", membership=OTHER_MEMBERSHIP),
            "far",
        ),
    }
    assert (rows.region, rows.trouble) == (REGION, "")
    tonight = key_text(job_digest(canonical(request_named("a")), batch="tonight"))
    assert tonight in (await new_rows(manifest, batch="tonight")).by_key


async def test_what_the_ledger_knows_is_not_new(tmp_path: Path) -> None:
    """Only the others can have been lost."""
    book = LedgerState()
    known = job_named("a")
    book.apply(JobSubmitted(**known.stamp(timestamp(EPOCH)), arn="arn", attempt=1, via="start"))
    rows = await new_rows(write_jsonl(tmp_path / "jobs.jsonl", map(request_named, "ab")), book)
    assert set(rows.by_key) == {job_named("b").key}


async def test_rows_that_are_named_by_date_have_the_date_of_the_last_run(tmp_path: Path) -> None:
    """Not that of the day on which someone looks."""
    unnamed = {member: value for member, value in request_named("?").items() if member != "name"}
    manifest = write_jsonl(tmp_path / "jobs.jsonl", [unnamed])
    settings = Settings(defaults={"name": "a-{date}"})
    book = LedgerState()
    book.apply(
        RunStarted(
            at=timestamp(EPOCH), run="r", batch="", manifest="jobs.jsonl", manifest_sha256="", version="", holder=""
        )
    )
    rows = await read_new_rows(str(manifest), settings, book, batch="", region=REGION)
    assert set(rows.by_key) == {job_named(f"a-{EPOCH:%Y-%m-%d}").key}


async def test_rows_that_repeat_are_jobs_of_their_own(tmp_path: Path) -> None:
    """Whether the run had --allow-duplicates or not, the first has the same key."""
    rows = await new_rows(write_jsonl(tmp_path / "jobs.jsonl", map(request_named, "aa")))
    assert len(rows.by_key) == 2
    assert (job_named("a").key in rows.by_key, rows.trouble) == (True, "")


async def test_a_manifest_that_these_settings_do_not_fit_is_said_to_be_incomplete(tmp_path: Path) -> None:
    """Without its defaults the rows have no keys, and what is not among them may still be theirs."""
    manifest = tmp_path / "jobs.csv"
    manifest.write_text(csv_text(["good"]) + csv_text(["bad"]).removeprefix(CSV_HEADER).replace("ml.m5.large", ""))
    rows = await new_rows(manifest)
    assert [name for _, _, name in rows.by_key.values()] == ["good"]
    assert rows.trouble.endswith("jobs.csv has problems in 1 row under these settings: give the --config of its submit")


async def test_a_manifest_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The caller knows whether someone asked for it."""
    with pytest.raises(UsageError, match="there is no such file"):
        await new_rows(tmp_path / "missing.csv")
