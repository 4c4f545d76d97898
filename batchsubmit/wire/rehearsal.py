"""A rehearsed request, taken apart into what all requests of its kind share, and put together anew."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError
from botocore.model import OperationModel
from botocore.parsers import create_parser

from batchsubmit.wire.signature import DATE, TOKEN, Credentials, Scope, Signer

INVOCATION_ID = "amz-sdk-invocation-id"
_LENGTH, _SIGNATURE = "content-length", "authorization"
_EACH_ITS_OWN = frozenset({DATE, TOKEN, INVOCATION_ID, _LENGTH, _SIGNATURE})
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~-]+")
_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=[^ ]+/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=")


class CredentialsProvider(Protocol):
    """aiobotocore's credentials: frozen ones are fresh, and refreshed before if need be."""

    async def get_frozen_credentials(self) -> Any:  # noqa: ANN401 (a named tuple of botocore's)
        """Give access key, secret key and token as of now."""


async def fresh(provider: CredentialsProvider) -> Credentials:
    """Credentials as of now."""
    frozen = await provider.get_frozen_credentials()
    return Credentials(access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all requests of one kind share. `headers` are spelled as the client spells them."""

    headers: dict[str, str]
    with_token: bool
    signer: Signer

    def fit(self, credentials: Credentials) -> bool:
        """Whether requests with these credentials have the headers of the rehearsed one."""
        return (credentials.token is not None) == self.with_token

    def request(
        self, url: str, path: str, body: bytes, *, date: str, invocation: str, credentials: Credentials
    ) -> AWSPreparedRequest:
        """Put a request together. `path` is the URL's."""
        headers = {
            **self.headers,
            "X-Amz-Date": date,
            "Authorization": self.signer.authorization(path, body, date, credentials),
            INVOCATION_ID: invocation,
            "Content-Length": str(len(body)),
        }
        if credentials.token is not None:
            headers["X-Amz-Security-Token"] = credentials.token
        return AWSPreparedRequest("POST", url, headers, body, stream_output=False)

    def reproduce(self, rehearsed: AWSPreparedRequest, credentials: Credentials) -> bool:
        """Whether the rehearsed request, put together anew, is the very same."""
        has = _headers(rehearsed)
        again = self.request(
            rehearsed.url,
            urlsplit(rehearsed.url).path,
            bytes(rehearsed.body),
            date=has.get(DATE, ""),
            invocation=has.get(INVOCATION_ID, ""),
            credentials=credentials,
        )
        return not rehearsed.stream_output and (rehearsed.method, has) == (again.method, _headers(again))


def take_apart(rehearsed: AWSPreparedRequest, credentials: Credentials) -> Parts | None:
    """Find the parts of a request; None where it is not of a kind that can be made anew."""
    url = urlsplit(rehearsed.url)
    headers = _headers(rehearsed)
    signature = _AUTHORIZATION.match(headers.get(_SIGNATURE, ""))
    is_plain = isinstance(rehearsed.body, bytes) and not url.query and _PLAIN_PATH.fullmatch(url.path)
    if signature is None or not is_plain:
        return None
    signed = headers[_SIGNATURE][signature.end() :].partition(",")[0].split(";")
    fixed = {name: value for name, value in {**headers, "host": _host(rehearsed.url)}.items() if name in signed}
    parts = Parts(
        headers={str(name): _text(value) for name, value in _others(rehearsed)},
        with_token=credentials.token is not None,
        signer=Signer(
            Scope(region=signature[1], service=signature[2]),
            {name: value for name, value in fixed.items() if name not in _EACH_ITS_OWN},
        ),
    )
    return parts if parts.reproduce(rehearsed, credentials) else None


async def read_as_client(response: AioAWSResponse, model: OperationModel) -> Mapping[str, Any]:
    """Read an answer as the client does. Raises ClientError, with the members of the error's own shape."""
    parser = create_parser(model.service_model.resolved_protocol)
    answer = {
        "headers": response.headers,
        "status_code": response.status_code,
        "body": await response.content,
        "context": {"operation_name": model.name},
    }
    parsed: dict[str, Any] = parser.parse(answer, model.output_shape)
    if response.status_code < 300:
        return parsed
    code = parsed.get("Error", {}).get("Code")
    shape = model.service_model.shape_for_error_code(code) if code is not None else None
    if shape is not None:
        parsed.update(parser.parse(answer, shape))
    raise ClientError(parsed, model.name)


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
