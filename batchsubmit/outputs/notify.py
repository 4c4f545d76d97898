"""Sends a notice to SNS topics and webhooks: with one more try, a bounded time, and a sentence instead of an error."""

import asyncio
import hashlib
import hmac
import html
import ipaddress
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from batchsubmit.aws import USER_AGENT, error_code, open_client
from batchsubmit.errors import UsageError
from batchsubmit.schema.arns import region_in

SIGNATURE_HEADER = "Batchsubmit-Signature"
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w.-]+", re.ASCII)
_SUBJECT_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Target:
    """An SNS topic's ARN (shape `sns`), or a URL that takes a POST: a notice, or words in the shape of slack or teams.

    A URL's path may be a secret (many services authenticate by it) and is not shown.
    """

    address: str
    shape: str = ""

    def __str__(self) -> str:
        parts = urlsplit(self.address)
        return self.address if self.shape == "sns" else f"{parts.scheme}://{parts.hostname}/…"


def read_target(text: str) -> Target:
    """Read `sns:ARN`, or a URL (https, or of this machine), maybe after `slack:` or `teams:`. Raises UsageError."""
    shape, _, address = text.partition(":")
    if shape not in _SHAPES:
        shape, address = "", text
    if _TOPIC.fullmatch(address) if shape == "sns" else _takes_posts(address):
        return Target(address, shape)
    shown = text if shape == "sns" else text.split("/", 3)[:3][-1]  # a URL's path may be a secret
    raise UsageError(
        f"--notify {shown}: write sns:arn:aws:sns:REGION:ACCOUNT:TOPIC, an https:// URL, slack:URL or teams:URL"
    )


def _takes_posts(url: str) -> bool:
    """Whether it is an https URL, or an http one of this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        is_here = parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False
    return is_here or bool(parts.scheme == "https" and host)


def notice(**given: Any) -> dict[str, Any]:  # noqa: ANN401 (its members)
    """The body, the same members each time; `run` is empty where no run began."""
    empty: dict[str, Any] = {
        "format": 1,
        **dict.fromkeys(("at", "run", "batch", "exit_status", "headline", "reason"), ""),
        "reasons": [],
        "counts": {},
        "expected_finish": None,
        **dict.fromkeys(("manifest", "ledger", "report", "link"), ""),
        "uploaded": [],
        "problems": [],
    }
    return empty | given


def subject(body: dict[str, Any]) -> str:
    """A line for an e-mail's subject, as SNS takes it: ASCII, no control characters, at most 100 of them."""
    text = f"batchsubmit {body['batch'] or body['manifest']}: {body['headline']}"
    plain = "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
    return plain if len(plain) <= _SUBJECT_LENGTH else plain[: _SUBJECT_LENGTH - 3] + "..."


def words(body: dict[str, Any]) -> str:
    """A notice as a person reads it in a chat."""
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in body["counts"].items() if count)
    link = f"report: {body['link']}" if body["link"] else ""
    lines = [f"batchsubmit {body['batch'] or body['manifest']}: {body['headline']}", body["reason"], counts]
    return "\n".join(filter(None, [*lines, *body["reasons"], *body["problems"], link]))


def _slack(body: dict[str, Any]) -> dict[str, Any]:
    """As an incoming webhook takes it, in which `&`, `<` and `>` are spelled out."""
    return {"text": html.escape(words(body), quote=False)}


def _teams(body: dict[str, Any]) -> dict[str, Any]:
    """As a Teams workflow takes it: an adaptive card."""
    blocks = [{"type": "TextBlock", "text": line, "wrap": True} for line in words(body).splitlines()]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": blocks}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


_SHAPES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"sns": dict, "slack": _slack, "teams": _teams}


def signature(body: bytes, secret: str, at: int) -> str:
    """The header's value: `t=<Unix seconds>,v1=<hex HMAC-SHA-256 of "<t>.<body>">`."""
    digest = hmac.new(secret.encode(), b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


_TRIES = 2
_BETWEEN_TRIES_SECONDS = 1.0
_NOT_ALLOWED = frozenset({"AuthorizationError", "AuthorizationErrorException", "AccessDenied"})
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


async def notify(
    targets: Sequence[Target], body: dict[str, Any], *, secret: str | None, timeout_seconds: float
) -> list[str]:
    """Notify all targets at once; give a sentence for each that could not be notified."""
    sending = (_notify(target, body, secret, timeout_seconds) for target in targets)
    return [problem for problem in await asyncio.gather(*sending) if problem]


async def _notify(target: Target, body: dict[str, Any], secret: str | None, timeout_seconds: float) -> str:
    why = ""
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(_BETWEEN_TRIES_SECONDS)
        try:
            async with asyncio.timeout(timeout_seconds):
                sending = _publish(target, body) if target.shape == "sns" else _post(target, body, secret)
                status, why = await sending
            if 200 <= status < 300:
                return ""
            if status not in _WORTH_ANOTHER_TRY:
                break
        except TimeoutError:
            why = f"no answer within {timeout_seconds:g} seconds"
        except Exception as exc:  # noqa: BLE001 (no error of a notice may fail the run)
            why = str(exc) or type(exc).__name__
            if error_code(exc) in _NOT_ALLOWED:
                why += "; allow sns:Publish on it"
    # Libraries like to quote the URL.
    return f"{target} could not be notified: {why.replace(target.address, str(target))}"


async def _post(target: Target, body: dict[str, Any], secret: str | None) -> tuple[int, str]:
    """Give the status, and what it says."""
    import aiohttp  # noqa: PLC0415 (only runs that notify pay for it)

    data = json.dumps(_SHAPES.get(target.shape, dict)(body)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    if secret:
        headers[SIGNATURE_HEADER] = signature(data, secret, int(time.time()))
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.post(target.address, data=data, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, f"it answered {answer.status}"


async def _publish(topic: Target, body: dict[str, Any]) -> tuple[int, str]:
    """Give the status, and what it says."""
    async with open_client("sns", region=region_in(topic.address)) as client:
        await client.publish(
            TopicArn=topic.address,
            Subject=subject(body),
            Message=json.dumps(body, ensure_ascii=False),
            MessageAttributes={"exit_status": {"DataType": "Number", "StringValue": str(body["exit_status"])}},
        )
    return 200, ""


def report_link(report: str, uploaded: list[str], region: str | None) -> str:
    """Where a browser finds the report: its copy in S3, by the console, else the file on this machine."""
    if not report:
        return ""
    name = Path(report).name
    for bucket, _, key in (url.removeprefix("s3://").partition("/") for url in uploaded):
        if key.rpartition("/")[2] == name:
            query = urlencode({"prefix": key} | ({"region": region} if region else {}))
            return f"https://console.aws.amazon.com/s3/object/{quote(bucket)}?{query}"
    return Path(report).absolute().as_uri()
