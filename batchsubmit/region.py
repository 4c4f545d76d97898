"""Which AWS region a run is for, found as AWS programs find it. Light: `validate` needs it, and no client."""

import os

from batchsubmit.config import AwsSettings
from batchsubmit.errors import UsageError


def resolve_region(settings: AwsSettings) -> str | None:
    """Find the region: our setting, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile. Raises UsageError."""
    named = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or _region_of_profile()


def _region_of_profile() -> str | None:
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 (a fifth of a second that few need)
    from botocore.session import Session  # noqa: PLC0415

    try:
        region = Session().get_config_variable("region")
    except BotoCoreError as exc:
        raise UsageError(f"the AWS configuration cannot be read: {exc}") from exc
    return str(region) if region else None
