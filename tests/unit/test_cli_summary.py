"""What people are told at a run's end: what happened, where it stands, what to do next."""

import pytest
from test_report_summary import summary

from batchsubmit.report.summary import UnknownJob, closing_words


def words(**members: object) -> str:
    """The closing words of such a run."""
    return "\n".join(closing_words(summary(**members)))


def test_a_run_that_did_all_says_so_and_names_the_ledger() -> None:
    """No next step, and no line for what did not happen."""
    text = words(rows=1200, submitted=1200)
    assert text == "1,200 of 1,200 jobs submitted in 1.5 s\n  ledger: jobs.ledger.jsonl"


def test_a_second_run_had_nothing_to_do() -> None:
    """And says what is known of the rows."""
    assert words(rows=5, submitted_before=5).startswith("Nothing to do: all 5 jobs were submitted before\n")


def test_a_stopped_run_says_why_what_is_left_and_how_to_go_on() -> None:
    """The reason in the service's or the operating system's own words."""
    text = words(rows=5, submitted=2, left=3, stop_reason="credentials", stop_message="ExpiredToken: it is expired")
    assert text.startswith("Stopped (credentials): 2 of 5 jobs submitted by this run")
    assert "3 left to submit" in text
    assert "why: ExpiredToken: it is expired" in text
    assert text.endswith("next: run the same command again to go on")


def test_a_quota_that_others_used_up_is_named() -> None:
    """It is why jobs are left; nobody can see that from here but by asking around."""
    text = words(rows=5, left=5, stop_reason="deadline", held_by_others={"account": "7 of 10", "m": "5 of 5"})
    assert "the quota of the account looked used by others at the end: 7 of 10" in text
    assert "the quota of membership m looked used by others at the end: 5 of 5" in text


def test_a_refusing_quota_is_named_with_the_request_that_raises_it() -> None:
    """By the service's own name, which is what Service Quotas lists it under."""
    quota = {"Pending jobs per membership": 5.0}
    text = words(rows=5, left=5, stop_reason="deadline", refused_by_quota=1, refused_by=quota)
    assert "1 call refused by the quota 'Pending jobs per membership' of 5, repeated later" in text
    assert "all slots of the quota 'Pending jobs per membership' of 5 are taken" in text
    assert "aws service-quotas request-service-quota-increase --service-code" in text
    for ended in ({"submitted": 5}, {"left": 5, "stop_reason": "signal"}):
        assert "request-service-quota" not in words(rows=5, refused_by_quota=2, refused_by=quota, **ended)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"rows": 1, "submitted": 1}, "1 of 1 job submitted in"),
        ({"rows": 1, "submitted_before": 1}, "Nothing to do: the only job was submitted before"),
        ({"rows": 3, "submitted_before": 1, "failed_before": 2}, "Nothing to do: 1 of 3 jobs was submitted before"),
        ({"rows": 0}, "Nothing to do: jobs.csv has no rows"),
        ({"rows": 2, "submitted": 1, "invalid": 1}, "1 invalid row, recorded as failed"),
        ({"rows": 2, "submitted": 2, "throttled": 1}, "1 time the service throttled"),
        ({"rows": 1, "unknown": 1}, "1 unknown: it may or may not run"),
    ],
)
def test_one_is_not_said_as_many(members: dict[str, object], sentence: str) -> None:
    """Each word agrees with its number."""
    assert sentence in words(**members)


def test_what_is_left_running_is_counted_where_ends_are_waited_for() -> None:
    """A deadline leaves jobs that nobody has seen to end."""
    assert "9 accepted, and not seen to end" in words(
        rows=30, submitted=20, left=10, finished_well=10, finished_badly=1, is_waited_for=True, stop_reason="deadline"
    )
    assert "not seen to end" not in words(rows=30, submitted=30, finished_well=10)
    gone = words(rows=30, submitted=30, finished_well=29, is_waited_for=True)
    assert gone.endswith("batchsubmit verify jobs.ledger.jsonl names them")


def test_jobs_that_ran_badly_are_said_to_be_paid_again() -> None:
    """Where they are sent again."""
    text = words(rows=5, submitted=5, finished_well=4, finished_badly=1, is_waited_for=True)
    assert "batchsubmit retry jobs.ledger.jsonl sends them again (those that ran are paid again)" in text


def test_failures_lead_to_the_status_command() -> None:
    """Which lists them."""
    text = words(rows=5, submitted=4, failed=1)
    assert "1 failed" in text
    assert "batchsubmit status jobs.ledger.jsonl" in text
    assert text.endswith("batchsubmit retry jobs.ledger.jsonl sends them again")


def test_unknown_jobs_are_named_and_counted() -> None:
    """Some by name, the others by number; never to be sent again without a look."""
    jobs = tuple(UnknownJob(job=str(n), membership="m", name=f"job-{n:02}", reason="lost") for n in range(25))
    text = words(rows=25, unknown=25, unknown_jobs=jobs)
    assert "job-00 in membership m (lost)" in text
    assert text.count("unknown: job-") < 25
    assert "more; see batchsubmit status" in text
    assert "--resubmit-unknown" in text


def test_every_other_count_has_its_line_only_where_it_is_not_zero() -> None:
    """A short run has a short account."""
    whole = words(
        rows=99,
        submitted=1,
        submitted_before=2,
        failed=3,
        failed_before=4,
        invalid=5,
        left=6,
        unknown_elsewhere=7,
        finished_well=8,
        finished_badly=9,
        refused_by_quota=10,
        throttled=11,
    )
    for count in range(2, 12):
        assert f"{count:>9} " in whole
    assert len(words(rows=1, submitted=1).splitlines()) == 2
