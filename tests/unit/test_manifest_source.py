"""A checked manifest as a source of jobs, lane by lane."""

import csv
import io
import json
from collections.abc import Callable

import pytest
from conftest import OTHER_MEMBERSHIP, request_named
from strategies import MEMBERSHIP

from batchsubmit.core.job_states import Action
from batchsubmit.core.source import Ending
from batchsubmit.errors import StoppedError
from batchsubmit.manifest.check import CheckedManifest, Terms, open_reader, take_inventory
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.source import ManifestSource
from batchsubmit.schema import RequestChecker

ROWS = [
    request_named("a"),
    request_named("x", membership=OTHER_MEMBERSHIP),
    request_named("b"),
    request_named("c"),
]


def source_of(
    file: io.BytesIO | None = None,
    decision: Callable[[str], Action] = lambda _: Action.SUBMIT,
) -> tuple[ManifestSource, list[str]]:
    """A source over the four rows, and their keys."""
    file = file or io.BytesIO()
    file.write("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    spooled = ManifestFile(label="jobs.jsonl", format="jsonl", sha256="0", file=file)
    reader = open_reader(spooled, defaults={}, checker=RequestChecker())
    index = take_inventory(reader, Terms()).index
    return ManifestSource(index, batch="", decision=decision), list(index)


def taken(source: ManifestSource, membership: str) -> list[str]:
    """Take all that a lane has."""
    names = []
    while membership in source.waiting():
        names.append(source.take(membership).job.name)
    return names


def test_every_lane_has_its_jobs_from_the_start_in_order_of_the_manifest() -> None:
    """Wherever its rows stand."""
    source, _ = source_of()
    assert set(source.waiting()) == {MEMBERSHIP, OTHER_MEMBERSHIP}
    assert source.waiting_jobs() == 4
    assert taken(source, OTHER_MEMBERSHIP) == ["x"]
    assert taken(source, MEMBERSHIP) == ["a", "b", "c"]
    assert not source.waiting()
    assert source.waiting_jobs() == 0


def test_rows_that_are_not_wanted_are_never_handed_out() -> None:
    """Those that the ledger has as submitted or failed."""
    _, keys = source_of()
    decisions = {keys[0]: Action.NOTHING, keys[1]: Action.NOTHING, keys[3]: Action.NOTHING}
    source, _ = source_of(decision=lambda key: decisions.get(key, Action.SUBMIT))
    assert source.waiting_jobs() == 1
    assert set(source.waiting()) == {MEMBERSHIP}
    assert taken(source, MEMBERSHIP) == ["b"]


def test_a_released_job_is_handed_out_before_the_others_of_its_lane() -> None:
    """Also when its lane was empty meanwhile."""
    source, _ = source_of()
    first = source.take(MEMBERSHIP)
    first.ended(Ending.RELEASED)
    assert source.waiting_jobs() == 4
    assert taken(source, MEMBERSHIP) == ["a", "b", "c"]
    only = source.take(OTHER_MEMBERSHIP)
    assert OTHER_MEMBERSHIP not in source.waiting()
    only.ended(Ending.RELEASED)
    assert taken(source, OTHER_MEMBERSHIP) == ["x"]


def test_a_job_that_is_done_or_failed_does_not_come_back() -> None:
    """The ledger knows of it."""
    source, _ = source_of()
    source.take(MEMBERSHIP).ended(Ending.DECIDED)
    source.take(MEMBERSHIP).ended(Ending.DECIDED)
    assert taken(source, MEMBERSHIP) == ["c"]


def test_a_manifest_that_changes_while_it_is_sent_stops_the_run_at_that_line() -> None:
    """The row is not taken, and nothing is lost."""
    file = io.BytesIO()
    source, _ = source_of(file)
    content = file.getvalue().replace(b'"name": "b"', b'"name": "q"')
    file.seek(0)
    file.write(content)
    assert source.take(MEMBERSHIP).job.name == "a"
    with pytest.raises(StoppedError, match="at line 3"):
        source.take(MEMBERSHIP)
    assert source.waiting_jobs() == 3


def test_a_row_to_be_looked_up_is_held_back_until_it_is_requeued() -> None:
    """Then it comes before the others of its lane."""
    _, keys = source_of()
    source, _ = source_of(decision=lambda key: Action.LOOK_UP if key == keys[2] else Action.SUBMIT)
    assert source.waiting_jobs() == 3
    assert source.request_of(keys[2]) == ROWS[2]
    assert source.request_of(keys[0]) is None
    assert source.request_of("a row that is gone") is None
    source.requeue(keys[2])
    source.requeue("a row that is gone")
    assert source.waiting_jobs() == 4
    assert taken(source, MEMBERSHIP) == ["b", "a", "c"]


def inventory_of(rows: list[tuple[str, str]]) -> tuple[CheckedManifest, ManifestSource]:
    """A CSV manifest of names and priorities, checked, and its source."""
    request = request_named("x")
    columns = ["name", "var.priority", "membershipIdentifier", "trainedModelArn", "resourceConfig", "dataSource"]
    columns += ["outputConfiguration"]
    text = io.StringIO()
    write = csv.writer(text).writerow
    write(columns)
    shared = [request["membershipIdentifier"], request["trainedModelArn"]]
    shared += [json.dumps(request[name]) for name in columns[4:]]
    for name, priority in rows:
        write([name, priority, *shared])
    spooled = ManifestFile(label="jobs.csv", format="csv", sha256="0", file=io.BytesIO(text.getvalue().encode()))
    reader = open_reader(spooled, defaults={}, checker=RequestChecker())
    inventory = take_inventory(reader, Terms())
    return inventory, ManifestSource(inventory.index, batch="", decision=lambda _: Action.SUBMIT)


def test_rows_of_higher_priority_go_first_and_equal_ones_in_order() -> None:
    """None is as good as 0."""
    _, source = inventory_of([("a", ""), ("b", "-1"), ("c", "5"), ("d", "0"), ("e", "+5")])
    assert taken(source, MEMBERSHIP) == ["c", "e", "a", "d", "b"]


def test_a_priority_that_is_no_whole_number_is_a_problem_at_its_column() -> None:
    """And the row is not sent."""
    inventory, _ = inventory_of([("a", "high"), ("b", "1.5"), ("c", "1")])
    assert [str(each) for each in inventory.problems] == [
        "jobs.csv:2:2: var.priority: priority 'high' is no whole number; write one up to six digits, such as 10 or -1",
        "jobs.csv:3:2: var.priority: priority '1.5' is no whole number; write one up to six digits, such as 10 or -1",
    ]
