"""The real side of `JobsApi`: an aiobotocore client, and the boundary at which botocore's exceptions end.

botocore's own retries are off, because the API has no client token and each repeat may start another paid job.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ssl import SSLError
from typing import Any, TypeVar

import aiohttp
from aiobotocore.session import AioSession
from botocore import exceptions as aws

from batchsubmit.aws import (
    NO_CREDENTIALS,
    THROTTLING_CODES,
    Timeouts,
    clock_words,
    credential_words,
    open_client,
    watch_departure,
)
from batchsubmit.cleanrooms import responses
from batchsubmit.cleanrooms.api import Input, JobDetails, JobPage, Resource
from batchsubmit.config import Settings
from batchsubmit.core.jobs import KEY_TAG, Accepted, Forbidden, Job, NotSent, Result, Uncertain

_Answer = TypeVar("_Answer")

_NOT_SENT = (aws.ConnectTimeoutError, aws.ProxyConnectionError, aws.SSLError)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRooms:
    """`JobsApi` on the real service, or on whatever the endpoint names.

    A call is given up after `call_seconds`, whatever it waits for: name server, fresh credentials, an answer that
    trickles. On a shared ledger others may have the job by then.
    """

    client: Any  # aiobotocore makes clients at run time
    tag_jobs: bool
    call_seconds: float

    @property
    def endpoint_url(self) -> str:
        """Where the calls go."""
        return str(self.client.meta.endpoint_url)

    async def start(self, job: Job) -> Result:
        """Make one call and say what it brought."""
        request = dict(job.request)
        if self.tag_jobs:
            request["tags"] = {**request.get("tags", {}), KEY_TAG: job.tag}
        return await self._call(
            self.client.start_trained_model_inference_job, request, partial(responses.read_start, job)
        )

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Result:
        """Read one page of a membership's jobs, or what came instead."""
        request = {
            "membershipIdentifier": membership,
            "maxResults": 100,
            "trainedModelArn": trained_model,
            "nextToken": token,
        }
        return await self._call(self.client.list_trained_model_inference_jobs, request, responses.read_page)

    async def get(self, membership: str, arn: str) -> JobDetails | Result:
        """Read all about one job, or what came instead."""
        request = {"membershipIdentifier": membership, "trainedModelInferenceJobArn": arn}
        return await self._call(self.client.get_trained_model_inference_job, request, responses.read_details)

    async def cancel(self, membership: str, arn: str) -> Result:
        """Ask for one job's end."""
        request = {"membershipIdentifier": membership, "trainedModelInferenceJobArn": arn}
        return await self._call(self.client.cancel_trained_model_inference_job, request, lambda _: Accepted(arn))

    async def input(self, wanted: Input) -> Resource | Result:
        """Read a trained model or an ML input channel, or what came instead."""
        request = {"membershipIdentifier": wanted.membership, "versionIdentifier": wanted.version or None}
        if wanted.kind == "channel":
            operation, member = self.client.get_ml_input_channel, "mlInputChannelArn"
        else:
            operation, member = self.client.get_trained_model, "trainedModelArn"
        return await self._call(
            operation, {**request, member: wanted.arn}, partial(responses.read_resource, wanted.arn)
        )

    async def _call(
        self, operation: Callable[..., Awaitable[Any]], request: Mapping[str, Any], read: Callable[[Any], _Answer]
    ) -> _Answer | Result:
        """Make one call, within its time, and read its answer; trouble of any kind is an outcome."""
        given = {name: value for name, value in request.items() if value is not None}
        limit = asyncio.timeout(self.call_seconds)
        has_left = watch_departure()
        try:
            async with limit:
                answer = await operation(**given)
            return read(answer)
        except Exception as exc:  # noqa: BLE001 (whatever it is, a call that left may have been accepted)
            late = TimeoutError(f"the call was given up after {self.call_seconds:g} s")
            return outcome_of(late if limit.expired() else exc, has_left=has_left.is_set())


def outcome_of(exc: Exception, *, has_left: bool) -> Result:
    """Say what a failed call means; where a byte of it left, anything that is not certain is `Uncertain`."""
    if isinstance(exc, aws.ClientError) and has_left:
        return _read_error(exc)
    if isinstance(exc, _NOT_SENT) or _never_connected(exc):
        return NotSent(_name(exc), str(exc))
    if isinstance(exc, NO_CREDENTIALS):
        return Forbidden(_name(exc), credential_words(exc))
    if has_left:
        return Uncertain(f"{_name(exc)}: {exc}")
    return NotSent(_name(exc), str(exc)) if _may_pass(exc) else Forbidden(_name(exc), credential_words(exc))


def _may_pass(exc: Exception) -> bool:
    """Whether what kept a call from leaving is the network, or a service that gives credentials, and no setting."""
    if isinstance(exc, aws.ClientError):
        error, about = exc.response.get("Error", {}), exc.response.get("ResponseMetadata", {})
        return error.get("Code") in THROTTLING_CODES or int(about.get("HTTPStatusCode", 0)) >= 500
    if isinstance(exc, aws.HTTPClientError):
        return not isinstance(exc.kwargs.get("error"), ValueError | FileNotFoundError | PermissionError | SSLError)
    return isinstance(exc, TimeoutError)


def _never_connected(exc: Exception) -> bool:
    """Tell a connection that never came about from one that broke: aiobotocore gives both one name."""
    error = exc.kwargs.get("error") if isinstance(exc, aws.EndpointConnectionError) else None
    has_broken = isinstance(error, aiohttp.ClientError | ConnectionError)
    return isinstance(error, aiohttp.ClientConnectorError) or (isinstance(error, OSError) and not has_broken)


def _read_error(exc: aws.ClientError) -> Result:
    error, about = exc.response.get("Error", {}), exc.response.get("ResponseMetadata", {})
    return responses.read_refusal(
        int(about.get("HTTPStatusCode", 0)),
        str(error.get("Code", "")),
        ": ".join(filter(None, (clock_words(exc.response), str(error.get("Message", ""))))),
        exc.response,
        retry_after_seconds=responses.read_retry_after(about.get("HTTPHeaders", {}), datetime.now(UTC)),
    )


def _name(exc: Exception) -> str:
    return type(exc).__name__.removesuffix("Error")


@asynccontextmanager
async def open_cleanrooms(
    settings: Settings, *, region: str, sandbox_url: str | None = None
) -> AsyncIterator[CleanRooms]:
    """Open a client on the configured endpoint, or on the sandbox at `sandbox_url` with nothing of the user's own.

    Raises UsageError where the AWS configuration is wrong, StoppedError where no credentials are found.
    """
    session = _sandbox_session() if sandbox_url else AioSession()
    async with open_client(
        "cleanroomsml",
        region=region,
        timeouts=Timeouts.of(settings.aws),
        connections=settings.submit.concurrency,
        session=session,
        endpoint_url=sandbox_url,
    ) as client:
        yield CleanRooms(client=client, tag_jobs=settings.submit.tag_jobs, call_seconds=settings.aws.call_seconds)


def _sandbox_session() -> AioSession:
    """A session that sees no profile, file or endpoint of the user's: a rehearsal must not reach the real thing."""
    nowhere: Mapping[str, Any] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "ca_bundle": (None, None, None, None),
        "ignore_configured_endpoint_urls": (None, None, True, None),
    }
    session = AioSession(session_vars=dict(nowhere))
    session.set_credentials("sandbox", "sandbox")
    return session
