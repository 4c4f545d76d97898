"""The account of a run, and the exit status that follows from it."""

import json

import pytest

from batchsubmit.report.summary import Summary, UnknownJob

NOTHING = Summary(
    run="r",
    batch="",
    manifest="jobs.csv",
    ledger="jobs.ledger.jsonl",
    rows=0,
    submitted=0,
    submitted_before=0,
    failed=0,
    failed_before=0,
    invalid=0,
    unknown=0,
    left=0,
    unknown_elsewhere=0,
    finished_well=0,
    finished_badly=0,
    refused_by_quota=0,
    throttled=0,
    seconds=1.5,
)


def summary(**members: object) -> Summary:
    """A run of nothing but these."""
    names = [name for name in Summary.__dataclass_fields__ if getattr(NOTHING, name) is not None]
    return Summary(**{name: getattr(NOTHING, name) for name in names} | members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({}, 0),
        ({"submitted": 3, "finished_well": 2}, 0),
        ({"submitted": 3, "finished_well": 2, "is_waited_for": True}, 3),
        ({"submitted": 3, "finished_well": 3, "is_waited_for": True}, 0),
        ({"submitted": 3}, 0),
        ({"submitted_before": 3}, 0),
        ({"submitted": 3, "finished_well": 3}, 0),
        ({"submitted": 3, "refused_by_quota": 9, "throttled": 9}, 0),
        ({"failed": 1}, 1),
        ({"failed_before": 1}, 1),
        ({"invalid": 1}, 1),
        ({"submitted": 3, "finished_well": 2, "finished_badly": 1, "is_waited_for": True}, 1),
        ({"submitted": 3, "finished_badly": 1}, 0),
        ({"left": 1}, 3),
        ({"unknown": 1}, 3),
        ({"unknown_elsewhere": 1}, 3),
        ({"stop_reason": "signal"}, 3),
        ({"failed": 1, "left": 1}, 3),
        ({"failed": 1, "stop_reason": "deadline"}, 3),
    ],
)
def test_the_exit_status_follows_from_the_counts(members: dict[str, object], status: int) -> None:
    """What remains to be done outranks what failed."""
    assert summary(**members).exit_status == status


def test_counts_are_the_whole_numbers_alone() -> None:
    """As the ledger's last line of a run has them: no seconds, no flags, no words."""
    counts = summary(submitted=3, is_waited_for=True).counts()
    assert counts["submitted"] == 3
    assert all(type(value) is int for value in counts.values())
    assert not {"seconds", "is_waited_for", "run"} & counts.keys()


def test_the_json_summary_has_the_same_names_and_the_exit_status() -> None:
    """It can be written as JSON as it is."""
    unknown = UnknownJob(job="k", membership="m", name="n", reason="lost")
    told = json.loads(json.dumps(summary(unknown=1, unknown_jobs=(unknown,)).as_dict()))
    assert told["exit_status"] == 3
    assert told["unknown_jobs"] == [{"job": "k", "membership": "m", "name": "n", "reason": "lost"}]
    assert set(told) == {*Summary.__dataclass_fields__, "exit_status"}
