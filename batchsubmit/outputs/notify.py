"""Sends a notice to SNS topics and webhooks. Nothing is raised: what could not be told is returned as a sentence.

A notice is worth one more try and a bounded time, and never the run.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError, NoCredentialsError

from batchsubmit.aws import USER_AGENT, open_client
from batchsubmit.handover.notices import SIGNATURE_HEADER, Target, Topic, Webhook, signature, subject

_TRIES = 2
_BETWEEN_TRIES_SECONDS = 1.0
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


class _TryAgainError(Exception):
    """The other side may take it the next time."""


class _RefusedError(Exception):
    """The other side will not take it."""


async def notify(
    targets: Sequence[Target], body: dict[str, Any], *, secret: str | None, timeout_seconds: float
) -> list[str]:
    """Tell all targets at once; give a sentence for each that could not be told."""
    telling = (_tell(target, body, secret, timeout_seconds) for target in targets)
    return [problem for problem in await asyncio.gather(*telling) if problem]


async def _tell(target: Target, body: dict[str, Any], secret: str | None, timeout_seconds: float) -> str:
    why = ""
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(_BETWEEN_TRIES_SECONDS)
        try:
            async with asyncio.timeout(timeout_seconds):
                if isinstance(target, Topic):
                    await _publish(target, body)
                else:
                    await _post(target, body, secret)
        except _RefusedError as exc:
            why = str(exc)
            break
        except TimeoutError:
            why = f"no answer within {timeout_seconds:g} seconds"
        except Exception as exc:  # noqa: BLE001 (whatever it is, a notice is not worth the run)
            why = _without_url(exc, target)
        else:
            return ""
    return f"{target} could not be notified: {why}"


async def _post(webhook: Webhook, body: dict[str, Any], secret: str | None) -> None:
    import aiohttp  # noqa: PLC0415 (only runs that notify pay for it)

    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    if secret:
        headers[SIGNATURE_HEADER] = signature(data, secret, int(time.time()))
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.post(webhook.url, data=data, headers=headers, allow_redirects=False) as answer,
    ):
        if answer.status in _WORTH_ANOTHER_TRY:
            raise _TryAgainError(f"it answered {answer.status}")
        if not 200 <= answer.status < 300:
            raise _RefusedError(f"it answered {answer.status}")


async def _publish(topic: Topic, body: dict[str, Any]) -> None:
    try:
        async with open_client("sns", region=topic.region) as client:
            await client.publish(
                TopicArn=topic.arn,
                Subject=subject(body),
                Message=json.dumps(body, ensure_ascii=False),
                MessageAttributes={
                    "exit_status": {"DataType": "Number", "StringValue": str(body["exit_status"])},
                },
            )
    except ClientError as exc:
        error, status = exc.response.get("Error", {}), exc.response["ResponseMetadata"]["HTTPStatusCode"]
        words = f"{error.get('Code')}: {error.get('Message')}"
        if error.get("Code") in {"AuthorizationError", "AuthorizationErrorException", "AccessDenied"}:
            words += "; allow sns:Publish on it"
        raise (_TryAgainError if status in _WORTH_ANOTHER_TRY else _RefusedError)(words) from exc
    except NoCredentialsError as exc:
        raise _RefusedError("there are no AWS credentials") from exc


def _without_url(exc: Exception, target: Target) -> str:
    """An error's words, in which libraries like to quote the URL."""
    words = f"{exc}" or type(exc).__name__
    return words.replace(target.url, str(target)) if isinstance(target, Webhook) else words
