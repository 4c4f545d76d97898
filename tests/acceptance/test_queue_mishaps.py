"""What queues and buckets do in the field: answers that are not SQS's, objects written again, a lost disk or table."""

import json
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from conftest import Program, Sandbox, finish
from local_aws import LocalAws, LocalQueue, free_port
from sqs_proxy import Answer, sqs_proxy
from worker_programs import LEDGER, jobs, serving, until, working

__all__ = ["working"]


def lines(requests: list[dict[str, object]]) -> str:
    """Requests as a manifest."""
    return "".join(json.dumps(each) + "\n" for each in requests)


def s3_event(key: str, **members: object) -> dict[str, Any]:
    """An S3 event of an object of the bucket `drop`."""
    where = {"bucket": {"name": "drop"}, "object": {"key": key, **members}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": where}]}


def rejections(program: Program) -> list[str]:
    """The codes and reasons of what can never work."""
    return [f"{each['code']}: {each['message']}" for each in program.events(LEDGER) if each["event"] == "rejected"]


def served(program: Program, queue: LocalQueue, **environment: str) -> str:
    """Let a worker empty a queue; gives what it said."""
    with serving(program, queue, **environment) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    return ended.stderr


def dead_reasons(queue: LocalQueue) -> list[str]:
    """What the dead-letter queue says of its messages."""
    assert queue.dead is not None
    return [each["MessageAttributes"]["batchsubmit-reason"]["StringValue"] for each in queue.dead.drain()]


@pytest.mark.parametrize(
    "body", [b"", b"<html>Log in to the guest network</html>", b"{}", b"[]", b'{"Successful": [], "Failed": 3}']
)
def test_enqueue_counts_as_sent_what_sqs_names_and_nothing_else(working: Program, aws: LocalAws, body: bytes) -> None:
    """Every other batch is answered by something between, with status 200: nothing of it is lost."""
    queue = aws.make_queue()
    (working.folder / "jobs.jsonl").write_text(lines(jobs(120)))

    def before(operation: str, _members: dict[str, Any], number: int) -> Answer | bytes | None:
        return body if operation == "SendMessageBatch" and number % 2 else None

    with sqs_proxy(aws.url) as proxy:
        proxy.before = before
        ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--json", AWS_ENDPOINT_URL_SQS=proxy.url)
    assert ended.status == 0, ended.stderr
    assert ended.summary["sent"] == 120
    assert queue.size() == 120


def test_an_entry_that_the_answer_does_not_name_is_sent_again(working: Program, aws: LocalAws) -> None:
    """It is neither in Successful nor in Failed."""
    queue = aws.make_queue()
    (working.folder / "jobs.jsonl").write_text(lines(jobs(20)))

    def edit(operation: str, members: dict[str, Any]) -> dict[str, Any]:
        if operation == "SendMessageBatch" and len(members["Entries"]) > 5:
            members["Entries"] = members["Entries"][:5]
        return {}

    with sqs_proxy(aws.url) as proxy:
        proxy.edit = edit
        ended = working.run("enqueue", "jobs.jsonl", "--queue-url", queue.url, "--json", AWS_ENDPOINT_URL_SQS=proxy.url)
    assert (ended.status, ended.summary["sent"], queue.size()) == (0, 20, 20), ended.stderr


def test_a_worker_behind_a_portal_loses_nothing(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """Receives, deletes and extensions that a portal answers are tried again; messages that lack a member are none."""
    sandbox.configure(per_membership=0)
    queue = aws.make_queue()
    queue.put(*jobs(30))

    def before(operation: str, _members: dict[str, Any], number: int) -> Answer | bytes | None:
        return b"<html>portal</html>" if operation != "GetQueueUrl" and number % 2 == 0 else None

    def after(operation: str, _members: dict[str, Any], answer: dict[str, Any]) -> None:
        if operation == "ReceiveMessage" and proxy.calls[operation] == 1:
            for each in answer.get("Messages", ()):
                del each["ReceiptHandle"]

    with sqs_proxy(aws.url) as proxy:
        proxy.before, proxy.after = before, after
        said = served(
            working, queue, AWS_ENDPOINT_URL_SQS=proxy.url, BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS="2"
        )
    assert len(sandbox.names()) == len(set(sandbox.names())) == 30
    assert "is a proxy or a portal between" in said


def test_a_corrected_dead_letter_with_its_old_key_is_said_and_not_taken_for_done(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """The key is what the body gives; identical rows of `enqueue` carry an ordinal, and both are submitted."""
    queue = aws.make_queue()
    (working.folder / "jobs.jsonl").write_text(lines([*jobs(1), *jobs(1)]))
    ended = working.run("enqueue", "jobs.jsonl", "--allow-duplicates", "--queue-url", queue.url)
    assert ended.status == 0, ended.stderr
    (old, repeat) = queue.drain()
    for each in (old, repeat):
        queue.call("ChangeMessageVisibility", ReceiptHandle=each["ReceiptHandle"], VisibilityTimeout=0)
    queue.put({**jobs(1)[0], "description": "corrected"}, MessageAttributes=old["MessageAttributes"])
    served(working, queue)
    assert sandbox.names() == ["job-0000", "job-0000"]
    (reason,) = dead_reasons(queue)
    assert reason.startswith("InvalidKey: the attribute batchsubmit-key is ")


def test_both_versions_of_an_object_are_submitted(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """Each event is about its own version, also when the object was written again before the first was read."""
    queue = aws.make_queue()
    aws.put_object("drop", "old.jsonl", "")
    versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    with urllib.request.urlopen(  # noqa: S310 (our own URL)
        urllib.request.Request(f"{aws.url}/drop?versioning", versioning, method="PUT")  # noqa: S310
    ):
        pass
    for stem in ("first", "second"):
        put = urllib.request.Request(  # noqa: S310 (our own URL)
            f"{aws.url}/drop/in.jsonl", lines(jobs(2, stem=stem)).encode(), method="PUT"
        )
        with urllib.request.urlopen(put) as answer:  # noqa: S310 (our own URL)
            version = answer.headers["x-amz-version-id"]
        queue.put(s3_event("in.jsonl", versionId=version, eTag=answer.headers["ETag"]))
    served(working, queue)
    assert sorted(sandbox.names()) == ["first-0000", "first-0001", "second-0000", "second-0001"]


def test_an_object_that_was_replaced_is_said_and_marks_of_folders_are_acknowledged(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """Without versions the ETag tells; a second upload of the same rows says that it brings nothing new."""
    queue = aws.make_queue()
    aws.put_object("plain", "now.jsonl", lines(jobs(3)))
    event = json.loads(json.dumps(s3_event("now.jsonl", eTag="0123")).replace('"drop"', '"plain"'))
    queue.put(event, s3_event("in/2026/", size=0), s3_event("in/2026/_SUCCESS", size=0))
    said = served(working, queue)
    assert "manifest.replaced" in said
    assert "turn versioning of the bucket on" in said
    assert "manifest.nothing_new" not in said
    assert sandbox.names() == ["job-0000", "job-0001", "job-0002"]
    queue.put({"manifest": "s3://plain/now.jsonl"})
    said = served(working, queue)
    assert "manifest.nothing_new" in said
    assert "name another batch" in said
    assert rejections(working) == []


def ready(port: int) -> tuple[int, str]:
    """The answer of the readiness probe."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError:
        return 0, ""


def test_a_lost_temp_folder_makes_the_worker_not_ready_and_no_dead_letter(
    working: Program, sandbox: Sandbox, aws: LocalAws, tmp_path: Path
) -> None:
    """A manifest is read once the folder is there again."""
    queue = aws.make_queue()
    for stem in ("one", "two"):
        aws.put_object("plain", f"{stem}.jsonl", lines(jobs(2, stem=stem)))
    temp, port = tmp_path / "temp", free_port()
    temp.mkdir()
    environment = {
        "TMPDIR": str(temp),
        "BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "1",
        "BATCHSUBMIT_WORKER__METRICS_PORT": str(port),
    }
    with serving(working, queue, **environment) as process:
        queue.put({"manifest": "s3://plain/one.jsonl"})
        until(lambda: queue.size() == 0)
        assert ready(port)[0] == 200
        temp.rmdir()
        queue.put({"manifest": "s3://plain/two.jsonl"})
        until(lambda: ready(port)[0] == 503)
        temp.mkdir()
        until(lambda: queue.size() == 0)
        until(lambda: ready(port)[0] == 200)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == ["one-0000", "one-0001", "two-0000", "two-0001"]
    assert queue.dead is not None
    assert queue.dead.size() == 0
    assert "manifest.not_fetched" in ended.stderr


def test_a_killed_worker_s_put_back_messages_are_seen_soon(working: Program, sandbox: Sandbox, aws: LocalAws) -> None:
    """What it had put back for want of room to hold it is not hidden for the longest delay."""
    sandbox.configure(per_membership=1, per_account=0)
    queue = aws.make_queue()
    queue.put(*jobs(15))
    few = {"BATCHSUBMIT_WORKER__MAX_HELD_MESSAGES": "4", "BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "2"}
    with serving(working, queue, **few) as process:
        until(lambda: len(sandbox.names()) == 1)
        time.sleep(6)  # an exchange of messages comes every 5 s
        process.kill()
        process.communicate()
    began = time.monotonic()
    until(lambda: queue.counts() == (14, 0, 0))
    assert time.monotonic() - began < 3 * 2 + 2


@pytest.mark.parametrize("count", [3, 0])
def test_a_worker_whose_table_is_gone_says_so(working: Program, sandbox: Sandbox, aws: LocalAws, count: int) -> None:
    """In its last words, with status 3; also where it has nothing to do, and only its lease shows it."""
    sandbox.configure(per_membership=1, per_account=0)
    queue, table, port = aws.make_queue(), f"gone-{count}", free_port()
    queue.put(*jobs(count))
    assert working.run("ledger", "create-table", table).status == 0
    short = {
        "BATCHSUBMIT_LEDGER__LEASE_SECONDS": "3",
        "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": "1",
        "BATCHSUBMIT_AWS__CONNECT_TIMEOUT_SECONDS": "1",
        "BATCHSUBMIT_WORKER__METRICS_PORT": str(port),
    }
    with serving(working, queue, "--ledger", f"dynamodb://{table}", **short) as process:
        until(lambda: ready(port)[0] == 200 and len(sandbox.names()) == min(count, 1))
        aws.call("DynamoDB_20120810", "DeleteTable", TableName=table)
        ended = finish(process)
    assert ended.status == 3, ended.stderr
    assert f"why it ended: the DynamoDB table {table} is gone" in ended.stderr
    assert "Restore it from a backup" in ended.stderr
