"""What each refusal of the service leads to, by the real program: for one row, one membership, or the whole run."""

import json
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, finish, request_named, write_jsonl
from local_aws import LocalAws
from strategies import MEMBERSHIP, arn
from worker_programs import LEDGER as WORKER_LEDGER
from worker_programs import in_virginia, jobs, serving, until, working

from batchsubmit import Outcome, Rejected, StoppedError, Submitted, open_batch, submit_jobs

__all__ = ["working"]

MANIFEST, LEDGER = "jobs.jsonl", "jobs.ledger.jsonl"
START, LIST = "StartTrainedModelInferenceJob", "ListTrainedModelInferenceJobs"
BUDGET = "Data access budget"
REJECTED = {"failed", "rejected"}
THIRD_MEMBERSHIP = "00112233-4455-6677-8899-aabbccddeeff"


def many(count: int, *, stem: str = "job", **where: Any) -> list[dict[str, Any]]:  # noqa: ANN401 (a request's members)
    """Requests of different names in one membership, for one model."""
    return [request_named(f"{stem}-{number:04}", **where) for number in range(count)]


def write(program: Program, rows: Iterable[dict[str, Any]]) -> Path:
    """Write the manifest."""
    return write_jsonl(program.folder / MANIFEST, rows)


def rejected(program: Program, ledger: str = LEDGER) -> list[dict[str, Any]]:
    """The jobs that the ledger has as rejected."""
    path = program.folder / ledger
    return [event for event in program.events(ledger) if event["event"] in REJECTED] if path.exists() else []


def refusals(program: Program, ledger: str = LEDGER) -> list[tuple[str, str]]:
    """Code and cause of each refused call."""
    return [(each["code"], each["cause"]) for each in program.events(ledger) if each["event"] == "refused"]


@pytest.fixture
def here(submitting: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """This process is pointed at the sandbox, in the program's folder."""
    monkeypatch.chdir(submitting.folder)
    for name, value in submitting.environment.items():
        monkeypatch.setenv(name, value)
    return submitting


def test_a_denied_row_is_rejected_and_all_others_are_submitted(submitting: Program, sandbox: Sandbox) -> None:
    """Exit status 1, in the service's words; --retry-failed sends it once the policy allows it."""
    sandbox.configure(denied=["job-0007"])
    write(submitting, many(20))
    ended = submitting.run("submit", MANIFEST, "--json")
    assert ended.status == 1, ended.stderr
    assert len(set(sandbox.names())) == len(sandbox.names()) == 19
    (failed,) = rejected(submitting)
    assert (failed["name"], failed["code"]) == ("job-0007", "AccessDeniedException")
    assert "not authorized to perform: cleanrooms-ml:StartTrainedModelInferenceJob" in failed["message"]
    assert refusals(submitting) == [("AccessDeniedException", "denied")]
    assert (ended.summary["submitted"], ended.summary["rejected"], ended.summary["counts"]["pending"]) == (19, 1, 0)
    calls = sandbox.calls()
    assert submitting.run("submit", MANIFEST).status == 1
    assert sandbox.calls() == calls
    sandbox.configure(denied=[])
    assert submitting.run("submit", MANIFEST, "--retry-failed").status == 0
    assert len(set(sandbox.names())) == 20


def test_a_model_that_is_denied_holds_up_no_other_model_of_its_membership(
    submitting: Program, sandbox: Sandbox
) -> None:
    """Also where its rows come first."""
    sandbox.configure(denied=[arn("trained-model", "closed", membership=MEMBERSHIP)])
    write(submitting, [*many(8, stem="closed", model="closed"), *many(8)])
    ended = submitting.run("submit", MANIFEST, "--rate", 0, "--json", BATCHSUBMIT_SUBMIT__CONCURRENCY="1")
    assert ended.status == 1, ended.stderr
    assert (ended.summary["submitted"], ended.summary["rejected"]) == (8, 8)
    assert len(rejected(submitting)) == 8


@pytest.mark.parametrize(
    "rows",
    [
        [*many(20), *many(20, stem="other", membership=OTHER_MEMBERSHIP)],
        [*many(200), *many(200, stem="more", model="two")],
        many(400),
    ],
    ids=["two memberships", "two models", "one of each"],
)
def test_a_run_of_which_everything_is_denied_stops_and_goes_on_without_a_flag(
    submitting: Program, sandbox: Sandbox, rows: list[dict[str, Any]]
) -> None:
    """Exit status 3 after a few calls; no row is rejected, and the same command sends all once the role may."""
    sandbox.disturb(probabilities={START: {"access_denied": 1.0}})
    write(submitting, rows)
    quiet = {"BATCHSUBMIT_SUBMIT__CONCURRENCY": "2"}
    ended = submitting.run("submit", MANIFEST, "--json", **quiet)
    assert ended.status == 3, ended.stderr
    assert ended.summary["stop_reason"] == "denied"
    assert "Allow cleanrooms-ml:StartTrainedModelInferenceJob" in ended.stderr
    assert rejected(submitting) == []
    assert ended.summary["counts"]["pending"] == len(rows)
    assert sandbox.calls() <= 30
    sandbox.disturb()
    assert submitting.run("submit", MANIFEST).status == 0
    assert len(set(sandbox.names())) == len(sandbox.names()) == len(rows)


def test_a_single_row_that_is_denied_is_rejected(submitting: Program, sandbox: Sandbox) -> None:
    """One row says nothing of the caller."""
    sandbox.configure(denied=["job-0000"])
    write(submitting, many(1))
    ended = submitting.run("submit", MANIFEST)
    assert ended.status == 1, ended.stderr
    assert [each["name"] for each in rejected(submitting)] == ["job-0000"]
    permission = "is not authorized to perform: cleanrooms-ml:StartTrainedModelInferenceJob on resource: "
    assert permission in rejected(submitting)[0]["message"]
    assert permission in submitting.run("status", LEDGER).stdout.replace("\n  ", " ")
    assert submitting.run("report", LEDGER, "--output", "page.html").status == 0
    assert permission in (submitting.folder / "page.html").read_text()


@pytest.mark.parametrize("fault", ["expired_token", "unrecognized_client", "subscription_required"])
def test_what_is_wrong_with_the_caller_stops_the_run(submitting: Program, sandbox: Sandbox, fault: str) -> None:
    """No row is rejected for it, and the same command goes on."""
    sandbox.disturb(probabilities={START: {fault: 1.0}})
    write(submitting, many(20))
    ended = submitting.run("submit", MANIFEST, "--json")
    assert ended.status == 3, ended.stderr
    assert ended.summary["stop_reason"] == "credentials"
    assert rejected(submitting) == []
    assert {cause for _, cause in refusals(submitting)} <= {"caller", "withdrawn"}
    sandbox.disturb()
    assert submitting.run("submit", MANIFEST).status == 0
    assert len(set(sandbox.names())) == len(sandbox.names()) == 20


def test_a_wrong_endpoint_stops_the_run_and_burns_no_row(submitting: Program, sandbox: Sandbox) -> None:
    """It knows no such operation; the same command goes on with the right one."""
    sandbox.disturb(probabilities={START: {"unknown_operation": 1.0}})
    write(submitting, many(20))
    ended = submitting.run("submit", MANIFEST, "--json")
    assert ended.status == 3, ended.stderr
    assert ended.summary["stop_reason"] == "unreachable"
    assert "is the endpoint Clean Rooms ML?" in ended.stderr
    assert rejected(submitting) == []
    assert ended.summary["counts"]["pending"] == 20
    sandbox.disturb()
    assert submitting.run("submit", MANIFEST).status == 0
    assert len(set(sandbox.names())) == len(sandbox.names()) == 20


def test_a_membership_whose_budget_is_spent_is_held_and_named(submitting: Program, sandbox: Sandbox) -> None:
    """All others are submitted; exit status 3 with budget and membership; nothing is learned about slots."""
    sandbox.configure(other_quotas={OTHER_MEMBERSHIP: BUDGET}, per_membership=3, job_seconds=0.3)
    held = many(6, stem="held", membership=OTHER_MEMBERSHIP)
    write(submitting, [*held, *many(7), *many(7, stem="third", membership=THIRD_MEMBERSHIP)])
    ended = submitting.run("submit", MANIFEST, "--json", BATCHSUBMIT_LOG__LEVEL="warning")
    assert ended.status == 3, ended.stderr
    assert len(set(sandbox.names())) == len(sandbox.names()) == 14
    summary = ended.summary
    assert (summary["stop_reason"], summary["counts"]["pending"], summary["rejected"]) == ("held", 6, 0)
    assert summary["held"] == {OTHER_MEMBERSHIP: f"'{BUDGET}' of 0"}
    assert f"'{BUDGET}' of 0" in ended.stderr
    assert OTHER_MEMBERSHIP in ended.stderr
    assert "lane.held" in ended.stderr
    assert set(summary["refused_by"]) <= {"Pending/in-progress custom model inference jobs per membership"}
    last = submitting.events(LEDGER)[-1]
    assert last["quotas"].get(OTHER_MEMBERSHIP, 3) == 3
    assert last["reason"] == "held"
    assert "failed" not in {event["event"] for event in submitting.events(LEDGER)}
    assert ("ServiceQuotaExceededException", "other_quota") in refusals(submitting)
    sandbox.configure(other_quotas={})
    assert submitting.run("submit", MANIFEST).status == 0
    assert len(set(sandbox.names())) == 20


def test_a_held_membership_is_tried_again_at_growing_intervals(submitting: Program, sandbox: Sandbox) -> None:
    """One call at a time, ever more rarely, while another membership's jobs run; a raised budget is used at once."""
    sandbox.configure(other_quotas={OTHER_MEMBERSHIP: BUDGET}, per_membership=1, job_seconds=0.5)
    write(submitting, [*many(6, stem="held", membership=OTHER_MEMBERSHIP), *many(8)])
    waits = {"BATCHSUBMIT_RETRY__CAP_SECONDS": "0.2", "BATCHSUBMIT_SLOTS__MAX_POLL_SECONDS": "0.8"}
    with submitting.running("submit", MANIFEST, "--json", "--concurrency", 1, **waits) as process:
        until(lambda: len([name for name in sandbox.names() if name.startswith("job")]) >= 4)
        sandbox.configure(other_quotas={})
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert len(set(sandbox.names())) == len(sandbox.names()) == 14
    tries = [
        datetime.fromisoformat(event["at"])
        for event in submitting.events(LEDGER)
        if event["event"] == "refused" and event["cause"] == "other_quota"
    ]
    assert 2 <= len(tries) <= 6
    pauses = [(after - before).total_seconds() for before, after in pairwise(tries[1:])]
    assert all(pause >= 0.19 for pause in pauses)
    assert pauses == sorted(pauses) or max(pauses) >= 0.75


@pytest.mark.parametrize(
    ("fault", "times"),
    [("aborted_after", 100), ("timeout_after", 20), ("timeout_exception_after", 20), ("slow_down_after", 4)],
)
def test_answers_aborted_after_acceptance_start_nothing_twice(
    submitting: Program, sandbox: Sandbox, fault: str, times: int
) -> None:
    """Such an answer may follow acceptance: each job is looked up, and found. A throttling 503 cuts the rate too."""
    sandbox.disturb({"fault": fault, "operation": START, "times": times})
    write(submitting, many(times + 8))
    ended = submitting.run("submit", MANIFEST)
    assert ended.status == 0, ended.stderr
    assert len(set(sandbox.names())) == len(sandbox.names()) == times + 8
    submitted = [event["via"] for event in submitting.events(LEDGER) if event["event"] == "submitted"]
    assert submitted.count("lookup") == times


@pytest.mark.parametrize("fault", ["throttled", "slow_down"])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(submitting: Program, sandbox: Sandbox, fault: str, form: str) -> None:
    """On a 429 and on a 503, as seconds and as a date."""
    wait = "2" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
    sandbox.disturb({"fault": fault, "operation": START}, retry_after=wait)
    write(submitting, many(1))
    began = time.monotonic()
    ended = submitting.run("submit", MANIFEST)
    assert ended.status == 0, ended.stderr
    assert time.monotonic() - began >= 2
    assert sandbox.names() == ["job-0000"]


def test_a_worker_moves_a_denied_message_to_the_dead_letter_queue_and_stays_up(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """With its reason; all others are submitted. Moved back once the policy allows it, it is submitted too."""
    sandbox.configure(denied=["job-0000", "job-0003"])
    queue = aws.make_queue()
    queue.put(*jobs(8))
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        assert process.poll() is None
        assert len(set(sandbox.names())) == len(sandbox.names()) == 6
        assert queue.dead is not None
        moved = queue.dead.drain()
        assert sorted(json.loads(each["Body"])["name"] for each in moved) == ["job-0000", "job-0003"]
        reasons = [each["MessageAttributes"]["batchsubmit-reason"]["StringValue"] for each in moved]
        assert all(reason.startswith("AccessDeniedException: ") for reason in reasons)
        sandbox.configure(denied=[])
        queue.put(*(json.loads(each["Body"]) for each in moved))
        until(lambda: len(sandbox.names()) == 8)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert len(set(sandbox.names())) == 8
    assert {each["name"] for each in rejected(working, WORKER_LEDGER)} == {"job-0000", "job-0003"}


def test_a_worker_of_which_everything_is_denied_stays_up(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """Without a dead-letter queue the messages go back for a while and are kept."""
    sandbox.disturb(probabilities={START: {"access_denied": 1.0}})
    queue = aws.make_queue(receives=None)
    queue.put(*jobs(12))
    with serving(working, queue) as process:
        until(lambda: len(rejected(working, WORKER_LEDGER)) == 12)
        until(lambda: queue.counts() == (0, 12, 0))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert queue.size() == 12


def test_a_denied_row_of_a_manifest_that_a_message_names_is_rejected(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """The message goes once all of its rows are decided."""
    sandbox.configure(denied=["row-0001"])
    queue = aws.make_queue()
    rows = "".join(json.dumps(each) + "\n" for each in jobs(4, stem="row"))
    aws.put_object("jobs", "denied-row.jsonl", rows)
    queue.put({"manifest": "s3://jobs/denied-row.jsonl"})
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert len(sandbox.names()) == 3
    assert [each["name"] for each in rejected(working, WORKER_LEDGER)] == ["row-0001"]


def test_a_worker_hands_the_messages_of_a_spent_budget_back_for_long(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """It stays up, submits all others, names the budget, and spends no receives on them."""
    sandbox.configure(other_quotas={OTHER_MEMBERSHIP: BUDGET})
    queue = aws.make_queue(receives=3)
    held = [in_virginia(each) for each in many(3, stem="held", membership=OTHER_MEMBERSHIP)]
    queue.put(*held, *jobs(6))
    brief = {
        "BATCHSUBMIT_WORKER__MAX_DELAY_SECONDS": "1",
        "BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "1",
        "BATCHSUBMIT_LOG__LEVEL": "warning",
    }
    with serving(working, queue, **brief) as process:
        until(lambda: len(sandbox.names()) == 6)
        until(lambda: len([each for each in refusals(working, WORKER_LEDGER) if each[1] == "other_quota"]) >= 8)
        assert process.poll() is None
        sandbox.configure(other_quotas={})
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert len(set(sandbox.names())) == len(sandbox.names()) == 9
    assert queue.dead is not None
    assert queue.dead.size() == 0
    assert BUDGET in ended.stderr


def test_the_api_tells_a_denied_request_apart(here: Program, sandbox: Sandbox) -> None:
    """It is `Rejected`, and the others are submitted."""
    sandbox.configure(denied=["job-0002"])
    report = submit_jobs(many(5), ledger=LEDGER)
    assert [(each.name, each.code) for each in report.rejected] == [("job-0002", "AccessDeniedException")]
    assert len(report.submitted) == 4
    assert report.summary.exit_status == 1


async def test_the_api_raises_where_only_held_requests_are_left(here: Program, sandbox: Sandbox) -> None:
    """After the outcomes of all others, with budget and membership."""
    sandbox.configure(other_quotas={OTHER_MEMBERSHIP: BUDGET})
    told: list[Outcome] = []

    async def read_all() -> None:
        async with open_batch(ledger=LEDGER) as batch:
            async for outcome in batch.submit([*many(3), *many(2, stem="held", membership=OTHER_MEMBERSHIP)]):
                told.append(outcome)  # noqa: PERF401 (what was told before an exception counts)

    with pytest.raises(StoppedError, match=f"{BUDGET}.*{OTHER_MEMBERSHIP}"):
        await read_all()
    assert [type(each) for each in told] == [Submitted] * 3


def test_the_api_raises_where_everything_is_denied(here: Program, sandbox: Sandbox) -> None:
    """No request is told as failed."""
    sandbox.disturb(probabilities={START: {"access_denied": 1.0}})
    with pytest.raises(StoppedError, match="AccessDenied"):
        submit_jobs([*many(10), *many(10, stem="other", membership=OTHER_MEMBERSHIP)], ledger=LEDGER)
    sandbox.disturb()
    report = submit_jobs([*many(10), *many(10, stem="other", membership=OTHER_MEMBERSHIP)], ledger=LEDGER)
    assert not any(isinstance(each, Rejected) for each in report.outcomes)
    assert len(report.submitted) == 20
