"""What the environment does wrong: found before the first call, said in a sentence, and never taken for a sent job."""

import asyncio
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from byte_server import http, wire
from conftest import CONSOLE_SCRIPT, Ended, Program, Sandbox, checked, csv_text, job_arn, request_named
from strategies import MEMBERSHIP

from batchsubmit.api.batch import submit_jobs
from batchsubmit.errors import ManifestError

LEDGER = "jobs.ledger.jsonl"
ROLE = "arn:aws:iam::111122223333:role/one"
EXPIRED = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c"}
EXPIRED["Expiration"] = "2020-01-01T00:00:00Z"
PROFILES = f"""
[profile missing-program]
credential_process = /no/such/program
[profile no-json]
credential_process = echo hello
[profile expired]
credential_process = cat expired.json
[profile mfa]
role_arn = {ROLE}
source_profile = user
mfa_serial = arn:aws:iam::111122223333:mfa/one
[profile user]
aws_access_key_id = a
aws_secret_access_key = b
[profile sso]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
sso_account_id = 111122223333
sso_role_name = one
"""


@pytest.fixture
def ready(submitting: Program) -> Program:
    """A program with a manifest of two rows, and profiles that are of no use."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b"]))
    (submitting.folder / "config").write_text(PROFILES)
    (submitting.folder / "broken").write_text("nonsense\n[x\n")
    (submitting.folder / "latin").write_bytes(b"[default]\nregion=\xff\n")
    (submitting.folder / "expired.json").write_text(json.dumps(EXPIRED))
    return submitting


def _profile(name: str) -> dict[str, str | None]:
    return {
        "AWS_ACCESS_KEY_ID": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "AWS_CONFIG_FILE": "config",
        "AWS_PROFILE": name,
    }


TROUBLES: list[tuple[dict[str, str | None], int, tuple[str, ...]]] = [
    ({"AWS_CA_BUNDLE": "/no/bundle"}, 3, ("/no/bundle", "AWS_CA_BUNDLE")),
    ({"AWS_SECRET_ACCESS_KEY": "dummy\r"}, 3, ("secret access key", "white space")),
    ({"AWS_ACCESS_KEY_ID": "dummy\n"}, 3, ("access key id", "white space")),
    ({"AWS_SESSION_TOKEN": "one\ntwo"}, 3, ("session token", "white space")),
    ({"HTTP_PROXY": "http://proxy:99999", "NO_PROXY": ""}, 3, ("proxy", "http://proxy:99999")),
    ({"HTTP_PROXY": "socks5://proxy:1", "NO_PROXY": ""}, 3, ("proxy", "socks5://proxy:1")),
    ({"AWS_ENDPOINT_URL_CLEANROOMSML": "http://host:99999"}, 2, ("AWS_ENDPOINT_URL_CLEANROOMSML=", "no address")),
    ({"AWS_PROFILE": "nobody"}, 2, ("AWS_PROFILE=nobody",)),
    ({"AWS_DEFAULTS_MODE": "nonsense"}, 2, ("AWS_DEFAULTS_MODE=nonsense",)),
    ({"AWS_CONFIG_FILE": "broken"}, 2, ("AWS_CONFIG_FILE=broken", "parse")),
    ({"AWS_CONFIG_FILE": "latin"}, 2, ("AWS_CONFIG_FILE=latin",)),
    (_profile("missing-program"), 3, ("/no/such/program", "No such file")),
    (_profile("no-json"), 3, ("credential_process", "not JSON")),
    (_profile("expired"), 3, ("expired",)),
    (_profile("mfa"), 3, ("MFA", "no terminal")),
    (_profile("sso"), 3, ("aws sso login --profile sso",)),
    (
        {**_profile("user"), "AWS_PROFILE": None, "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/token", "AWS_ROLE_ARN": ROLE},
        3,
        ("/no/token", "No such file"),
    ),
]


def _assert_said(ended: Ended, status: int, words: tuple[str, ...]) -> None:
    assert ended.status == status, ended.stderr
    for word in (*words, "nothing was sent"):
        assert word in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "bug" not in ended.stderr


@pytest.mark.parametrize(("environment", "status", "words"), TROUBLES, ids=lambda value: str(value)[:60])
def test_what_is_wrong_for_every_call_is_said_before_the_first(
    ready: Program, sandbox: Sandbox, environment: dict[str, str | None], status: int, words: tuple[str, ...]
) -> None:
    """In one line with its fix; the ledger has no intent and no run that did not end."""
    _assert_said(ready.run("submit", "jobs.csv", "--yes", **environment), status, words)
    assert sandbox.calls() == 0
    ledger = ready.folder / LEDGER
    assert not ledger.exists() or ready.events(LEDGER) == []


@pytest.mark.parametrize("command", ["plan", "verify", "cancel"])
def test_the_other_commands_say_the_same(ready: Program, sandbox: Sandbox, command: str) -> None:
    """The check stands where every client is opened."""
    assert ready.run("submit", "jobs.csv", "--yes").status == 0
    arguments = {
        "plan": ("plan", "jobs.csv", "--online", "--ledger", "other.jsonl"),
        "verify": ("verify", LEDGER),
        "cancel": ("cancel", LEDGER, "--yes"),
    }
    calls = sandbox.get("stats")
    _assert_said(ready.run(*arguments[command], AWS_CA_BUNDLE="/no/bundle"), 3, ("/no/bundle",))
    assert sandbox.get("stats") == calls


def test_a_setting_that_our_own_overrules_is_no_trouble(ready: Program) -> None:
    """Attempts are ours alone."""
    environment = {"AWS_MAX_ATTEMPTS": "abc", "AWS_RETRY_MODE": "nonsense", "AWS_USE_FIPS_ENDPOINT": "maybe"}
    assert ready.run("submit", "jobs.csv", "--yes", **environment).status == 0


def test_a_rehearsal_needs_neither_bundle_nor_proxy(ready: Program) -> None:
    """It calls this process only."""
    environment = {"AWS_CA_BUNDLE": "/no/bundle", "HTTP_PROXY": "http://proxy:99999", "NO_PROXY": ""}
    ended = ready.run("submit", "jobs.csv", "--sandbox", "--sandbox-job-seconds", "0.1", "--yes", **environment)
    assert ended.status == 0, ended.stderr


@pytest.mark.parametrize(
    "arguments", [(b"m\xff.csv",), (b"jobs.csv", b"--batch-id", b"n\xff")], ids=["manifest", "batch id"]
)
def test_an_argument_that_is_not_utf8_is_named(ready: Program, sandbox: Sandbox, arguments: tuple[bytes, ...]) -> None:
    """With the byte that is none."""
    line = [os.fsencode(CONSOLE_SCRIPT), b"submit", *arguments]
    environment = {**os.environ, **ready.environment}
    done = subprocess.run(line, cwd=ready.folder, env=environment, capture_output=True, check=False, timeout=60)
    ended = checked(Ended(done.returncode, done.stdout.decode(), done.stderr.decode()))
    assert ended.status == 2
    assert "is not UTF-8" in ended.stderr
    assert "\\xff" in ended.stderr
    assert sandbox.calls() == 0


async def _answered(ready: Program, reply: bytes, *arguments: str) -> tuple[Ended, int]:
    async with wire(lambda _: reply) as (url, requests):
        ended = await asyncio.to_thread(ready.run, *arguments, AWS_ENDPOINT_URL_CLEANROOMSML=url)
    return ended, len(requests)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"])
async def test_a_clock_that_is_off_is_named_with_how_far(ready: Program, code: str) -> None:
    """By the time in the answer; the credentials are not blamed."""
    date = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    reply = http("403 Forbidden", json.dumps({"message": "Signature"}).encode(), "application/json")
    reply = reply.replace(b"\r\n", f"\r\nDate: {date}\r\nx-amzn-ErrorType: {code}\r\n".encode(), 1)
    ended, _ = await _answered(ready, reply, "submit", "jobs.csv", "--yes")
    assert ended.status == 3
    assert "this machine's clock is 3,60" in ended.stderr
    assert "seconds ahead; set it" in ended.stderr
    assert "get-caller-identity" not in ended.stderr


async def test_a_signature_that_is_wrong_by_the_right_clock_blames_the_credentials(ready: Program) -> None:
    """Then it is the key."""
    date = format_datetime(datetime.now(UTC), usegmt=True)
    reply = http("403 Forbidden", b'{"message": "no"}', "application/json")
    reply = reply.replace(b"\r\n", f"\r\nDate: {date}\r\nx-amzn-ErrorType: SignatureDoesNotMatch\r\n".encode(), 1)
    ended, _ = await _answered(ready, reply, "submit", "jobs.csv", "--yes")
    assert ended.status == 3
    assert "clock" not in ended.stderr
    assert "get-caller-identity" in ended.stderr


def test_a_temporary_folder_that_cannot_be_written_is_named(program: Program) -> None:
    """No file may grow: the manifest is not missing."""
    (program.folder / "jobs.csv").write_text(csv_text(["a"]))
    line = f"ulimit -f 0; exec {CONSOLE_SCRIPT} validate - < jobs.csv"
    environment = {**os.environ, "TMPDIR": str(program.folder)}
    done = subprocess.run(  # noqa: S602 (our own line)
        line, shell=True, cwd=program.folder, env=environment, capture_output=True, check=False, timeout=60
    )
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert f"the temporary folder {program.folder} cannot be written" in said
    assert "TMPDIR" in said


def test_a_value_that_is_no_json_is_named_by_its_path(tmp_path: Path) -> None:
    """Python's objects come from Python's callers."""
    request = request_named("a", environment={"SINCE": datetime.now(UTC)})
    with pytest.raises(ManifestError) as raised:
        submit_jobs([request], ledger=tmp_path / "l.jsonl", sandbox=True)
    assert "environment.SINCE" in str(raised.value.problems[0])


async def test_a_list_that_does_not_end_is_a_failed_read(ready: Program) -> None:
    """With a sentence, after a bounded number of pages without a new job: here a token is repeated."""
    page = {"trainedModelInferenceJobs": [], "nextToken": "again"}
    reply = http("200 OK", json.dumps(page).encode(), "application/json")
    ended, requests = await _answered(ready, reply, "plan", "jobs.csv", "--online")
    assert ended.status == 3
    assert "it does not end: 200 pages in a row had no new job" in ended.stderr
    assert requests <= 200


def _summary(**members: object) -> bytes:
    job = {
        "trainedModelInferenceJobArn": job_arn("1"),
        "membershipIdentifier": MEMBERSHIP,
        "name": "other",
        "status": "CREATE_IN_PROGRESS",
        "createTime": "2026-11-23T00:00:00",
        "updateTime": "2026-11-23T00:00:00",
        **members,
    }
    return http("200 OK", json.dumps({"trainedModelInferenceJobs": [job]}).encode(), "application/json")


@pytest.mark.parametrize("members", [{}, {"status": "SOMETHING_NEW"}], ids=["no zone", "unknown status"])
async def test_odd_members_of_a_job_do_not_end_the_program(ready: Program, members: dict[str, object]) -> None:
    """A time without zone is UTC; a status that is not known is running."""
    ended, _ = await _answered(ready, _summary(**members), "plan", "jobs.csv", "--online", "--json")
    assert "bug" not in ended.stderr
    assert ended.status in {0, 3}, ended.stderr


def _full(value: str) -> bytes:
    """The answer of a service whose slots are full, whose quota is `value`."""
    body = f'{{"message": "full", "quotaName": "inference jobs per account", "quotaValue": {value}}}'.encode()
    refusal = http("402 Payment Required", body, "application/json")
    return refusal.replace(b"\r\n", b"\r\nx-amzn-ErrorType: ServiceQuotaExceededException\r\n", 1)


async def _ended_where_slots_are_full(ready: Program, value: str, *, within_seconds: float) -> Ended:
    def answer(request: bytes) -> bytes:
        if request.startswith(b"POST"):
            return _full(value)
        return http("200 OK", b'{"trainedModelInferenceJobs": []}', "application/json")

    soon = (datetime.now(UTC) + timedelta(seconds=within_seconds)).isoformat()
    async with wire(answer) as (url, _):
        return await asyncio.to_thread(
            ready.run, "submit", "jobs.csv", "--yes", "--deadline", soon, AWS_ENDPOINT_URL_CLEANROOMSML=url
        )


@pytest.mark.parametrize("value", ["NaN", "1e400", "-1"])
async def test_a_quota_that_is_no_number_is_not_known(ready: Program, value: str) -> None:
    """The refusal is about slots all the same; the run ends by its deadline, in good order."""
    ended = await _ended_where_slots_are_full(ready, value, within_seconds=2)
    assert ended.status == 3, ended.stderr
    assert "bug" not in ended.stderr


async def test_an_answer_that_the_sdk_cannot_read_is_no_refusal(ready: Program) -> None:
    """A number of 400 digits breaks botocore: the job is looked up before each further call, then given up."""
    ended = await _ended_where_slots_are_full(ready, "1" + "0" * 400, within_seconds=40)
    assert ended.status == 1, ended.stderr
    assert "NoAnswer" in ended.stderr
    assert "bug" not in ended.stderr
