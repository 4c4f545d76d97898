"""What makes a job the same job: batch id and ledger name mean one thing in every command and from every source."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from conftest import Program, Sandbox, csv_text, finish, write_jsonl
from local_aws import LocalAws
from worker_programs import jobs, serving, until, working

__all__ = ["working"]


@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_enqueue_fills_in_the_date_wherever_the_batch_id_stands(working: Program, aws: LocalAws, place: str) -> None:
    """Else the second night has nothing to do."""
    queue = aws.make_queue()
    write_jsonl(working.folder / "jobs.jsonl", jobs(1))
    (working.folder / "s.toml").write_text('[submit]\nbatch_id = "n-{date}"\n' if place == "file" else "")
    flags = ["--batch-id", "n-{date}"] if place == "flag" else []
    environment = {"BATCHSUBMIT_SUBMIT__BATCH_ID": "n-{date}"} if place == "variable" else {}
    ended = working.run(
        "enqueue", "jobs.jsonl", "--queue-url", queue.url, "--config", "s.toml", "--json", *flags, **environment
    )
    assert ended.status == 0, ended.stderr
    assert ended.summary["batch"] == f"n-{datetime.now(UTC):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["--batch-id", "n-{date}"], {}),
        ([], {"BATCHSUBMIT_SUBMIT__BATCH_ID": "n-{time}"}),
        ([], {"BATCHSUBMIT_DEFAULTS": '{"name": "n-{date}"}'}),
    ],
)
def test_a_worker_refuses_a_batch_id_of_a_day(program: Program, flags: list[str], environment: dict[str, str]) -> None:
    """It runs for days: a message that comes again would be another job."""
    url = "https://sqs.us-east-1.amazonaws.com/123456789012/q"
    ended = program.run("worker", "--queue-url", url, *flags, **environment)
    assert ended.status == 2
    assert "a worker cannot fill in {" in ended.stderr


@contextmanager
def piped(program: Program, kind: str) -> Iterator[str]:
    """A manifest without a name of its own, for one reading."""
    if kind != "fifo":
        yield kind
        return
    path = program.folder / "63.fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text(csv_text("ab")), daemon=True)
    writer.start()
    yield str(path)
    writer.join()
    path.unlink()


@pytest.mark.parametrize("kind", ["fifo", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("command", ["submit", "plan"])
def test_a_pipe_wants_a_ledger_that_the_next_run_finds(submitting: Program, command: str, kind: str) -> None:
    """Its own name is another one each time."""
    with piped(submitting, kind) as manifest:
        ended = submitting.run(command, manifest, stdin=csv_text("ab").encode())
    assert ended.status == 2
    assert "Give --ledger FILE, or --batch-id TEXT" in ended.stderr
    assert not list(submitting.folder.glob("*.jsonl"))


def test_the_ledger_of_a_pipe_is_named_after_the_batch(submitting: Program, sandbox: Sandbox) -> None:
    """So whichever pipe it is, the second run knows the jobs."""
    for kind in ("/dev/fd/0", "fifo", "/proc/self/fd/0"):
        with piped(submitting, kind) as manifest:
            ended = submitting.run("submit", manifest, "--batch-id", "night", stdin=csv_text("ab").encode())
        assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == ["a", "b"]
    assert [each.name for each in submitting.folder.glob("*.jsonl")] == ["night.ledger.jsonl"]
    stdin = submitting.run("submit", "/dev/stdin", stdin=csv_text("ab").encode())
    assert stdin.status == 0
    assert (submitting.folder / "stdin.ledger.jsonl").exists()


def test_enqueue_of_a_pipe_wants_a_name_for_what_was_sent(working: Program, aws: LocalAws) -> None:
    """The same rule for its file."""
    queue, content = aws.make_queue(), "".join(f"{json.dumps(job)}\n" for job in jobs(1)).encode()
    ended = working.run("enqueue", "/dev/fd/0", "--queue-url", queue.url, stdin=content)
    assert ended.status == 2
    assert "Give --progress FILE, or --batch-id TEXT" in ended.stderr
    assert queue.size() == 0
    ended = working.run("enqueue", "/dev/fd/0", "--queue-url", queue.url, "--batch-id", "n", stdin=content)
    assert ended.status == 0, ended.stderr
    assert (working.folder / "n.enqueue.jsonl").exists()


SPELLINGS = ["nightly", "nightly\r", "nightly ", "\tnightly\n"]


@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_white_space_around_a_batch_id_makes_no_batch(submitting: Program, sandbox: Sandbox, place: str) -> None:
    """A CR from Windows, a blank from a form: one batch, wherever the id stands, and a note."""
    (submitting.folder / "m.csv").write_text(csv_text("ab"))
    for spelling in SPELLINGS:
        (submitting.folder / "s.toml").write_text(
            f"[submit]\nbatch_id = {json.dumps(spelling)}\n" if place == "file" else ""
        )
        flags = ["--batch-id", spelling] if place == "flag" else []
        environment = {"BATCHSUBMIT_SUBMIT__BATCH_ID": spelling} if place == "variable" else {}
        ended = submitting.run("submit", "m.csv", "--config", "s.toml", *flags, **environment)
        assert ended.status == 0, ended.stderr
        assert ("white space around it is left out" in ended.stderr) == (spelling != "nightly")
    assert sorted(sandbox.names()) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--batch-id", "night\rly"], {}),
        (["--batch-id", "night\u200bly"], {}),
        (["--ledger", "l\r.jsonl"], {}),
        ([], {"BATCHSUBMIT_SUBMIT__BATCH_ID": "night\x1bly"}),
        ([], {"BATCHSUBMIT_AWS__REGION": "us-\teast-1"}),
        ([], {"AWS_REGION": "us-\teast-1"}),
        ([], {"AWS_ENDPOINT_URL_CLEANROOMSML": "http://local\rhost:1"}),
    ],
)
def test_a_control_character_inside_is_refused(
    submitting: Program, sandbox: Sandbox, arguments: list[str], environment: dict[str, str]
) -> None:
    """With its repr, before anything is sent."""
    (submitting.folder / "m.csv").write_text(csv_text("ab"))
    ended = submitting.run("submit", "m.csv", *arguments, **environment)
    assert ended.status == 2, ended.stderr
    assert "has a control or invisible character in it" in ended.stderr
    assert not sandbox.names()


def test_aws_variables_and_ledger_may_end_with_white_space(submitting: Program, sandbox: Sandbox) -> None:
    """They are set by files that Windows wrote."""
    (submitting.folder / "m.csv").write_text(csv_text("ab"))
    endpoint = submitting.environment["AWS_ENDPOINT_URL_CLEANROOMSML"]
    spoilt = {"AWS_REGION": f"{submitting.environment['AWS_REGION']}\r"}
    ended = submitting.run(
        "submit", "m.csv", "--ledger", "l.jsonl\r", AWS_ENDPOINT_URL_CLEANROOMSML=f"{endpoint}\r", **spoilt
    )
    assert ended.status == 0, ended.stderr
    assert "AWS_REGION" in ended.stderr
    assert sorted(sandbox.names()) == ["a", "b"]
    assert submitting.run("status", "l.jsonl ").status == 0


@pytest.mark.parametrize("command", ["validate", "submit"])
def test_names_that_look_alike_are_warned_of(submitting: Program, command: str) -> None:
    """In white space or in case, for one membership and model."""
    (submitting.folder / "m.csv").write_text(csv_text(["Job", "job", "other", "other "]))
    ended = submitting.run(command, "m.csv")
    assert ended.status == 0, ended.stderr
    assert "differs from an earlier one only in white space" in ended.stderr


def test_batches_of_messages_are_one_or_dead(working: Program, aws: LocalAws, sandbox: Sandbox) -> None:
    """By the body or by the attribute."""
    queue = aws.make_queue()
    request = jobs(1)[0]
    queue.put(*({"request": request, "batch": batch} for batch in ("n", "n\r", " n", "n\x1bn")))
    with serving(working, queue) as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        finish(process)
    events = working.events("worker.ledger.jsonl")
    assert len({each["job"] for each in events if each["event"] == "submitted"}) == 1
    assert [each["code"] for each in events if each["event"] == "rejected"] == ["InvalidRequest"]
    assert len(sandbox.names()) == 1
