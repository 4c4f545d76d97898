"""`doctor`: each wrong thing is named with its fix, and what works is said to work. MiniStack stands for AWS."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner
from conftest import CONSOLE_SCRIPT, Ended, Program, Sandbox, csv_text
from local_aws import LocalAws
from strategies import MEMBERSHIP, arn

from batchsubmit.cli.main import commands
from batchsubmit.ledger import file

QUEUE_SETTINGS = "[worker]\nqueue_url = {url!r}\n"


@pytest.fixture
def ready(submitting: Program, aws: LocalAws) -> Program:
    """A program with a good manifest, in an account where all is in place."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b"]))
    submitting.environment["AWS_ENDPOINT_URL"] = aws.url
    return submitting


def states(ended: Ended) -> dict[str, str]:
    """The states by check."""
    return {each["check"]: each["state"] for each in ended.summary["checks"]}


def detail(ended: Ended, check: str) -> str:
    """What is said of a check that is wrong."""
    [found] = [each for each in ended.summary["checks"] if each["check"] == check]
    assert found["state"] == "wrong", found
    assert ended.status == ended.summary["exit_status"] == 1
    return str(found["detail"])


def test_all_in_place_is_said_in_marks_with_the_next_command(ready: Program, sandbox: Sandbox) -> None:
    """On standard output, one check after another; nothing is started and no file stays."""
    ended = ready.run("doctor", "jobs.csv")
    assert ended.status == 0, ended.stdout
    assert "✗" not in ended.stdout
    for line in ("✓ identity: arn:aws", "✓ clock", "✓ endpoint: http://", "✓ disk"):
        assert line in ended.stdout
    assert "Next: batchsubmit plan jobs.csv" in ended.stderr
    assert sandbox.calls() == 0
    assert [path.name for path in ready.folder.iterdir()] == ["jobs.csv"]


def test_without_a_manifest_the_rest_is_checked(ready: Program) -> None:
    """What needs a membership is said to be untried."""
    ended = ready.run("doctor", "--json")
    assert ended.status == 0
    found = states(ended)
    assert found["permissions"] == "untried"
    assert found["identity"] == found["endpoint"] == "good"


def test_no_region_is_named(ready: Program) -> None:
    """And nothing of AWS is guessed."""
    ended = ready.run("doctor", "jobs.csv", "--json", AWS_REGION=None)
    assert "set AWS_REGION" in detail(ended, "region")
    assert states(ended)["AWS"] == "untried"
    assert states(ended)["disk"] == "good"


def test_no_credentials_are_named(ready: Program) -> None:
    """With what to set."""
    ended = ready.run("doctor", "jobs.csv", "--json", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert "Set AWS_PROFILE" in detail(ended, "identity")
    assert states(ended)["AWS"] == "untried"


@contextmanager
def token_service(code: str, *, ahead_seconds: float = 0.0) -> Iterator[str]:
    """An STS that answers with an error, or, without a code, with an identity; by a clock of its own."""
    status = 403 if code else 200
    caller = "<GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/me</Arn></GetCallerIdentityResult>"
    body = f"<GetCallerIdentityResponse>{caller}</GetCallerIdentityResponse>"
    if code:
        body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_seconds), usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("code", "fix"),
    [("ExpiredToken", "aws sso login"), ("InvalidClientTokenId", "get-caller-identity")],
)
def test_a_refused_key_is_named_with_its_fix(ready: Program, sandbox: Sandbox, code: str, fix: str) -> None:
    """Before anything is asked of the service."""
    with token_service(code) as url:
        ended = ready.run("doctor", "jobs.csv", "--json", AWS_ENDPOINT_URL_STS=url)
    assert code in detail(ended, "identity")
    assert fix in detail(ended, "identity")
    assert sandbox.calls("ListTrainedModelInferenceJobs") == 0


def test_an_endpoint_that_is_no_address_is_named(ready: Program) -> None:
    """The rest is still checked."""
    ended = ready.run("doctor", "jobs.csv", "--json", AWS_ENDPOINT_URL_CLEANROOMSML="http://host:99999")
    assert "AWS_ENDPOINT_URL_CLEANROOMSML=" in detail(ended, "endpoint")
    assert states(ended)["disk"] == "good"


def test_a_clock_that_is_off_is_named_by_how_much(ready: Program) -> None:
    """Also where the service still takes the signature."""
    with token_service("", ahead_seconds=-3600) as url:
        ended = ready.run("doctor", "--json", AWS_ENDPOINT_URL_STS=url)
    assert "seconds ahead; set it" in detail(ended, "clock")


def test_a_service_that_cannot_be_reached_is_status_3(ready: Program) -> None:
    """Nothing is known to be wrong: it could not be asked."""
    ended = ready.run("doctor", "jobs.csv", "--json", AWS_ENDPOINT_URL_CLEANROOMSML="http://127.0.0.1:9")
    assert ended.status == 3
    assert states(ended)["endpoint"] == "unasked"
    assert "HTTPS_PROXY" in ended.stdout


@pytest.mark.parametrize("operation", ["ListTrainedModelInferenceJobs", "GetTrainedModelInferenceJob"])
def test_a_missing_permission_is_named_with_its_action_and_policy(
    ready: Program, sandbox: Sandbox, operation: str
) -> None:
    """The others are still tried."""
    sandbox.disturb({"fault": "access_denied", "operation": operation, "times": 9})
    ended = ready.run("doctor", "jobs.csv", "--json")
    said = detail(ended, f"permission {operation}")
    assert f"cleanrooms-ml:{operation}" in said
    assert "batchsubmit policy submit" in said
    assert MEMBERSHIP in said
    assert list(states(ended).values()).count("wrong") == 1


def test_an_expired_session_at_the_service_is_named(ready: Program, sandbox: Sandbox) -> None:
    """Its endpoint may ask other credentials than STS does."""
    sandbox.disturb({"fault": "expired_token", "operation": "ListTrainedModelInferenceJobs", "times": 9})
    assert "renew them" in detail(ready.run("doctor", "jobs.csv", "--json"), "endpoint")


def test_a_model_that_is_not_active_and_a_bad_row_are_named(ready: Program, sandbox: Sandbox) -> None:
    """With the manifest's own command for the rows."""
    sandbox.configure(input_statuses={arn("ml-input-channel"): "INACTIVE"})
    ended = ready.run("doctor", "jobs.csv", "--json")
    assert "is INACTIVE" in detail(ended, "models, channels")
    (ready.folder / "jobs.csv").write_text(csv_text(["a"]).replace("ml.m5.large", "ml.m5.lage"))
    assert "batchsubmit validate jobs.csv" in detail(ready.run("doctor", "jobs.csv", "--json"), "manifest")


@pytest.mark.parametrize(
    ("queue", "fix"),
    [({"fifo": True}, "use a standard queue"), ({"receives": None}, "set a RedrivePolicy"), ({}, "")],
)
def test_a_wrong_queue_is_named_with_its_fix(
    ready: Program, aws: LocalAws, queue: dict[str, bool | None], fix: str
) -> None:
    """Kind, dead-letter queue; one that fits is good."""
    url = aws.make_queue(**queue).url  # type: ignore[arg-type]
    (ready.folder / "worker.toml").write_text(QUEUE_SETTINGS.format(url=url))
    ended = ready.run("doctor", "--json", "--config", "worker.toml", AWS_REGION="us-east-1")
    if fix:
        assert fix in detail(ended, "queue")
    else:
        assert states(ended)["queue"] == "good"


def test_a_queue_table_bucket_and_topic_that_are_not_there_are_named(ready: Program, aws: LocalAws) -> None:
    """Each by a line of its own."""
    (ready.folder / "night.toml").write_text(
        QUEUE_SETTINGS.format(url=f"{aws.url}/000000000000/nowhere")
        + '[night]\nupload = "s3://no-such-bucket/x/"\n'
        + 'notify = ["sns:arn:aws:sns:us-east-1:000000000000:nowhere"]\n'
    )
    ended = ready.run("doctor", "--json", "--config", "night.toml")
    assert "does not exist" in detail(ended, "queue")
    assert "NoSuchBucket" in detail(ended, "bucket")
    assert "NotFound" in detail(ended, "topic")
    table = ready.run("doctor", "--json", "--ledger", "dynamodb://nowhere")
    assert "batchsubmit ledger create-table nowhere" in detail(table, "table")


def test_a_table_and_a_bucket_that_are_there_are_good(ready: Program, aws: LocalAws) -> None:
    """A webhook is not called."""
    aws.put_object("doctor-bucket", "x/a", "")
    assert ready.run("ledger", "create-table", "doctor").status == 0
    (ready.folder / "night.toml").write_text('[submit]\nledger = "dynamodb://doctor"\n')
    ended = ready.run("doctor", "--json", "--config", "night.toml")
    assert "dynamodb://doctor is a ledger" in ended.stdout
    assert states(ended)["table"] == "good"
    (ready.folder / "night.toml").write_text(
        '[night]\nupload = "s3://doctor-bucket/x/"\nnotify = ["https://example.com/x"]\n'
    )
    found = states(ready.run("doctor", "--json", "--config", "night.toml"))
    assert found["bucket"] == "good"
    assert found["webhook"] == "untried"


def test_a_ledger_of_a_rehearsal_or_with_damage_is_named(ready: Program) -> None:
    """Before submit would stop at it."""
    quick = ("--sandbox", "--sandbox-job-seconds", "0.1", "--yes", "--ledger", "jobs.ledger.jsonl")
    assert ready.run("submit", "jobs.csv", *quick).status == 0
    ended = ready.run("doctor", "jobs.csv", "--json")
    assert "was written against the sandbox" in detail(ended, "ledger")
    ledger = ready.folder / "jobs.ledger.jsonl"
    ledger.write_bytes(b"nonsense\n" + ledger.read_bytes())
    assert "its first line is no event" in detail(ready.run("doctor", "jobs.csv", "--json"), "ledger")


def test_a_disk_without_room_is_named_by_the_room_that_is_needed(ready: Program) -> None:
    """No file may grow here."""
    line = f"ulimit -f 0; exec {CONSOLE_SCRIPT} doctor jobs.csv --json | cat"
    assert "free 1 MB, or give --ledger" in _in_shell(ready, line, "disk")


@pytest.mark.parametrize(
    ("options", "words"), [("size=64k", "No space left on device: free"), ("ro", "Read-only file system")]
)
def test_a_full_and_a_read_only_disk_are_named(ready: Program, tmp_path: Path, options: str, words: str) -> None:
    """Real ones, where this machine lets a test mount them."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mounts of our own here (unshare -rm)")
    disk = tmp_path / "disk"
    disk.mkdir()
    fill = f"head -c 65536 /dev/zero > {disk}/filler;" if "size" in options else ""
    line = (
        f"mount -t tmpfs -o {options} tmpfs {disk} && {fill} "
        f"{CONSOLE_SCRIPT} doctor jobs.csv --json --ledger {disk}/l.jsonl"
    )
    assert words in _in_shell(ready, f"unshare -rm sh -c '{line}'", "disk")


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [("nfs4", "untried", "is nfs4: its locks may not hold between machines"), ("ext4", "good", "locks work")],
)
def test_a_file_system_of_several_machines_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str, words: str
) -> None:
    """No test can mount one: the system's list of mounts is replaced here."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 {os.major(device)}:{os.minor(device)} / /mnt rw shared:1 - {kind} server:/jobs rw\n")
    monkeypatch.setattr(file, "_MOUNTS", mounts)
    ended = CliRunner().invoke(commands, ["doctor", "--json", "--ledger", str(tmp_path / "jobs.ledger.jsonl")])
    [disk] = [each for each in json.loads(ended.stdout)["checks"] if each["check"] == "disk"]
    assert disk["state"] == state
    assert words in disk["detail"]


def _in_shell(program: Program, line: str, check: str) -> str:
    """Run a line of shell with the program's environment; give what is said of a check that is wrong."""
    environment = program._environment({})
    done = subprocess.run(  # noqa: S602 (our own line)
        line, shell=True, cwd=program.folder, env=environment, capture_output=True, check=False, timeout=60
    )
    assert b"Traceback" not in done.stderr
    [found] = [each for each in json.loads(done.stdout)["checks"] if each["check"] == check]
    assert found["state"] == "wrong"
    return str(found["detail"])
