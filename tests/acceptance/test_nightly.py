"""A night that needs nobody, by the real program: settings, a crash, an overlap, copies in S3, notices."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiobotocore.session import get_session
from conftest import Program, Sandbox, csv_text
from moto.server import ThreadedMotoServer
from strategies import REGION
from test_interrupt import until
from webhook import Hook, listening

SECRET = "0123456789abcdef"
MANY = [f"job-{number:03}" for number in range(120)]
LEDGER = "night.ledger.jsonl"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A local S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook."""
    with listening() as hook:
        yield hook


class Bucket:
    """A bucket, from outside."""

    def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        asyncio.run(self._put(key, body))

    def get(self, key: str) -> bytes:
        """Read an object."""
        return asyncio.run(self._get(key))

    async def _put(self, key: str, body: bytes) -> None:
        async with get_session().create_client("s3", region_name="us-east-1") as client:
            await client.create_bucket(Bucket="bucket")
            await client.put_object(Bucket="bucket", Key=key, Body=body)

    async def _get(self, key: str) -> bytes:
        async with get_session().create_client("s3", region_name="us-east-1") as client:
            answer = await client.get_object(Bucket="bucket", Key=key)
            return bytes(await answer["Body"].read())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, credentials: None, s3: str) -> Bucket:
    """The bucket with the night's manifest."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)
    bucket = Bucket()
    bucket.put("jobs.csv", csv_text(MANY).encode())
    return bucket


@pytest.fixture
def night(submitting: Program, bucket: Bucket, hook: Hook, s3: str, tmp_path: Path) -> Program:
    """The program with the settings of a night."""
    (submitting.folder / "night.toml").write_text(
        f"""
        [submit]
        batch_id = "night-{{date}}"
        ledger = "night.ledger.jsonl"
        day_begins = "12:00"
        time_zone = "Europe/Berlin"
        max_failures = "5%"
        wait = true
        [night]
        upload = "s3://bucket/{tmp_path.name}/"
        notify = ["{hook.url}"]
        """
    )
    submitting.environment |= {
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_REGION": REGION,
        "BATCHSUBMIT_NIGHT__WEBHOOK_SECRET": SECRET,
        "BATCHSUBMIT_NIGHT__NOTIFY_TIMEOUT_SECONDS": "5",
    }
    return submitting


SUBMIT = ("submit", "s3://bucket/jobs.csv", "--config", "night.toml")


def test_a_night_survives_a_crash_and_an_overlap_and_is_harmless_when_run_again(
    night: Program, sandbox: Sandbox, bucket: Bucket, hook: Hook, tmp_path: Path
) -> None:
    """Each job once; the copy in S3 grows with the ledger; everybody is told, of the overlap too."""
    sandbox.configure(job_seconds=0.2, failing_names=["job-110", "job-111"])
    with night.running(*SUBMIT, "--rate", 20) as process:
        until(lambda: len(sandbox.jobs()) >= 20)
        overlapping = night.run(*SUBMIT)
        process.kill()
        process.communicate()
    assert overlapping.status == 4
    assert "is in use by run" in overlapping.stderr
    assert hook.bodies[-1]["exit_status"] == 4
    assert "is in use by run" in hook.bodies[-1]["reason"]
    for _ in range(2):
        ended = night.run(*SUBMIT, "--json")
        assert ended.status == 1, ended.stderr
        assert ended.summary["counts"]["failed"] == 2
        assert ended.summary["afterwards"]["problems"] == []
        assert bucket.get(f"{tmp_path.name}/{LEDGER}") == (night.folder / LEDGER).read_bytes()
    assert sorted(sandbox.names()) == MANY
    told = hook.bodies[-1]
    assert (told["exit_status"], told["counts"]["succeeded"]) == (1, len(MANY) - 2)
    assert told["uploaded"] == [f"s3://bucket/{tmp_path.name}/{LEDGER}"]
    assert told["batch"].startswith("night-20")
    assert told["run"] == ended.summary["run"]
    assert "Batchsubmit-Signature" in hook.requests[-1][0]
    assert not any(name in json.dumps(hook.bodies) for name in MANY)


def test_a_deadline_cuts_the_tail_and_the_next_start_goes_on(night: Program, sandbox: Sandbox, hook: Hook) -> None:
    """The morning is told what is left."""
    sandbox.configure(per_membership=4, job_seconds=3600.0)
    cut = night.run(*SUBMIT, "--no-wait", "--deadline", "2020-01-01T06:00:00Z", "--json")
    assert cut.status == 3
    assert hook.bodies[-1]["exit_status"] == 3
    assert "deadline" in hook.bodies[-1]["reason"]
    assert hook.bodies[-1]["counts"]["pending"] == len(MANY)
    sandbox.configure(per_membership=0, job_seconds=0.1)
    assert night.run(*SUBMIT).status == 0
    assert sorted(sandbox.names()) == MANY


def test_a_copy_that_cannot_be_made_is_told_and_loses_nothing(
    night: Program, sandbox: Sandbox, bucket: Bucket, tmp_path: Path
) -> None:
    """Exit status 3; the same command, once it is mended, sends nothing twice and copies."""
    sandbox.configure(job_seconds=0.1)
    bucket.put(f"{tmp_path.name}/{LEDGER}", b"someone else's")
    ended = night.run(*SUBMIT, "--json")
    assert ended.status == ended.summary["exit_status"] == 3
    [problem] = ended.summary["afterwards"]["problems"]
    assert "--upload-overwrite" in problem
    assert problem in ended.stderr
    assert "the ledger is whole" in ended.stderr
    assert bucket.get(f"{tmp_path.name}/{LEDGER}") == b"someone else's"
    assert night.run(*SUBMIT, "--upload-overwrite").status == 0
    assert bucket.get(f"{tmp_path.name}/{LEDGER}") == (night.folder / LEDGER).read_bytes()
    assert sandbox.calls() == len(MANY)


def test_a_notice_that_does_not_arrive_changes_no_exit_status(night: Program, sandbox: Sandbox, hook: Hook) -> None:
    """It is said, without the hook's path."""
    sandbox.configure(job_seconds=0.1)
    hook.planned = [500, 500]
    ended = night.run(*SUBMIT, "--json")
    assert ended.status == 0
    [untold] = ended.summary["afterwards"]["untold"]
    assert "500" in untold
    assert "s3cr3t" not in ended.stderr + ended.stdout


def test_a_bad_manifest_is_told(night: Program, sandbox: Sandbox, bucket: Bucket, hook: Hook) -> None:
    """Nobody sits beside it."""
    bucket.put("jobs.csv", csv_text(["a", "a"]).encode())
    ended = night.run(*SUBMIT)
    assert ended.status == 2
    assert hook.bodies[-1]["exit_status"] == 2
    assert "1 problem" in hook.bodies[-1]["reason"]
    assert sandbox.calls() == 0


def test_a_rehearsal_reaches_neither_bucket_nor_hook(night: Program, hook: Hook) -> None:
    """Its ledger must not lie where the real one belongs."""
    (night.folder / "jobs.csv").write_text(csv_text(["a"]))
    arguments = ("submit", "jobs.csv", "--config", "night.toml", "--sandbox", "--sandbox-job-seconds", 0)
    ended = night.run(*arguments, AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")
    assert ended.status == 0, ended.stderr
    assert hook.requests == []


def test_a_place_holder_that_is_none_is_found_before_anything_is_sent(night: Program, sandbox: Sandbox) -> None:
    """With the one that was meant."""
    ended = night.run(*SUBMIT, "--batch-id", "night-{dat}")
    assert ended.status == 2
    assert "did you mean {date}?" in ended.stderr
    assert sandbox.calls() == 0
