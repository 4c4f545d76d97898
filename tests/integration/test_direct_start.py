"""Start without the client's call pipeline: the same on the wire, and only where it is the same."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from conftest import job_arn, job_named
from hypothesis import HealthCheck, given, settings
from strategies import REGION, valid_requests
from wires import http, wire

from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.cleanrooms.direct import OPERATION, DirectStart, _is_plain_json, rehearse
from batchsubmit.config import AwsSettings
from batchsubmit.jobs import Accepted, Forbidden, Uncertain
from batchsubmit.wire.transport import RehearsedError, Transport

GOOD = http("200 OK", json.dumps({"trainedModelInferenceJobArn": job_arn("1")}).encode(), "application/json")
JOB = job_named("a")
EACH_ITS_OWN = ("x-amz-date", "authorization", "amz-sdk-invocation-id", "content-length")

pytestmark = pytest.mark.usefixtures("credentials")


@asynccontextmanager
async def opened(region: str = REGION) -> AsyncIterator[CleanRooms]:
    """A client as the program opens it."""
    async with open_cleanrooms(AwsSettings(), region=region, concurrency=4, tag_jobs=True) as client:
        yield client


def direct(client: CleanRooms) -> DirectStart:
    """The client's short way, which it must have."""
    assert isinstance(client._start, DirectStart)
    return client._start


def head_and_body(request: bytes) -> tuple[str, dict[str, str], Any]:
    """A request's first line, headers and JSON."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return first, headers, json.loads(body)


@pytest.mark.parametrize("token", [None, "a/token+=="])
@pytest.mark.parametrize("prefix", ["", "/prefix/v1"])
async def test_both_ways_are_one_on_the_wire(monkeypatch: pytest.MonkeyPatch, token: str | None, prefix: str) -> None:
    """But for time, signature, call id, and the white space of the JSON."""
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    async with wire(lambda _: GOOD) as (url, requests):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url + prefix)
        async with opened() as client:
            assert requests == []  # a rehearsal is no call
            job = {**JOB.request, "name": "ü \U0001f600", "tags": {"team": "ü"}}
            await direct(client)(**job)
            await direct(client).by_client(**job)
    (first, headers, body), (same_first, same_headers, same_body) = map(head_and_body, requests)
    assert first == same_first
    assert prefix in first
    assert body == same_body
    assert headers.keys() == same_headers.keys()
    assert {name: value for name, value in headers.items() if name not in EACH_ITS_OWN} == {
        name: value for name, value in same_headers.items() if name not in EACH_ITS_OWN
    }
    assert headers.get("x-amz-security-token") == token
    assert headers["amz-sdk-invocation-id"] != same_headers["amz-sdk-invocation-id"]


class SlowProvider:
    """Credentials whose refresh is never over."""

    async def get_frozen_credentials(self) -> None:
        """Wait."""
        await asyncio.Event().wait()


async def test_no_call_leaves_later_than_a_call_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """While credentials are refreshed, a lease may end; then others have the job, and look it up."""
    async with wire(lambda _: GOOD) as (url, requests):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        hasty = AwsSettings(connect_timeout_seconds=0.05, read_timeout_seconds=0.05)
        async with open_cleanrooms(hasty, region=REGION, concurrency=4, tag_jobs=True) as client:
            direct(client)._credentials = SlowProvider()
            outcome = await asyncio.wait_for(client.start(JOB), 5)
    assert outcome == Uncertain("Timeout: the call was given up after 0.1 s")
    assert requests == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=valid_requests())
async def test_every_request_is_told_as_the_client_tells_it(asked: Mapping[str, Any]) -> None:
    """Seen where it would be sent: the same JSON to the same path."""
    async with opened() as client:
        start = direct(client)
        with start._transport.rehearsing() as seen:
            for way in (start, start.by_client):
                with pytest.raises(RehearsedError):
                    await way(**asked)
    ours, theirs = seen
    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    assert json.loads(ours.body) == json.loads(theirs.body)


@pytest.mark.parametrize(
    ("region", "variables"),
    [
        ("eu-central-1", {}),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("us-east-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        ("us-gov-west-1", {}),
        ("us-east-1", {"AWS_ENDPOINT_URL_CLEANROOMSML": "https://vpce-1.example:8443"}),
        ("us-east-1", {"AWS_ENDPOINT_URL_CLEANROOMSML": "http://[::1]:80/"}),
        ("us-east-1", {"AWS_LAMBDA_FUNCTION_NAME": "f", "_X_AMZN_TRACE_ID": "Root=1-2;Parent=3"}),
    ],
    ids=str,
)
async def test_usual_configurations_have_the_short_way(
    monkeypatch: pytest.MonkeyPatch, region: str, variables: dict[str, str]
) -> None:
    """Whatever botocore makes of them is reproduced."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with opened(region) as client:
        direct(client)


def add_query(request: Any, **_: object) -> None:  # noqa: ANN401 (botocore's)
    """Something that a plugin may do."""
    request.url += "?debug=1"


def add_to_signature(request: Any, **_: object) -> None:  # noqa: ANN401 (botocore's)
    """What another signer might do."""
    request.headers["Authorization"] = "Bearer abc"


@pytest.mark.parametrize(
    ("event", "handler"), [("before-sign", add_query), ("before-send", add_to_signature), ("before-call", None)]
)
async def test_what_is_out_of_the_ordinary_goes_by_the_client(
    event: str, handler: Callable[..., None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that cannot be made anew exactly, or that does not come as far as the transport."""

    def refuse(**_: object) -> None:
        raise RuntimeError("not today")

    async with wire(lambda _: GOOD) as (url, sent):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        async with opened() as client:
            start = direct(client)
            client._client.meta.events.register(f"{event}.cleanroomsml.{OPERATION}", handler or refuse)
            assert isinstance(start._transport, Transport)
            assert await rehearse(client._client, start._transport, start._credentials) is None
        assert sent == []


async def test_an_odd_membership_goes_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its escapes in a path are botocore's business."""
    async with wire(lambda _: GOOD) as (url, sent):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        async with opened() as client:
            await direct(client)(**{**JOB.request, "membershipIdentifier": "a/b c"})
    assert sent[0].startswith(b"POST /memberships/a%2Fb%20c/")


def operation(change: Callable[[dict[str, Any]], None]) -> OperationModel:
    """The operation as a later service model may have it."""
    model = deepcopy(Loader().load_service_model("cleanroomsml", "service-2"))
    change(model)
    return ServiceModel(model, "cleanroomsml").operation_model(OPERATION)


def with_member(**member: object) -> Callable[[dict[str, Any]], None]:
    """A further member of the request."""

    def change(model: dict[str, Any]) -> None:
        model["shapes"]["New"] = {"type": member.pop("type", "string")}
        model["shapes"][f"{OPERATION}Request"]["members"]["new"] = {"shape": "New", **member}

    return change


@pytest.mark.parametrize(
    ("change", "is_plain"),
    [
        (lambda _: None, True),
        (with_member(), True),
        (with_member(idempotencyToken=True), False),
        (with_member(location="querystring", locationName="new"), False),
        (with_member(type="timestamp"), False),
        (with_member(type="blob"), False),
        (with_member(locationName="other"), False),
    ],
)
def test_a_later_model_has_the_short_way_only_where_it_is_plain(
    change: Callable[[dict[str, Any]], None], is_plain: bool
) -> None:
    """Should AWS add a client token, botocore must fill it in."""
    assert _is_plain_json(operation(change)) is is_plain


def write_credential_process(folder: Path, answers: list[dict[str, str]]) -> Path:
    """An AWS configuration whose credentials come from a program: each answer once, the last one for ever."""
    (folder / "answers.json").write_text(json.dumps(answers))
    program = folder / "credentials.py"
    program.write_text(
        "import json, pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "first, *others = json.loads(file.read_text())\n"
        "file.write_text(json.dumps(others or [first]))\n"
        "print(json.dumps({'Version': 1, **first}))\n"
    )
    config = folder / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program} {folder / 'answers.json'}\n")
    return config


def answer(name: str, *, token: bool = True, seconds: float = 300) -> dict[str, str]:
    """Credentials; what ends within ten minutes is asked for anew by each call."""
    expiration = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    known = {"AccessKeyId": name, "SecretAccessKey": f"secret of {name}", "Expiration": expiration}
    return {**known, "SessionToken": f"token of {name}"} if token else known


@asynccontextmanager
async def refreshing(
    monkeypatch: pytest.MonkeyPatch, folder: Path, answers: list[dict[str, str]]
) -> AsyncIterator[tuple[CleanRooms, list[bytes]]]:
    """A client whose credentials change."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(write_credential_process(folder, answers)))
    async with wire(lambda _: GOOD) as (url, sent):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        async with opened() as client:
            yield client, sent


def signers(sent: list[bytes]) -> list[tuple[str, str | None]]:
    """Whose key signed each request, and the token it came with."""
    told = [head_and_body(request)[1] for request in sent]
    return [
        (each["authorization"].partition("Credential=")[2].partition("/")[0], each.get("x-amz-security-token"))
        for each in told
    ]


OPENING = 3
"""How often the credentials are asked for while a client is opened and rehearses."""


async def test_refreshed_credentials_sign_from_then_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys and tokens are botocore's as of each call."""
    answers = [answer("A")] * OPENING + [answer("B"), answer("C")]
    async with refreshing(monkeypatch, tmp_path, answers) as (client, sent):
        direct(client)
        assert [await client.start(job_named(name)) for name in "ab"] == [Accepted(job_arn("1"))] * 2
    assert signers(sent) == [("B", "token of B"), ("C", "token of C")]


async def test_credentials_of_another_kind_go_by_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token that is suddenly gone: the signed headers are others then."""
    answers = [answer("A")] * OPENING + [answer("B", token=False)]
    async with refreshing(monkeypatch, tmp_path, answers) as (client, sent):
        direct(client)
        assert isinstance(await client.start(JOB), Accepted)
    assert signers(sent) == [("B", None)]


async def test_credentials_that_cannot_be_refreshed_stop_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is sent with the old ones."""
    async with refreshing(monkeypatch, tmp_path, [answer("A")]) as (client, sent):
        direct(client)
        (tmp_path / "credentials.py").write_text("raise SystemExit('no')")
        assert isinstance(await client.start(JOB), Forbidden)
    assert sent == []


async def test_a_clock_that_is_off_is_told_as_credentials_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service judges the time of the signature; the run stops and is resumable."""
    wrong = json.dumps({"message": "Signature expired: 20261123T000000Z is now earlier than ..."}).encode()
    reply = http("403 Forbidden", wrong, "application/json").replace(
        b"\r\n\r\n", b"\r\nx-amzn-ErrorType: InvalidSignatureException\r\n\r\n", 1
    )
    async with wire(lambda _: reply) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        async with opened() as client:
            outcome = direct(client) and await client.start(JOB)
    assert isinstance(outcome, Forbidden)
    assert outcome.code == "InvalidSignatureException"


async def test_a_proxy_is_the_transport_s_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way ends where HTTP begins."""
    async with wire(lambda _: GOOD) as (url, sent):
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://cleanrooms.invalid")
        async with opened() as client:
            direct(client)
            assert isinstance(await client.start(JOB), Accepted)
    assert sent[0].startswith(b"POST http://cleanrooms.invalid/memberships/")
