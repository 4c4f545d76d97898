"""The trained models of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. Its times are made up, but always the same.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from batchsubmit.sandbox.records import collaboration, timestamp
from batchsubmit.sandbox.refusals import Refusal
from batchsubmit.sandbox.settings import SandboxSettings

_ALGORITHM: Final = "/configured-model-algorithm-association/sandbox"
_TRAINED_AT: Final = 1_735_689_600.0  # 2025-01-01T00:00:00Z


class Creation:
    """What is still being created: models and channels, for as long as the settings say from when they were set."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.begun_at = clock()
        self._seconds: Mapping[str, float] = {}
        self._set_at = self.begun_at

    def set(self, seconds: Mapping[str, float]) -> None:
        """Begin anew, unless nothing has changed."""
        if seconds != self._seconds:
            self._seconds, self._set_at = seconds, self.clock()

    def status(self, arn: str) -> str:
        """The status of what is being created; empty once it is there."""
        seconds, passed = self._seconds.get(arn, 0.0), self.clock() - self._set_at
        if not seconds or passed >= seconds:
            return ""
        return "CREATE_PENDING" if passed < seconds / 2 else "CREATE_IN_PROGRESS"


class Models:
    """What the service knows about trained models."""

    def __init__(self, settings: SandboxSettings, creation: Creation) -> None:
        self.settings = settings
        self._creation = creation

    def require(self, arn: str) -> None:
        """Raise the refusal of a model that does not exist."""
        if arn in self.settings.missing_models:
            raise Refusal("ResourceNotFoundException", f"Trained model {arn} was not found.")

    def require_active(self, arn: str) -> None:
        """Raise the refusal of a model that cannot be used for inference, now or ever."""
        self.require(arn)
        status = self._status(arn)
        if status != "ACTIVE":
            raise Refusal("ConflictException", f"Trained model {arn} is {status}, not ACTIVE.")

    def detail(self, arn: str, membership: str, version: str | None) -> dict[str, Any]:
        """Return a model as GetTrainedModel shows it."""
        self.require(arn)
        scope, _, name = arn.partition("/trained-model/")
        channel = {"mlInputChannelArn": f"{scope}/ml-input-channel/sandbox", "channelName": "train"}
        shown: dict[str, Any] = {
            "membershipIdentifier": membership,
            "collaborationIdentifier": collaboration(membership),
            "trainedModelArn": arn,
            "name": name[:63],
            "status": self._status(arn),
            "configuredModelAlgorithmAssociationArn": f"{scope}{_ALGORITHM}",
            "createTime": timestamp(_TRAINED_AT),
            "updateTime": timestamp(_TRAINED_AT),
            "dataChannels": [channel],
        }
        return shown | {"versionIdentifier": version} if version else shown

    def _status(self, arn: str) -> str:
        return self._creation.status(arn) or self.settings.model_statuses.get(arn, "ACTIVE")


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
