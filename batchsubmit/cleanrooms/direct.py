"""StartTrainedModelInferenceJob without the client's call pipeline, where that makes no difference on the wire.

How and why stands in `batchsubmit.wire`. Any request that is out of the ordinary is made by the client.
"""

import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest
from botocore.model import OperationModel, Shape

from batchsubmit.wire.rehearsal import CredentialsProvider, Parts, fresh, read_as_client, take_apart
from batchsubmit.wire.signature import Credentials, amz_date
from batchsubmit.wire.transport import RehearsedError, Transport

OPERATION = "StartTrainedModelInferenceJob"

Start = Callable[..., Awaitable[Mapping[str, Any]]]
"""The client's method: the request's members as arguments, the answer's members back; raises botocore's exceptions."""

_IN_PATH = "membershipIdentifier"
_PLAIN_MEMBERSHIP = re.compile(r"[0-9a-f-]{1,64}")
_PLAIN_TYPES = frozenset({"string", "integer", "long", "structure", "list", "map"})
_REHEARSAL = {_IN_PATH: "00000000-0000-4000-8000-000000000000", "name": "rehearsal", "tags": {"kind": "rehearsal"}}


class _Started(msgspec.Struct):
    trainedModelInferenceJobArn: str  # noqa: N815 (the API's own name)


_read_started = msgspec.json.Decoder(_Started).decode


class DirectStart:
    """Calls Start through a client's transport; `by_client` is the way of all requests that are out of the ordinary."""

    def __init__(
        self, plan: "_Plan", transport: Transport, credentials: CredentialsProvider, model: OperationModel, start: Start
    ) -> None:
        self._plan = plan
        self._transport = transport
        self._credentials = credentials
        self._model = model
        self.by_client = start

    async def __call__(self, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 (as the client's own method)
        """Make one call. Raises botocore's exceptions, as the client does."""
        credentials = await fresh(self._credentials)
        if not self._plan.covers(request, credentials):
            return await self.by_client(**request)
        prepared = self._plan.prepare(
            request.pop(_IN_PATH),
            msgspec.json.encode(request),
            date=amz_date(time.time()),
            invocation=str(uuid.uuid4()),
            credentials=credentials,
        )
        return await self._read(await self._transport.send(prepared))

    async def _read(self, response: AioAWSResponse) -> Mapping[str, Any]:
        body = await response.content
        if response.status_code == 200:
            try:
                return {"trainedModelInferenceJobArn": _read_started(body).trainedModelInferenceJobArn}
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass  # botocore's parser has the last word on what is odd
        return await read_as_client(response, self._model)


async def rehearse(client: Any, transport: Transport, credentials: CredentialsProvider) -> DirectStart | None:  # noqa: ANN401
    """Let a client rehearse a call; None where its requests cannot be made here exactly as it makes them."""
    start: Start = client.start_trained_model_inference_job
    model = client.meta.service_model.operation_model(OPERATION)
    if not _is_plain_json(model):
        return None
    with transport.rehearsing() as seen:
        try:
            await start(**_REHEARSAL)
        except RehearsedError:
            pass
        except Exception:  # noqa: BLE001 (whatever it is, the first real call will say it in its own words)
            return None
    plan = _plan(seen[0], await fresh(credentials)) if len(seen) == 1 else None
    if plan is None:
        return None
    return DirectStart(plan, transport, credentials, model, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """All that the requests of one client share; URL and path stand around the membership."""

    url: tuple[str, str]
    path: tuple[str, str]
    parts: Parts

    def covers(self, request: Mapping[str, Any], credentials: Credentials) -> bool:
        """Whether a request is made of what the rehearsal had."""
        membership = request.get(_IN_PATH)
        return (
            isinstance(membership, str)
            and _PLAIN_MEMBERSHIP.fullmatch(membership) is not None
            and self.parts.fit(credentials)
        )

    def prepare(
        self, membership: str, body: bytes, *, date: str, invocation: str, credentials: Credentials
    ) -> AWSPreparedRequest:
        """Make a request."""
        url, path = membership.join(self.url), membership.join(self.path)
        return self.parts.request(url, path, body, date=date, invocation=invocation, credentials=credentials)


def _plan(rehearsed: AWSPreparedRequest, credentials: Credentials) -> _Plan | None:
    """Take a request apart; None where it is not of a kind that this module knows, or cannot be made anew."""
    membership = str(_REHEARSAL[_IN_PATH])
    parts = take_apart(rehearsed, credentials)
    if parts is None or rehearsed.url.count(membership) != 1:
        return None
    if json.loads(rehearsed.body) != {name: value for name, value in _REHEARSAL.items() if name != _IN_PATH}:
        return None
    before_url, _, after_url = rehearsed.url.partition(membership)
    before_path, _, after_path = urlsplit(rehearsed.url).path.partition(membership)
    return _Plan(url=(before_url, after_url), path=(before_path, after_path), parts=parts)


def _is_plain_json(model: OperationModel) -> bool:
    """Whether the request is a membership in the path and JSON of the members' own names, with nothing filled in.

    A client token, say, that AWS adds to the API one day is botocore's to fill in.
    """
    members = dict(model.input_shape.members)
    in_path = members.pop(_IN_PATH, None)
    return (
        in_path is not None
        and in_path.serialization.get("location") == "uri"
        and not (model.idempotent_members or model.endpoint or model.http_checksum or model.request_compression)
        and not (model.context_parameters or model.static_context_parameters)
        and model.service_model.resolved_protocol == "rest-json"
        and all(map(_is_plain, members.values()))
    )


def _is_plain(shape: Shape) -> bool:
    if shape.type_name not in _PLAIN_TYPES or shape.serialization or shape.metadata.get("document"):
        return False
    match shape.type_name:
        case "structure":
            return all(map(_is_plain, shape.members.values()))
        case "list":
            return _is_plain(shape.member)
        case "map":
            return _is_plain(shape.key) and _is_plain(shape.value)
    return True
