"""The trained models of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. Its times are made up, but always the same.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

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
