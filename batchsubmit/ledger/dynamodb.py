"""The real side of `Table`: a DynamoDB table through aiobotocore, and the boundary at which botocore's errors end.

Reads are consistent. What may pass (throttling, conflicts, 5xx, time-outs) is tried again with jitter: a write names
the version it follows and carries a token of its own, so that one whose answer was lost is recognised when its
repetition meets a conflict with itself.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from botocore import exceptions as aws
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.aws import NO_CREDENTIALS, THROTTLING_CODES, open_client
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.table import Address, Change, ConflictError, Item, MissingTableError, Value

GIVE_UP_SECONDS = 60.0
"""How long trouble may last before the run stops. A partition of DynamoDB fails over within seconds."""

_BASE_SECONDS = 0.05
_CAP_SECONDS = 5.0
_CONNECT_TIMEOUT_SECONDS = 5.0
_READ_TIMEOUT_SECONDS = 10.0
_MOST_KEYS = 100
"""What one BatchGetItem takes."""

PASSING = THROTTLING_CODES | {
    "InternalServerError",
    "ReplicatedWriteConflictException",
    "RequestTimeout",
    "RequestTimeoutException",
    "TransactionConflictException",
}
"""Error codes that say no more than: not now."""

_ADDRESS = frozenset({"pk", "sk", "write"})
_Operation: TypeAlias = Callable[..., Awaitable[Mapping[str, Any]]]


def write_address(address: Address) -> dict[str, Any]:
    """An item's key, as DynamoDB takes it."""
    return {"pk": {"S": address.pk}, "sk": {"S": address.sk}}


def read_item(attributes: Mapping[str, Any]) -> Item:
    """Read an item, without its key and the token of its last write."""
    return {name: _read(value) for name, value in attributes.items() if name not in _ADDRESS}


def _read(attribute: Mapping[str, Any]) -> Any:  # noqa: ANN401 (as it was written)
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return int(value)
        case "L":
            return [_read(each) for each in value]
        case _:
            return value


def _write(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case _:
            return {"L": [_write(each) for each in value]}


def _update(table: str, address: Address, follows: int, change: Change, token: str) -> dict[str, Any]:
    """Make the one UpdateItem that applies a change to the version it follows, and to no other."""
    values: dict[str, Value] = {"version": follows + 1, "write": token, **change.set}
    sets = [f"#{name} = :{name}" for name in values]
    sets += [f"#{name} = list_append(if_not_exists(#{name}, :none), :{name})" for name in change.append]
    removes = [f"#{name}" for name in change.remove]
    values |= change.append
    names = {f"#{name}": name for name in (*values, *change.remove)} | ({} if follows else {"#pk": "pk"})
    values |= {"none": []} if change.append else {}
    values |= {"follows": follows} if follows else {}
    return {
        "TableName": table,
        "Key": write_address(address),
        "UpdateExpression": f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else ""),
        "ConditionExpression": "#version = :follows" if follows else "attribute_not_exists(#pk)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {f":{name}": _write(value) for name, value in values.items()},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


class DynamoTable:
    """Versioned items in a table with the keys `pk` and `sk`."""

    def __init__(
        self,
        client: Any,  # noqa: ANN401 (aiobotocore makes clients at run time)
        name: str,
        *,
        give_up_seconds: float = GIVE_UP_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self.name = name
        self._sleep = sleep
        self._was_there = False
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(may_pass),
            wait=full_jitter(multiplier=_BASE_SECONDS, max=_CAP_SECONDS),
            stop=stop_after_delay(give_up_seconds),
            sleep=sleep,
            reraise=True,
        )

    def __repr__(self) -> str:
        return f"<DynamoTable {self.name}>"

    async def get(self, address: Address) -> Item | None:
        """Read an item, consistently."""
        key = write_address(address)
        answer = await self._call(self._client.get_item, address.pk, TableName=self.name, Key=key, ConsistentRead=True)
        return read_item(answer["Item"]) if "Item" in answer else None

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Read those of the items that exist, consistently."""
        keys = [write_address(address) for address in addresses]
        found: dict[Address, Item] = {}
        pause = _BASE_SECONDS
        while keys:
            now, keys = keys[:_MOST_KEYS], keys[_MOST_KEYS:]
            request = {self.name: {"Keys": now, "ConsistentRead": True}}
            answer = await self._call(self._client.batch_get_item, "several jobs", RequestItems=request)
            for item in answer.get("Responses", {}).get(self.name, ()):
                found[Address(item["pk"]["S"], item["sk"]["S"])] = read_item(item)
            left = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            keys += left
            if left:
                await self._sleep(pause)
            pause = min(pause * 2, _CAP_SECONDS) if left else _BASE_SECONDS
        return found

    async def write(self, address: Address, follows: int, change: Change) -> None:
        """Change an item that has this version. Raises ConflictError, StoppedError."""
        token = secrets.token_hex(8)
        request = _update(self.name, address, follows, change, token)
        try:
            await self._call(self._client.update_item, address.pk, **request)
        except aws.ClientError as exc:
            item = exc.response.get("Item")
            if item is not None and item.get("write", {}).get("S") == token:
                return
            raise ConflictError(address, None if item is None else read_item(item)) from exc

    async def _call(self, operation: _Operation, subject: str, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Make a call until it brings something. Raises StoppedError, and ClientError for a condition that fails."""

        async def call() -> Mapping[str, Any]:  # tenacity awaits only what says that it is a coroutine function
            return await operation(**request)

        try:
            answer: Mapping[str, Any] = await self._retrying(call)
        except aws.ClientError as exc:
            if _code(exc) == "ConditionalCheckFailedException":
                raise
            raise self._stopped(subject, exc) from exc
        except Exception as exc:
            raise self._stopped(subject, exc) from exc
        self._was_there = True
        return answer

    def _stopped(self, subject: str, exc: Exception) -> StoppedError:
        if isinstance(exc, aws.ClientError) and _code(exc) == "ResourceNotFoundException":
            if self._was_there:
                return MissingTableError(
                    f"the DynamoDB table {self.name} is gone: it was there when this run began. Restore it from a "
                    "backup: with an empty one, jobs that were submitted would be submitted again"
                )
            return MissingTableError(
                f"there is no DynamoDB table {self.name} in region {self._client.meta.region_name}; "
                f"batchsubmit ledger create-table {self.name} makes it"
            )
        return StoppedError(
            f"the ledger dynamodb://{self.name} does not take {subject}: {exc}; no call was made after that. "
            "Fix that and run the same command again"
        )


def may_pass(exc: BaseException) -> bool:
    """Whether a call that failed so may succeed a little later."""
    if isinstance(exc, aws.ClientError):
        return _code(exc) in PASSING or exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    return isinstance(exc, Exception) and not isinstance(exc, NO_CREDENTIALS)


def _code(exc: aws.ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


@asynccontextmanager
async def open_table(
    name: str, *, region: str | None, concurrency: int, give_up_seconds: float = GIVE_UP_SECONDS
) -> AsyncIterator[DynamoTable]:
    """Open a table, for many writes. Raises UsageError where the AWS configuration is wrong."""
    async with open_dynamodb(region=region, concurrency=concurrency) as client:
        yield DynamoTable(client, name, give_up_seconds=give_up_seconds)


def open_dynamodb(*, region: str | None, concurrency: int) -> AbstractAsyncContextManager[Any]:
    """Open a DynamoDB client on the configured endpoint.

    botocore's retries are off: ours know a write whose answer was lost from one that met another's.
    """
    return open_client(
        "dynamodb",
        region=region,
        timeouts=(_CONNECT_TIMEOUT_SECONDS, _READ_TIMEOUT_SECONDS),
        connections=concurrency,
    )


_LONGEST_CREATION_SECONDS = 300.0
_LOOK_SECONDS = 0.5
_KEYS = (("pk", "HASH"), ("sk", "RANGE"))


async def create_table(
    client: Any,  # noqa: ANN401 (aiobotocore makes clients at run time)
    name: str,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Make a table, billed by request, and wait until it can be used.

    Raises UsageError where there is one of that name already, StoppedError where DynamoDB makes none.
    """
    try:
        await client.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in _KEYS],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in _KEYS],
            BillingMode="PAY_PER_REQUEST",
        )
        for _ in range(round(_LONGEST_CREATION_SECONDS / _LOOK_SECONDS)):
            answer = await client.describe_table(TableName=name)
            if answer["Table"]["TableStatus"] == "ACTIVE":
                return
            await sleep(_LOOK_SECONDS)
    except aws.ClientError as exc:
        if _code(exc) == "ResourceInUseException":
            raise UsageError(f"there is a DynamoDB table {name} already; it is left as it is") from exc
        raise StoppedError(f"the table {name} cannot be made: {exc}") from exc
    except aws.BotoCoreError as exc:
        raise StoppedError(f"the table {name} cannot be made: {exc}") from exc
    raise StoppedError(f"the table {name} was not ready within {_LONGEST_CREATION_SECONDS:.0f} s; look at it later")
