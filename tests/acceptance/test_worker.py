"""The worker as a process on a real queue protocol: all jobs once, nothing lost, nothing in the wrong place."""

import json
import re
import signal
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, finish
from local_aws import LocalAws, free_port
from prometheus_client.parser import text_string_to_metric_families
from sqs_proxy import Answer, as_sqs_refuses, refusal, sqs_proxy
from webhook import listening
from worker_programs import LEDGER, jobs, serving, until, working

__all__ = ["working"]

START, LIST = "StartTrainedModelInferenceJob", "ListTrainedModelInferenceJobs"


def test_every_message_becomes_one_job_and_the_queue_ends_empty(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Of two memberships, some sent twice; SIGTERM then ends the worker with exit status 0."""
    queue = aws.make_queue()
    wanted = [*jobs(150), *jobs(150, membership=OTHER_MEMBERSHIP, stem="other")]
    queue.put(*wanted, *wanted[::30])
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in wanted)
    assert sorted(working.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())
    assert ended.summary["queue_counts"]["deleted"] == 310
    assert queue.dead is not None
    assert queue.dead.size() == 0


def test_a_doctor_tells_what_the_queue_lacks(working: Program, aws: LocalAws) -> None:
    """And receives nothing."""
    queue = aws.make_queue(receives=None, MessageRetentionPeriod="3600")
    queue.put(*jobs(1))
    ended = working.run("doctor", "--json", BATCHSUBMIT_WORKER__QUEUE_URL=queue.url)
    told = [each["detail"] for each in ended.summary["checks"] if each["check"] == "queue"]
    assert "dead-letter queue" in told[0]
    assert any("MessageRetentionPeriod" in each for each in told)
    assert queue.counts() == (1, 0, 0)


def test_waiting_for_slots_spends_no_receives(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """A backlog that waits far longer than visibility x maxReceiveCount ends with nothing in the dead-letter queue."""
    sandbox.configure(per_membership=2, per_account=4, job_seconds=0.8)
    visibility, receives = 1, 3
    queue = aws.make_queue(receives=receives)
    wanted = [*jobs(24), *jobs(6, membership=OTHER_MEMBERSHIP, stem="other")]
    queue.put(*wanted)
    began = time.monotonic()
    with serving(working, queue, BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS=str(visibility)) as process:
        until(lambda: queue.size() == 0)
        waited = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert waited > 2 * visibility * receives
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in wanted)
    assert queue.dead is not None
    assert queue.dead.size() == 0
    assert ended.summary["queue_counts"]["extended"] > 0


def test_a_full_lane_holds_up_no_other_that_stands_behind_it(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """SQS gives the messages of the full lane first; they are put back, and the others come through."""
    sandbox.configure(per_membership=1, per_account=0)
    queue = aws.make_queue()
    queue.put(*jobs(30))
    queue.put(*jobs(1, membership=OTHER_MEMBERSHIP, stem="other"))
    with serving(working, queue) as process:
        until(lambda: "other-0000" in sandbox.names())
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert len(sandbox.names()) == 2
    assert queue.counts() == (29, 0, 0)


def test_the_end_s_account_names_quotas_that_others_seem_to_use_up(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Every call is refused, though nothing is seen to run."""
    sandbox.configure(per_membership=5)
    sandbox.disturb(probabilities={START: {"quota": 1.0}})
    queue = aws.make_queue()
    queue.put(*jobs(3))
    polls = {"BATCHSUBMIT_SLOTS__MIN_POLL_SECONDS": "0.05", "BATCHSUBMIT_SLOTS__MAX_POLL_SECONDS": "0.1"}
    with serving(working, queue, **polls) as process:
        until(lambda: sum(event["event"] == "refused" for event in _events(working)) >= 12)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    membership = jobs(1)[0]["membershipIdentifier"]
    assert ended.summary["held_by_others"] == {membership: "5 of 5"}
    assert f"the quota of membership {membership} looked used by others at the end: 5 of 5" in ended.stderr


def test_sigterm_hands_everything_back_and_another_worker_goes_on(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Nothing stays hidden, although the visibility timeout is far longer than the test."""
    sandbox.configure(per_membership=5, per_account=0)
    queue = aws.make_queue()
    queue.put(*jobs(30))
    with serving(working, queue) as process:
        until(lambda: len(sandbox.names()) == 5)
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 0
    assert queue.counts() == (25, 0, 0)
    sandbox.configure(per_membership=0)
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 0
    assert len(sandbox.names()) == len(set(sandbox.names())) == 30


def test_quotas_told_at_the_start_are_known_before_the_first_refusal(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Service Quotas is asked once, and no call is refused to learn what it told."""
    sandbox.configure(per_membership=3, per_account=3)
    queue = aws.make_queue()
    queue.put(*jobs(12))
    told = {"QuotaName": "Pending/in-progress custom model inference jobs per membership", "Value": 3.0}
    with listening() as quotas:
        quotas.body = json.dumps({"Quotas": [told]}).encode()
        environment = {
            "AWS_ENDPOINT_URL_SERVICE_QUOTAS": quotas.url,
            "BATCHSUBMIT_SLOTS__SERVICE_QUOTAS": "true",
            "BATCHSUBMIT_SLOTS__MAX_POLL_SECONDS": "600",
        }
        with serving(working, queue, **environment) as process:
            until(lambda: len(sandbox.names()) == 3)
            process.send_signal(signal.SIGTERM)
            ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert [headers["X-Amz-Target"] for headers, _ in quotas.requests] == ["ServiceQuotasV20190624.ListServiceQuotas"]
    assert ended.summary["refused_by_quota"] == 0


def test_a_call_that_outlasts_the_grace_is_given_up_and_the_next_worker_looks_it_up(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """The worker ends in time, says so, and its messages are to be had at once; nothing is submitted twice."""
    sandbox.disturb({"operation": "StartTrainedModelInferenceJob", "fault": "slow_answer"}, slow_seconds=30)
    queue = aws.make_queue()
    queue.put(*jobs(5))
    working.environment["BATCHSUBMIT_LOOKUP__SETTLE_SECONDS"] = "0.5"
    brief = {"BATCHSUBMIT_WORKER__GRACE_SECONDS": "1", "BATCHSUBMIT_SUBMIT__CONCURRENCY": "1"}
    with serving(working, queue, **brief) as process:
        until(lambda: len(sandbox.names()) == 1)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        ended = finish(process)
    assert time.monotonic() - began < 5
    assert ended.status == 3, ended.stderr
    assert ended.summary["is_cut_short"]
    assert "the grace of 1 s was over, and the calls in progress (1) were given up" in ended.stderr
    (line,) = (json.loads(line) for line in ended.stderr.splitlines() if "worker.grace_over" in line)
    assert line.keys() >= {"run", "worker", "grace_seconds"}
    assert queue.counts() == (5, 0, 0)
    sandbox.disturb()
    with serving(working, queue, BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS="2") as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 0
    assert len(sandbox.names()) == len(set(sandbox.names())) == 5
    assert [event["via"] for event in working.events(LEDGER) if event["event"] == "submitted"].count("lookup") == 1


def test_a_grace_shorter_than_a_long_poll_is_refused(working: Program, aws: LocalAws) -> None:
    """A poll is never cut off: messages would stay hidden."""
    queue = aws.make_queue()
    ended = working.run("worker", "--queue-url", queue.url, BATCHSUBMIT_WORKER__GRACE_SECONDS="0.5")
    assert ended.status == 2
    assert "worker.grace_seconds is 0.5" in ended.stderr


def test_poison_is_recorded_and_moved_at_once_and_holds_up_nothing(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Each message that can never work is one failed job in the ledger and one message in the dead-letter queue."""
    queue = aws.make_queue()
    invalid = {**jobs(1)[0], "name": ""}
    poison = ["no JSON", "[]", json.dumps(invalid), '{"manifest": "no place"}']
    queue.put(*poison, *jobs(20))
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert queue.dead is not None
    moved = queue.dead.drain()
    assert sorted(each["Body"] for each in moved) == sorted(poison)
    assert all("batchsubmit-reason" in each["MessageAttributes"] for each in moved)
    failed = [event for event in working.events(LEDGER) if event["event"] == "rejected"]
    assert sorted(each["code"] for each in failed) == ["InvalidPointer", "InvalidRequest", "InvalidRequest", "NotJson"]
    assert all(each["message"].startswith("message ") for each in failed)
    assert len(sandbox.names()) == 20


def test_poison_without_a_dead_letter_queue_stays_where_it_is(working: Program, aws: LocalAws) -> None:
    """Recorded once, and hidden."""
    queue = aws.make_queue(receives=None)
    queue.put("no JSON")
    with serving(working, queue) as process:
        until(lambda: any(event["event"] == "rejected" for event in _events(working)))
        until(lambda: queue.counts() == (0, 1, 0))
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0
    assert "no dead-letter queue" in ended.stderr
    assert queue.size() == 1


def test_what_a_worker_sends_again_on_a_standard_queue_keeps_its_group_and_is_accepted(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Dead letters, and messages whose last receive is spent when the worker ends: the queue was fair, and stays so."""
    sandbox.configure(per_membership=1, per_account=0)
    queue = aws.make_queue(receives=1)
    queue.put("no JSON", MessageGroupId="unsound")
    queue.put(*jobs(5), MessageGroupId="tenant")
    with sqs_proxy(aws.url) as proxy:
        proxy.edit = as_sqs_refuses
        with serving(working, queue, AWS_ENDPOINT_URL_SQS=proxy.url) as process:
            until(lambda: len(sandbox.names()) == 1 and queue.counts() == (0, 4, 0))
            process.send_signal(signal.SIGTERM)
            ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert queue.dead is not None
    (letter,) = queue.dead.drain()
    assert letter["Attributes"]["MessageGroupId"] == "unsound"
    assert "batchsubmit-reason" in letter["MessageAttributes"]  # moved by the worker, not by the redrive policy
    left = queue.drain()
    assert [each["Attributes"]["MessageGroupId"] for each in left] == ["tenant"] * 4
    assert {each["Attributes"]["ApproximateReceiveCount"] for each in left} == {"1"}


def _events(program: Program) -> list[dict[str, object]]:
    return program.events(LEDGER) if (program.folder / LEDGER).exists() else []


def test_a_killed_worker_s_jobs_are_found_not_repeated(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """Messages that were submitted but not deleted come again, and are acknowledged without a call."""
    queue = aws.make_queue()
    queue.put(*jobs(200))
    short = {"BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "2"}
    with serving(working, queue, "--config", _slowly(working), **short) as process:
        until(lambda: len(sandbox.names()) >= 20)
        process.kill()
        process.communicate()
    with serving(working, queue, **short) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in jobs(200))


def test_what_no_lookup_may_decide_comes_again_until_one_may_and_is_no_dead_letter(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """The role may not list: the job's message, and that of a manifest, are neither hoarded nor spent; then it may."""
    lost = [{"operation": START, "fault": "lost_after", "name": name} for name in ("job-0000", "row-0001")]
    sandbox.disturb(*lost, probabilities={LIST: {"access_denied": 1.0}})
    queue = aws.make_queue(receives=3)
    rows = "".join(json.dumps(each) + "\n" for each in jobs(3, stem="row"))
    aws.put_object("jobs", "some-unknown.jsonl", rows)
    queue.put(*jobs(3), {"manifest": "s3://jobs/some-unknown.jsonl"})
    port = free_port()
    brief = {"MAX_DELAY_SECONDS": "1", "VISIBILITY_TIMEOUT_SECONDS": "1", "METRICS_PORT": str(port)}
    settings = {f"BATCHSUBMIT_WORKER__{name}": value for name, value in brief.items()}
    with serving(working, queue, BATCHSUBMIT_LOOKUP__SETTLE_SECONDS="0.3", **settings) as process:
        until(lambda: len(sandbox.names()) == 6)
        until(lambda: _value(port, 'batchsubmit_messages_total{event="undecided"}') >= 8)
        assert _value(port, "batchsubmit_jobs_undecided") == 2
        sandbox.disturb()
        until(lambda: queue.size() == 0)
        assert _value(port, "batchsubmit_jobs_undecided") == 0
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert "message.undecided" in ended.stderr
    assert len(sandbox.names()) == len(set(sandbox.names())) == 6
    assert queue.dead is not None
    assert queue.dead.size() == 0


def _value(port: int, series: str) -> float:
    """A sample of a scrape."""
    found = (line.rpartition(" ") for line in text_of(port, "metrics").splitlines())
    return next(float(value) for name, _, value in found if name == series)


def _slowly(program: Program) -> str:
    (program.folder / "slow.toml").write_text("[submit]\nconcurrency = 4\n")
    return "slow.toml"


def test_a_troubled_sqs_costs_no_job(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """Throttled calls, 5xx, batches that fail in part, and messages delivered twice."""
    queue = aws.make_queue()
    queue.put(*jobs(200))
    late: list[dict[str, Any]] = []

    def before(operation: str, members: dict[str, Any], number: int) -> Answer | None:
        if number % 5 == 0:
            return refusal("RequestThrottled")
        if number % 7 == 0:
            return refusal("InternalError", status=500)
        return None

    def edit(operation: str, members: dict[str, Any]) -> dict[str, Any]:
        if operation in {"DeleteMessageBatch", "ChangeMessageVisibilityBatch"} and len(members["Entries"]) > 2:
            failed = members["Entries"].pop()
            return {"Failed": [{"Id": failed["Id"], "Code": "InternalError", "SenderFault": False}]}
        return {}

    def after(operation: str, members: dict[str, Any], answer: dict[str, Any]) -> None:
        if operation == "ReceiveMessage" and answer.get("Messages"):
            late.append(answer["Messages"][0])
            answer["Messages"] += late[:-3]  # some were deleted long ago
            del late[:-3]

    with sqs_proxy(aws.url) as proxy:
        proxy.before, proxy.edit, proxy.after = before, edit, after
        environment = {"AWS_ENDPOINT_URL_SQS": proxy.url}
        with serving(working, queue, **environment) as process:
            until(lambda: queue.size() == 0)
            process.send_signal(signal.SIGTERM)
            ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in jobs(200))
    counts = ended.summary["queue_counts"]
    assert counts["throttled"] > 0
    assert counts["unanswered"] > 0
    assert counts["copies"] + counts["recognised"] + counts["redelivered"] > 0
    assert queue.dead is not None
    assert queue.dead.size() == 0


def test_an_idle_worker_makes_one_receive_call_a_long_poll(working: Program, aws: LocalAws) -> None:
    """And nothing else but the three calls with which it looks at the queue's settings."""
    queue = aws.make_queue()
    with sqs_proxy(aws.url) as proxy:
        with serving(working, queue, AWS_ENDPOINT_URL_SQS=proxy.url) as process:
            until(lambda: proxy.calls["ReceiveMessage"] >= 4)
            process.send_signal(signal.SIGTERM)
            ended = finish(process)
        assert ended.summary["seconds"] >= ended.summary["queue_counts"]["polls"] * 0.9
        assert ended.summary["queue_counts"]["polls"] == proxy.calls["ReceiveMessage"]
        assert set(proxy.calls) == {"ReceiveMessage", "GetQueueAttributes", "GetQueueUrl"}


def test_a_long_poll_under_way_is_awaited(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """A message that it brings after the signal is handed back and not submitted."""
    queue = aws.make_queue()
    far = {"BATCHSUBMIT_WORKER__WAIT_SECONDS": "20"}
    with sqs_proxy(aws.url) as proxy, serving(working, queue, **far, AWS_ENDPOINT_URL_SQS=proxy.url) as process:
        until(lambda: proxy.calls["ReceiveMessage"] == 1)
        process.send_signal(signal.SIGTERM)
        queue.put(*jobs(1))
        ended = finish(process)
    assert ended.status == 0
    assert ended.summary["queue_counts"]["received"] == 1
    assert ended.summary["queue_counts"]["handed_back"] == 1
    assert queue.counts() == (1, 0, 0)
    assert sandbox.names() == []


def test_a_queue_that_does_not_exist_or_vanishes_is_said(working: Program, aws: LocalAws) -> None:
    """At the start it is a usage error, later the worker stops."""
    queue = aws.make_queue()
    ended = working.run("worker", "--queue-url", f"{queue.url}-none")
    assert ended.status == 2
    assert "does not exist" in ended.stderr
    with serving(working, queue) as process:
        until(lambda: any(event["event"] == "run_started" for event in _events(working)))
        queue.call("DeleteQueue")
        ended = finish(process)
    assert ended.status == 3
    assert "does not exist" in ended.stderr


def test_a_wrong_clock_is_said_with_its_error(working: Program, aws: LocalAws) -> None:
    """By the time in SQS's answer."""
    with sqs_proxy(aws.url) as proxy:
        proxy.before = lambda *_: refusal("InvalidSignatureException", "Signature expired: 1 is now earlier", 403)
        ended = working.run("worker", "--queue-url", aws.make_queue().url, AWS_ENDPOINT_URL_SQS=proxy.url)
    assert ended.status == 3
    assert "clock" in ended.stderr


def test_a_manifest_in_s3_is_expanded_and_its_message_goes_with_its_last_job(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """By a pointer and by S3's own event; a job that also comes as a message of its own is still one job."""
    sandbox.configure(per_membership=4, per_account=0, job_seconds=0.3)
    queue = aws.make_queue()
    wanted = jobs(40)
    aws.put_object("jobs", "in/night one.jsonl", "".join(json.dumps(each) + "\n" for each in wanted))
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "jobs"}, "object": {"key": "in/night+one.jsonl"}},
    }
    queue.put({"manifest": "s3://jobs/in/night one.jsonl"}, {"Records": [record]}, *wanted[::8])
    queue.put({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "jobs"})
    with serving(working, queue, BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS="2") as process:
        until(lambda: len(sandbox.names()) > 20)
        assert queue.size() > 0
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in wanted)
    assert ended.summary["queue_counts"]["poisoned"] == 0


def test_a_manifest_that_is_wrong_or_not_there_is_poison(working: Program, aws: LocalAws) -> None:
    """With the first of its problems; nothing of it is sent."""
    queue = aws.make_queue()
    aws.put_object("jobs", "bad.jsonl", json.dumps({**jobs(1)[0], "name": ""}) + "\n" + json.dumps(jobs(1)[0]) + "\n")
    queue.put({"manifest": "s3://jobs/bad.jsonl"}, {"manifest": "s3://jobs/none.jsonl"})
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 0
    assert queue.dead is not None
    assert queue.dead.size() == 2
    told = sorted(
        event["message"].partition(": ")[2] for event in working.events(LEDGER) if event["event"] == "rejected"
    )
    assert told[0].startswith("s3://jobs/bad.jsonl:1:1: name:")
    assert told[1].startswith("s3://jobs/none.jsonl: there is no such object")


def test_a_worker_shows_its_health_and_its_numbers(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """Live and ready once the queue was reached; a scrape that has each metric of the queue."""
    sandbox.configure(per_membership=2, per_account=0)
    queue = aws.make_queue()
    queue.put(*jobs(30))
    port = free_port()
    with serving(working, queue, BATCHSUBMIT_WORKER__METRICS_PORT=str(port)) as process:
        until(lambda: len(sandbox.names()) == 2)
        until(lambda: "batchsubmit_messages_held 28" in text_of(port, "metrics"))
        scraped = text_of(port, "metrics")
        assert json.loads(text_of(port, "readyz")) == {"queue": "ok", "ledger": "ok", "worker": "ok", "manifests": "ok"}
        check = working.run("worker", "--check", BATCHSUBMIT_WORKER__METRICS_PORT=str(port))
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 0
    assert check.status == 0
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
    }
    membership = str(jobs(1)[0]["membershipIdentifier"])
    assert values["batchsubmit_messages_total", "received"] >= 12
    assert values["batchsubmit_slots_used", membership] == 2
    assert values["batchsubmit_jobs_waiting", membership] >= 5
    assert values["batchsubmit_oldest_message_age_seconds",] > 0


def text_of(port: int, name: str) -> str:
    """What a worker answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}") as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("ledger", [LEDGER, "dynamodb://page-of-a-worker"])
def test_a_worker_serves_the_report_page_of_its_ledger(
    working: Program, sandbox: Sandbox, aws: LocalAws, ledger: str
) -> None:
    """With `worker.ui`, beside its probes, to those who have the address; it ends as ever while a page is open."""
    if ledger != LEDGER:
        assert working.run("ledger", "create-table", "page-of-a-worker").status == 0
    sandbox.configure(job_seconds=0.1)
    port, queue = str(free_port()), aws.make_queue()
    queue.put(*jobs(3))
    given = {"BATCHSUBMIT_WORKER__UI": "true", "BATCHSUBMIT_WORKER__METRICS_PORT": port}
    with serving(working, queue, "--ledger", ledger, **given) as process:
        said = next(line for line in iter(process.stderr.readline, b"") if b"report page: " in line).decode()
        address = said.partition("report page: ")[2].strip()
        assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/[\w-]{{32}}/", address)
        until(lambda: queue.size() == 0)
        with urllib.request.urlopen(address) as answer:  # noqa: S310 (ours)
            assert b"job-0002" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/x/")
        with urllib.request.urlopen(f"{address}events"):  # noqa: S310 (ours)
            process.send_signal(signal.SIGTERM)
            assert finish(process).status == 0
    ended = working.run("worker", "--queue-url", queue.url, BATCHSUBMIT_WORKER__UI="true")
    assert (ended.status, "worker.ui needs a port" in ended.stderr) == (2, True)
