"""What SQS's refusals mean for a worker: try again later, or end, with a sentence that says why and what to do."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from botocore import exceptions as aws

from batchsubmit.aws import NO_CREDENTIALS, THROTTLING_CODES
from batchsubmit.errors import StoppedError


class QueueError(StoppedError):
    """The queue cannot be used; nothing is lost, what was received is delivered again."""


class QueueGoneError(QueueError):
    """There is no such queue, or no longer."""


class QueueDeniedError(QueueError):
    """The role may not do this."""


class QueueBusyError(Exception):
    """Not now: throttled, out of reach, or its own trouble. `is_throttling` where we call too often."""

    def __init__(self, message: str, *, is_throttling: bool = False) -> None:
        super().__init__(message)
        self.is_throttling = is_throttling


_GONE = {"NonExistentQueue", "QueueDoesNotExist", "QueueDeletedRecently"}
_BUSY = {
    "OverLimit",
    "KmsThrottled",
    "KMS.ThrottlingException",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "KmsAccessDenied", "KMS.AccessDeniedException", "OptInRequired"}
_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
_SIGNATURE = {"RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"}
_SKEW_WORDS = ("expired", "not yet current", "skew")


def explain(exc: Exception, operation: str, url: str) -> Exception:
    """Say what a failed call means; what is not known to be final is tried again."""
    match exc:
        case aws.ClientError():
            return _explain_refusal(exc, operation, url)
        case _ if isinstance(exc, NO_CREDENTIALS):
            return QueueError(f"no AWS credentials for the queue {url}: {exc}")
        case aws.BotoCoreError() | aiohttp.ClientError() | TimeoutError() | OSError():
            return QueueBusyError(f"{operation} on {url}: {type(exc).__name__}: {exc}")
    return exc


def _explain_refusal(exc: aws.ClientError, operation: str, url: str) -> Exception:
    error = exc.response.get("Error", {})
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    word = code.removeprefix("AWS.SimpleQueueService.")
    if word in _GONE:
        return QueueGoneError(
            f"the queue {url} does not exist; was it deleted, or is the region or account another one?"
        )
    if word in THROTTLING_CODES or word in _BUSY or status == 429 or status >= 500:
        is_throttling = word in THROTTLING_CODES or status == 429
        return QueueBusyError(f"{operation} on {url}: {code}: {message}", is_throttling=is_throttling)
    if word in _SIGNATURE and any(each in message.lower() for each in _SKEW_WORDS):
        return QueueError(f"{_clock_words(exc.response)}: {operation} on {url} was refused with {code}: {message}")
    if word in _DENIED:
        return QueueDeniedError(f"the role may not call sqs:{operation} on {url}: {message}")
    if word in _CREDENTIALS or word in _SIGNATURE:
        return QueueError(f"the AWS credentials are refused by {url}: {code}: {message}")
    return QueueError(f"{operation} on {url} was refused with {code}: {message}")


def _clock_words(response: dict[str, Any]) -> str:
    """Say how far off our clock is, by the time in SQS's answer."""
    told = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        ahead = (datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds()
    except (TypeError, ValueError):
        return "this machine's clock is wrong by more than AWS accepts; set it"
    return f"this machine's clock is {abs(ahead):,.0f} seconds {'ahead' if ahead > 0 else 'behind'}; set it"
