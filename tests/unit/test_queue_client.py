"""What SQS's refusals mean."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from batchsubmit.queue.client import (
    Queue,
    QueueBusyError,
    QueueDeniedError,
    QueueError,
    QueueGoneError,
    QueueThrottledError,
    explain,
)


def refused(code: str, message: str = "", status: int = 400, date: str = "") -> Exception:
    """What a refusal is explained as."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"date": date}}
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return explain(ClientError(response, "ReceiveMessage"), "ReceiveMessage", "https://queue")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"])
def test_a_queue_that_is_gone(code: str) -> None:
    """In either spelling."""
    assert isinstance(refused(code), QueueGoneError)


@pytest.mark.parametrize(("code", "status"), [("RequestThrottled", 400), ("ThrottlingException", 400), ("x", 429)])
def test_throttling_is_told_from_other_trouble(code: str, status: int) -> None:
    """It is counted for itself."""
    assert isinstance(refused(code, status=status), QueueThrottledError)


def test_what_may_work_later_is_tried_again() -> None:
    """5xx, too many in flight, no connection."""
    for found in (
        refused("InternalError", status=500),
        refused("AWS.SimpleQueueService.OverLimit"),
        explain(aiohttp.ServerDisconnectedError(), "ReceiveMessage", "https://queue"),
        explain(TimeoutError(), "ReceiveMessage", "https://queue"),
    ):
        assert isinstance(found, QueueBusyError)
        assert not isinstance(found, QueueThrottledError)


def test_what_cannot_work_says_what_to_do() -> None:
    """The action that the role lacks; the credentials."""
    found = refused("AccessDenied", status=403)
    assert isinstance(found, QueueDeniedError)
    assert "sqs:ReceiveMessage" in str(found)
    assert "credentials" in str(refused("InvalidClientTokenId", status=403))
    assert "credentials" in str(explain(NoCredentialsError(), "ReceiveMessage", "https://queue"))


@pytest.mark.parametrize(("seconds", "word"), [(1800, "behind"), (-1800, "ahead")])
def test_a_wrong_clock_is_said_with_its_error(seconds: int, word: str) -> None:
    """By the time of the answer."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    found = refused("InvalidSignatureException", "Signature expired: 1 is now earlier than 2", 403, date)
    assert isinstance(found, QueueError)
    assert word in str(found)
    assert "1,8" in str(found) or "1,799" in str(found)


def test_a_bug_is_no_trouble_of_the_queue() -> None:
    """It is raised as it is."""
    bug = RuntimeError("x")
    assert explain(bug, "ReceiveMessage", "https://queue") is bug


class RecordingClient:
    """Answers each batch: every entry is deleted but those whose receipt is bad."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def delete_message_batch(self, **given: Any) -> dict[str, Any]:  # noqa: ANN401 (the operation's members)
        """Delete."""
        entries = given["Entries"]
        self.sizes.append(len(entries))
        bad = [{"Id": each["Id"], "Code": "InternalError"} for each in entries if each["ReceiptHandle"] == "bad"]
        good = [{"Id": each["Id"]} for each in entries if each["ReceiptHandle"] != "bad"]
        about = {"HTTPHeaders": {"content-type": "application/x-amz-json-1.0"}}
        return {"Successful": good, "Failed": bad, "ResponseMetadata": about}


async def test_many_messages_are_as_many_calls_of_ten() -> None:
    """Each has its own answer, in order."""
    client = RecordingClient()
    queue = Queue(client, "https://queue", call_seconds=9)
    receipts = ["bad" if number in {3, 22} else str(number) for number in range(25)]
    codes = await queue.delete(receipts)
    assert [number for number, code in enumerate(codes) if code == "InternalError"] == [3, 22]
    assert codes.count(None) == 23
    assert client.sizes == [10, 10, 5]
    assert await queue.delete([]) == []
