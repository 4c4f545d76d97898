"""The ML input channels of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. Its times are made up, but always the same.
"""

from typing import Any, Final

from batchsubmit.sandbox.records import collaboration, timestamp
from batchsubmit.sandbox.refusals import Refusal
from batchsubmit.sandbox.settings import SandboxSettings

_ALGORITHM: Final = "/configured-model-algorithm-association/sandbox"
_FILLED_AT: Final = 1_735_689_600.0  # 2025-01-01T00:00:00Z
_RETENTION_DAYS: Final = 30
_QUERY: Final = {"sqlParameters": {"queryString": "SELECT * FROM sandbox"}}


class Channels:
    """What the service knows about ML input channels."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings

    def require_active(self, arn: str) -> None:
        """Raise the refusal of a channel that cannot be read, now or ever."""
        self._require(arn)
        status = self._status(arn)
        if status != "ACTIVE":
            raise Refusal("ConflictException", f"ML input channel {arn} is {status}, not ACTIVE.")

    def detail(self, arn: str, membership: str) -> dict[str, Any]:
        """Return a channel as GetMLInputChannel shows it."""
        self._require(arn)
        scope, _, name = arn.partition("/ml-input-channel/")
        account = arn.split(":", 5)[4]
        return {
            "membershipIdentifier": membership,
            "collaborationIdentifier": collaboration(membership),
            "mlInputChannelArn": arn,
            "name": name[:63],
            "configuredModelAlgorithmAssociations": [f"{scope}{_ALGORITHM}"],
            "status": self._status(arn),
            "retentionInDays": _RETENTION_DAYS,
            "createTime": timestamp(_FILLED_AT),
            "updateTime": timestamp(_FILLED_AT),
            "inputChannel": {
                "dataSource": {"protectedQueryInputParameters": _QUERY},
                "roleArn": f"arn:aws:iam::{account}:role/sandbox",
            },
        }

    def _require(self, arn: str) -> None:
        if arn in self.settings.missing_channels:
            raise Refusal("ResourceNotFoundException", f"ML input channel {arn} was not found.")

    def _status(self, arn: str) -> str:
        return self.settings.channel_statuses.get(arn, "ACTIVE")
