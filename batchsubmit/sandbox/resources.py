"""The trained models and ML input channels of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. Its times are made up, but always the same.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from batchsubmit.sandbox.records import collaboration, timestamp
from batchsubmit.sandbox.refusals import Refusal
from batchsubmit.sandbox.settings import SandboxSettings

MODEL: Final = "Trained model"
CHANNEL: Final = "ML input channel"
_ALGORITHM: Final = "/configured-model-algorithm-association/sandbox"
_TRAINED_AT: Final = 1_735_689_600.0  # 2025-01-01T00:00:00Z
_DAY_SECONDS: Final = 86_400
_QUERY: Final = {"sqlParameters": {"queryString": "SELECT * FROM sandbox"}}


class SandboxResources:
    """What the service knows about trained models and channels, by ARN; `kind` is `MODEL` or `CHANNEL`."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._begun_at = self._set_at = clock()

    def configure(self, settings: SandboxSettings) -> None:
        """Change the settings. What is being created begins again, unless that has not changed."""
        if settings.creating_seconds != self._settings.creating_seconds:
            self._set_at = self._clock()
        self._settings = settings

    def status(self, kind: str, arn: str) -> str:
        """Return a resource's status; raises the refusal of what does not exist."""
        settings = self._settings
        is_model = kind == MODEL
        if arn in (settings.missing_models if is_model else settings.missing_channels):
            raise Refusal("ResourceNotFoundException", f"{kind} {arn} was not found.")
        seconds, passed = settings.creating_seconds.get(arn, 0.0), self._clock() - self._set_at
        if seconds and passed < seconds:
            return "CREATE_PENDING" if passed < seconds / 2 else "CREATE_IN_PROGRESS"
        return (settings.model_statuses if is_model else settings.channel_statuses).get(arn, "ACTIVE")

    def require_active(self, kind: str, arn: str) -> None:
        """Raise the refusal of what cannot be used for inference, now or ever."""
        status = self.status(kind, arn)
        if status != "ACTIVE":
            raise Refusal("ConflictException", f"{kind} {arn} is {status}, not ACTIVE.")

    def model(self, arn: str, membership: str, version: str | None) -> dict[str, Any]:
        """Return a model as GetTrainedModel shows it."""
        scope, _, name = arn.partition("/trained-model/")
        channel = {"mlInputChannelArn": f"{scope}/ml-input-channel/sandbox", "channelName": "train"}
        shown = self._shown(MODEL, arn, membership, name, _TRAINED_AT) | {
            "trainedModelArn": arn,
            "configuredModelAlgorithmAssociationArn": f"{scope}{_ALGORITHM}",
            "dataChannels": [channel],
        }
        return shown | {"versionIdentifier": version} if version else shown

    def channel(self, arn: str, membership: str) -> dict[str, Any]:
        """Return a channel as GetMLInputChannel shows it."""
        scope, _, name = arn.partition("/ml-input-channel/")
        account = arn.split(":", 5)[4]
        budget = self._settings.access_budgets.get(arn)
        budgets = {} if budget is None else {"privacyBudgets": {"accessBudgets": [self._budget(scope, budget)]}}
        return self._shown(CHANNEL, arn, membership, name, self._channels_created_at) | {
            **budgets,
            "mlInputChannelArn": arn,
            "configuredModelAlgorithmAssociations": [f"{scope}{_ALGORITHM}"],
            "retentionInDays": self._settings.retention_days,
            "inputChannel": {
                "dataSource": {"protectedQueryInputParameters": _QUERY},
                "roleArn": f"arn:aws:iam::{account}:role/sandbox",
            },
        }

    def _shown(self, kind: str, arn: str, membership: str, name: str, created_at: float) -> dict[str, Any]:
        return {
            "membershipIdentifier": membership,
            "collaborationIdentifier": collaboration(membership),
            "name": name[:63],
            "status": self.status(kind, arn),
            "createTime": timestamp(created_at),
            "updateTime": timestamp(created_at),
        }

    def _budget(self, scope: str, left: int) -> dict[str, Any]:
        """A budget of the table behind a channel, as the service's model shapes it."""
        of_membership = scope.replace(":cleanrooms-ml:", ":cleanrooms:")
        day = {"startTime": timestamp(self._channels_created_at), "remainingBudget": left, "budget": max(left, 100)}
        return {
            "resourceArn": f"{of_membership}/configuredtableassociation/{uuid5(NAMESPACE_URL, of_membership)}",
            "details": [day | {"budgetType": "LIFETIME"}],
            "aggregateRemainingBudget": left,
        }

    @property
    def _channels_created_at(self) -> float:
        return self._begun_at - self._settings.channel_age_days * _DAY_SECONDS
