"""Copies in S3, against a local server: conditional, and never over anything that the ledger did not grow from."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from conftest import job_named
from moto.server import ThreadedMotoServer

from batchsubmit.core.jobs import JobRejected
from batchsubmit.errors import UsageError
from batchsubmit.ledger.lines import encode_line
from batchsubmit.outputs.upload import BYTES, SHA256, Destination, Uploaded, _Uploader, upload

AT = "2026-11-23T00:00:00.000000Z"

REGION = "us-east-1"
LINES = [
    encode_line(JobRejected(**job_named(f"job-{number}").stamp(AT), code="x", message="y", attempt=1))
    for number in range(6)
]
NIGHT = Destination("bucket", "nights/n-1/")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server on a free port of the loopback interface."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
async def _bucket(monkeypatch: pytest.MonkeyPatch, endpoint: str, credentials: None) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    async with get_session().create_client("s3", region_name=REGION) as client:
        await client.create_bucket(Bucket="bucket")
        listed = await client.list_objects_v2(Bucket="bucket")
        for each in listed.get("Contents", ()):
            await client.delete_object(Bucket="bucket", Key=each["Key"])


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of two lines."""
    path = tmp_path / "n-1.ledger.jsonl"
    path.write_bytes(b"".join(LINES[:2]))
    return path


async def send(ledger: Path, *others: Path, to: Destination = NIGHT, overwrite: bool = False) -> Uploaded:
    """Upload."""
    return await upload(ledger, others, to, region=REGION, overwrite=overwrite)


async def there(name: str) -> tuple[bytes, dict[str, Any]]:
    """An object's content, and all that is said of it."""
    async with get_session().create_client("s3", region_name=REGION) as client:
        answer = await client.get_object(Bucket="bucket", Key=f"nights/n-1/{name}")
        return await answer["Body"].read(), answer


async def put(name: str, body: bytes) -> None:
    """Store something that is not ours."""
    async with get_session().create_client("s3", region_name=REGION) as client:
        await client.put_object(Bucket="bucket", Key=f"nights/n-1/{name}", Body=body)


async def test_ledger_and_files_are_copied_with_their_origin(ledger: Path) -> None:
    """Which state of the ledger each was made from stands in the metadata."""
    page = ledger.with_name("n-1.html")
    page.write_text("<p>page</p>")
    done = await send(ledger, page)
    assert done == (["s3://bucket/nights/n-1/n-1.ledger.jsonl", "s3://bucket/nights/n-1/n-1.html"], [])
    content, answer = await there(ledger.name)
    assert content == ledger.read_bytes()
    origin = {BYTES: str(len(content)), SHA256: hashlib.sha256(content).hexdigest()}
    assert answer["Metadata"] == origin
    content, answer = await there(page.name)
    assert content == b"<p>page</p>"
    assert answer["Metadata"] == origin
    assert answer["ContentType"].startswith("text/html")


async def test_a_ledger_that_grew_replaces_its_earlier_state_and_what_was_made_of_it(ledger: Path) -> None:
    """A resumed night goes on with its own objects."""
    page = ledger.with_name("n-1.html")
    for count in (2, 4, 4, 6):
        ledger.write_bytes(b"".join(LINES[:count]))
        page.write_text(f"{count}")
        assert (await send(ledger, page)).problems == []
    assert (await there(ledger.name))[0] == b"".join(LINES)
    assert (await there(page.name))[0] == b"6"


@pytest.mark.parametrize(
    "lines",
    [LINES[:1], [LINES[1], LINES[0], LINES[2]], LINES[3:], []],
    ids=["older", "another order", "another", "empty"],
)
async def test_anything_else_is_not_overwritten_unasked(ledger: Path, lines: list[bytes]) -> None:
    """An older copy, or another ledger under the same name: the sentence says what to do."""
    await send(ledger)
    before = await there(ledger.name)
    ledger.write_bytes(b"".join(lines))
    done = await send(ledger)
    assert done.urls == []
    [problem] = done.problems
    assert "s3://bucket/nights/n-1/n-1.ledger.jsonl" in problem
    assert "--upload-overwrite" in problem
    assert (await there(ledger.name))[0] == before[0]
    assert (await send(ledger, overwrite=True)).problems == []
    assert (await there(ledger.name))[0] == b"".join(lines)


async def test_an_object_of_somebody_else_stays(ledger: Path) -> None:
    """And keeps no other file from being copied."""
    page = ledger.with_name("n-1.html")
    page.write_text("ours")
    await put(ledger.name, b"theirs")
    done = await send(ledger, page)
    [problem] = done.problems
    assert "did not grow from" in problem
    assert done.urls == ["s3://bucket/nights/n-1/n-1.html"]
    assert (await there(ledger.name))[0] == b"theirs"


async def test_only_whole_lines_are_copied(ledger: Path) -> None:
    """Another run may be writing again."""
    with ledger.open("ab") as file:
        file.write(LINES[2][:20])
    assert (await send(ledger)).problems == []
    assert (await there(ledger.name))[0] == b"".join(LINES[:2])


async def test_a_ledger_without_a_whole_line_is_copied_as_nothing(ledger: Path) -> None:
    """Nothing is made up."""
    ledger.write_bytes(b"torn")
    assert (await send(ledger)).problems == []
    assert (await there(ledger.name))[0] == b""


async def test_runs_that_upload_at_once_do_not_overwrite_one_another(ledger: Path) -> None:
    """The last state wins, whoever comes last."""
    await send(ledger)
    grown = ledger.parent / "grown"
    grown.mkdir()
    longer = grown / ledger.name
    longer.write_bytes(b"".join(LINES))
    results = await asyncio.gather(*(send(path) for path in (ledger, longer) * 4))
    assert (await there(ledger.name))[0] == b"".join(LINES)
    assert all(
        "did not grow from" in problem or "by another" in problem for done in results for problem in done.problems
    )


class Intruded:
    """A client at whose looks someone else writes: between the look and the next write, that is."""

    def __init__(self, client: Any, times: int) -> None:  # noqa: ANN401 (aiobotocore makes clients at run time)
        self._client = client
        self._times = times

    async def put_object(self, **request: Any) -> Any:  # noqa: ANN401 (the same)
        """As the client does."""
        return await self._client.put_object(**request)

    async def head_object(self, **request: Any) -> Any:  # noqa: ANN401 (the same)
        """Look; then comes the other."""
        seen = await self._client.head_object(**request)
        if self._times:
            self._times -= 1
            await self._client.put_object(**request, Body=b"%d" % self._times, Metadata=seen["Metadata"])
        return seen


@pytest.mark.parametrize(("times", "sentence"), [(1, ""), (9, "is being written by another")])
async def test_what_came_between_the_look_and_the_write_is_looked_at_too(
    ledger: Path, times: int, sentence: str
) -> None:
    """Nothing is overwritten that was not seen; and whoever never sees the last state gives up."""
    await send(ledger)
    ledger.write_bytes(b"".join(LINES))
    async with get_session().create_client("s3", region_name=REGION) as client:
        with ledger.open("rb") as file:
            whole = b"".join(LINES)
            origin = {BYTES: str(len(whole)), SHA256: hashlib.sha256(whole).hexdigest()}
            uploader = _Uploader(Intruded(client, times), NIGHT, file, origin, overwrite=False)
            problem = await uploader.send(ledger, file)
            assert sentence in problem if sentence else problem == ""
    assert (await there(ledger.name))[0] == (b"6" if sentence else b"".join(LINES))


class Conflicted:
    """A client whose first write meets one that is not to be seen yet."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 (aiobotocore makes clients at run time)
        self._client = client
        self._is_first = True
        self.head_object = client.head_object

    async def put_object(self, **request: Any) -> Any:  # noqa: ANN401 (the same)
        """Refuse once, as S3 does where two write at the same moment."""
        if self._is_first:
            self._is_first = False
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": "once more"}}, "PutObject")
        return await self._client.put_object(**request)


async def test_a_conflict_over_an_object_that_is_not_there_is_tried_again(ledger: Path) -> None:
    """The other write may fail, or be seen only later."""
    content = ledger.read_bytes()
    origin = {BYTES: str(len(content)), SHA256: hashlib.sha256(content).hexdigest()}
    async with get_session().create_client("s3", region_name=REGION) as client:
        with ledger.open("rb") as file:
            uploader = _Uploader(Conflicted(client), NIGHT, file, origin, overwrite=False)
            assert await uploader.send(ledger, file) == ""
    assert (await there(ledger.name))[0] == content


async def test_trouble_is_said_in_a_sentence(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket, no file, no credentials, nobody there; and nothing is raised."""
    [problem] = (await send(ledger, to=Destination("elsewhere", ""))).problems
    assert "s3://elsewhere/n-1.ledger.jsonl: there is no such bucket" in problem
    assert "is complete on this machine" in problem
    [problem] = (await send(ledger, ledger.with_name("none.html"))).problems
    assert "none.html" in problem
    [problem] = (await send(ledger.with_name("none.jsonl"))).problems
    assert "none.jsonl" in problem
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    [problem] = (await send(ledger)).problems
    assert "127.0.0.1:1" in problem
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    [problem] = (await send(ledger)).problems
    assert "credentials" in problem


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("s3://bucket", Destination("bucket", "")),
        ("s3://bucket/", Destination("bucket", "")),
        ("s3://bucket/a/b", Destination("bucket", "a/b/")),
        ("s3://bucket/a/b/", Destination("bucket", "a/b/")),
    ],
)
def test_a_destination_is_a_bucket_and_a_prefix(text: str, destination: Destination) -> None:
    """A folder, with or without its slash."""
    assert Destination.parse(text) == destination


@pytest.mark.parametrize("text", ["", "bucket/a", "s3://", "s3:///a", "https://bucket/a", "s3://No_Bucket/a"])
def test_anything_else_is_a_usage_error(text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match="s3://bucket/prefix/"):
        Destination.parse(text)
