"""`batchsubmit verify` as a process: a ledger that the program wrote, held against a sandbox over HTTP."""

import json
import os
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from book import blocks
from conftest import (
    CSV_HEADER,
    OTHER_MEMBERSHIP,
    Ended,
    Program,
    Sandbox,
    csv_text,
    job_arn,
    job_named,
    request_named,
    write_jsonl,
)
from strategies import MEMBERSHIP

from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import KEY_TAG, Absent, Event, Intent, Job, JobSubmitted, RunEnded, RunStarted
from batchsubmit.ledger.lines import decode_line, encode_line

LEDGER = "jobs.ledger.jsonl"
CLEAN, WRONG, USAGE, STOPPED, UNSOUND = range(5)
START, LIST, GET = (
    "StartTrainedModelInferenceJob",
    "ListTrainedModelInferenceJobs",
    "GetTrainedModelInferenceJob",
)


def accept(sandbox: Sandbox, job: Job) -> str:
    """Have the sandbox accept a job, as `submit` would; gives the ARN."""
    members = {name: value for name, value in job.request.items() if name != "membershipIdentifier"}
    request = urllib.request.Request(  # noqa: S310 (our own URL)
        f"{sandbox.url}/memberships/{job.membership}/trained-model-inference-jobs",
        json.dumps({**members, "tags": {KEY_TAG: job.key}}).encode(),
        method="POST",
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 (ours)
        return str(json.load(answer)["trainedModelInferenceJobArn"])


def record(path: Path, arns: Mapping[str, str], *, sandbox: bool = False, age: timedelta = timedelta()) -> None:
    """Write the ledger of a run that submitted jobs of these names: `submit` itself takes a second."""
    at = timestamp(datetime.now(UTC) - age)
    events: list[Event] = [
        RunStarted(
            at=at,
            run="r",
            batch="",
            manifest="jobs.jsonl",
            manifest_sha256="0",
            version="0",
            holder="process 7",
            sandbox=sandbox,
        )
    ]
    for name, arn in arns.items():
        job = job_named(name)
        events.append(Intent(**job.stamp(at), attempt=1, trained_model=job.trained_model))
        events.append(JobSubmitted(**job.stamp(at), arn=arn, attempt=1, via="start"))
    events.append(RunEnded(at=at, run="r", exit_status=0, reason="", counts={}))
    path.write_bytes(b"".join(map(encode_line, events)))


@pytest.fixture
def done(submitting: Program, sandbox: Sandbox) -> Program:
    """Three jobs are submitted, and their ledger is as it should be."""
    record(path_of(submitting), {name: accept(sandbox, job_named(name)) for name in "abc"})
    write_jsonl(submitting.folder / "jobs.jsonl", map(request_named, "abc"))
    return submitting


def path_of(program: Program, ledger: str = LEDGER) -> Path:
    """The ledger's file."""
    return program.folder / ledger


def cut(program: Program, *events: str) -> bytes:
    """Make the ledger an older copy of itself, without these lines; gives its bytes."""
    lines = path_of(program).read_bytes().splitlines(keepends=True)
    left = b"".join(line for line in lines if json.loads(line)["event"] not in events)
    path_of(program).write_bytes(left)
    return left


def found(ended: Ended) -> list[tuple[str, str, bool]]:
    """Kind, name and whether it can be repaired, of all discrepancies."""
    return sorted((each["kind"], each["name"], each["repairable"]) for each in ended.summary["discrepancies"])


def test_a_clean_ledger_is_sound_and_stays_as_it_is(done: Program, sandbox: Sandbox) -> None:
    """Exit status 0, one sentence, nothing on standard output."""
    before = path_of(done).read_bytes()
    ended = done.run("verify", LEDGER)
    assert ended.status == CLEAN
    assert ended.stdout == ""
    assert ended.stderr == f"{LEDGER}: 3 jobs, sound against itself and the service\n"
    assert path_of(done).read_bytes() == before
    assert sandbox.calls(START) == 3


def test_jobs_of_another_run_are_orphans_unless_its_ledger_is_known(done: Program, sandbox: Sandbox) -> None:
    """`--known-ledger` may be given more than once."""
    for name in "de":
        record(path_of(done, f"{name}.ledger.jsonl"), {name: accept(sandbox, job_named(name))})
    one = done.run("verify", LEDGER, "--json", "--known-ledger", "d.ledger.jsonl")
    assert (one.status, found(one)) == (WRONG, [("orphan", "e", False)])
    others = ("--known-ledger", "d.ledger.jsonl", "--known-ledger", "e.ledger.jsonl")
    assert done.run("verify", LEDGER, *others).status == CLEAN


def test_duplicates_are_told_and_recorded(done: Program, sandbox: Sandbox) -> None:
    """The same rows, submitted with a second ledger by mistake; knowing that ledger makes them no better."""
    record(path_of(done, "second.jsonl"), {name: accept(sandbox, job_named(name)) for name in "abc"})
    ended = done.run("verify", LEDGER, "--known-ledger", "second.jsonl", "--json")
    assert ended.status == WRONG
    assert found(ended) == [("duplicate", name, True) for name in "abc"]
    before = path_of(done).read_bytes()
    assert done.run("verify", LEDGER, "--repair").status == CLEAN
    assert path_of(done).read_bytes().startswith(before)
    duplicates = [event for event in done.events(LEDGER) if event["event"] == "duplicate"]
    assert {event["of"] for event in duplicates} == set(done.arns(LEDGER))
    assert {event["arn"] for event in duplicates} == set(done.arns("second.jsonl"))
    assert sandbox.calls(START) == 6


def test_an_older_copy_is_repaired_from_the_service_and_a_run_goes_on_from_there(
    submitting: Program, sandbox: Sandbox
) -> None:
    """Dirty, repaired, clean, and nothing is submitted twice; the copy's bytes are the beginning of the new file."""
    done = submitting
    (done.folder / "jobs.csv").write_text(csv_text(["a", "b", "c"]))
    assert done.run("submit", "jobs.csv").status == 0
    before = cut(done, "submitted", "run_ended")
    first = done.run("verify", LEDGER)
    assert first.status == WRONG
    assert sorted(line.split(" in ")[0] for line in first.stdout.splitlines()) == [f"orphan: {name}" for name in "abc"]
    assert path_of(done).read_bytes() == before
    repaired = done.run("verify", LEDGER, "--repair", "--json")
    assert repaired.status == CLEAN
    assert (repaired.summary["repaired"], repaired.summary["clean"]) == (3, True)
    assert "3 wrong against itself and the service (3 orphan), 3 repaired" in repaired.stderr
    after = path_of(done).read_bytes()
    assert after.startswith(before)
    assert set(done.arns(LEDGER)) == {job["arn"] for job in sandbox.jobs()}
    again = done.run("verify", LEDGER, "--repair")
    assert again.status == CLEAN
    assert "sound" in again.stderr
    assert path_of(done).read_bytes() == after
    assert done.run("submit", "jobs.csv").status == 0
    assert sandbox.calls(START) == 3


@pytest.mark.parametrize("copy_ends_in", ["the middle of a run", "run_ended"])
def test_jobs_that_an_older_copy_does_not_have_are_adopted_and_not_started_again(
    submitting: Program, sandbox: Sandbox, copy_ends_in: str
) -> None:
    """Told by name, recorded by a repair, and the next run starts only the rest.

    One of the rows is in a membership that the copy never met.
    """
    manifest = submitting.folder / "jobs.csv"
    manifest.write_text(csv_text(["a", "b"]))
    assert submitting.run("submit", "jobs.csv").status == 0
    if copy_ends_in != "run_ended":
        cut(submitting, "run_ended")
    copy = path_of(submitting).read_bytes()
    far = csv_text(["far"], membership=OTHER_MEMBERSHIP).removeprefix(CSV_HEADER)
    manifest.write_text(csv_text(["a", "b", "c", "d"]) + far)
    assert submitting.run("submit", "jobs.csv").status == 0
    path_of(submitting).write_bytes(copy)

    told = submitting.run("verify", LEDGER)
    assert told.status == WRONG
    names = {line.split(" in ")[0] for line in told.stdout.splitlines()}
    assert names == {"orphan: c", "orphan: d", "orphan: far"}
    assert f"next: batchsubmit verify {LEDGER} --repair" in told.stderr
    assert path_of(submitting).read_bytes() == copy
    repaired = submitting.run("verify", LEDGER, "--repair", "--json")
    assert (repaired.status, repaired.summary["repaired"]) == (CLEAN, 3)
    assert path_of(submitting).read_bytes().startswith(copy)
    assert submitting.run("verify", LEDGER).status == CLEAN

    manifest.write_text(csv_text(["a", "b", "c", "d", "e"]) + far)
    again = submitting.run("submit", "jobs.csv", "--json")
    assert (again.status, again.summary["submitted"], again.summary["submitted_before"]) == (0, 1, 5)
    assert sorted(sandbox.names()) == ["a", "b", "c", "d", "e", "far"]
    assert set(submitting.arns(LEDGER)) == {job["arn"] for job in sandbox.jobs()}
    assert submitting.run("verify", LEDGER).status == CLEAN


def test_a_copy_that_ends_days_before_the_lost_jobs_is_repaired_too(submitting: Program, sandbox: Sandbox) -> None:
    """And the jobs of other nights' ledgers stay theirs: neither wrong by themselves nor recorded here."""
    record(path_of(submitting), {"a": accept(sandbox, job_named("a"))}, age=timedelta(days=3))
    lost = accept(sandbox, job_named("b"))
    accept(sandbox, job_named("another night's"))
    write_jsonl(submitting.folder / "moved.jsonl", map(request_named, "ab"))

    blind = submitting.run("verify", LEDGER, "--json")
    assert (blind.status, found(blind), blind.summary["later"]) == (CLEAN, [], 2)
    assert "2 jobs started after the ledger's last line not judged" in blind.stderr
    assert "jobs.jsonl: there is no such file: give the manifest with --manifest" in blind.stderr
    assert submitting.run("verify", LEDGER, "--repair").status == WRONG

    told = submitting.run("verify", LEDGER, "--manifest", "moved.jsonl", "--json")
    assert (told.status, found(told)) == (WRONG, [("orphan", "b", True)])
    assert submitting.run("verify", LEDGER, "--manifest", "moved.jsonl", "--repair").status == CLEAN
    assert submitting.arns(LEDGER)[-1] == lost
    assert sandbox.calls(START) == 3


def test_a_lost_ledger_is_made_again_by_the_commands_of_the_manual(submitting: Program, sandbox: Sandbox) -> None:
    """No job is started a second time, and the rows that never ran are sent."""
    [recipe] = [block.text for block in blocks() if block.page == "ledger" and "--repair\n" in block.text]
    commands = [line.split()[1:] for line in recipe.splitlines()]
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b"]))
    batch = commands[-1][2:]
    assert submitting.run("submit", "jobs.csv", *batch).status == 0
    (submitting.folder / LEDGER).unlink()
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b", "c"]))
    assert [submitting.run(*words).status for words in commands] == [STOPPED, CLEAN, CLEAN]
    assert sorted(sandbox.names()) == ["a", "b", "c"]


def test_a_repair_without_the_manifest_promises_nothing(done: Program) -> None:
    """Its rows may run in memberships that the ledger never met."""
    (done.folder / "jobs.jsonl").unlink()
    assert done.run("verify", LEDGER).status == CLEAN
    ended = done.run("verify", LEDGER, "--repair", "--json")
    assert (ended.status, ended.summary["clean"], found(ended)) == (WRONG, False, [])
    assert "the manifest's rows are not known: jobs.jsonl: there is no such file" in ended.stderr


def test_a_queue_has_no_rows_to_miss_but_jobs_that_it_may_have_lost(done: Program, sandbox: Sandbox) -> None:
    """A repair of its ledger is complete unless the service has later jobs."""
    record(path_of(done), {"d": accept(sandbox, job_named("d"))}, age=timedelta(days=3))
    lines = path_of(done).read_bytes().splitlines(keepends=True)
    started = msgspec.structs.replace(decode_line(lines[0]), manifest="https://sqs/jobs", manifest_sha256="")
    path_of(done).write_bytes(b"".join([encode_line(started), *lines[1:]]))
    later = done.run("verify", LEDGER, "--repair", "--json")
    assert (later.status, later.summary["later"]) == (WRONG, 3)
    sandbox.change("POST", "reset")
    record(path_of(done), {"d": accept(sandbox, job_named("d"))})
    lines = path_of(done).read_bytes().splitlines(keepends=True)
    path_of(done).write_bytes(b"".join([encode_line(started), *lines[1:]]))
    assert done.run("verify", LEDGER, "--repair").status == CLEAN


def test_a_last_line_without_its_newline_is_not_recorded_twice(done: Program) -> None:
    """The repair finds that the ledger knows already, and leaves a sound ledger."""
    before = cut(done, "run_ended")[:-1]
    path_of(done).write_bytes(before)
    ended = done.run("verify", LEDGER, "--repair", "--json")
    assert (ended.status, ended.summary["repaired"]) == (WRONG, 0)
    assert path_of(done).read_bytes() == before + b"\n"


def test_a_call_whose_fate_nobody_knows_is_told(done: Program, sandbox: Sandbox) -> None:
    """The service has no such job, and a comparison does not wait until that is certain."""
    cut(done, "submitted", "run_ended")
    sandbox.change("POST", "reset")
    before = path_of(done).read_bytes()
    ended = done.run("verify", LEDGER, "--repair", "--json")
    assert ended.status == WRONG
    assert found(ended) == [("unknown", name, False) for name in "abc"]
    assert path_of(done).read_bytes() == before


def test_a_damaged_line_is_told_and_nothing_is_called(done: Program, sandbox: Sandbox) -> None:
    """Exit status 4 with the line's number; the file is left as it is; `test_ledger_chain` has its repair."""
    lines = path_of(done).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"attempt":1', b'"attempt":2')
    path_of(done).write_bytes(b"".join(lines))
    ended = done.run("verify", LEDGER)
    assert ended.status == UNSOUND
    assert f"the ledger {LEDGER} is damaged at line 3: its checksum does not fit" in ended.stderr
    assert ended.stdout == ""
    assert path_of(done).read_bytes() == b"".join(lines)
    assert sandbox.calls(LIST) + sandbox.calls(GET) == 0


def test_lines_in_an_impossible_order_are_unsound(done: Program) -> None:
    """Whatever the service says: exit status 4, and the line's number on standard output."""
    lines = path_of(done).read_bytes().splitlines(keepends=True)
    event = next(event for event in map(decode_line, lines) if hasattr(event, "arn"))
    out_of_place = Absent(at=event.at, job=event.job, membership=event.membership, name=event.name, attempt=1)
    path_of(done).write_bytes(b"".join([*lines, encode_line(out_of_place)]))
    told = f"line {len(lines) + 1}: {event.name}: absent without a doubt"
    ended = done.run("verify", LEDGER)
    assert ended.status == UNSOUND
    assert ended.stdout == f"{LEDGER}: {told}\n"
    assert "1 wrong against itself and the service" in ended.stderr


def test_offline_needs_neither_service_nor_credentials(done: Program, sandbox: Sandbox) -> None:
    """It says that it has held the ledger against itself only."""
    calls = {operation: sandbox.calls(operation) for operation in (START, LIST, GET)}
    nothing = dict.fromkeys(done.environment)
    ended = done.run("verify", LEDGER, "--offline", **nothing)
    assert (ended.status, ended.stdout) == (CLEAN, "")
    assert ended.stderr == f"{LEDGER}: 3 jobs, sound against itself\n"
    assert {operation: sandbox.calls(operation) for operation in calls} == calls


def test_a_ledger_in_use_can_be_verified_but_not_repaired(submitting: Program, sandbox: Sandbox) -> None:
    """A reader needs no lock; the repair, which would write beside the run, names who has the ledger."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a"]))
    sandbox.disturb({"fault": "slow_answer", "seconds": 45})
    with submitting.running("submit", "jobs.csv") as holder:
        while not sandbox.names():
            assert holder.poll() is None
            os.sched_yield()
        before = path_of(submitting).read_bytes()
        reading = submitting.run("verify", LEDGER, "--json")
        repairing = submitting.run("verify", LEDGER, "--repair")
        after = path_of(submitting).read_bytes()
        holder.kill()
        holder.communicate()
    assert (reading.status, found(reading), reading.summary["under_way"]) == (CLEAN, [], 1)
    assert f"process {holder.pid}" in reading.summary["active_run"]
    assert "in use by run" in reading.stderr
    assert "1 job under way not judged" in reading.stderr
    assert repairing.status == UNSOUND
    assert f"the ledger {LEDGER} is in use by run" in repairing.stderr
    assert f"process {holder.pid}" in repairing.stderr
    assert after == before


def test_jobs_that_the_service_lost_are_ghosts_and_json_is_one_object(done: Program, sandbox: Sandbox) -> None:
    """With every member that a program could ask for; mending ghosts is beyond what the service proves."""
    sandbox.change("POST", "reset")
    before = path_of(done).read_bytes()
    ended = done.run("verify", LEDGER, "--repair", "--json")
    assert ended.status == WRONG
    assert path_of(done).read_bytes() == before
    assert "3 jobs, 3 wrong against itself and the service (3 ghost)\n" in ended.stderr
    assert ended.stdout.count("\n") == 1
    assert ended.summary.keys() == {
        *("ledger", "jobs", "clean", "faults", "repaired", "discrepancies"),
        *("active_run", "under_way", "later", "manifest_trouble"),
    }
    assert (ended.summary["ledger"], ended.summary["jobs"], ended.summary["clean"]) == (LEDGER, 3, False)
    submitted = {event["job"]: event for event in done.events(LEDGER) if event["event"] == "submitted"}
    assert len(ended.summary["discrepancies"]) == 3
    for each in ended.summary["discrepancies"]:
        event = submitted[each["job"]]
        assert each == {
            "kind": "ghost",
            "job": event["job"],
            "membership": MEMBERSHIP,
            "name": event["name"],
            "arn": event["arn"],
            "detail": "",
            "repairable": False,
        }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.jsonl", "--repair"), ("the ledger missing.jsonl cannot be read", "No such file or directory")),
        ((LEDGER, "--known-ledger", "missing.jsonl"), ("the ledger missing.jsonl cannot be read",)),
        ((LEDGER, "--manifest", "missing.csv"), ("missing.csv: there is no such file",)),
        ((LEDGER, "--offline", "--repair"), ("--repair needs the service",)),
        ((), ("LEDGER",)),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_a_wrong_argument_is_named(done: Program, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Exit status 2, and no file is made of a name that was mistyped: an empty ledger would pass for sound."""
    before = sorted(each.name for each in done.folder.iterdir())
    ended = done.run("verify", *arguments)
    assert ended.status == USAGE
    assert ended.stdout == ""
    for word in words:
        assert word in ended.stderr
    assert len(ended.stderr.splitlines()) <= 4
    assert sorted(each.name for each in done.folder.iterdir()) == before


def test_a_service_that_does_not_tell_is_no_verdict(done: Program, sandbox: Sandbox) -> None:
    """Exit status 3: neither clean nor wrong, with the call and the service's word for it."""
    sandbox.disturb({"fault": "access_denied", "operation": GET, "times": 9})
    ended = done.run("verify", LEDGER, "--repair")
    assert ended.status == STOPPED
    assert ended.stdout == ""
    assert f"the ledger {LEDGER} could not be compared with the service: {GET}" in ended.stderr
    assert "AccessDenied" in ended.stderr


def test_the_region_is_the_ledger_s_where_none_is_set(done: Program) -> None:
    """A ledger is enough to find its jobs by."""
    assert done.run("verify", LEDGER, AWS_REGION=None).status == CLEAN


def test_a_rehearsal_is_not_held_against_the_real_service(submitting: Program, sandbox: Sandbox) -> None:
    """Its sandbox has gone, and the service never knew its jobs; the file alone can still be checked."""
    record(path_of(submitting), {"a": job_arn("a")}, sandbox=True)
    ended = submitting.run("verify", LEDGER)
    assert ended.status == USAGE
    assert "written against the sandbox" in ended.stderr
    assert "--offline" in ended.stderr
    assert sandbox.calls(LIST) + sandbox.calls(GET) == 0


FAILURES = {
    "validate": (("validate", "missing.csv"), USAGE, "missing.csv: there is no such file"),
    "submit": (("submit", "missing.csv"), USAGE, "missing.csv: there is no such file"),
    "status": (("status", "missing.jsonl"), USAGE, "the ledger missing.jsonl cannot be read"),
    "verify": (("verify", "missing.jsonl"), USAGE, "the ledger missing.jsonl cannot be read"),
    "status of a damaged ledger": (("status", "damaged.jsonl"), UNSOUND, "damaged at line 1"),
    "submit without credentials": (("submit", "good.csv"), STOPPED, "no AWS credentials"),
}


@pytest.mark.parametrize(("arguments", "status", "words"), FAILURES.values(), ids=FAILURES)
def test_with_json_a_failure_is_one_object_too(
    program: Program, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """The error, the rows' problems and the exit status; people get the same sentence on standard error."""
    (program.folder / "good.csv").write_text(csv_text(["a"]))
    (program.folder / "damaged.jsonl").write_text('{"event":"intent"}\n')
    ended = program.run(*arguments, "--json", AWS_REGION="eu-central-1")
    assert ended.status == status
    assert ended.stdout.count("\n") == 1
    assert ended.summary.keys() == {"error", "problems", "exit_status"}
    assert words in ended.summary["error"]
    assert (ended.summary["problems"], ended.summary["exit_status"]) == ([], status)
    assert ended.summary["error"] in ended.stderr


def test_with_json_the_rows_problems_are_told_as_well(program: Program) -> None:
    """Those that kept `submit` from beginning; `validate` has an object of its own for them."""
    (program.folder / "bad.csv").write_text(csv_text(["a", "b"]).replace("ml.m5.large", "nonsense"))
    ended = program.run("submit", "bad.csv", "--json", AWS_REGION="eu-central-1")
    assert ended.status == ended.summary["exit_status"] == USAGE
    assert ended.summary["error"] == "bad.csv has 2 problems; nothing was sent"
    assert [problem.split(": ")[0] for problem in ended.summary["problems"]] == ["bad.csv:2:4", "bad.csv:3:4"]
