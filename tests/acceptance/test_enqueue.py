"""`enqueue` as a process: checked first, sent once as far as SQS lets one, and known again by its keys."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conftest import OTHER_MEMBERSHIP, Program, Sandbox, finish, write_jsonl
from local_aws import LocalAws
from sqs_proxy import Answer, as_sqs_refuses, refusal, sqs_proxy
from worker_programs import jobs, serving, until, working

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["working"]


def manifest(program: Program, count: int = 35) -> Path:
    """A manifest of two memberships."""
    rows = [*jobs(count - 5), *jobs(5, membership=OTHER_MEMBERSHIP, stem="other")]
    return write_jsonl(program.folder / "jobs.jsonl", rows)


def keys(messages: list[dict[str, Any]]) -> list[str]:
    """The keys that travel with messages."""
    return sorted(each["MessageAttributes"]["batchsubmit-key"]["StringValue"] for each in messages)


def test_a_manifest_is_sent_whole_and_a_second_run_sends_nothing(working: Program, aws: LocalAws) -> None:
    """Each message is a request, with its key and its batch."""
    queue = aws.make_queue()
    manifest(working)
    ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--batch-id", "night", "--json")
    assert ended.status == 0, ended.stderr
    assert (ended.summary["rows"], ended.summary["sent"], ended.summary["left"]) == (35, 35, 0)
    again = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--batch-id", "night", "--json")
    assert (again.status, again.summary["sent"], again.summary["sent_before"]) == (0, 0, 35)
    messages = queue.drain()
    assert len(messages) == len(set(keys(messages))) == 35
    assert {each["MessageAttributes"]["batchsubmit-batch"]["StringValue"] for each in messages} == {"night"}
    assert json.loads(messages[0]["Body"]) in jobs(30)


def test_on_a_standard_queue_the_membership_is_the_group_and_nothing_else_of_a_fifo_queue_is_sent(
    working: Program, aws: LocalAws
) -> None:
    """The group makes the queue fair between memberships; SQS refuses a deduplication id there."""
    queue = aws.make_queue()
    manifest(working)
    with sqs_proxy(aws.url) as proxy:
        proxy.edit = as_sqs_refuses
        ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--json", AWS_ENDPOINT_URL_SQS=proxy.url)
    assert ended.status == 0, ended.stderr
    messages = queue.drain()
    assert len(messages) == 35
    assert all(
        each["Attributes"]["MessageGroupId"] == json.loads(each["Body"])["membershipIdentifier"] for each in messages
    )


def test_another_batch_or_another_queue_is_sent_again(working: Program, aws: LocalAws) -> None:
    """The file of what was sent knows them apart."""
    manifest(working)
    queue = aws.make_queue()
    for url, batch in ((queue.url, "one"), (queue.url, "two"), (aws.make_queue().url, "two")):
        ended = working.run("enqueue", "jobs.jsonl", "--queue-url", url, "--batch-id", batch, "--json")
        assert ended.summary["sent"] == 35


def test_a_manifest_with_problems_is_told_whole_and_nothing_is_sent(working: Program, aws: LocalAws) -> None:
    """Exit status 2."""
    queue = aws.make_queue()
    rows: list[Mapping[str, object]] = [*jobs(5), {"name": "x"}, {"name": ""}]
    write_jsonl(working.folder / "jobs.jsonl", rows)
    ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url)
    assert ended.status == 2
    assert "jobs.jsonl:6:" in ended.stderr
    assert "jobs.jsonl:7:" in ended.stderr
    assert queue.size() == 0


def test_batches_that_fail_in_part_are_sent_again_in_part(working: Program, aws: LocalAws) -> None:
    """And throttled ones whole."""
    queue = aws.make_queue()
    manifest(working)

    def before(operation: str, members: dict[str, Any], number: int) -> Answer | None:
        if operation == "SendMessageBatch" and number % 2:
            return refusal("RequestThrottled")
        return None

    def edit(operation: str, members: dict[str, Any]) -> dict[str, Any]:
        if operation == "SendMessageBatch" and len(members["Entries"]) > 2:
            failed = members["Entries"].pop()
            return {"Failed": [{"Id": failed["Id"], "Code": "InternalError", "SenderFault": False}]}
        return {}

    with sqs_proxy(aws.url) as proxy:
        proxy.before, proxy.edit = before, edit
        ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--json", AWS_ENDPOINT_URL_SQS=proxy.url)
    assert ended.status == 0, ended.stderr
    assert ended.summary["sent"] == 35
    messages = queue.drain()
    assert len(messages) == len(set(keys(messages))) == 35


def test_a_rerun_after_a_kill_completes_the_queue_and_the_worker_knows_what_came_twice(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """At least once on the queue, exactly once on the service."""
    queue = aws.make_queue()
    manifest(working, 400)
    with sqs_proxy(aws.url) as proxy:
        arguments = ("enqueue", "jobs.jsonl", "--queue-url", queue.url)
        with working.running(*arguments, AWS_ENDPOINT_URL_SQS=proxy.url) as process:
            until(lambda: proxy.calls["SendMessageBatch"] >= 10)
            process.kill()
            process.communicate()
    progress = working.folder / "jobs.enqueue.jsonl"
    progress.write_bytes(progress.read_bytes()[:-20])  # as a crash within a line leaves it
    ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--json")
    assert ended.status == 0, ended.stderr
    assert 0 < ended.summary["sent"] < 400
    assert queue.size() > 400
    with serving(working, queue) as worker:
        until(lambda: queue.size() == 0)
        worker.send_signal(signal.SIGTERM)
        assert finish(worker).status == 0
    assert len(sandbox.names()) == len(set(sandbox.names())) == 400


def test_a_fifo_queue_has_the_membership_as_group_and_the_key_for_deduplication(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """So a rerun within five minutes is not even delivered twice; and a worker serves such a queue."""
    queue = aws.make_queue(fifo=True)
    manifest(working)
    sent: list[dict[str, Any]] = []
    with sqs_proxy(aws.url) as proxy:
        proxy.edit = lambda _operation, members: sent.extend(members.get("Entries", ())) or {}
        for name in ("a.jsonl", "b.jsonl"):
            arguments = ("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--progress", name, "--json")
            ended = working.run(*arguments, AWS_ENDPOINT_URL_SQS=proxy.url)
            assert (ended.status, ended.summary["sent"]) == (0, 35)
    assert queue.size() == 35
    for each in sent:
        assert each["MessageGroupId"] == json.loads(each["MessageBody"])["membershipIdentifier"]
        assert each["MessageDeduplicationId"] == each["MessageAttributes"]["batchsubmit-key"]["StringValue"]
    with serving(working, queue) as worker:
        until(lambda: queue.size() == 0)
        worker.send_signal(signal.SIGTERM)
        assert finish(worker).status == 0
    assert len(sandbox.names()) == len(set(sandbox.names())) == 35


def test_a_queue_that_does_not_exist_is_a_usage_error(working: Program, aws: LocalAws) -> None:
    """And so are no queue at all, and an URL that is none."""
    manifest(working)
    assert working.run("enqueue", "jobs.jsonl", "--queue-url", f"{aws.make_queue().url}-none").status == 2
    assert working.run("enqueue", "jobs.jsonl").status == 2
    ended = working.run("enqueue", "jobs.jsonl", "--queue-url", "my-queue")
    assert ended.status == 2
    assert "is no queue URL" in ended.stderr
