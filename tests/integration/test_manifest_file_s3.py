"""Manifests in S3, against a local server."""

import gzip
from collections.abc import Iterator

import pytest
from aiobotocore.session import get_session
from byte_server import http, wire
from moto.server import ThreadedMotoServer

from batchsubmit.aws import Timeouts
from batchsubmit.errors import UsageError
from batchsubmit.manifest.file import open_manifest

CONTENT = b"name,tags.a\n" + b"job,1\n" * 2_000_000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server on a free port of the loopback interface."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


async def put(key: str, body: bytes) -> None:
    """Store an object."""
    async with get_session().create_client("s3", region_name="us-east-1") as client:
        await client.create_bucket(Bucket="bucket")
        await client.put_object(Bucket="bucket", Key=key, Body=body)


async def refusal(location: str) -> str:
    """The sentence with which a location is refused."""
    with pytest.raises(UsageError) as caught:
        async with open_manifest(location, region="us-east-1"):
            pass
    return str(caught.value)


@pytest.mark.parametrize(("key", "body"), [("a b/é?#.csv", CONTENT), ("jobs.csv.gz", gzip.compress(CONTENT, 1))])
async def test_an_object_is_copied_and_unpacked(key: str, body: bytes) -> None:
    """Larger than a chunk, and with any character in its key."""
    await put(key, body)
    async with open_manifest(f"s3://bucket/{key}", region="us-east-1") as spooled:
        assert spooled.file.read() == CONTENT
        assert (spooled.label, spooled.format) == (f"s3://bucket/{key}", "csv")


async def test_what_is_not_there_is_said_in_a_sentence() -> None:
    """Object, bucket, and a location that names neither."""
    await put("some", b"x")
    assert await refusal("s3://bucket/none") == "s3://bucket/none: there is no such object"
    assert await refusal("s3://elsewhere/none") == "s3://elsewhere/none: there is no such bucket"
    assert "write s3://bucket/key" in await refusal("s3://bucket")
    assert "write s3://bucket/key" in await refusal("s3:///key")


async def test_an_empty_object_is_refused() -> None:
    """As an empty file is."""
    await put("empty.csv", b"")
    assert "s3://bucket/empty.csv: is empty" in await refusal("s3://bucket/empty.csv")


async def test_missing_credentials_are_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    assert "no AWS credentials found" in await refusal("s3://bucket/some")


async def test_an_unreachable_endpoint_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert "cannot be fetched from S3: " in await refusal("s3://bucket/some")


async def test_an_object_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, after the longest time that a copy may take."""
    monkeypatch.setattr("batchsubmit.manifest.file.COPY_TIMEOUTS", Timeouts(1.0, 0.5, 1.0))
    beginning = http("200 OK", b" " * 1_000_000).replace(b"\r\n\r\n", b'\r\nETag: "a"\r\n\r\n')[:-1_000_000]
    async with wire(lambda _: beginning, trickles=True) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        assert "cannot be fetched from S3: " in await refusal("s3://bucket/some")
