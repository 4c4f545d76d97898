"""The real side of `Table`: a DynamoDB table through aiobotocore, and the boundary at which botocore's errors end.

Reads are consistent. What may pass (throttling, conflicts, 5xx, time-outs, an answer that is not DynamoDB's) is tried
again with jitter: a write names the version it follows and carries a token of its own, so that one whose answer was
lost is recognised when its repetition meets a conflict with itself.
"""

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import msgspec
from botocore import exceptions as aws
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.aws import NO_CREDENTIALS, THROTTLING_CODES, Timeouts, error_code, open_client
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.items import Address, ConflictError, Item, MissingTableError

GIVE_UP_SECONDS = 60.0
"""How long trouble may last before the run stops. A partition of DynamoDB fails over within seconds."""

_CALLS_UNTIL_GIVING_UP = 4
"""No call takes longer than this part of it, also where its answer trickles in."""

_BASE_SECONDS = 0.05
_CAP_SECONDS = 5.0
_LONGEST_CREATION_SECONDS = 300
_CONNECT_TIMEOUT_SECONDS = 5.0
_READ_TIMEOUT_SECONDS = 10.0
_MOST_KEYS = 100
"""What one BatchGetItem takes."""

_MOST_EMPTY_PAGES = 20
"""A page may be empty, but not so many in turn."""

PASSING = THROTTLING_CODES | {
    "InternalServerError",
    "ReplicatedWriteConflictException",
    "RequestTimeout",
    "RequestTimeoutException",
    "TransactionConflictException",
}
"""Error codes that say no more than: not now."""

_KEYS = (("pk", "HASH"), ("sk", "RANGE"))
_NOT_OURS = frozenset({"pk", "sk", "write"})
_Client: TypeAlias = Any  # aiobotocore makes clients at run time
_Answer: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class ForeignAnswerError(Exception):
    """What came is no answer of DynamoDB's to this call, or not all of it: nobody knows what the call did."""


def refuse_foreign(response_dict: Mapping[str, Any] | None = None, **_: object) -> None:
    """Take no page of a proxy or a gateway for an answer. Raises ForeignAnswerError.

    DynamoDB's answers are JSON objects with a request id, and all but local stand-ins' have a CRC-32 of the body.
    """
    if response_dict is None or response_dict["status_code"] >= 500:
        return
    headers, body = response_dict["headers"], response_dict["body"]
    kind, checksum = headers.get("content-type", ""), headers.get("x-amz-crc32")
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        is_json = kind.startswith(("application/x-amz-json", "application/json"))
    except (msgspec.MsgspecError, UnicodeError):
        is_json = False
    if is_json and headers.get("x-amzn-requestid") and checksum in {None, str(zlib.crc32(body))}:
        return
    raise ForeignAnswerError(
        f"the answer is not DynamoDB's (status {response_dict['status_code']}, {kind or 'no content type'}, "
        f"{len(body):,} bytes); a proxy, a portal or another service is between"
    )


def write_address(address: Address) -> dict[str, Any]:
    """An item's key, as DynamoDB takes it."""
    return {"pk": {"S": address.pk}, "sk": {"S": address.sk}}


def _read_address(item: Mapping[str, Any]) -> Address:
    return Address(item["pk"]["S"], item["sk"]["S"])


def _read_items(items: Iterable[Mapping[str, Any]]) -> dict[Address, Item]:
    return {_read_address(item): read_item(item) for item in items}


def _read_page(answer: _Answer) -> tuple[dict[Address, Item], Address | None]:
    """The items of a page of Scan, and where it ends unless it is the last."""
    end = answer.get("LastEvaluatedKey")
    return _read_items(answer["Items"]), _read_address(end) if end else None


def read_item(attributes: Mapping[str, Any]) -> Item:
    """Read an item, without its key and the token of its last write."""
    return {name: _read(value) for name, value in attributes.items() if name not in _NOT_OURS}


def _read(attribute: Mapping[str, Any]) -> Any:  # noqa: ANN401 (as it was written)
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return int(value)
        case "L":
            return [_read(each) for each in value]
        case _:
            return value


def _write(value: Any) -> dict[str, Any]:  # noqa: ANN401 (a text, a number or a list of these)
    match value:
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case _:
            return {"L": [_write(each) for each in value]}


class DynamoTable:
    """Versioned items in a table with the keys `pk` and `sk`."""

    def __init__(self, client: _Client, name: str, *, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        self._client = client
        self.name = name
        self._call_seconds = give_up_seconds / _CALLS_UNTIL_GIVING_UP
        self._was_there = False
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(may_pass),
            wait=full_jitter(multiplier=_BASE_SECONDS, max=_CAP_SECONDS),
            stop=stop_after_delay(give_up_seconds),
            reraise=True,
        )

    async def create(self) -> None:
        """Make a table, billed by request, and wait for it. Raises UsageError where there is one, StoppedError."""
        try:
            await self._client.create_table(
                TableName=self.name,
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in _KEYS],
                KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in _KEYS],
                BillingMode="PAY_PER_REQUEST",
            )
            waiting = {"Delay": 1, "MaxAttempts": _LONGEST_CREATION_SECONDS}
            await self._client.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig=waiting)
        except (aws.ClientError, aws.BotoCoreError, ForeignAnswerError) as exc:
            if error_code(exc) == "ResourceInUseException":
                raise UsageError(f"there is a DynamoDB table {self.name} already; it is left as it is") from exc
            raise StoppedError(f"the table {self.name} cannot be made: {exc}") from exc

    async def get(self, address: Address) -> Item | None:
        """Read an item, consistently."""
        return (await self.get_many([address])).get(address)

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Read those of the items that exist, consistently."""
        left, found = list(map(write_address, addresses)), dict[Address, Item]()
        while left:
            asked, later = left[:_MOST_KEYS], left[_MOST_KEYS:]
            request = {"RequestItems": {self.name: {"Keys": asked, "ConsistentRead": True}}}
            read, unread = await self._call(
                "batch_get_item", "cannot be read", request, partial(self._read_some, asked)
            )
            found |= read
            left = later + unread
        return found

    def _read_some(
        self, asked: list[dict[str, Any]], answer: _Answer
    ) -> tuple[dict[Address, Item], list[dict[str, Any]]]:
        """Give the items of an answer, and the keys left for later: some of those that were asked for, and not all."""
        items = _read_items(answer["Responses"].get(self.name, ()))
        unread = list(answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", ()))
        if len(unread) >= len(asked) or any(each not in asked for each in (*map(write_address, items), *unread)):
            raise ValueError("other keys than were asked for")
        return items, unread

    async def scan(self) -> AsyncIterator[dict[Address, Item]]:
        """Read all items, page by page, consistently."""
        request: dict[str, Any] = {"TableName": self.name, "ConsistentRead": True}
        ends, empty = set[Address](), 0
        while True:
            items, end = await self._call("scan", "cannot be read", request, _read_page)
            yield items
            if end is None:
                return
            empty = 0 if items else empty + 1
            if end in ends or empty > _MOST_EMPTY_PAGES:
                raise StoppedError(f"the ledger dynamodb://{self.name} cannot be read: its pages do not end")
            ends.add(end)
            request["ExclusiveStartKey"] = write_address(end)

    async def write(self, address: Address, follows: int, values: Item) -> Item:
        """Set attributes of an item that has this version. Raises ConflictError, StoppedError."""
        token = secrets.token_hex(8)
        values = {**values, "version": follows + 1, "write": token}
        condition = {"follows": follows} if follows else {}
        request = {
            "TableName": self.name,
            "Key": write_address(address),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in values),
            "ConditionExpression": "#version = :follows" if follows else "attribute_not_exists(pk)",
            "ExpressionAttributeNames": {f"#{name}": name for name in values},
            "ExpressionAttributeValues": {f":{name}": _write(each) for name, each in {**values, **condition}.items()},
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

        def written(answer: _Answer) -> Item:
            if answer["Attributes"]["write"] != {"S": token}:
                raise ValueError("another's write")
            return read_item(answer["Attributes"])

        try:
            return await self._call("update_item", f"does not take {address.pk}", request, written)
        except aws.ClientError as exc:
            item = exc.response.get("Item", {})
            if item.get("write") == {"S": token}:
                return read_item(item)
            raise ConflictError(address, read_item(item) or None) from exc

    async def _call(self, operation: str, trouble: str, request: Mapping[str, Any], read: Callable[[_Answer], T]) -> T:
        """Make a call until `read` can read its answer, or time is up: `trouble` then says what the ledger does not do.

        Raises UsageError, StoppedError, and ClientError for a condition that fails.
        """

        async def call() -> T:  # tenacity awaits only what says that it is a coroutine function
            try:
                async with asyncio.timeout(self._call_seconds):
                    answer = await getattr(self._client, operation)(**request)
            except TimeoutError as exc:
                raise TimeoutError(f"no whole answer within {self._call_seconds:g} s") from exc
            try:
                return read(answer)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                raise ForeignAnswerError("the answer lacks what was asked for") from exc

        try:
            found: T = await self._retrying(call)
        except Exception as exc:
            if error_code(exc) == "ConditionalCheckFailedException":
                raise
            raise self._stopped(trouble, exc) from exc
        self._was_there = True
        return found

    def _stopped(self, trouble: str, exc: Exception) -> StoppedError | UsageError:
        if error_code(exc) == "ResourceNotFoundException":
            if self._was_there:
                return MissingTableError(
                    f"the DynamoDB table {self.name} is gone: it was there when this run began. Restore it from a "
                    "backup: with an empty one, jobs that were submitted would be submitted again"
                )
            return UsageError(
                f"there is no DynamoDB table {self.name} in region {self._client.meta.region_name}; "
                f"batchsubmit ledger create-table {self.name} makes it"
            )
        return StoppedError(
            f"the ledger dynamodb://{self.name} {trouble}: {exc}; no call was made after that. "
            "Fix that and run the same command again"
        )


def may_pass(exc: BaseException) -> bool:
    """Whether a call that failed so may succeed a little later."""
    if isinstance(exc, aws.ClientError):
        return error_code(exc) in PASSING or exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    return isinstance(exc, Exception) and not isinstance(exc, NO_CREDENTIALS)


@asynccontextmanager
async def open_table(
    name: str, *, region: str | None, concurrency: int, give_up_seconds: float = GIVE_UP_SECONDS
) -> AsyncIterator[DynamoTable]:
    """Open a table, for many writes, on the configured endpoint. Raises UsageError, StoppedError.

    botocore's retries are off: ours know a write whose answer was lost from one that met another's.
    """
    timeouts = Timeouts(_CONNECT_TIMEOUT_SECONDS, _READ_TIMEOUT_SECONDS)
    async with open_client("dynamodb", region=region, timeouts=timeouts, connections=concurrency) as client:
        client.meta.events.register("response-received.dynamodb", refuse_foreign)
        yield DynamoTable(client, name, give_up_seconds=give_up_seconds)
