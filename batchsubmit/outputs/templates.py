"""Place-holders of a batch id, and of the defaults and paths named after it: `nightly-{date}`, `{batch}.html`. Pure.

A nightly run has one date: with `day_begins` at noon, what starts at 22:00 and again at 01:00 is one batch, whose
jobs have the same keys. Without that, a restart after midnight would be a new batch and send every job a second time.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from batchsubmit.config import SubmitSettings, checked_text
from batchsubmit.errors import UsageError
from batchsubmit.text import nearest

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NO_FILE_NAME = re.compile(r"[/\\\x00-\x1f]")


def placeholders_at(moment: datetime, settings: SubmitSettings) -> dict[str, str]:
    """The values of `{date}` (2026-11-23) and `{time}` (220000) for any aware moment, in the settings' time zone.

    Before the time at which days begin by the settings it is still the day before. Raises UsageError.
    """
    now = moment.astimezone(zone_named(settings.time_zone) if settings.time_zone else UTC)
    day = now - timedelta(days=1 if now.time() < time.fromisoformat(settings.day_begins) else 0)
    return {"date": f"{day:%Y-%m-%d}", "time": f"{now:%H%M%S}"}


def expand(template: str, values: Mapping[str, str], *, what: str) -> str:
    """Fill a template in; `{{` and `}}` are braces. Raises UsageError that names `what` and the placeholder."""

    def value(match: re.Match[str]) -> str:
        if match[0] in {"{{", "}}"}:
            return match[0][0]
        name = match[1]
        if name in values:
            return values[name]
        if name is None:
            raise UsageError(f"{what} {template!r}: a brace without its other half; write {{{{ or }}}} for a brace")
        known = ", ".join(f"{{{each}}}" for each in values) or "none here"
        hint = f"did you mean {{{near}}}?" if (near := nearest(name, values)) else f"known are {known}"
        raise UsageError(f"{what} {template!r}: there is no placeholder {{{name}}}; {hint}")

    return _PIECE.sub(value, template)


def batch_now(template: str, settings: SubmitSettings) -> str:
    """A batch id as it is at this moment. Raises UsageError."""
    moment = placeholders_at(datetime.now(UTC), settings)
    return expand(checked_text(template, "--batch-id"), moment, what="--batch-id")


def lasting_batch(settings: SubmitSettings) -> str:
    """The batch id of a program that runs for days. Raises UsageError where it has `{date}` or `{time}`."""
    for match in _PIECE.finditer(settings.batch_id):
        if match[1] in {"date", "time"}:
            raise UsageError(
                f"--batch-id {settings.batch_id!r}: a worker cannot fill in {match[0]}: a message that came again "
                "another day would be another job, and be paid twice. Leave it to batchsubmit enqueue, whose messages "
                "name their batch, and give the worker a fixed one: --batch-id '' for none"
            )
    return expand(settings.batch_id, {}, what="--batch-id")


def expand_path(template: str, values: Mapping[str, str], *, batch: str, what: str) -> str:
    """Fill a path in, `{batch}` too. Raises UsageError where the batch id cannot be part of a file's name."""
    if "{batch}" in template:
        if not batch:
            raise UsageError(f"{what} {template!r} is named after the batch, but there is no --batch-id")
        if _NO_FILE_NAME.search(batch) or batch.startswith("."):
            raise UsageError(f"{what} {template!r}: the batch id {batch!r} cannot be part of a file's name")
    return expand(template, {**values, "batch": batch}, what=what)


def zone_named(name: str) -> tzinfo:
    """Find a time zone by its IANA name. Raises UsageError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"there is no time zone {name!r}; write it as in Europe/Berlin or UTC") from None
