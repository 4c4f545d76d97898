"""The HTTP session under the AWS client: aiobotocore's, without redirects, and able to show a request unsent.

Proxies, certificates, time-outs and the exceptions of the wire are aiobotocore's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore.awsrequest import AWSPreparedRequest


class RehearsedError(Exception):
    """The request was seen, not sent."""


class Transport(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
    """One client's HTTP session. `rehearsing` keeps what would have been sent."""

    def __init__(self, *args: Any, **how: Any) -> None:  # noqa: ANN401 (aiobotocore's own arguments)
        super().__init__(*args, **how)
        self._rehearsed: list[AWSPreparedRequest] | None = None

    @contextmanager
    def rehearsing(self) -> Iterator[list[AWSPreparedRequest]]:
        """Send nothing meanwhile: each request is put into the list, and the caller gets a RehearsedError."""
        self._rehearsed = []
        try:
            yield self._rehearsed
        finally:
            self._rehearsed = None

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        """Make one HTTP request. Raises botocore's exceptions."""
        if self._rehearsed is not None:
            self._rehearsed.append(request)
            raise RehearsedError
        return await super().send(request)

    async def _get_session(self, proxy_url: str | None) -> Any:  # noqa: ANN401 (stands for a ClientSession)
        return _Straight(await super()._get_session(proxy_url))


class _Straight:
    """aiohttp follows a redirect by sending the request again, the job with it; here a redirect is an answer."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def request(self, method: str, **how: Any) -> Any:  # noqa: ANN401 (aiohttp's own arguments)
        return self._session.request(method, allow_redirects=False, **how)


def transport_class(opened: list[Transport]) -> type[Transport]:
    """Make the class that a client's configuration takes; what the client makes of it is put into the list."""

    class OpenedTransport(Transport):
        def __init__(self, *args: Any, **how: Any) -> None:  # noqa: ANN401
            super().__init__(*args, **how)
            opened.append(self)

    return OpenedTransport
