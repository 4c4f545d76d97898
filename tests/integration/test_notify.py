"""Notices over the wire: a local HTTP server as webhook, a local SNS; time-outs, refusals, the second try."""

import json
import time
from collections.abc import Iterator

import pytest
from aiobotocore.session import get_session
from moto.server import ThreadedMotoServer
from webhook import Hook, listening

from batchsubmit.outputs.notify import SIGNATURE_HEADER, Target, notice, notify, read_target, signature

BODY = notice(at="", exit_status=3, headline="Stopped", batch="n-1", manifest="jobs.csv", problems=["ü"])
SECRET = "0123456789abcdef"


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A server on a free port."""
    with listening() as hook:
        yield hook


async def tell(hook: Hook, *, secret: str | None = SECRET, timeout_seconds: float = 5.0) -> list[str]:
    """Notify the hook."""
    return await notify([Target(hook.url)], BODY, secret=secret, timeout_seconds=timeout_seconds)


async def test_a_webhook_gets_the_body_and_a_signature_that_holds(hook: Hook) -> None:
    """Over the very bytes that arrived, at the time they were sent."""
    assert await tell(hook) == []
    [(headers, body)] = hook.requests
    assert json.loads(body) == BODY
    assert headers["Content-Type"] == "application/json"
    moment = int(headers[SIGNATURE_HEADER].split(",")[0].removeprefix("t="))
    assert headers[SIGNATURE_HEADER] == signature(body, SECRET, moment)
    assert abs(moment - time.time()) < 60


@pytest.mark.parametrize("shape", ["slack", "teams"])
async def test_a_chat_gets_words_in_its_own_shape(hook: Hook, shape: str) -> None:
    """Slack a text with its three characters spelled out, a Teams workflow an adaptive card with a block a line."""
    body = {**BODY, "headline": "1 of 2 <jobs> failed", "counts": {"failed": 1, "left": 0}}
    target = read_target(f"{shape}:{hook.url}")
    assert await notify([target], body, secret=None, timeout_seconds=5.0) == []
    sent = json.loads(hook.requests[0][1])
    lines = ["batchsubmit n-1: 1 of 2 <jobs> failed", "1 failed", "ü"]
    if shape == "slack":
        assert sent == {"text": "\n".join(lines).replace("<", "&lt;").replace(">", "&gt;")}
    else:
        [card] = sent["attachments"]
        assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert [block["text"] for block in card["content"]["body"]] == lines


async def test_without_a_secret_there_is_no_signature(hook: Hook) -> None:
    """Some services authenticate by the URL."""
    assert await tell(hook, secret=None) == []
    assert SIGNATURE_HEADER not in hook.requests[0][0]


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_trouble_of_a_moment_gets_a_second_try_and_no_third(hook: Hook, status: int) -> None:
    """The second try may arrive."""
    hook.planned = [status]
    assert await tell(hook) == []
    assert len(hook.requests) == 2
    hook.planned = [status, status]
    [problem] = await tell(hook)
    assert problem == f"http://127.0.0.1/… could not be notified: it answered {status}"
    assert len(hook.requests) == 4


@pytest.mark.parametrize("status", [301, 307, 400, 404])
async def test_a_refusal_is_told_and_not_repeated_nor_is_a_redirect_followed(hook: Hook, status: int) -> None:
    """A signed body goes where it was sent and nowhere else."""
    hook.planned = [status]
    [problem] = await tell(hook)
    assert str(status) in problem
    assert len(hook.requests) == 1


async def test_a_silent_webhook_costs_two_time_outs_and_no_more(hook: Hook) -> None:
    """The run ends all the same."""
    hook.planned = [None, None]
    began = time.monotonic()
    [problem] = await tell(hook, timeout_seconds=0.2)
    assert "no answer within 0.2 seconds" in problem
    assert time.monotonic() - began < 5
    assert "s3cr3t" not in problem


async def test_a_webhook_that_is_not_there_is_told_without_its_path() -> None:
    """Libraries like to quote URLs."""
    [problem] = await notify([Target("http://127.0.0.1:1/s3cr3t")], BODY, secret=None, timeout_seconds=5)
    assert "could not be notified" in problem
    assert "s3cr3t" not in problem


@pytest.fixture(scope="module")
def sns() -> Iterator[str]:
    """A local SNS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.usefixtures("credentials")
async def test_a_topic_s_subscribers_get_the_body(monkeypatch: pytest.MonkeyPatch, sns: str) -> None:
    """Here a queue, with subject and exit status to filter by."""
    for service in ("SNS", "SQS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", sns)
    session = get_session()
    async with (
        session.create_client("sns", region_name="eu-central-1") as topics,
        session.create_client("sqs", region_name="eu-central-1") as queues,
    ):
        topic = (await topics.create_topic(Name="nights"))["TopicArn"]
        queue = (await queues.create_queue(QueueName="nights"))["QueueUrl"]
        found = await queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        await topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=found["Attributes"]["QueueArn"])
        assert await notify([Target(topic, "sns")], BODY, secret=None, timeout_seconds=20) == []
        [message] = (await queues.receive_message(QueueUrl=queue))["Messages"]
    envelope = json.loads(message["Body"])
    assert json.loads(envelope["Message"]) == BODY
    assert envelope["Subject"] == "batchsubmit n-1: Stopped"
    assert envelope["MessageAttributes"]["exit_status"] == {"Type": "Number", "Value": "3"}


async def test_a_topic_that_is_not_there_or_without_credentials_is_told(
    monkeypatch: pytest.MonkeyPatch, sns: str
) -> None:
    """One target's trouble is not another's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", sns)
    topic = Target("arn:aws:sns:eu-central-1:123456789012:nobody", "sns")
    [problem] = await notify([topic], BODY, secret=None, timeout_seconds=20)
    assert "no AWS credentials" in problem
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    [problem] = await notify([topic], BODY, secret=None, timeout_seconds=20)
    assert "NotFound" in problem
