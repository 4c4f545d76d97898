"""AWS clients, all opened and configured here: region, time-outs, attempts, and codes that mean the same everywhere.

botocore's own retries are off unless a caller asks for them: a Start has no client token, so each repeat may start
another paid job, and the others have retries of their own. What a service's answer means is its adapter's business.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from batchsubmit import __version__
from batchsubmit.config import checked_text
from batchsubmit.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

    from batchsubmit.config import AwsSettings

USER_AGENT = f"batchsubmit/{__version__}"
"""Fixed: building botocore's anew costs a sixth of a call."""

THROTTLING_CODES = frozenset(
    {
        # botocore's own list (botocore.retries.standard), and the spelling that other AWS services use.
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.NoAuthTokenError,
    aws.InvalidConfigError,
    aws.MetadataRetrievalError,
    aws.LoginError,
)
"""What botocore raises where it finds no credentials, or cannot refresh them."""

_NAMING_VARIABLES = {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"}
_MISCONFIGURED = (
    aws.ProfileNotFound,
    aws.ConfigParseError,
    aws.InvalidRegionError,
    aws.NoRegionError,
    ValueError,  # botocore's word for an endpoint that is no URL
)


def resolve_region(settings: "AwsSettings") -> str | None:
    """Find the region: our setting, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile. Raises UsageError."""
    strip_environment()
    named = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or _region_of_profile()


def strip_environment() -> None:
    """Leave out white space, such as a CR, around what AWS variables name: botocore would take it as part of it.

    Raises UsageError for a control character inside.
    """
    for name, value in list(os.environ.items()):
        if name in _NAMING_VARIABLES or name.startswith("AWS_ENDPOINT_URL"):
            os.environ[name] = checked_text(value, name)


def _region_of_profile() -> str | None:
    from botocore.session import Session  # noqa: PLC0415 (a tenth of a second that few need)

    try:
        region = Session().get_config_variable("region")
    except aws.BotoCoreError as exc:
        raise UsageError(f"the AWS configuration cannot be read: {exc}") from exc
    return str(region) if region else None


@asynccontextmanager
async def open_client(
    service: str,
    *,
    region: str | None,
    timeouts: tuple[float, float] = (10.0, 60.0),
    attempts: int = 1,
    connections: int = 10,
    session: "AioSession | None" = None,
    endpoint_url: str | None = None,
) -> AsyncIterator[Any]:
    """Open a client of a service; each call is one request, but where `attempts` (in all) allow more.

    `timeouts` are seconds to connect, and seconds without an answer.

    Raises UsageError where the AWS configuration is wrong, StoppedError where credentials cannot be read.
    """
    from aiobotocore.config import AioConfig  # noqa: PLC0415 (a quarter of a second that `validate` need not pay)
    from aiobotocore.session import get_session  # noqa: PLC0415

    strip_environment()
    config = AioConfig(
        retries={"total_max_attempts": attempts, "mode": "standard"},
        connect_timeout=timeouts[0],
        read_timeout=timeouts[1],
        max_pool_connections=connections,
        # Requests are checked against the same model before; twice costs, and finds nothing more.
        parameter_validation=False,
        user_agent=USER_AGENT,
        http_session_cls=_session_without_redirects(),
    )
    creating = (session or get_session()).create_client(
        service, region_name=region, config=config, endpoint_url=endpoint_url
    )
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(creating)
        except NO_CREDENTIALS as exc:
            raise StoppedError(f"no AWS credentials: {exc}; nothing was sent") from exc
        except _MISCONFIGURED as exc:
            raise UsageError(f"the AWS configuration is wrong: {exc}") from exc
        yield client


def _session_without_redirects() -> type[Any]:
    """Make a session for which a redirect is an answer: aiohttp follows one by sending the request, a job, again."""
    from aiobotocore.httpsession import AIOHTTPSession  # noqa: PLC0415

    class WithoutRedirects(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
        async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
            session = await super()._get_session(proxy_url)
            return SimpleNamespace(request=partial(session.request, allow_redirects=False))

    return WithoutRedirects
