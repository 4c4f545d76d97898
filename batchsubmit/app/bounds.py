"""When a run has to end before its end, as the settings say it: its deadline, and how many jobs may fail."""

from datetime import datetime

from batchsubmit.config import SubmitSettings
from batchsubmit.outputs.templates import zone_named
from batchsubmit.submit.stopping import NO_LIMIT, FailureLimit, parse_deadline


def failure_limit_in(settings: SubmitSettings) -> FailureLimit:
    """Read `max_failures`. Raises UsageError."""
    return FailureLimit.parse(settings.max_failures) if settings.max_failures is not None else NO_LIMIT


def deadline_in(settings: SubmitSettings, now: datetime) -> datetime | None:
    """Read `deadline` in `time_zone`, or in local time; `now` is any aware moment. Raises UsageError."""
    if settings.deadline is None:
        return None
    zone = zone_named(settings.time_zone) if settings.time_zone else None
    return parse_deadline(settings.deadline, now.astimezone(zone) if zone else now.astimezone().replace(tzinfo=None))
