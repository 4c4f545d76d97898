"""What people are told at a run's end: what happened, where it stands, what to do next."""

import pytest
from test_report_summary import summary

from batchsubmit.report.summary import UnknownJob, closing_words

LEDGER = "  ledger: jobs.ledger.jsonl"


def words(**members: object) -> str:
    """The closing words of such a run."""
    return "\n".join(closing_words(summary(**members)))


def test_a_run_that_did_all_says_so_and_names_the_ledger() -> None:
    """No next step, and no line for what did not happen."""
    text = words(submitted=1200, running=1200)
    assert text == "1,200 of 1,200 jobs submitted in 1.5 s\n      1,200 submitted\n      1,200 running\n" + LEDGER


def test_a_second_run_had_nothing_to_do() -> None:
    """And says what is known of the rows."""
    assert words(submitted=5, submitted_before=5).startswith("Nothing to do: all 5 jobs were submitted before\n")


def test_a_stopped_run_says_why_what_is_left_and_how_to_go_on() -> None:
    """The reason in the service's or the operating system's own words."""
    text = words(submitted=2, pending=3, stop_reason="credentials", stop_message="ExpiredToken: it is expired")
    assert text.startswith("Stopped (credentials): 2 of 5 jobs submitted by this run")
    assert "3 pending" in text
    assert "why: ExpiredToken: it is expired" in text
    assert text.endswith("next: run the same command again to go on")


def test_a_quota_that_others_used_up_is_named() -> None:
    """It is why jobs are left; nobody can see that from here but by asking around."""
    text = words(pending=5, stop_reason="deadline", held_by_others={"account": "7 of 10", "m": "5 of 5"})
    assert "the quota of the account looked used by others at the end: 7 of 10" in text
    assert "the quota of membership m looked used by others at the end: 5 of 5" in text


def test_a_refusing_quota_is_named_with_the_request_that_raises_it() -> None:
    """By the service's own name, which is what Service Quotas lists it under."""
    quota = {"Pending jobs per membership": 5.0}
    text = words(pending=5, stop_reason="deadline", refused_by_quota=1, refused_by=quota)
    assert "1 call refused by the quota 'Pending jobs per membership' of 5, repeated later" in text
    assert "all slots of the quota 'Pending jobs per membership' of 5 are taken" in text
    assert "aws service-quotas request-service-quota-increase --service-code" in text
    for ended in ({"submitted": 5}, {"pending": 5, "stop_reason": "signal"}):
        assert "request-service-quota" not in words(refused_by_quota=2, refused_by=quota, **ended)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"submitted": 1}, "1 of 1 job submitted in"),
        ({"submitted": 1, "submitted_before": 1}, "Nothing to do: the only job was submitted before"),
        ({}, "Nothing to do: jobs.csv has no rows"),
        ({"submitted": 1, "rejected": 1, "invalid": 1}, "1 rejected, 1 invalid row among them"),
        ({"submitted": 2, "throttled": 1}, "1 time the service throttled"),
        ({"unknown": 1}, "1 unknown: it may or may not run"),
    ],
)
def test_one_is_not_said_as_many(members: dict[str, object], sentence: str) -> None:
    """Each word agrees with its number."""
    assert sentence in words(**members)


def test_what_runs_is_not_more_than_the_quotas_allow() -> None:
    """Of the others nobody has looked for the end."""
    text = words(
        submitted=20, pending=10, succeeded=10, failed=1, running=5, is_waited_for=True, stop_reason="deadline"
    )
    assert "5 running\n" in text
    assert "4 end not checked\n" in text
    gone = words(submitted=30, succeeded=29, running=1, is_waited_for=True)
    assert gone.endswith("batchsubmit verify jobs.ledger.jsonl names them")


def test_jobs_that_ran_badly_are_said_to_be_paid_again() -> None:
    """Where they are sent again."""
    text = words(submitted=5, succeeded=4, failed=1, is_waited_for=True)
    assert "batchsubmit retry jobs.ledger.jsonl sends them again (those that ran are paid again)" in text


def test_failures_lead_to_the_status_command() -> None:
    """Which lists them."""
    text = words(submitted=4, rejected=1)
    assert "1 rejected" in text
    assert "batchsubmit status jobs.ledger.jsonl" in text
    assert text.endswith("batchsubmit retry jobs.ledger.jsonl sends them again")


def test_unknown_jobs_are_named_and_counted() -> None:
    """Some by name, the others by number; never to be sent again without a look."""
    jobs = tuple(UnknownJob(job=str(n), membership="m", name=f"job-{n:02}", reason="lost") for n in range(25))
    text = words(unknown=25, unknown_jobs=jobs)
    assert "job-00 in membership m (lost)" in text
    assert text.count("unknown: job-") < 25
    assert "more; see batchsubmit status" in text
    assert "--resubmit-unknown" in text


def test_every_other_count_has_its_line_only_where_it_is_not_zero() -> None:
    """A short run has a short account."""
    whole = words(
        submitted=55,
        submitted_before=2,
        pending=3,
        rejected=4,
        invalid=4,
        running=5,
        unknown=6,
        unknown_elsewhere=7,
        succeeded=8,
        failed=9,
        refused_by_quota=10,
        throttled=11,
        cancelled=12,
    )
    for count in range(3, 13):
        assert f"{count:>9} " in whole
    assert len(words(submitted=1, running=1).splitlines()) == 4
