"""The account of a run, and the exit status that follows from it."""

import json
from typing import Any

import pytest

from batchsubmit.core.ledger_state import Counts
from batchsubmit.report.summary import Summary, UnknownJob, outcome_words

NOTHING: dict[str, Any] = {
    "run": "r",
    "batch": "",
    "manifest": "jobs.csv",
    "ledger": "jobs.ledger.jsonl",
    "submitted_before": 0,
    "rejected_before": 0,
    "invalid": 0,
    "unknown_elsewhere": 0,
    "refused_by_quota": 0,
    "throttled": 0,
    "seconds": 1.5,
}


def summary(*, total: int | None = None, submitted: int = 0, rejected: int = 0, **given: Any) -> Summary:  # noqa: ANN401
    """A run of nothing but these, what it did itself being all but what others did before."""
    states = {
        name: given.pop(name, 0) for name in ("pending", "running", "succeeded", "failed", "cancelled", "unknown")
    }
    decided = states["pending"] + submitted + rejected + states["unknown"]
    counts = Counts(total=decided if total is None else total, submitted=submitted, rejected=rejected, **states)
    own = submitted - given.get("submitted_before", 0), rejected - given.get("rejected_before", 0)
    return Summary(**NOTHING | {"counts": counts, "submitted": own[0], "rejected": own[1]} | given)


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({}, 0),
        ({"submitted": 3, "succeeded": 2}, 0),
        ({"submitted": 3, "succeeded": 2, "is_waited_for": True}, 3),
        ({"submitted": 3, "succeeded": 3, "is_waited_for": True}, 0),
        ({"submitted": 3}, 0),
        ({"submitted": 3, "submitted_before": 3}, 0),
        ({"submitted": 3, "refused_by_quota": 9, "throttled": 9}, 0),
        ({"rejected": 1}, 1),
        ({"rejected": 1, "rejected_before": 1}, 1),
        ({"rejected": 1, "invalid": 1}, 1),
        ({"submitted": 3, "succeeded": 2, "failed": 1, "is_waited_for": True}, 1),
        ({"submitted": 3, "succeeded": 2, "cancelled": 1, "is_waited_for": True}, 1),
        ({"submitted": 3, "failed": 1}, 0),
        ({"pending": 1}, 3),
        ({"unknown": 1}, 3),
        ({"unknown_elsewhere": 1}, 3),
        ({"stop_reason": "signal"}, 3),
        ({"rejected": 1, "pending": 1}, 3),
        ({"rejected": 1, "stop_reason": "deadline"}, 3),
    ],
)
def test_the_exit_status_follows_from_the_counts(members: dict[str, object], status: int) -> None:
    """What remains to be done outranks what failed."""
    assert summary(**members).exit_status == status


def test_the_counts_are_nine_in_every_json() -> None:
    """Those that are zero, too."""
    names = ["total", "pending", "submitted", "running", "succeeded", "failed", "rejected", "cancelled", "unknown"]
    assert list(summary(submitted=3).as_dict()["counts"]) == names


@pytest.mark.parametrize(
    ("members", "headline"),
    [
        ({"submitted": 60, "succeeded": 59, "failed": 1, "is_waited_for": True}, "1 of 60 jobs failed"),
        ({"submitted": 60, "succeeded": 60, "is_waited_for": True}, "60 of 60 jobs succeeded"),
        ({"submitted": 57, "rejected": 2, "unknown": 1}, "2 of 60 jobs rejected, 1 unknown"),
        ({"submitted": 60, "succeeded": 58, "cancelled": 2, "is_waited_for": True}, "2 of 60 jobs cancelled"),
        ({"rejected": 60, "rejected_before": 60}, "60 of 60 jobs rejected"),
    ],
)
def test_a_headline_never_looks_better_than_the_exit_status(members: dict[str, Any], headline: str) -> None:
    """What went wrong is what it says."""
    assert outcome_words(summary(**members)) == headline


def test_the_json_summary_has_the_same_names_and_the_exit_status() -> None:
    """It can be written as JSON as it is."""
    unknown = UnknownJob(job="k", membership="m", name="n", reason="lost")
    told = json.loads(json.dumps(summary(unknown=1, unknown_jobs=(unknown,)).as_dict()))
    assert told["exit_status"] == 3
    assert told["unknown_jobs"] == [{"job": "k", "membership": "m", "name": "n", "reason": "lost"}]
    assert set(told) == {*Summary.__dataclass_fields__, "exit_status"}
