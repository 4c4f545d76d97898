"""Makes the table of a shared ledger."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from botocore import exceptions as aws

from batchsubmit.errors import StoppedError, UsageError

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
        if exc.response.get("Error", {}).get("Code") == "ResourceInUseException":
            raise UsageError(f"there is a DynamoDB table {name} already; it is left as it is") from exc
        raise StoppedError(f"the table {name} cannot be made: {exc}") from exc
    except aws.BotoCoreError as exc:
        raise StoppedError(f"the table {name} cannot be made: {exc}") from exc
    raise StoppedError(f"the table {name} was not ready within {_LONGEST_CREATION_SECONDS:.0f} s; look at it later")
