"""Writes to a table without the client's call pipeline: the same on the wire, and only where it is the same."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore import exceptions as aws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wires import http, wire

from batchsubmit.ledger.attributes import update
from batchsubmit.ledger.direct import OPERATION, DirectUpdate, rehearse
from batchsubmit.ledger.dynamodb import DynamoTable, open_table
from batchsubmit.ledger.table import Address, Change, ConflictError
from batchsubmit.wire.rehearsal import fresh
from batchsubmit.wire.transport import RehearsedError

REGION = "us-east-1"
GOOD = http("200 OK", b"{}", "application/x-amz-json-1.0")
WRITE = update("jobs", Address("job#a", "job"), 3, Change(set={"state": "ü"}, append={"lines": ["1"]}), "token")
EACH_ITS_OWN = ("x-amz-date", "authorization", "amz-sdk-invocation-id", "content-length")

pytestmark = pytest.mark.usefixtures("credentials")


@asynccontextmanager
async def opened() -> AsyncIterator[DynamoTable]:
    """A table as the program opens it."""
    async with open_table("jobs", region=REGION, concurrency=4, give_up_seconds=0.01) as table:
        yield table


def direct(table: DynamoTable) -> DirectUpdate:
    """Its short way, which it must have."""
    assert isinstance(table._update_item, DirectUpdate)
    return table._update_item


def head_and_body(request: bytes) -> tuple[str, dict[str, str], Any]:
    """A request's first line, headers and JSON."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return first, headers, json.loads(body)


@pytest.mark.parametrize("token", [None, "a/token+=="])
async def test_both_ways_are_one_on_the_wire(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    """But for time, signature, call id, and the white space of the JSON."""
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    async with wire(lambda _: GOOD) as (url, requests):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        async with opened() as table:
            assert requests == []  # a rehearsal is no call
            assert await direct(table)(**WRITE) == {}
            await direct(table).by_client(**WRITE)
    (first, headers, body), (same_first, same_headers, same_body) = map(head_and_body, requests)
    assert first == same_first == "POST / HTTP/1.1"
    assert body == same_body == WRITE
    assert headers.keys() == same_headers.keys()
    assert {name: value for name, value in headers.items() if name not in EACH_ITS_OWN} == {
        name: value for name, value in same_headers.items() if name not in EACH_ITS_OWN
    }
    assert headers["x-amz-target"] == "DynamoDB_20120810.UpdateItem"
    assert headers.get("x-amz-security-token") == token
    assert headers["amz-sdk-invocation-id"] != same_headers["amz-sdk-invocation-id"]


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_names = st.sampled_from(["owner", "state", "lines", "pages"])
_values = st.one_of(_texts, st.integers(), st.lists(_texts | st.integers(), max_size=3))
_changes = st.builds(
    Change,
    set=st.dictionaries(_names, _values, max_size=3),
    append=st.dictionaries(st.just("lines"), st.lists(_texts, max_size=3)),
    remove=st.lists(st.just("owner"), max_size=1).map(tuple),
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=_changes, follows=st.integers(0, 5), key=_texts)
async def test_every_write_is_told_as_the_client_tells_it(change: Change, follows: int, key: str) -> None:
    """Seen where it would be sent: the same JSON to the same place."""
    async with opened() as table:
        way = direct(table)
        with way._transport.rehearsing() as seen:
            for each in (way, way.by_client):
                with pytest.raises(RehearsedError):
                    await each(**update("jobs", Address(f"job#{key}", "job"), follows, change, "token"))
    ours, theirs = seen
    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    assert json.loads(ours.body) == json.loads(theirs.body)


def refusal(code: str, status: str = "400 Bad Request", **members: object) -> bytes:
    """A refusal as DynamoDB words it."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no", **members}
    return http(status, json.dumps(body).encode(), "application/x-amz-json-1.0")


@pytest.mark.parametrize(
    "answer",
    [
        refusal("ConditionalCheckFailedException", Item={"pk": {"S": "job#a"}, "version": {"N": "7"}}),
        refusal("ConditionalCheckFailedException"),
        refusal("ThrottlingException"),
        refusal("ResourceNotFoundException"),
        refusal("InternalServerError", "500 Internal Server Error"),
        http("503 Service Unavailable"),
        http("301 Moved Permanently"),
    ],
)
async def test_a_refusal_is_read_as_the_client_reads_it(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """With the members of its shape: the item that a condition met."""
    async with wire(lambda _: answer) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        async with opened() as table:
            told = []
            for way in (direct(table), direct(table).by_client):
                with pytest.raises(aws.ClientError) as caught:
                    await way(**WRITE)
                told.append(caught.value)
    ours, theirs = told
    assert ours.operation_name == theirs.operation_name
    for name in ("RetryAttempts", "MaxAttemptsReached"):  # of which the client's policy allows none
        theirs.response["ResponseMetadata"].pop(name, None)
    assert ours.response == theirs.response


async def test_a_conflict_tells_what_the_table_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also past the client's pipeline."""
    item = {"pk": {"S": "job#a"}, "sk": {"S": "job"}, "version": {"N": "7"}, "write": {"S": "another"}}
    async with wire(lambda _: refusal("ConditionalCheckFailedException", Item=item)) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        async with opened() as table:
            with pytest.raises(ConflictError) as caught:
                await table.write(Address("job#a", "job"), 3, Change())
    assert caught.value.item == {"version": 7}


def add_query(request: Any, **_: object) -> None:  # noqa: ANN401 (botocore's)
    """Something that a plugin may do."""
    request.url += "?debug=1"


def add_to_signature(request: Any, **_: object) -> None:  # noqa: ANN401 (botocore's)
    """What another signer might do."""
    request.headers["Authorization"] = "Bearer abc"


def refuse(**_: object) -> None:
    """Let no request come as far as the transport."""
    raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("event", "handler"), [("before-sign", add_query), ("before-send", add_to_signature), ("before-call", refuse)]
)
async def test_what_cannot_be_made_anew_goes_by_the_client(event: str, handler: Callable[..., None]) -> None:
    """And nothing is sent to find that out."""
    async with opened() as table:
        way = direct(table)
        table._client.meta.events.register(f"{event}.dynamodb.{OPERATION}", handler)
        found = await rehearse(table._client, "jobs", way._transport, way._credentials)
        assert found == table._client.update_item


async def test_credentials_of_another_kind_go_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's token, where the rehearsal had none."""
    async with wire(lambda _: GOOD) as (url, requests):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        async with opened() as table:
            way = direct(table)
            way._credentials._frozen_credentials = None  # type: ignore[attr-defined]
            way._credentials.token = "a token"  # type: ignore[attr-defined]
            assert (await fresh(way._credentials)).token == "a token"
            await way(**WRITE)
    assert head_and_body(requests[0])[1]["x-amz-security-token"] == "a token"


async def test_without_credentials_the_first_write_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the opening."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with opened() as table:
        assert table._update_item == table._client.update_item
