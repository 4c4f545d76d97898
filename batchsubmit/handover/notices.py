"""What is told to whom when a run has ended: targets, the JSON body, and the signature of a webhook. Pure.

A body has counts and sentences; no name, request or environment value of a job is in it.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from batchsubmit.errors import UsageError

SIGNATURE_HEADER = "Batchsubmit-Signature"
FORMAT_VERSION = 1
_TOPIC = re.compile(r"sns:(arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[\w.-]+)", re.ASCII)
_SUBJECT_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Topic:
    """An SNS topic."""

    arn: str
    region: str

    def __str__(self) -> str:
        return self.arn


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that takes a POST. Its path may be a secret (many services authenticate by it) and is not shown."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}/…"


Target = Topic | Webhook


def read_target(text: str) -> Target:
    """Read `sns:ARN` or an https URL (http on this machine only). Raises UsageError."""
    if match := _TOPIC.fullmatch(text):
        return Topic(arn=match[1], region=match[2])
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if host and (parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))):
        return Webhook(text)
    shown = text if text.startswith("sns:") else text.split("/", 3)[:3][-1]  # a URL's path may be a secret
    raise UsageError(f"--notify {shown}: write sns:arn:aws:sns:REGION:ACCOUNT:TOPIC or an https:// URL")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def notice(  # noqa: PLR0913 (the members of one flat object)
    *,
    at: str,
    exit_status: int,
    headline: str,
    batch: str,
    manifest: str,
    ledger: str = "",
    run: str = "",
    reason: str = "",
    counts: dict[str, int] | None = None,
    expected_finish: Mapping[str, float | str] | None = None,
    report: str = "",
    uploaded: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """The body, the same members each time; `run` is empty where no run came about (an overlapping start, say)."""
    return {
        "format": FORMAT_VERSION,
        "at": at,
        "run": run,
        "batch": batch,
        "exit_status": exit_status,
        "headline": headline,
        "reason": reason,
        "counts": counts or {},
        "expected_finish": expected_finish,
        "manifest": manifest,
        "ledger": ledger,
        "report": report,
        "uploaded": list(uploaded),
        "problems": list(problems),
    }


def subject(body: dict[str, Any]) -> str:
    """A line for an e-mail's subject, as SNS takes it: ASCII, no control characters, at most 100 of them."""
    text = f"batchsubmit {body['batch'] or body['manifest']}: {body['headline']}"
    plain = "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
    return plain if len(plain) <= _SUBJECT_LENGTH else plain[: _SUBJECT_LENGTH - 3] + "..."


def signature(body: bytes, secret: str, at: int) -> str:
    """The header's value: `t=<Unix seconds>,v1=<hex HMAC-SHA-256 of "<t>.<body>">`."""
    digest = hmac.new(secret.encode(), b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
