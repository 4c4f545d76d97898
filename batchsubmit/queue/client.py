"""One SQS queue: open, receive, delete, hide, send, and advice on its settings. botocore's exceptions end here.

Each method is one call, repeated with growing jittered waits while SQS is busy or cannot be reached. Batches say which
of their entries failed. Nothing here knows what a message means.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

import aiohttp
import structlog
from botocore import exceptions as aws
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.aws import NO_CREDENTIALS, THROTTLING_CODES, Timeouts, clock_words, credential_words, open_client
from batchsubmit.config import Settings
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.queue.message import Message
from batchsubmit.text import duration

T = TypeVar("T")


class QueueError(StoppedError):
    """The queue cannot be used; nothing is lost, what was received is delivered again."""


class QueueGoneError(QueueError):
    """There is no such queue, or no longer."""


class QueueDeniedError(QueueError):
    """The role may not do this."""


class QueueBusyError(Exception):
    """SQS cannot answer now."""


class QueueThrottledError(QueueBusyError):
    """We call too often."""


_GONE = {"NonExistentQueue", "QueueDoesNotExist", "QueueDeletedRecently"}
_BUSY = {"OverLimit", "KmsThrottled", "KMS.ThrottlingException", "RequestTimeout"}
_DENIED = {"AccessDenied", "AccessDeniedException", "KmsAccessDenied", "KMS.AccessDeniedException", "OptInRequired"}
_CREDENTIALS = re.compile("Token|Signature|UnrecognizedClient|RequestExpired|RequestTimeTooSkewed")
_OF_ANOTHER_SHAPE = (AttributeError, KeyError, TypeError, ValueError)
"""What our reading, and botocore's parser, raise on a 200 that SQS did not write, or not whole."""


def explain(exc: Exception, operation: str, url: str) -> Exception:
    """Turn the exception of a failed call into one of ours; what is not known to be final is tried again."""
    if isinstance(exc, aws.ClientError):
        return _explain_refusal(exc, operation, url)
    if isinstance(exc, (*NO_CREDENTIALS, json.JSONDecodeError)):  # the latter of what credential_process printed
        return QueueError(f"no AWS credentials for the queue {url}: {credential_words(exc)}")
    if isinstance(exc, aws.BotoCoreError | aiohttp.ClientError | OSError):  # (a TimeoutError is an OSError)
        return QueueBusyError(f"{operation} on {url}: {type(exc).__name__}: {exc}")
    if isinstance(exc, _OF_ANOTHER_SHAPE):
        what = "the answer has status 200 and is not SQS's; is a proxy or a portal between?"
        return QueueBusyError(f"{operation} on {url}: {what}")
    return exc


def _explain_refusal(exc: aws.ClientError, operation: str, url: str) -> Exception:
    error = exc.response.get("Error", {})
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    word = code.removeprefix("AWS.SimpleQueueService.")
    said = f"{operation} on {url}: {code}: {message}"
    if word in _GONE:
        return QueueGoneError(f"the queue {url} does not exist; was it deleted, or is region or account another one?")
    if word in THROTTLING_CODES or status == 429:
        return QueueThrottledError(said)
    if word in _BUSY or status >= 500:
        return QueueBusyError(said)
    if word in _DENIED:
        return QueueDeniedError(f"the role may not call sqs:{operation} on {url}: {message}")
    why = "the AWS credentials are refused" if _CREDENTIALS.search(word) else "SQS refused a call"
    return QueueError(f"{clock_words(exc.response) or why}: {said}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAttributes:
    """A queue's settings and backlog. `most_receives` is None where no redrive policy counts receives."""

    retention_seconds: int = 4 * 86_400
    most_receives: int | None = None
    dead_letter_arn: str = ""
    is_fifo: bool = False
    backlog: int = 0

    @classmethod
    def read(cls, attributes: Mapping[str, str]) -> "QueueAttributes":
        """Read the answer of GetQueueAttributes; what is not there has SQS's default. Raises KeyError, ValueError."""
        if "QueueArn" not in attributes:
            raise KeyError("QueueArn")
        redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
        return cls(
            retention_seconds=int(attributes.get("MessageRetentionPeriod", 4 * 86_400)),
            most_receives=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
            dead_letter_arn=str(redrive.get("deadLetterTargetArn", "")),
            is_fifo=attributes.get("FifoQueue") == "true",
            backlog=sum(
                int(attributes.get(f"ApproximateNumberOfMessages{kind}", 0)) for kind in ("", "NotVisible", "Delayed")
            ),
        )


@dataclass(slots=True)
class QueueCounters:
    """Running counts since the worker began; each is of messages unless its comment says otherwise."""

    polls: int = 0  # ReceiveMessage calls that were answered
    received: int = 0
    redelivered: int = 0  # received more than once, by any worker
    copies: int = 0  # another message for a job that is held already
    recognised: int = 0  # acknowledged without a call: the ledger knew the job
    poisoned: int = 0  # can never work
    moved: int = 0  # sent to the dead-letter queue by us
    extended: int = 0
    extension_failures: int = 0
    lost: int = 0  # hidden no longer, or deleted by another
    handed_back: int = 0
    renewed: int = 0  # sent again in place of one with too few receives or too little time left
    undecided: int = 0  # handed back for long, since no lookup could decide whether the job was submitted
    over_quota: int = 0  # handed back for long, since a quota that is not one of slots refused the job
    deleted: int = 0
    delete_failures: int = 0  # given up after several tries; each is delivered again and then recognised
    throttled: int = 0  # calls that SQS refused for their number
    unanswered: int = 0  # calls without an answer, or with a 5xx


MOST_ENTRIES = 10
GONE_CODES = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"})
"""The receipt is of an earlier delivery and has expired: the message is delivered again, or is deleted already."""

BUSY = "Busy"
"""No call for the entry was answered."""

BATCH_BYTES = 1 << 18
"""256 KiB: what every SQS takes. Queues of 2025 and later take 1 MiB, which saves no calls at the size of a request."""

LONG_POLL_SECONDS = 20
_OUT_OF_PATIENCE = stop_after_delay(60.0)
_LONGEST_PAUSE_SECONDS = 5.0
_REGION_IN_URL = re.compile(r"https://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com")
_SYSTEM_ATTRIBUTES = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be sent; `id` is its deduplication id.

    The group goes to queues of both kinds: it orders a FIFO queue, and makes a standard one fair (Amazon SQS Developer
    Guide, "Amazon SQS fair queues").
    """

    id: str
    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    delay_seconds: int = 0
    group: str = ""

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: body, and name, type and value of each attribute."""
        texts = [self.body, *self.attributes, *(each for value in self.attributes.values() for each in value.values())]
        return sum(len(each.encode() if isinstance(each, str) else each) for each in texts)

    def entry(self, *, is_fifo: bool) -> dict[str, Any]:
        """Spell it as an entry of SendMessageBatch.

        A standard queue takes no deduplication id, a FIFO queue no delay of a single message (Amazon SQS API Reference,
        SendMessageBatchRequestEntry).
        """
        of_kind = {"MessageDeduplicationId": self.id} if is_fifo else {"DelaySeconds": self.delay_seconds}
        members = {"MessageAttributes": dict(self.attributes), "MessageGroupId": self.group, **of_kind}
        return {"MessageBody": self.body, **{name: value for name, value in members.items() if value}}


def text_attributes(given: Mapping[str, str]) -> dict[str, Any]:
    """Spell texts as message attributes; an empty text is no attribute for SQS."""
    return {name: {"DataType": "String", "StringValue": value} for name, value in given.items() if value}


def batches(messages: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """Cut messages into batches, in order; one that is too large alone makes a batch of its own."""
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MOST_ENTRIES or size + message.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch


_Client: TypeAlias = Any  # aiobotocore makes clients at run time
_Entry: TypeAlias = Mapping[str, Any]


def _tens(entries: Sequence[_Entry]) -> Iterator[Sequence[_Entry]]:
    return (entries[start : start + MOST_ENTRIES] for start in range(0, len(entries), MOST_ENTRIES))


class Queue:
    """A queue by its URL. A call is given up after `call_seconds`, whatever it waits for, a poll's own wait apart.

    `called_at` is when the last call began, in monotonic seconds, and `trouble` says what the last answer lacked.
    `dead_letters` is its dead-letter queue, where that can be reached, and `advice` is on the settings of both.
    """

    attributes = QueueAttributes()
    dead_letters: "Queue | None" = None

    def __init__(
        self, client: _Client, url: str, *, call_seconds: float, counters: QueueCounters | None = None
    ) -> None:
        self._client = client
        self._call_seconds = call_seconds
        self.url = url
        self.advice: list[str] = []
        self.counters = counters or QueueCounters()
        self.called_at = time.monotonic()
        self.trouble = "not reached yet"
        self._log = structlog.get_logger("batchsubmit").bind(queue=url)

    async def read_attributes(self) -> QueueAttributes:
        """Read the queue's settings. Raises QueueError."""
        self.attributes = await self._call(
            "GetQueueAttributes",
            lambda answer: QueueAttributes.read(answer["Attributes"]),
            QueueUrl=self.url,
            AttributeNames=["All"],
        )
        return self.attributes

    async def receive(
        self, count: int, *, visibility_seconds: int, wait_seconds: int, is_over: Callable[[], bool]
    ) -> list[Message]:
        """Wait for messages with one long poll. It is repeated without end while SQS is busy, until `is_over`.

        Never cancel it: a poll whose client has gone still takes messages and hides them. Raises QueueError.
        """
        return await self._call(
            "ReceiveMessage",
            lambda answer: [_message(each) for each in answer.get("Messages", ())],
            stop=lambda _: is_over(),
            QueueUrl=self.url,
            MaxNumberOfMessages=count,
            VisibilityTimeout=visibility_seconds,
            WaitTimeSeconds=wait_seconds,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=_SYSTEM_ATTRIBUTES,
        )

    async def delete(self, receipts: Sequence[str]) -> list[str | None]:
        """Delete messages; gives for each why that failed, or None. Raises QueueError."""
        return await self._batches("DeleteMessageBatch", _tens([{"ReceiptHandle": receipt} for receipt in receipts]))

    async def hide(self, receipts: Sequence[tuple[str, int]]) -> list[str | None]:
        """Hide messages for so many seconds from now on; gives for each why that failed, or None. Raises QueueError."""
        entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt, seconds in receipts]
        return await self._batches("ChangeMessageVisibilityBatch", _tens(entries))

    async def send(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """Send messages; gives for each why that failed, or None. Raises QueueError."""
        is_fifo = self.attributes.is_fifo
        return await self._batches(
            "SendMessageBatch", ([each.entry(is_fifo=is_fifo) for each in batch] for batch in batches(messages))
        )

    async def find_dead_letters(self, arn: str) -> "Queue":
        """Find the dead-letter queue by its ARN, and read its settings. Raises QueueError."""
        account, name = arn.split(":")[4:6]
        url = await self._call(
            "GetQueueUrl", lambda answer: str(answer["QueueUrl"]), QueueName=name, QueueOwnerAWSAccountId=account
        )
        found = Queue(self._client, url, call_seconds=self._call_seconds, counters=self.counters)
        await found.read_attributes()
        return found

    async def _batches(self, operation: str, batches: Iterable[Sequence[_Entry]]) -> list[str | None]:
        """Make a call for each batch, one after another."""
        codes: list[str | None] = []
        for batch in batches:
            numbered = [{"Id": str(number), **each} for number, each in enumerate(batch)]
            read = partial(_failures, [each["Id"] for each in numbered])
            try:
                codes += await self._call(operation, read, QueueUrl=self.url, Entries=numbered)
            except QueueBusyError:
                codes += [BUSY] * len(numbered)
        return codes

    async def _call(
        self,
        operation: str,
        read: Callable[[dict[str, Any]], T],
        *,
        stop: Callable[[RetryCallState], bool] = _OUT_OF_PATIENCE,
        **given: Any,  # noqa: ANN401 (the operation's own members)
    ) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(QueueBusyError),
            wait=full_jitter(multiplier=0.2, max=_LONGEST_PAUSE_SECONDS),
            stop=stop,
            before_sleep=self._count,
            reraise=True,
        )
        return await retrying(self._call_once, operation, read, given)

    async def _call_once(self, operation: str, read: Callable[[dict[str, Any]], T], given: Mapping[str, Any]) -> T:
        self.called_at = time.monotonic()
        method = getattr(self._client, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower())
        seconds = self._call_seconds + given.get("WaitTimeSeconds", 0)
        try:
            async with asyncio.timeout(seconds):
                answer = await method(**given)
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            # botocore gives an HTML page or an empty body as an answer without members.
            if "json" not in headers["content-type"] or headers.get("content-length") == "0":
                raise ValueError("no JSON")  # noqa: TRY301 (read as any answer of another shape)
            found = read(answer)
        except TimeoutError as exc:
            self.trouble = f"{operation}: no whole answer within {seconds:g} s"
            raise QueueBusyError(f"{operation} on {self.url}: no whole answer within {seconds:g} s") from exc
        except Exception as exc:
            self.trouble = f"{operation}: {type(exc).__name__}"
            explained = explain(exc, operation, self.url)
            if explained is exc:
                raise
            raise explained from exc
        self.trouble = ""
        return found

    def _count(self, state: RetryCallState) -> None:
        exc = state.outcome.exception() if state.outcome else None
        is_throttling = isinstance(exc, QueueThrottledError)
        self.counters.throttled += is_throttling
        self.counters.unanswered += not is_throttling
        self._log.warning("queue.busy", attempt=state.attempt_number, reason=str(exc), throttled=is_throttling)


def _failures(ids: Sequence[str], answer: Mapping[str, Any]) -> list[str | None]:
    """Give for each entry None where SQS names it as successful, or why it failed. Raises KeyError where none is named.

    An entry of which SQS says nothing has failed: it is tried again.
    """
    failed = {str(each["Id"]): str(each.get("Code", "unknown")) for each in answer.get("Failed", ())}
    successful = {str(each["Id"]) for each in answer.get("Successful", ())}
    if not (failed.keys() | successful) & set(ids):
        raise KeyError("Successful")
    return [failed.get(each, None if each in successful else "NotInTheAnswer") for each in ids]


def _message(raw: Mapping[str, Any]) -> Message:
    system, attributes = raw.get("Attributes", {}), raw.get("MessageAttributes", {})
    return Message(
        id=raw["MessageId"],
        receipt=raw["ReceiptHandle"],
        body=raw["Body"],
        attributes={name: each["StringValue"] for name, each in attributes.items() if "StringValue" in each},
        wire_attributes=attributes,
        receives=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=int(system.get("SentTimestamp", 0)) / 1000,
        group=system.get("MessageGroupId", ""),
    )


def region_of(url: str) -> str | None:
    """Read the region off a queue's URL, where AWS's own host names it."""
    found = _REGION_IN_URL.match(url)
    return (found[1] or found[2]) if found else None


_WANTED_RETENTION = 14 * 86_400
_URL = re.compile(r"https?://[^/]+(/.*)?/[\w.-]+")


@asynccontextmanager
async def open_queue(url: str, settings: Settings, *, region: str) -> AsyncIterator[Queue]:
    """Open a queue, with its dead-letter queue where that can be reached.

    Raises UsageError where URL or AWS configuration are wrong or there is no such queue, StoppedError where it cannot
    be reached or used.
    """
    if not _URL.fullmatch(url):
        raise UsageError(f"{url}: is no queue URL; it looks like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    # A long poll is answered after its own time, however short the user's patience with other calls is.
    timeouts = Timeouts.of(settings.aws)._replace(
        read_seconds=max(settings.aws.read_timeout_seconds, LONG_POLL_SECONDS + 10)
    )
    async with open_client("sqs", region=region_of(url) or region, timeouts=timeouts) as client:
        queue = Queue(client, url, call_seconds=settings.aws.call_seconds)
        try:
            arn = (await queue.read_attributes()).dead_letter_arn
        except QueueGoneError as exc:
            raise UsageError(str(exc)) from exc
        except QueueBusyError as exc:
            raise StoppedError(f"the queue cannot be reached: {exc}") from exc
        try:
            queue.dead_letters = await queue.find_dead_letters(arn) if arn else None
        except (QueueBusyError, QueueError) as exc:
            what = f"the dead-letter queue {arn} cannot be reached ({exc}); messages that can never work are left to"
            queue.advice = [f"{what} the redrive policy"]
        queue.advice += advice(queue.attributes, queue.dead_letters.attributes if queue.dead_letters else None)
        yield queue


def advice(queue: QueueAttributes, dead_letters: QueueAttributes | None = None) -> Iterator[str]:
    """List the settings that do not fit, each with what to set instead."""
    if not queue.dead_letter_arn:
        yield (
            "the queue has no dead-letter queue: a message that can never work stays in it until its retention is "
            "over; set a RedrivePolicy with maxReceiveCount 1000"
        )
    elif queue.most_receives is not None and queue.most_receives < 100:
        yield (
            f"maxReceiveCount is {queue.most_receives}, and a worker that dies spends one receive of each message it "
            f"held; set it to 1000"
        )
    if queue.is_fifo:
        yield (
            "the queue is a FIFO queue: nothing more of a membership is delivered while one of its messages is held; "
            "use a standard queue"
        )
    if queue.retention_seconds < _WANTED_RETENTION:
        yield (
            f"the queue keeps messages for {duration(queue.retention_seconds)}, and jobs that wait longer for a slot "
            f"are lost; set MessageRetentionPeriod to {_WANTED_RETENTION} (14 days)"
        )
    if dead_letters is not None and not queue.is_fifo and dead_letters.retention_seconds < queue.retention_seconds:
        yield (
            f"the dead-letter queue keeps messages for {duration(dead_letters.retention_seconds)}, less than the "
            "queue itself, and counts from when they were first sent: old ones vanish at once"
        )
