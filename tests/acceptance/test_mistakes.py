"""What people get wrong: one clear sentence, the exit status of the contract, and nothing sent."""

import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import CONSOLE_SCRIPT, Ended, Program, Sandbox, csv_text
from strategies import arn

LEDGER = "jobs.ledger.jsonl"
USAGE, STOPPED, IN_USE = 2, 3, 4


@pytest.fixture
def ready(submitting: Program) -> Program:
    """Everything is right, so that one thing can be made wrong."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b", "c"]))
    return submitting


def assert_told(ended: Ended, status: int, *words: str) -> None:
    """Hold that people get one short sentence with these words."""
    assert ended.status == status, ended.stderr
    assert ended.stdout == ""
    for word in words:
        assert word in ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.strip()]
    assert len(told) <= 8
    assert sum(line.startswith(("batchsubmit:", "Error:", "Stopped", "  why:")) for line in told) >= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.csv",), ("missing.csv: there is no such file",)),
        ((".",), ("is a folder, not a manifest",)),
        (("jobs.csv", "--ledger", "."), ("ledger .",)),
        (("jobs.csv", "--ledger", "nowhere/l.jsonl"), ("nowhere/l.jsonl", "No such file or directory")),
        (("jobs.csv", "--ledger", "/dev/full"), ("/dev/full", "not a regular file")),
        (("jobs.csv", "--deadline", "soon"), ("--deadline soon", "06:00")),
        (("jobs.csv", "--max-failures", "many"), ("--max-failures many", "5%")),
        (("jobs.csv", "--rate", "fast"), ("--rate",)),
        (("jobs.csv", "--rate", "-1"), ("rate.max_per_second", "-1")),
        (("jobs.csv", "--concurrency", "0"), ("submit.concurrency", "0")),
        (("jobs.csv", "--config", "missing.toml"), ("missing.toml", "cannot be read")),
        (("jobs.csv", "--config", "broken.toml"), ("broken.toml", "not TOML")),
        (("jobs.csv", "--config", "unknown.toml"), ("rate.max_per_secnd", "did you mean rate.max_per_second")),
        (("jobs.csv", "--lodger", "l.jsonl"), ("--lodger", "--ledger")),
        ((), ("MANIFEST",)),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_a_wrong_argument_is_named_and_nothing_is_sent(
    ready: Program, sandbox: Sandbox, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Exit status 2, and no ledger is left behind."""
    (ready.folder / "broken.toml").write_text("[rate\n")
    (ready.folder / "unknown.toml").write_text("[rate]\nmax_per_secnd = 1\n")
    ended = ready.run("submit", *arguments)
    assert ended.status == USAGE, ended.stderr
    assert ended.stdout == ""
    for word in words:
        assert word in ended.stderr
    assert len(ended.stderr.splitlines()) <= 4
    assert sandbox.calls() == 0
    assert not (ready.folder / LEDGER).exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("BATCHSUBMIT_RATE__MAX_PER_SECND", "1"), ("BATCHSUBMIT_RATE__MAX_PER_SECOND", "fast")],
)
def test_a_wrong_variable_is_named(ready: Program, sandbox: Sandbox, variable: str, value: str) -> None:
    """Misspelt, or of the wrong kind."""
    assert_told(ready.run("submit", "jobs.csv", **{variable: value}), USAGE, variable)
    assert sandbox.calls() == 0


def test_no_region_is_a_usage_error(ready: Program, sandbox: Sandbox) -> None:
    """It says where one is set."""
    assert_told(ready.run("submit", "jobs.csv", AWS_REGION=None), USAGE, "no AWS region", "AWS_REGION")
    (ready.folder / "odd.csv").write_text("nmae\nx\n")
    told = ready.run("submit", "odd.csv", AWS_REGION=None)  # what is wrong with the file comes first
    assert (told.status, "AWS region" in told.stderr, "nmae" in told.stderr) == (USAGE, False, True)
    assert sandbox.calls() == 0


def test_a_region_that_is_not_the_rows_is_a_usage_error(ready: Program, sandbox: Sandbox) -> None:
    """The service would answer from elsewhere."""
    ended = ready.run("submit", "jobs.csv", AWS_REGION="us-east-1")
    assert ended.status == USAGE
    assert "us-east-1" in ended.stderr
    assert sandbox.calls() == 0


def test_a_profile_that_does_not_exist_is_named(ready: Program, sandbox: Sandbox) -> None:
    """Before anything is sent."""
    ended = ready.run("submit", "jobs.csv", AWS_PROFILE="nobody", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert_told(ended, USAGE, "nobody")
    assert sandbox.calls() == 0


def test_no_credentials_stop_the_run_before_the_first_intent(ready: Program, sandbox: Sandbox) -> None:
    """Resumable: nothing is unknown afterwards."""
    ended = ready.run("submit", "jobs.csv", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert_told(ended, STOPPED, "no AWS credentials")
    assert sandbox.calls() == 0
    assert "intent" not in {event["event"] for event in ready.events(LEDGER)}
    assert ready.run("submit", "jobs.csv").status == 0


def test_expired_credentials_stop_the_run_and_burn_no_job(ready: Program, sandbox: Sandbox) -> None:
    """The other jobs are as new as before, and the service's words are told."""
    sandbox.disturb({"fault": "expired_token", "times": 99})
    ended = ready.run("submit", "jobs.csv", "--concurrency", 1)
    assert_told(ended, STOPPED, "credentials", "ExpiredToken", "run the same command again")
    assert sandbox.calls() == 1
    assert "rejected" not in {event["event"] for event in ready.events(LEDGER)}
    sandbox.disturb()
    assert ready.run("submit", "jobs.csv").status == 0
    assert sorted(sandbox.names()) == ["a", "b", "c"]


def test_a_closed_port_stops_the_run(ready: Program) -> None:
    """After a few tries; no job is failed for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        ended = ready.run("submit", "jobs.csv", AWS_ENDPOINT_URL_CLEANROOMSML=url)
    assert_told(ended, STOPPED, "unreachable", url)
    assert "rejected" not in {event["event"] for event in ready.events(LEDGER)}
    assert ready.run("submit", "jobs.csv").status == 0


def test_an_endpoint_that_is_no_url_is_a_usage_error(ready: Program) -> None:
    """In a sentence, not in a library's words alone."""
    ended = ready.run("submit", "jobs.csv", AWS_ENDPOINT_URL_CLEANROOMSML="not a url")
    assert ended.status in {USAGE, STOPPED}
    assert "not a url" in ended.stderr


def test_an_endpoint_that_is_something_else_stops_the_run(ready: Program, sandbox: Sandbox) -> None:
    """Its 404 is no verdict on the jobs."""
    ended = ready.run("submit", "jobs.csv", AWS_ENDPOINT_URL_CLEANROOMSML=f"{sandbox.url}/_sandbox/nothing")
    assert_told(ended, STOPPED, "is the endpoint Clean Rooms ML?")
    assert "rejected" not in {event["event"] for event in ready.events(LEDGER)}


def test_a_ledger_in_use_names_who_has_it(ready: Program, sandbox: Sandbox) -> None:
    """Exit status 4 at once."""
    sandbox.disturb({"fault": "slow_answer", "times": 3, "seconds": 45})
    with ready.running("submit", "jobs.csv") as holder:
        while not sandbox.names():
            assert holder.poll() is None
            os.sched_yield()
        ended = ready.run("submit", "jobs.csv")
        holder.kill()
        holder.communicate()
    assert_told(ended, IN_USE, LEDGER, "in use", f"process {holder.pid}")


def test_a_ledger_that_another_program_has_locked_is_in_use(ready: Program, sandbox: Sandbox) -> None:
    """Whoever it is."""
    with (ready.folder / LEDGER).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert_told(ready.run("submit", "jobs.csv"), IN_USE, "in use by another process")
    assert sandbox.calls() == 0


def test_a_damaged_ledger_is_refused_with_its_line(ready: Program, sandbox: Sandbox) -> None:
    """And left as it is."""
    assert ready.run("submit", "jobs.csv").status == 0
    path = ready.folder / LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"attempt":1', b'"attempt":2')
    path.write_bytes(b"".join(lines))
    calls = sandbox.calls()
    assert_told(ready.run("submit", "jobs.csv"), IN_USE, "damaged at line 3")
    assert ready.run("status", LEDGER).status == IN_USE
    assert path.read_bytes() == b"".join(lines)
    assert sandbox.calls() == calls


def test_a_manifest_given_as_the_ledger_is_refused_and_kept(ready: Program, sandbox: Sandbox) -> None:
    """A slip of the hand must not cost the file."""
    before = (ready.folder / "jobs.csv").read_bytes()
    ended = ready.run("submit", "jobs.csv", "--ledger", "jobs.csv")
    assert_told(ended, USAGE, "jobs.csv is no ledger")
    assert (ready.folder / "jobs.csv").read_bytes() == before
    assert sandbox.calls() == 0


@pytest.mark.parametrize(
    "command", [("status",), ("report",), ("export",), ("verify", "--offline"), ("status", "--watch")]
)
def test_whoever_reads_a_manifest_as_a_ledger_is_told_so(ready: Program, command: tuple[str, ...]) -> None:
    """It is not damaged, and there is no copy to restore."""
    assert_told(ready.run(*command, "jobs.csv"), USAGE, "jobs.csv is no ledger", "<manifest stem>.ledger.jsonl")


def test_a_manifest_without_rows_is_said_to_have_none(ready: Program, sandbox: Sandbox) -> None:
    """Nothing was submitted before: there is nothing."""
    (ready.folder / "none.csv").write_text(csv_text([]))
    assert "none.csv: no rows under the header" in ready.run("validate", "none.csv").stderr
    ended = ready.run("submit", "none.csv")
    assert (ended.status, "Nothing to do: none.csv has no rows" in ended.stderr) == (0, True)
    assert sandbox.calls() == 0


def test_a_rehearsal_s_ledger_is_not_taken_for_a_real_one(ready: Program, sandbox: Sandbox) -> None:
    """Its jobs are not submitted; and the other way round."""
    assert ready.run("submit", "jobs.csv", "--sandbox").status == 0
    rehearsed = "jobs.sandbox.ledger.jsonl"
    assert_told(
        ready.run("submit", "jobs.csv", "--ledger", rehearsed), USAGE, "written against the sandbox", "--ledger"
    )
    assert sandbox.calls() == 0
    assert ready.run("submit", "jobs.csv").status == 0
    assert_told(
        ready.run("submit", "jobs.csv", "--sandbox", "--ledger", "jobs.ledger.jsonl"), USAGE, "against the real service"
    )


def test_faults_are_rehearsed(ready: Program, sandbox: Sandbox) -> None:
    """From a file, which only the sandbox has a use for; what is wrong with it is said in a sentence."""
    faults = ready.folder / "faults.json"
    faults.write_text('{"script": [{"operation": "StartTrainedModelInferenceJob", "fault": "validation"}]}')
    ended = ready.run("submit", "jobs.csv", "--sandbox", "--faults", "faults.json", "--json")
    assert (ended.status, ended.summary["counts"]["rejected"]) == (1, 1)
    assert_told(ready.run("submit", "jobs.csv", "--faults", "faults.json"), USAGE, "give --sandbox as well")
    faults.write_text('{"script": 7}')
    ready.run("submit", "jobs.csv", "--sandbox", "--faults", "faults.json", "--ledger", "new.jsonl")
    for command in (["submit", "jobs.csv", "--sandbox", "--ledger", "new.jsonl"], ["sandbox"]):
        ended = ready.run(*command, "--faults", "faults.json")
        assert_told(ended, USAGE if command[0] == "submit" else STOPPED, "the faults file faults.json: not a plan")


def test_a_sandbox_on_a_port_that_is_taken_says_so(ready: Program, sandbox: Sandbox) -> None:
    """Exit status 3."""
    port = sandbox.url.rpartition(":")[2]
    assert_told(ready.run("sandbox", "--port", port), STOPPED, f"port {port}: Address already in use")


def test_a_sandbox_that_makes_no_sense_says_so(ready: Program) -> None:
    """By click's own words."""
    ended = ready.run("sandbox", "--failure-probability", "2")
    assert_told(ended, USAGE, "'--failure-probability': 2.0 is not in the range 0<=x<=1")


def test_a_rehearsal_never_uses_real_credentials_or_endpoints(ready: Program, sandbox: Sandbox) -> None:
    """Whatever the environment says: not even a profile that does not exist troubles it."""
    ended = ready.run("submit", "jobs.csv", "--sandbox", AWS_PROFILE="nobody", AWS_ENDPOINT_URL=sandbox.url)
    assert ended.status == 0, ended.stderr
    assert sandbox.calls() == 0


@pytest.mark.parametrize("ledger", ["missing.jsonl", "."])
def test_status_of_nothing_is_a_usage_error(program: Program, ledger: str) -> None:
    """With the operating system's reason."""
    assert_told(program.run("status", ledger), USAGE, ledger)


def test_rows_of_another_account_s_region_are_told_before_the_ledger_exists(ready: Program) -> None:
    """A check of the manifest leaves nothing behind."""
    manifest = ready.folder / "jobs.csv"
    manifest.write_text(manifest.read_text().replace(arn("ml-input-channel"), "arn:nonsense"))
    ended = ready.run("submit", "jobs.csv")
    assert ended.status == USAGE
    assert "jobs.csv:2:6: dataSource.mlInputChannelArn" in ended.stderr
    assert sorted(each.name for each in ready.folder.iterdir()) == ["jobs.csv"]


def test_a_reader_that_has_gone_is_no_crash(program: Program) -> None:
    """`batchsubmit schema | head -1`."""
    assert program.run("schema").status == 0
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([CONSOLE_SCRIPT, "schema"], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_no_command_or_an_unknown_one_is_a_usage_error(program: Program) -> None:
    """And help is none."""
    assert program.run("submitt").status == USAGE
    assert program.run("--help").status == 0
    assert program.run("submit", "--help").status == 0


def test_the_module_runs_like_the_script(program: Program) -> None:
    """`python -m batchsubmit`."""
    done = subprocess.run(
        [sys.executable, "-m", "batchsubmit", "--version"], capture_output=True, check=True, text=True
    )
    assert done.stdout == program.run("--version").stdout


def test_a_problem_of_every_row_is_cut_by_submit_and_listed_by_validate(ready: Program, sandbox: Sandbox) -> None:
    """In a wrong region each row has the same two problems: few lines to read, and each of them for who asks."""
    (ready.folder / "jobs.csv").write_text(csv_text([f"job-{number}" for number in range(150)]))
    elsewhere = {"AWS_REGION": "eu-west-1"}
    refused = ready.run("submit", "jobs.csv", **elsewhere)
    assert refused.status == USAGE
    assert len(refused.stderr.splitlines()) == 2 * 4 + 2
    assert "All 300 are listed by batchsubmit validate with the same manifest and options" in refused.stderr
    assert sandbox.calls() == 0
    listed = ready.run("validate", "jobs.csv", **elsewhere)
    assert listed.status == USAGE
    assert len(listed.stdout.splitlines()) == 300
    assert listed.stdout.splitlines()[-1].startswith("jobs.csv:151:")
    assert len(listed.stderr.splitlines()) == 3
    refused_as_json = json.loads(ready.run("submit", "jobs.csv", "--json", **elsewhere).stdout)
    assert (refused_as_json["problem_count"], len(refused_as_json["problems"])) == (300, 100)
    told = json.loads(ready.run("validate", "jobs.csv", "--json", **elsewhere).stdout)
    assert told["problem_count"] == len(told["problems"]) == 300
    assert {each["line"] for each in told["problems"]} == set(range(2, 152))
