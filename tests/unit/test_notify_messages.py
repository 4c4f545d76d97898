"""Who is told, what, and how a receiver can prove where it came from."""

import hashlib
import hmac
import json
import re
from typing import Any

import pytest
from book import PAGES

from batchsubmit.errors import UsageError
from batchsubmit.outputs.notify import Target, notice, read_target, signature, subject

NIGHTLY = PAGES["nightly"]
ARN = "arn:aws:sns:eu-central-1:123456789012:nights"
BODY = notice(at="2026-11-24T05:00:00.000000Z", exit_status=0, headline="300 of 300", batch="n", manifest="jobs.csv")


def test_a_target_is_a_topic_or_an_https_url() -> None:
    """The topic's region is in its ARN; plain http is for this machine only."""
    assert read_target(f"sns:{ARN}") == Target(ARN, "sns")
    assert read_target("sns:arn:aws-cn:sns:cn-north-1:123456789012:a.fifo") == Target(
        "arn:aws-cn:sns:cn-north-1:123456789012:a.fifo", "sns"
    )
    for url in ("https://hooks.example.com/x?y=1", "http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x"):
        assert read_target(url) == Target(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ARN,
        "sns:nights",
        "sns:arn:aws:sqs:eu-central-1:123456789012:q",
        "http://example.com/secret",
        "http://127.0.0.1.example.com/secret",
        "https://",
        "https://[::1/secret",
        "https://example.com:99999/secret",
        "ftp://example.com/secret",
        "mailto:a@example.com",
    ],
)
def test_anything_else_is_a_usage_error_that_repeats_no_secret(text: str) -> None:
    """Before anything is sent; a URL's path may be what it is protected by."""
    with pytest.raises(UsageError, match="https://") as caught:
        read_target(text)
    assert "secret" not in str(caught.value)


def test_a_webhook_is_named_without_its_path() -> None:
    """In messages and logs."""
    assert str(Target("https://user:pw@hooks.example.com/services/T0/secret")) == "https://hooks.example.com/…"


def test_a_signature_proves_body_and_time() -> None:
    """As the page tells receivers to check it."""
    body = json.dumps(BODY).encode()
    header = signature(body, "0123456789abcdef", 1_795_000_000)
    fields = dict(part.split("=", 1) for part in header.split(","))
    expected = hmac.new(b"0123456789abcdef", fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert header == f"t=1795000000,v1={expected}"
    assert signature(body + b" ", "0123456789abcdef", 1_795_000_000) != header
    assert signature(body, "0123456789abcdef", 1_795_000_001) != header


def test_the_readme_s_receiver_takes_what_is_genuine_and_nothing_else() -> None:
    """The code that people will copy, run."""
    [source] = re.findall(r"```python\n(def is_genuine.*?)```", NIGHTLY, re.DOTALL)
    names: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib}
    exec(source, names)  # noqa: S102 (our own page)
    header = signature(b"{}", "0123456789abcdef", 1000)
    is_genuine = names["is_genuine"]
    assert is_genuine(header, b"{}", "0123456789abcdef", 1010)
    assert not is_genuine(header, b"{ }", "0123456789abcdef", 1010)
    assert not is_genuine(header, b"{}", "another", 1010)
    assert not is_genuine(header, b"{}", "0123456789abcdef", 2000)


def test_the_readme_lists_the_members_of_a_notice() -> None:
    """All of them, in their order."""
    listed = NIGHTLY.split("The JSON has", 1)[1].split("No job's name", 1)[0]
    assert re.findall(r"`(\w+)`", listed) == list(BODY)


def test_a_body_has_the_same_members_whatever_happened() -> None:
    """A receiver need not ask which there are; the page lists them."""
    assert list(BODY) == [
        "format",
        "at",
        "run",
        "batch",
        "exit_status",
        "headline",
        "reason",
        "reasons",
        "counts",
        "expected_finish",
        "manifest",
        "ledger",
        "report",
        "link",
        "uploaded",
        "problems",
    ]


def test_a_subject_is_what_sns_takes() -> None:
    """ASCII, one line, at most a hundred characters."""
    assert subject(BODY) == "batchsubmit n: 300 of 300"
    assert subject({**BODY, "batch": "", "headline": "a\nü"}) == "batchsubmit jobs.csv: a??"
    long = subject({**BODY, "batch": "x" * 200})
    assert len(long) == 100
    assert long.endswith("...")
