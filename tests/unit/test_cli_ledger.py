"""A ledger's way from a file into a table and back, with what may have happened in between."""

from collections import Counter
from pathlib import Path

import pytest
from memory_table import MemoryTable
from shared_ledger_events import AT, events_in, intent, submitted

from batchsubmit.cli.ledger import export_events, import_events
from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import EarlierRejected, Event, Refused, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, UsageError
from batchsubmit.ledger.items import job_address
from batchsubmit.ledger.location import TableLocation, parse_location
from batchsubmit.ledger.read import by_time, read_ledger
from batchsubmit.verify import Audit

STARTED = RunStarted(at=AT, run="r", batch="", manifest="m", manifest_sha256="", version="1", holder="h")
ENDED = RunEnded(at=AT, run="r", exit_status=0, reason="", counts={})


def story() -> list[Event]:
    """A run with two jobs, whose events alternate."""
    return [STARTED, intent("a"), intent("b"), submitted("b"), submitted("a"), ENDED]


async def test_what_was_imported_is_what_is_exported(tmp_path: Path) -> None:
    """The same events; those of one moment may stand in another order, but each job's in its own."""
    table = MemoryTable()
    done = await import_events(story(), table)
    assert done == (2, 0)
    assert export_events(events_in(table), tmp_path / "out.jsonl") == 6
    back = list(read_ledger(tmp_path / "out.jsonl"))
    assert sorted(map(repr, back)) == sorted(map(repr, story()))
    audit = Audit(back)
    assert not audit.faults
    assert Counter(each.phase for each in audit.state) == {Phase.SUBMITTED: 2}


async def test_an_earlier_versions_ledger_is_copied_as_it_stands(tmp_path: Path) -> None:
    """Its `failed` reads as a rejected job; copies keep the word, so that they may be repeated and compared."""
    table = MemoryTable()
    stamp = {"job": "a", "membership": "m", "name": "a"}
    earlier = EarlierRejected(at=AT, **stamp, code="ValidationException", message="no", attempt=1)
    for written in (1, 0):
        assert (await import_events([intent("a"), earlier], table))[0] == written
    export_events(events_in(table), tmp_path / "out.jsonl")
    back = list(read_ledger(tmp_path / "out.jsonl"))
    assert back == [intent("a"), earlier]
    assert b'"event":"failed"' in (tmp_path / "out.jsonl").read_bytes()


async def test_an_import_may_be_repeated() -> None:
    """Nothing is written twice."""
    table = MemoryTable()
    await import_events(story(), table)
    before = {address: dict(item) for address, item in table.items.items()}
    done = await import_events(story(), table)
    assert done == (0, 2)
    assert table.items == before


async def test_an_import_goes_on_where_the_file_went_on() -> None:
    """The table has the first events of a job, the file has more."""
    table = MemoryTable()
    await import_events([intent("a")], table)
    done = await import_events([intent("a"), submitted("a")], table)
    assert done == (1, 0)
    assert events_in(table) == [intent("a"), submitted("a")]


async def test_what_went_on_in_the_table_is_left_alone() -> None:
    """The file has the first events of a job, the table has more."""
    table = MemoryTable()
    await import_events([intent("a"), submitted("a")], table)
    assert await import_events([intent("a")], table) == (0, 1)
    assert events_in(table) == [intent("a"), submitted("a")]


async def test_a_file_that_contradicts_the_table_is_refused() -> None:
    """Neither is believed."""
    table = MemoryTable()
    await import_events([intent("a")], table)
    other = Refused(at=AT, job="a", membership="m", name="n", code="c", attempt=1)
    with pytest.raises(LedgerError, match="different events of job a"):
        await import_events([other, intent("a")], table)
    assert events_in(table) == [intent("a")]


async def test_a_claimed_job_is_not_imported() -> None:
    """What its worker does with it would be overtaken."""
    table = MemoryTable()
    await table.write(job_address("a"), 0, {"owner": "w1"})
    with pytest.raises(LedgerError, match="claimed by w1"):
        await import_events([intent("a")], table)


async def test_a_jobs_arn_stays_its_own() -> None:
    """Also against a file."""
    table = MemoryTable()
    await import_events([intent("a"), submitted("a", arn="arn")], table)
    with pytest.raises(LedgerError, match="the table has arn as that of job a, the file as that of b"):
        await import_events([intent("b"), submitted("b", arn="arn")], table)


def test_a_table_is_read_in_the_order_of_time_but_never_against_a_jobs_own() -> None:
    """Workers' clocks differ: an event cannot be earlier than the one before it."""

    def at(event: Event, seconds: int) -> Event:
        members = {name: getattr(event, name) for name in event.__struct_fields__}
        return type(event)(**members | {"at": f"{AT[:-2]}{seconds}Z"})

    events = [at(intent("a"), 5), at(submitted("a"), 2), at(intent("b"), 3), at(submitted("b"), 4)]
    assert by_time(events) == [events[2], events[3], events[0], events[1]]


def test_an_export_writes_over_nothing(tmp_path: Path) -> None:
    """The file may be a ledger."""
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        export_events([intent("a")], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_a_location_is_a_path_or_a_table() -> None:
    """And nothing else."""
    assert parse_location("jobs.jsonl") == Path("jobs.jsonl")
    assert parse_location("dynamodb://jobs_1.x-y") == TableLocation("jobs_1.x-y")
    for wrong in ("dynamodb://", "dynamodb://a", "dynamodb://a/b", "s3://bucket/key"):
        with pytest.raises(UsageError, match="names no ledger"):
            parse_location(wrong)
