"""How all AWS clients are configured, seen on the wire."""

import time
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from byte_server import http, wire

from batchsubmit.aws import Timeouts, open_client
from batchsubmit.errors import StoppedError, UsageError

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "dynamodb": ("get_item", {"TableName": "jobs", "Key": {"pk": {"S": "a"}}}),
    "s3": ("get_object", {"Bucket": "bucket", "Key": "key"}),
    "service-quotas": ("list_service_quotas", {"ServiceCode": "cleanrooms-ml"}),
    "sns": ("publish", {"TopicArn": "arn:aws:sns:us-east-1:111122223333:topic", "Message": "done"}),
    "sqs": ("receive_message", {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/111122223333/queue"}),
}
BEGINNING = http("200 OK", b" " * 1_000_000, "application/json")[:-1_000_000]
REDIRECT = http("302 Found", b"").replace(b"\r\n\r\n", b"\r\nLocation: /elsewhere\r\n\r\n")

pytestmark = pytest.mark.usefixtures("credentials")


async def call(service: str, url: str, attempts: int = 1) -> None:
    """Make one call of a service at this address, which fails."""
    operation, request = CALLS[service]
    opening = open_client(service, region="us-east-1", attempts=attempts, endpoint_url=url)
    async with opening as client:
        with pytest.raises((ClientError, BotoCoreError, ResponseParserError)):
            await getattr(client, operation)(**request)


ANSWERS = {"unavailable": http("503 Slow Down"), "redirect": REDIRECT, "hung up": b""}
CASES = [
    (service, name)
    for service, (operation, _) in CALLS.items()
    for name in ANSWERS
    # aiohttp repeats a GET whose connection ends, and botocore asks S3 where a bucket is that is elsewhere: only reads.
    if name == "unavailable" or operation != "get_object"
]


@pytest.mark.parametrize(("service", "name"), CASES)
async def test_one_call_is_one_request_with_our_name_on_it(service: str, name: str) -> None:
    """Neither botocore nor aiohttp repeats or redirects it."""
    async with wire(lambda _: ANSWERS[name]) as (url, requests):
        await call(service, url)
    assert len(requests) == 1
    assert b"\r\nuser-agent: batchsubmit/" in requests[0].lower()


async def test_a_caller_may_allow_more_attempts() -> None:
    """Where a repeat does no harm."""
    async with wire(lambda _: http("503 Slow Down")) as (url, requests):
        await call("s3", url, attempts=2)
    assert len(requests) == 2


@pytest.mark.parametrize("service", sorted(CALLS.keys() - {"s3"}))
async def test_an_answer_that_trickles_is_given_up(service: str) -> None:
    """A byte comes often enough, and the whole answer never: the call ends all the same."""
    operation, request = CALLS[service]
    timeouts = Timeouts(connect_seconds=1.0, read_seconds=0.5, total_seconds=1.0)
    async with (
        wire(lambda _: BEGINNING, trickles=True) as (url, _),
        open_client(service, region="us-east-1", timeouts=timeouts, endpoint_url=url) as client,
    ):
        began = time.monotonic()
        with pytest.raises((BotoCoreError, TimeoutError)):
            await getattr(client, operation)(**request)
    assert 0.9 < time.monotonic() - began < 20


async def test_half_of_the_credentials_is_reported_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the service."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoppedError, match=r"no AWS credentials.*AWS_SECRET_ACCESS_KEY"):
        await call("sqs", "http://127.0.0.1:1")


async def test_a_profile_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the service."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UsageError, match="AWS configuration"):
        await call("sns", "http://127.0.0.1:1")
