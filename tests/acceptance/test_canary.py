"""`submit --canary N`: the first rows go ahead, and the rest follows only where they finish well."""

from datetime import datetime

from conftest import Program, Sandbox, csv_text

NAMES = [f"job-{number}" for number in range(8)]
LEDGER = "jobs.ledger.jsonl"


def submit(program: Program, *options: object) -> dict[str, object]:
    """Submit the manifest with two canaries; gives the summary, the exit status in it."""
    (program.folder / "jobs.csv").write_text(csv_text(NAMES))
    ended = program.run("submit", "jobs.csv", "--json", "--canary", 2, *options)
    return ended.summary | {"exit": ended.status, "said": ended.stderr}


def test_the_rest_is_sent_after_the_canaries_have_finished_well(submitting: Program, sandbox: Sandbox) -> None:
    """No other job starts before both are at their end."""
    sandbox.configure(job_seconds=0.3, pending_seconds=0.0)
    summary = submit(submitting)
    assert (summary["exit"], summary["submitted"]) == (0, 8)
    events = [(event["event"], event.get("name")) for event in submitting.events(LEDGER)]
    third = min(place for place, (event, name) in enumerate(events) if event == "intent" and name not in NAMES[:2])
    assert [name for event, name in events[:third] if event == "finished"] in (NAMES[:2], NAMES[1::-1])


def test_canaries_and_the_rest_share_one_rate(submitting: Program, sandbox: Sandbox) -> None:
    """The service knows of one caller: eight calls are a burst of three, and five at two a second."""
    sandbox.configure(job_seconds=0.1, pending_seconds=0.0)
    assert submit(submitting, "--rate", 2)["submitted"] == 8
    events = submitting.events(LEDGER)
    first = next(event["at"] for event in events if event["event"] == "intent")
    last = max(event["at"] for event in events if event["event"] == "submitted")
    assert (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() >= 2.5


def test_nothing_else_is_sent_where_a_canary_fails(submitting: Program, sandbox: Sandbox) -> None:
    """It says which and why, and so it does when run again; with --retry-failed it goes on."""
    sandbox.configure(job_seconds=0.1, pending_seconds=0.0, failing_names=["job-1"])
    for _ in range(2):
        summary = submit(submitting)
        assert (summary["exit"], summary["stop_reason"]) == (3, "canary")
        assert "1 of 2 canaries did not finish well; job-1" in str(summary["said"])
        assert sorted(sandbox.names()) == NAMES[:2]
        assert "next: fix the cause; the same command with --retry-failed" in str(summary["said"])
    sandbox.configure(job_seconds=0.1, pending_seconds=0.0, failing_names=[])
    again = submit(submitting, "--retry-failed", "--yes")
    assert (again["exit"], sorted(sandbox.names())) == (0, sorted([*NAMES, "job-1"]))


def test_without_the_option_the_rest_is_sent(submitting: Program, sandbox: Sandbox) -> None:
    """The other way on."""
    sandbox.configure(job_seconds=0.1, pending_seconds=0.0, failing_names=["job-1"])
    assert submit(submitting)["exit"] == 3
    assert submitting.run("submit", "jobs.csv").status == 0
    assert sorted(sandbox.names()) == NAMES
