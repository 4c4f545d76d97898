"""StartTrainedModelInferenceJob without the client's call pipeline, where that makes no difference on the wire.

aiobotocore spends two thirds of a call's CPU on work that brings the same for each: endpoint rules, event hooks, a
shape-driven serializer, the building of headers. So the client is made to *rehearse* one call when it is opened: it
goes all the way to the transport, which shows the request instead of sending it. From that request come the URL, the
headers and the signature's scope, and it is made anew from these parts. **Only if that brings the very same request,
signature included, are calls made here; otherwise, and for any request that is out of the ordinary, by the client.**

What stays botocore's in any case: credentials and their refresh, the endpoint, the transport (the client's own, with
its proxies, certificates, time-outs and exceptions) and the reading of every answer but a plain acceptance.
"""

import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser

from batchsubmit.cleanrooms.signature import DATE, TOKEN, Credentials, Scope, Signer, amz_date
from batchsubmit.cleanrooms.transport import RehearsedError, Transport

OPERATION = "StartTrainedModelInferenceJob"

Start = Callable[..., Awaitable[Mapping[str, Any]]]
"""The client's method: the request's members as arguments, the answer's members back; raises botocore's exceptions."""

_IN_PATH = "membershipIdentifier"
_PLAIN_MEMBERSHIP = re.compile(r"[0-9a-f-]{1,64}")
_PLAIN_TYPES = frozenset({"string", "integer", "long", "structure", "list", "map"})
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~-]+")
_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=[^ ]+/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=")
_INVOCATION_ID, _LENGTH, _SIGNATURE = "amz-sdk-invocation-id", "content-length", "authorization"
_EACH_ITS_OWN = frozenset({DATE, TOKEN, _INVOCATION_ID, _LENGTH, _SIGNATURE})
_REHEARSAL = {_IN_PATH: "00000000-0000-4000-8000-000000000000", "name": "rehearsal", "tags": {"kind": "rehearsal"}}


class CredentialsProvider(Protocol):
    """aiobotocore's credentials: frozen ones are fresh, and refreshed before if need be."""

    async def get_frozen_credentials(self) -> Any:  # noqa: ANN401 (a named tuple of botocore's)
        """Give access key, secret key and token as of now."""


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
        self._parser = create_parser("rest-json")
        self.by_client = start

    async def __call__(self, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 (as the client's own method)
        """Make one call. Raises botocore's exceptions, as the client does."""
        credentials = _frozen(await self._credentials.get_frozen_credentials())
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
        return self._read_odd(response, body)

    def _read_odd(self, response: AioAWSResponse, body: bytes) -> Mapping[str, Any]:
        """Read an answer as the client does: an error with the members of its own shape."""
        answer = {
            "headers": response.headers,
            "status_code": response.status_code,
            "body": body,
            "context": {"operation_name": OPERATION},
        }
        parsed: dict[str, Any] = self._parser.parse(answer, self._model.output_shape)
        if response.status_code < 300:
            return parsed
        code = parsed.get("Error", {}).get("Code")
        shape = self._model.service_model.shape_for_error_code(code) if code is not None else None
        if shape is not None:
            parsed.update(self._parser.parse(answer, shape))
        raise ClientError(parsed, OPERATION)


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
    frozen = _frozen(await credentials.get_frozen_credentials())
    plan = _plan(seen[0], with_token=frozen.token is not None) if len(seen) == 1 else None
    if plan is None or not plan.reproduces(seen[0], frozen):
        return None
    return DirectStart(plan, transport, credentials, model, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """All that the requests of one client share. `headers` are spelled as the client spells them."""

    url: tuple[str, str]
    path: tuple[str, str]
    headers: dict[str, str]
    with_token: bool
    signer: Signer

    def covers(self, request: Mapping[str, Any], credentials: Credentials) -> bool:
        """Whether a request is made of what the rehearsal had."""
        membership = request.get(_IN_PATH)
        return (
            isinstance(membership, str)
            and _PLAIN_MEMBERSHIP.fullmatch(membership) is not None
            and (credentials.token is not None) == self.with_token
        )

    def prepare(
        self, membership: str, body: bytes, *, date: str, invocation: str, credentials: Credentials
    ) -> AWSPreparedRequest:
        """Make a request."""
        headers = {
            **self.headers,
            "X-Amz-Date": date,
            "Authorization": self.signer.authorization(membership.join(self.path), body, date, credentials),
            _INVOCATION_ID: invocation,
            "Content-Length": str(len(body)),
        }
        if credentials.token is not None:
            headers["X-Amz-Security-Token"] = credentials.token
        return AWSPreparedRequest("POST", membership.join(self.url), headers, body, stream_output=False)

    def reproduces(self, rehearsed: AWSPreparedRequest, credentials: Credentials) -> bool:
        """Whether the rehearsed request, made anew from these parts, is the very same."""
        members = {name: value for name, value in _REHEARSAL.items() if name != _IN_PATH}
        has = _headers(rehearsed)
        again = self.prepare(
            str(_REHEARSAL[_IN_PATH]),
            bytes(rehearsed.body),
            date=has.get(DATE, ""),
            invocation=has.get(_INVOCATION_ID, ""),
            credentials=credentials,
        )
        return (
            (rehearsed.method, rehearsed.url, has) == (again.method, again.url, _headers(again))
            and json.loads(rehearsed.body) == members
            and not rehearsed.stream_output
        )


def _plan(rehearsed: AWSPreparedRequest, *, with_token: bool) -> _Plan | None:
    """Take a request apart; None where it is not of a kind that this module knows."""
    membership = str(_REHEARSAL[_IN_PATH])
    parts = urlsplit(rehearsed.url)
    headers = _headers(rehearsed)
    signature = _AUTHORIZATION.match(headers.get(_SIGNATURE, ""))
    is_known = isinstance(rehearsed.body, bytes) and rehearsed.url.count(membership) == 1
    if signature is None or not is_known or parts.query or not _PLAIN_PATH.fullmatch(parts.path):
        return None
    signed = headers[_SIGNATURE][signature.end() :].partition(",")[0].split(";")
    fixed = {name: value for name, value in {**headers, "host": _host(rehearsed.url)}.items() if name in signed}
    before_url, _, after_url = rehearsed.url.partition(membership)
    before_path, _, after_path = parts.path.partition(membership)
    return _Plan(
        url=(before_url, after_url),
        path=(before_path, after_path),
        headers={str(name): _text(value) for name, value in _others(rehearsed)},
        with_token=with_token,
        signer=Signer(
            Scope(region=signature[1], service=signature[2]),
            {name: value for name, value in fixed.items() if name not in _EACH_ITS_OWN},
        ),
    )


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


def _others(request: AWSPreparedRequest) -> list[tuple[str, str | bytes]]:
    return [(name, value) for name, value in request.headers.items() if name.lower() not in _EACH_ITS_OWN]


def _headers(request: AWSPreparedRequest) -> dict[str, str]:
    return {name.lower(): _text(value) for name, value in request.headers.items()}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _host(url: str) -> str:
    """The host as it is signed: without the port that the scheme implies."""
    parts = urlsplit(url)
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return parts.netloc.removesuffix(default)


def _frozen(credentials: Any) -> Credentials:  # noqa: ANN401 (botocore's named tuple)
    return Credentials(
        access_key=credentials.access_key, secret_key=credentials.secret_key, token=credentials.token or None
    )
