"""UpdateItem without the client's call pipeline, where that makes no difference on the wire: nine in ten of our calls.

How and why stands in `batchsubmit.wire`. Anything that is out of the ordinary is done by the client.
"""

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec
from botocore.model import OperationModel

from batchsubmit.ledger.attributes import update
from batchsubmit.ledger.table import Address, Change
from batchsubmit.wire.rehearsal import CredentialsProvider, Parts, fresh, read_as_client, take_apart
from batchsubmit.wire.signature import amz_date
from batchsubmit.wire.transport import RehearsedError, Transport

OPERATION = "UpdateItem"

Update: TypeAlias = Callable[..., Awaitable[Mapping[str, Any]]]
"""The client's method: the request's members as arguments, the answer's members back; raises botocore's exceptions."""


class DirectUpdate:
    """Calls UpdateItem through a client's transport. The answer to a write that was made is not read: nobody asks."""

    def __init__(
        self,
        url: str,
        parts: Parts,
        *,
        transport: Transport,
        credentials: CredentialsProvider,
        model: OperationModel,
        by_client: Update,
    ) -> None:
        self._url, self._path = url, urlsplit(url).path
        self._parts = parts
        self._transport = transport
        self._credentials = credentials
        self._model = model
        self.by_client = by_client

    async def __call__(self, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 (as the client's own method)
        """Make one call. Raises botocore's exceptions, as the client does."""
        credentials = await fresh(self._credentials)
        if not self._parts.fit(credentials):
            return await self.by_client(**request)
        body = msgspec.json.encode(request)
        date, invocation = amz_date(time.time()), str(uuid.uuid4())
        prepared = self._parts.request(
            self._url, self._path, body, date=date, invocation=invocation, credentials=credentials
        )
        response = await self._transport.send(prepared)
        if response.status_code == 200:
            await response.content  # else the connection is not to be had for the next
            return {}
        return await read_as_client(response, self._model)


async def rehearse(client: Any, table: str, transport: Transport, credentials: CredentialsProvider) -> Update:  # noqa: ANN401
    """Let a client rehearse a write; gives the short way to a table, or the client's where there is none."""
    by_client: Update = client.update_item
    change = Change(set={"text": "ü", "number": 1}, append={"lines": ["a"]}, remove=("owner",))
    write = update(table, Address("rehearsal", "rehearsal"), 1, change, "token")
    with transport.rehearsing() as seen:
        try:
            await by_client(**write)
        except RehearsedError:
            pass
        except Exception:  # noqa: BLE001 (whatever it is, the first real call will say it in its own words)
            return by_client
    model = client.meta.service_model.operation_model(OPERATION)
    if len(seen) != 1 or model.service_model.resolved_protocol != "json" or json.loads(seen[0].body) != write:
        return by_client
    parts = take_apart(seen[0], await fresh(credentials))
    if parts is None:
        return by_client
    return DirectUpdate(
        seen[0].url, parts, transport=transport, credentials=credentials, model=model, by_client=by_client
    )
