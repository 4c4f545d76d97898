"""What a run would do with each row, by membership."""

from typing import Any, cast

import pytest
from conftest import OTHER_MEMBERSHIP, job_arn, request_named
from strategies import MEMBERSHIP

from batchsubmit.core.job_states import Retry
from batchsubmit.core.jobs import Intent, JobEvent, JobRejected, JobSubmitted, job_digest, key_text
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.manifest.index import Index
from batchsubmit.manifest.rows import Reader, Row
from batchsubmit.manifest.rows_done import ManifestProgress
from batchsubmit.schema import canonical

AT = "2026-11-23T00:00:00.000000Z"


def rows(reader: object = None, **homes: str) -> tuple[Index, dict[str, str]]:
    """An index of rows by name and membership, and their keys."""
    index, keys = Index(cast("Reader", reader)), {}
    for line, (name, home) in enumerate(homes.items(), start=2):
        request = request_named(name, membership=home)
        digest = job_digest(canonical(request))
        keys[name] = key_text(digest)
        row = Row(line=line, offset=line, request=request, variables={}, problems=())
        index.add(row.offset, row.line, home, digest)
    return index, keys


def book_of(*events: JobEvent) -> LedgerState:
    """A ledger's book."""
    book = LedgerState()
    for event in events:
        book.apply(event)
    return book


def intent(key: str, name: str) -> Intent:
    """A call that nobody heard of again."""
    return Intent(at=AT, job=key, membership=MEMBERSHIP, name=name, attempt=1, trained_model="m")


def failed(key: str, name: str) -> JobRejected:
    """A job that was refused for good."""
    return JobRejected(at=AT, job=key, membership=MEMBERSHIP, name=name, code="X", message="", attempt=1)


def test_each_row_is_in_one_column_of_its_membership() -> None:
    """Submitted, rejected, unknown or to do; jobs whose rows are gone are counted apart."""
    index, keys = rows(a=MEMBERSHIP, b=MEMBERSHIP, c=MEMBERSHIP, d=MEMBERSHIP, e=OTHER_MEMBERSHIP)
    arn = job_arn("a")
    done = JobSubmitted(at=AT, job=keys["a"], membership=MEMBERSHIP, name="a", arn=arn, attempt=1, via="start")
    book = book_of(done, failed(keys["b"], "b"), intent(keys["c"], "c"), intent("gone", "gone"))
    progress = ManifestProgress.of(index, book)
    lane, other = progress.lanes.values()
    assert lane.as_dict() == {"rows": 4, "submitted": 1, "rejected": 1, "unknown": 1, "to_do": 1}
    assert (list(progress.lanes)[1], other.as_dict()["rows"], other.to_do) == (OTHER_MEMBERSHIP, 1, 1)
    assert (progress.to_do, progress.unknown, progress.unknown_elsewhere) == (2, 1, 1)


def test_failed_jobs_are_to_do_where_they_are_to_be_tried_again() -> None:
    """As with submit --retry-failed."""
    index, keys = rows(a=MEMBERSHIP)
    assert ManifestProgress.of(index, book_of(failed(keys["a"], "a"))).to_do == 0
    assert ManifestProgress.of(index, book_of(failed(keys["a"], "a")), retry=Retry()).to_do == 1


class ModelsInTurn:
    """A reader of rows of which every third is of another model."""

    def request_at(self, offset: int) -> dict[str, Any] | None:
        """Read a row again."""
        return {"trainedModelArn": "b" if offset % 3 == 0 else "a", "resourceConfig": {"instanceType": "large"}}


def test_work_is_counted_by_kind_over_evenly_spread_rows_and_leaves_no_lane_out() -> None:
    """Nine hundred rows, and one of another membership: all of them are in one share."""
    index, _ = rows(ModelsInTurn(), **{f"a{number}": MEMBERSHIP for number in range(900)}, lonely=OTHER_MEMBERSHIP)
    work = ManifestProgress.of(index, LedgerState()).work(index)
    lonely = next(share for share in work if share.membership == OTHER_MEMBERSHIP)
    assert (lonely.jobs, lonely.instance_type) == (1, "large")
    here = {share.trained_model: share.jobs for share in work if share.membership == MEMBERSHIP}
    assert sum(here.values()) == 900
    assert here["b"] == pytest.approx(300, abs=15)


class ManyModels:
    """A reader of rows of more models than are told apart."""

    def request_at(self, offset: int) -> dict[str, Any] | None:
        """Read a row again."""
        return {"trainedModelArn": f"model-{offset % 30}", "resourceConfig": {"instanceType": "l", "instanceCount": 2}}


def test_work_of_very_many_kinds_is_still_all_that_is_to_do() -> None:
    """The frequent kinds stand for the others, whose jobs also take their time."""
    index, _ = rows(ManyModels(), **{f"a{number}": MEMBERSHIP for number in range(300)})
    work = ManifestProgress.of(index, LedgerState()).work(index)
    assert sum(share.jobs for share in work) == 300
    assert set(work.values()) == {2.0}
