"""The ML input channels of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. They came into being when the sandbox began, or as long before as the settings say.
"""

from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from batchsubmit.sandbox.records import collaboration, timestamp
from batchsubmit.sandbox.refusals import Refusal
from batchsubmit.sandbox.resources import Creation
from batchsubmit.sandbox.settings import SandboxSettings

_ALGORITHM: Final = "/configured-model-algorithm-association/sandbox"
_DAY_SECONDS: Final = 86_400
_QUERY: Final = {"sqlParameters": {"queryString": "SELECT * FROM sandbox"}}


class Channels:
    """What the service knows about ML input channels."""

    def __init__(self, settings: SandboxSettings, creation: Creation) -> None:
        self.settings = settings
        self._creation = creation

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
        budget = self.settings.access_budgets.get(arn)
        budgets = {} if budget is None else {"privacyBudgets": {"accessBudgets": [self._budget(arn, budget)]}}
        return budgets | {
            "membershipIdentifier": membership,
            "collaborationIdentifier": collaboration(membership),
            "mlInputChannelArn": arn,
            "name": name[:63],
            "configuredModelAlgorithmAssociations": [f"{scope}{_ALGORITHM}"],
            "status": self._status(arn),
            "retentionInDays": self.settings.retention_days,
            "createTime": timestamp(self._created_at),
            "updateTime": timestamp(self._created_at),
            "inputChannel": {
                "dataSource": {"protectedQueryInputParameters": _QUERY},
                "roleArn": f"arn:aws:iam::{account}:role/sandbox",
            },
        }

    def _budget(self, arn: str, left: int) -> dict[str, Any]:
        """A budget of the table behind a channel, as the service's model shapes it."""
        of_membership = arn.partition("/ml-input-channel/")[0].replace(":cleanrooms-ml:", ":cleanrooms:")
        day = {"startTime": timestamp(self._created_at), "remainingBudget": left, "budget": max(left, 100)}
        return {
            "resourceArn": f"{of_membership}/configuredtableassociation/{uuid5(NAMESPACE_URL, of_membership)}",
            "details": [day | {"budgetType": "LIFETIME"}],
            "aggregateRemainingBudget": left,
        }

    def _require(self, arn: str) -> None:
        if arn in self.settings.missing_channels:
            raise Refusal("ResourceNotFoundException", f"ML input channel {arn} was not found.")

    def _status(self, arn: str) -> str:
        return self._creation.status(arn) or self.settings.channel_statuses.get(arn, "ACTIVE")

    @property
    def _created_at(self) -> float:
        return self._creation.begun_at - self.settings.channel_age_days * _DAY_SECONDS
