"""AWS clients, all opened and configured here: region, time-outs, attempts, and codes that mean the same everywhere.

botocore's own retries are off unless a caller asks for them: a Start has no client token, so each repeat may start
another paid job, and the others have retries of their own. What a service's answer means is its adapter's business.
"""

import asyncio
import getpass
import json
import os
import re
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from botocore import exceptions as aws

from batchsubmit import __version__
from batchsubmit.config import checked_text
from batchsubmit.errors import StoppedError, UsageError

if TYPE_CHECKING:
    import aiohttp
    from aiobotocore.session import AioSession

    from batchsubmit.config import AwsSettings

USER_AGENT = f"batchsubmit/{__version__}"
"""Fixed: building botocore's for each call costs a sixth of the call."""

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

_MOST_CREDENTIALS_SECONDS = 120.0
"""A credential program may ask a person; one that hangs must not hang us."""

_MOST_ANSWER_BYTES = 32 * 1024 * 1024
"""No answer that is read as a whole is nearly as long; S3 objects are read in chunks."""


class Timeouts(NamedTuple):
    """How long a client waits, in seconds: for a connection, for the next byte of an answer, for a whole answer."""

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    total_seconds: float = 120.0

    @classmethod
    def of(cls, settings: "AwsSettings") -> "Timeouts":
        """Those that the user set; the whole answer may take as long as two waits for a byte."""
        connect, read = settings.connect_timeout_seconds, settings.read_timeout_seconds
        return cls(connect, read, max(_TIMEOUTS.total_seconds, 2 * read))


_TIMEOUTS = Timeouts()
COPY_TIMEOUTS = Timeouts(total_seconds=3600.0)
"""For an object to or from S3, of any size: no copy that trickles keeps a run for longer."""

_CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_SIGNATURE_CODES = frozenset({"InvalidSignature", "RequestExpired", "SignatureDoesNotMatch"})
_SKEW_WORDS = ("expired", "not yet current", "skew")
_TOLERATED_SKEW_SECONDS = 240.0
"""AWS tolerates 5 minutes."""

CLOCK = "this machine's clock is"


def error_code(exc: Exception) -> str:
    """AWS's code for an error; empty for one that did not come from there."""
    response = getattr(exc, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def clock_words(response: Mapping[str, Any]) -> str:
    """Say how far off our clock is, where a refusal is about that, by the time in the answer; else empty."""
    error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, message = str(error.get("Code", "")).removesuffix("Exception"), str(error.get("Message", "")).lower()
    try:
        date = parsedate_to_datetime(about.get("HTTPHeaders", {}).get("date", ""))
        ahead = (datetime.now(UTC) - date).total_seconds()
    except (TypeError, ValueError):
        ahead = 0.0
    is_said = code in _CLOCK_CODES or (code in _SIGNATURE_CODES and any(each in message for each in _SKEW_WORDS))
    if not is_said and (code not in _SIGNATURE_CODES or abs(ahead) < _TOLERATED_SKEW_SECONDS):
        return ""
    if not ahead:
        return f"{CLOCK} wrong by more than AWS accepts; set it"
    return f"{CLOCK} {abs(ahead):,.0f} seconds {'ahead' if ahead > 0 else 'behind'}; set it"


def credential_words(exc: Exception) -> str:
    """Say why there are no credentials, and how to get some."""
    if isinstance(exc, aws.SSOError | aws.TokenRetrievalError | aws.NoAuthTokenError):
        profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        return f"{exc}. Log in with: aws sso login{f' --profile {profile}' if profile else ''}"
    if isinstance(exc, EOFError | getpass.GetPassWarning):
        return "a role asks for an MFA code, and there is no terminal to type it at: get a session first, then run this"
    if isinstance(exc, TimeoutError):
        return (
            f"nothing came within {_MOST_CREDENTIALS_SECONDS:.0f} s: look at credential_process, or the role's service"
        )
    if isinstance(exc, json.JSONDecodeError):
        return "what credential_process printed is not JSON; run the program by hand to see it"
    return f"{_plain(exc)}. Look at AWS_PROFILE, AWS_ACCESS_KEY_ID or the role, or at ~/.aws/config"


def _plain(exc: Exception) -> str:
    """Say an exception without Python's forms; a value that comes from an AWS_* variable brings its name."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    words = f"{exc}".rstrip(".: ") or type(exc).__name__
    for name, value in sorted(os.environ.items()):
        is_public = name.startswith("AWS_") and not re.search("SECRET|TOKEN$|KEY", name)
        if is_public and len(value) > 1 and value in words:
            return f"{name}={value}: {words.removeprefix(f'{value}: ')}"
    return words


_NAMING_VARIABLES = {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"}


def resolve_region(settings: "AwsSettings") -> str | None:
    """Find the region: our setting, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile. Raises UsageError."""
    strip_environment()
    named = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    from botocore.session import Session  # noqa: PLC0415 (a tenth of a second that few need)

    try:
        return Session().get_config_variable("region") or None
    except Exception as exc:  # (whatever it is, it is in the user's files or variables)
        raise UsageError(f"the AWS configuration cannot be read: {_plain(exc)}") from exc


def strip_environment() -> None:
    """Leave out white space, such as a CR, around what AWS variables name: botocore would take it as part of it.

    Raises UsageError for a control character inside.
    """
    for name, value in list(os.environ.items()):
        if name in _NAMING_VARIABLES or name.startswith("AWS_ENDPOINT_URL"):
            os.environ[name] = checked_text(value, name)


_departure: ContextVar[asyncio.Event | None] = ContextVar("departure", default=None)


def watch_departure() -> asyncio.Event:
    """Tell whether a byte of this task's next call has left: what fails before that is certainly not accepted."""
    has_left = asyncio.Event()
    _departure.set(has_left)
    return has_left


@asynccontextmanager
async def open_client(
    service: str,
    *,
    region: str | None,
    timeouts: Timeouts = _TIMEOUTS,
    attempts: int = 1,
    connections: int = 10,
    session: "AioSession | None" = None,
    endpoint_url: str | None = None,
) -> AsyncIterator[Any]:
    """Open a client of a service; each call is one request, but where `attempts` (in all) allow more.

    What would fail each call fails here, before any.

    Raises UsageError where the AWS configuration is wrong, StoppedError where credentials cannot be read, or no
    connection could be made with the proxy or the CA bundle.
    """
    from aiobotocore.config import AioConfig  # noqa: PLC0415 (a quarter of a second that `validate` need not pay)
    from aiobotocore.session import get_session  # noqa: PLC0415

    strip_environment()
    session = session or get_session()
    config = AioConfig(
        retries={"total_max_attempts": attempts, "mode": "standard"},
        max_pool_connections=connections,
        # Requests are checked against the same model before; twice costs, and finds nothing more.
        parameter_validation=False,
        user_agent=USER_AGENT,
        http_session_cls=_session_class(timeouts),
        proxies={} if endpoint_url else None,  # an address that we chose is on this machine
    )
    async with AsyncExitStack() as stack:
        await _check_credentials(session)
        try:
            creating = session.create_client(service, region_name=region, config=config, endpoint_url=endpoint_url)
            client = await stack.enter_async_context(creating)
            _check_url(client.meta.endpoint_url)
        except NO_CREDENTIALS as exc:
            raise StoppedError(f"no AWS credentials: {credential_words(exc)}; nothing was sent") from exc
        except Exception as exc:  # (only botocore ran, on the user's files and variables)
            raise UsageError(f"the AWS configuration is wrong: {_plain(exc)}; nothing was sent") from exc
        await _check_connection(client)
        yield client


async def whose_account(region: str) -> str:
    """Say in a few words whose credentials are used where; the account is asked for at AWS's own endpoint alone.

    Raises UsageError, StoppedError, as a client does.
    """
    async with open_client("cleanroomsml", region=region) as client:
        endpoint = str(client.meta.endpoint_url)
    profile = os.environ.get("AWS_PROFILE")
    where = f"region {region}, " + (f"profile {profile}" if profile else "credentials of the environment or a role")
    if not (urlsplit(endpoint).hostname or "").endswith(_AWS_HOSTS):
        return f"{where}, endpoint {endpoint}, which is not AWS's"
    try:
        async with open_client("sts", region=region, timeouts=Timeouts(3.0, 3.0, 6.0)) as client:
            caller = await client.get_caller_identity()
    except Exception as exc:  # noqa: BLE001 (whatever it is, it is no reason not to ask)
        return f"account unknown ({credential_words(exc)}), {where}"
    return f"account {caller['Account']}, {where}, {caller['Arn']}"


_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


async def _check_credentials(session: "AioSession") -> None:
    """Resolve the credentials as a call would. Raises StoppedError, UsageError."""
    warnings.simplefilter("error", getpass.GetPassWarning)  # without a terminal nobody can type an MFA code
    try:
        async with asyncio.timeout(_MOST_CREDENTIALS_SECONDS):
            credentials = await session.get_credentials()
            found = await credentials.get_frozen_credentials() if credentials else None
    except Exception as exc:  # (a program, a file, a service of the user's)
        words, is_variable = _plain(exc), isinstance(exc, ValueError) and _plain(exc).startswith("AWS_")
        if is_variable or isinstance(exc, aws.ProfileNotFound | aws.ConfigParseError | UnicodeError):
            raise UsageError(f"the AWS configuration is wrong: {words}; nothing was sent") from exc
        raise StoppedError(f"no AWS credentials: {credential_words(exc)}; nothing was sent") from exc
    if found is None:
        raise StoppedError(
            "no AWS credentials found; nothing was sent. Set AWS_PROFILE, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a role, and run the same command again"
        )
    parts = {"access key id": found.access_key, "secret access key": found.secret_key, "session token": found.token}
    for name, value in parts.items():
        if value and not re.fullmatch(r"[!-~]+", value):
            raise StoppedError(
                f"the AWS {name} has white space or control characters (a line's end, perhaps), which no credential "
                "has; nothing was sent. Set it again without them"
            )


async def _check_connection(client: Any) -> None:  # noqa: ANN401 (aiobotocore makes clients at run time)
    """Build what each connection needs, with the proxy and the CA bundle. Raises StoppedError."""
    session = client._endpoint.http_session  # noqa: SLF001 (there is no other way to either)
    proxy = session._proxy_config.proxy_url_for(client.meta.endpoint_url)  # noqa: SLF001
    bundle = session._verify if isinstance(session._verify, str) else ""  # noqa: SLF001
    subject = f"the CA bundle {bundle} (AWS_CA_BUNDLE or ca_bundle)" if bundle else "the TLS certificates"
    try:
        if proxy:
            _check_url(proxy)
        await session._get_session(proxy)  # noqa: SLF001
    except Exception as exc:  # (only files and variables of the user's were read)
        if isinstance(exc, ValueError):
            subject = "the proxy (HTTPS_PROXY, HTTP_PROXY)"
        raise StoppedError(f"{subject} cannot be used: {_plain(exc)}; nothing was sent. Set it right") from exc


def _check_url(url: str) -> None:
    """Raise ValueError where no connection can be made to such an address."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and url.count("://") == 1 and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError(f"{url}: is no address; write http://HOST:PORT or https://HOST")


def _session_class(timeouts: Timeouts) -> type[Any]:
    """Make a session for which a redirect is an answer: aiohttp follows one by sending the request, a job, again.

    It also notes when a request leaves, and gives up an answer that is too long, in bytes or in seconds.
    """
    from aiobotocore.httpsession import AIOHTTPSession  # noqa: PLC0415
    from aiohttp import ClientPayloadError, ClientTimeout, TraceConfig  # noqa: PLC0415

    async def note_departure(*_: object) -> None:
        if has_left := _departure.get():
            has_left.set()

    tracing = TraceConfig()
    tracing.on_request_headers_sent.append(note_departure)
    tracing.freeze()
    connect, silent, total = timeouts
    limits = ClientTimeout(total, sock_connect=connect, sock_read=silent)

    async def read(response: "aiohttp.ClientResponse") -> bytes:
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MOST_ANSWER_BYTES:
                    raise ClientPayloadError(f"the answer is longer than {_MOST_ANSWER_BYTES:,} bytes")  # noqa: TRY301
        except BaseException:
            response.close()
            raise
        return bytes(body)

    class HttpSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
        async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
            session = await super()._get_session(proxy_url)
            if tracing not in session.trace_configs:
                session.trace_configs.append(tracing)

            async def request(*args: Any, **more: Any) -> Any:  # noqa: ANN401 (aiohttp's)
                response = await session.request(*args, **more | {"allow_redirects": False, "timeout": limits})
                response.read = lambda: read(response)
                return response

            return SimpleNamespace(request=request)

    return HttpSession
