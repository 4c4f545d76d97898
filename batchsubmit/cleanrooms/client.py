"""The real side of `JobsApi`: an aiobotocore client, and the boundary at which botocore's exceptions end.

botocore's own retries are off, because the API has no client token and each repeat may start another paid job.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiobotocore.session import AioSession
from botocore import exceptions as aws

from batchsubmit.aws import NO_CREDENTIALS, open_client
from batchsubmit.cleanrooms.api import JobDetails, JobPage, Resource
from batchsubmit.cleanrooms.responses import (
    read_details,
    read_page,
    read_refusal,
    read_resource,
    read_retry_after,
    read_start,
)
from batchsubmit.config import AwsSettings
from batchsubmit.core.jobs import KEY_TAG, Accepted, Forbidden, Job, NotSent, Outcome, Uncertain
from batchsubmit.errors import StoppedError

_NOT_SENT = (aws.ConnectTimeoutError, aws.ProxyConnectionError, aws.SSLError)


class CleanRooms:
    """`JobsApi` on the real service, or on whatever the endpoint names.

    A call that starts a job is given up after
    `call_seconds`, whatever it waits for: name server, fresh credentials, answer. On a shared ledger others may have
    the job by then.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401 (aiobotocore makes clients at run time)
        *,
        tag_jobs: bool,
        call_seconds: float | None = None,
    ) -> None:
        self._client = client
        self._call_seconds = call_seconds
        self._tag_jobs = tag_jobs

    async def start(self, job: Job) -> Outcome:
        """Make one call and say what it brought."""
        request = dict(job.request)
        if self._tag_jobs:
            request["tags"] = {**request.get("tags", {}), KEY_TAG: job.key}
        limit = asyncio.timeout(self._call_seconds)
        try:
            async with limit:
                answer = await self._client.start_trained_model_inference_job(**request)
        except TimeoutError as exc:
            return _too_long(self._call_seconds) if limit.expired() else outcome_of(exc)
        except Exception as exc:  # noqa: BLE001 (whatever it is, the call may have been accepted)
            return outcome_of(exc)
        return read_start(job, answer)

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Outcome:
        """Read one page of a membership's jobs, or what came instead."""
        request = {
            "membershipIdentifier": membership,
            "maxResults": 100,
            "trainedModelArn": trained_model,
            "nextToken": token,
        }
        try:
            answer = await self._client.list_trained_model_inference_jobs(
                **{name: value for name, value in request.items() if value is not None}
            )
            return read_page(answer)
        except Exception as exc:  # noqa: BLE001 (an unreadable page is trouble like any other)
            return outcome_of(exc)

    async def get(self, membership: str, arn: str) -> JobDetails | Outcome:
        """Read all about one job, or what came instead."""
        try:
            answer = await self._client.get_trained_model_inference_job(
                membershipIdentifier=membership, trainedModelInferenceJobArn=arn
            )
            return read_details(answer)
        except Exception as exc:  # noqa: BLE001 (an unreadable answer is trouble like any other)
            return outcome_of(exc)

    async def cancel(self, membership: str, arn: str) -> Outcome:
        """Ask for one job's end."""
        try:
            await self._client.cancel_trained_model_inference_job(
                membershipIdentifier=membership, trainedModelInferenceJobArn=arn
            )
        except Exception as exc:  # noqa: BLE001 (whatever it is, the job may be turned around)
            return outcome_of(exc)
        return Accepted(arn)

    async def model(self, membership: str, arn: str, version: str | None = None) -> Resource | Outcome:
        """Read a trained model, or what came instead."""
        of_version = {"versionIdentifier": version} if version else {}
        try:
            answer = await self._client.get_trained_model(
                membershipIdentifier=membership, trainedModelArn=arn, **of_version
            )
            return read_resource(arn, answer)
        except Exception as exc:  # noqa: BLE001 (an unreadable answer is trouble like any other)
            return outcome_of(exc)

    async def channel(self, membership: str, arn: str) -> Resource | Outcome:
        """Read an ML input channel, or what came instead."""
        try:
            answer = await self._client.get_ml_input_channel(membershipIdentifier=membership, mlInputChannelArn=arn)
            return read_resource(arn, answer)
        except Exception as exc:  # noqa: BLE001 (an unreadable answer is trouble like any other)
            return outcome_of(exc)


def _too_long(seconds: float | None) -> Outcome:
    return Uncertain(f"Timeout: the call was given up after {seconds:g} s")


def outcome_of(exc: Exception) -> Outcome:
    """Say what a failed call means; anything that is not certain is `Uncertain`."""
    match exc:
        case aws.ClientError():
            return _read_error(exc)
        case aws.EndpointConnectionError() if isinstance(
            exc.kwargs.get("error"), aiohttp.ClientConnectorError | OSError
        ) and not _was_connected(exc.kwargs["error"]):
            return NotSent(_name(exc), str(exc))
        case _ if isinstance(exc, _NOT_SENT):
            return NotSent(_name(exc), str(exc))
        case _ if isinstance(exc, NO_CREDENTIALS):
            return Forbidden(_name(exc), str(exc))
        case _:
            return Uncertain(f"{_name(exc)}: {exc}")


def _was_connected(error: BaseException) -> bool:
    """Tell a connection that broke from one that never came about: aiobotocore gives both one name."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return False
    return isinstance(error, aiohttp.ClientError | ConnectionError)


def _read_error(exc: aws.ClientError) -> Outcome:
    error = exc.response.get("Error", {})
    about = exc.response.get("ResponseMetadata", {})
    return read_refusal(
        int(about.get("HTTPStatusCode", 0)),
        str(error.get("Code", "")),
        str(error.get("Message", "")),
        exc.response,
        retry_after_seconds=read_retry_after(about.get("HTTPHeaders", {}), datetime.now(UTC)),
    )


def _name(exc: Exception) -> str:
    return type(exc).__name__.removesuffix("Error")


@asynccontextmanager
async def open_cleanrooms(
    settings: AwsSettings, *, region: str, concurrency: int, tag_jobs: bool, sandbox_url: str | None = None
) -> AsyncIterator[CleanRooms]:
    """Open a client on the configured endpoint, or on the sandbox at `sandbox_url` with nothing of the user's own.

    Raises UsageError where the AWS configuration is wrong, StoppedError where no credentials are found.
    """
    session = _sandbox_session() if sandbox_url else AioSession()
    async with open_client(
        "cleanroomsml",
        region=region,
        timeouts=(settings.connect_timeout_seconds, settings.read_timeout_seconds),
        connections=concurrency,
        session=session,
        endpoint_url=sandbox_url,
    ) as client:
        if await session.get_credentials() is None:  # found out before the first intent, not by it
            raise StoppedError(
                "no AWS credentials found; nothing was sent. Set AWS_PROFILE, AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or a role, and run the same command again"
            )
        yield CleanRooms(client, tag_jobs=tag_jobs, call_seconds=settings.call_seconds)


def _sandbox_session() -> AioSession:
    """A session that sees no profile, file or endpoint of the user's: a rehearsal must not reach the real thing."""
    nowhere: Mapping[str, Any] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "ignore_configured_endpoint_urls": (None, None, True, None),
    }
    session = AioSession(session_vars=dict(nowhere))
    session.set_credentials("sandbox", "sandbox")
    return session
