"""The trained models and ML input channels of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. Its times are made up, but always the same.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from batchsubmit.sandbox.records import collaboration, timestamp
from batchsubmit.sandbox.refusals import Operation, Refusal
from batchsubmit.sandbox.settings import SandboxSettings

CALLER: Final = "123456789012"
"""The account of memberships whose requests name resources of others alone."""

MODEL: Final = "Trained model"
CHANNEL: Final = "ML input channel"
_ALGORITHM: Final = "/configured-model-algorithm-association/sandbox"
_TRAINED_AT: Final = 1_735_689_600.0  # 2025-01-01T00:00:00Z
_DAY_SECONDS: Final = 86_400
_LISTED_INPUTS: Final = 2
"""Trained models and ML input channels that are listed of each membership."""
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
        if arn in settings.missing_inputs:
            raise Refusal("ResourceNotFoundException", f"{kind} {arn} was not found.")
        seconds, passed = settings.creating_seconds.get(arn, 0.0), self._clock() - self._set_at
        if seconds and passed < seconds:
            return "CREATE_PENDING" if passed < seconds / 2 else "CREATE_IN_PROGRESS"
        return settings.input_statuses.get(arn, "ACTIVE")

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

    def listing(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page of memberships, or of one's trained models, channels or algorithm associations."""
        member, items = self._listed(operation, request)
        begin, limit = request.get("nextToken") or "0", request.get("maxResults") or 100
        if not re.fullmatch("[0-9]{1,9}", begin):
            raise Refusal("ValidationException", "nextToken is not valid for this request.")
        end = int(begin) + limit
        page = {member: items[int(begin) : end]}
        return page | {"nextToken": str(end)} if end < len(items) else page

    def _listed(self, operation: str, request: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        region, membership = request["region"], request.get("membershipIdentifier", "")
        if operation == Operation.LIST_MEMBERSHIPS:
            shown = [_membership(each, region, self._begun_at) for each in self._settings.memberships]
            return "membershipSummaries", [each for each in shown if request.get("status") in (None, "ACTIVE")]
        scope = f"arn:aws:cleanrooms-ml:{region}:{CALLER}:membership/{membership}"
        numbers = range(1, _LISTED_INPUTS + 1) if membership in self._settings.memberships else ()
        if operation == Operation.LIST_MODELS:
            models = [self.model(f"{scope}/trained-model/model-{number}", membership, None) for number in numbers]
            return "trainedModels", [_without(each, "dataChannels", "statusDetails") for each in models]
        if operation == Operation.LIST_CHANNELS:
            channels = [self.channel(f"{scope}/ml-input-channel/channel-{number}", membership) for number in numbers]
            beyond = ("retentionInDays", "inputChannel", "privacyBudgets")
            return "mlInputChannelsList", [_without(each, *beyond) for each in channels]
        owner = scope.partition(":membership/")[0]
        algorithm = {
            "configuredModelAlgorithmAssociationArn": f"{scope}{_ALGORITHM}",
            "configuredModelAlgorithmArn": f"{owner}:configured-model-algorithm/sandbox",
            **self._shown(CHANNEL, "", membership, "sandbox", _TRAINED_AT),
        }
        return "configuredModelAlgorithmAssociations", [_without(algorithm, "status")] if numbers else []

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


def _without(shown: dict[str, Any], *members: str) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name not in members}


def _membership(identifier: str, region: str, created_at: float) -> dict[str, Any]:
    """A membership as ListMemberships of AWS Clean Rooms shows it."""
    shared, place = collaboration(identifier), f"arn:aws:cleanrooms:{region}:{CALLER}"
    return {
        "id": identifier,
        "arn": f"{place}:membership/{identifier}",
        "collaborationId": shared,
        "collaborationArn": f"{place}:collaboration/{shared}",
        "collaborationName": f"sandbox {identifier[:4]}",
        "collaborationCreatorAccountId": CALLER,
        "collaborationCreatorDisplayName": "sandbox",
        "createTime": created_at,
        "updateTime": created_at,
        "status": "ACTIVE",
        "memberAbilities": ["CAN_QUERY"],
        "mlMemberAbilities": {"customMLMemberAbilities": ["CAN_RECEIVE_INFERENCE_OUTPUT"]},
        "paymentConfiguration": {"queryCompute": {"isResponsible": True}},
    }
