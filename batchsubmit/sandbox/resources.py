"""The trained models and ML input channels of the sandbox: every ARN is one, ACTIVE, unless the settings say otherwise.

It must not know jobs. Its times are made up, but always the same.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from batchsubmit.sandbox.refusals import Operation, Refusal
from batchsubmit.sandbox.settings import SandboxSettings

CALLER: Final = "123456789012"
"""The account of memberships whose requests name resources of others alone."""

_ALGORITHM: Final = "/configured-model-algorithm-association/sandbox"
_TRAINED_AT: Final = 1_735_689_600.0  # 2025-01-01T00:00:00Z
_DAY_SECONDS: Final = 86_400
_LISTED_INPUTS: Final = 2
"""Trained models and ML input channels that are listed of each membership."""
_QUERY: Final = {"sqlParameters": {"queryString": "SELECT * FROM sandbox"}}


class SandboxResources:
    """What the service knows about trained models and channels, by ARN."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._begun_at = self._set_at = clock()

    def configure(self, settings: SandboxSettings) -> None:
        """Change the settings. What is being created begins again, unless that has not changed."""
        if settings.creating_seconds != self._settings.creating_seconds:
            self._set_at = self._clock()
        self._settings = settings

    def status(self, arn: str) -> str:
        """Return a resource's status; raises the refusal of what does not exist."""
        settings = self._settings
        if arn in settings.missing_inputs:
            raise Refusal("ResourceNotFoundException", f"The resource {arn} was not found.")
        seconds, passed = settings.creating_seconds.get(arn, 0.0), self._clock() - self._set_at
        if seconds and passed < seconds:
            return "CREATE_PENDING" if passed < seconds / 2 else "CREATE_IN_PROGRESS"
        return settings.input_statuses.get(arn, "ACTIVE")

    def require_active(self, arn: str) -> None:
        """Raise the refusal of what cannot be used for inference, now or ever."""
        if (status := self.status(arn)) != "ACTIVE":
            raise Refusal("ConflictException", f"The resource {arn} is {status}, not ACTIVE.")

    def model(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model as GetTrainedModel shows it."""
        arn, version = request["trainedModelArn"], request.get("versionIdentifier")
        channel = {"mlInputChannelArn": f"{_scope(arn)}/ml-input-channel/sandbox", "channelName": "train"}
        shown = self._model(arn, request["membershipIdentifier"]) | {"dataChannels": [channel]}
        return shown | {"versionIdentifier": version} if version else shown

    def channel(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a channel as GetMLInputChannel shows it."""
        arn = request["mlInputChannelArn"]
        shown = self._channel(arn, request["membershipIdentifier"]) | {
            "retentionInDays": self._settings.retention_days,
            "inputChannel": {
                "dataSource": {"protectedQueryInputParameters": _QUERY},
                "roleArn": f"arn:aws:iam::{arn.split(':')[4]}:role/sandbox",
            },
        }
        if arn in self._settings.access_budgets:
            shown["privacyBudgets"] = {"accessBudgets": [self._budget(arn, self._settings.access_budgets[arn])]}
        return shown

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
        owner, membership = f"{request['region']}:{CALLER}", request.get("membershipIdentifier", "")
        scope = f"arn:aws:cleanrooms-ml:{owner}:membership/{membership}"
        numbers = range(1, _LISTED_INPUTS + 1) if membership in self._settings.memberships else range(0)
        if operation == Operation.LIST_MEMBERSHIPS:
            shown = [_membership(each, owner, self._begun_at) for each in self._settings.memberships]
            return "membershipSummaries", shown if request.get("status") in (None, "ACTIVE") else []
        if operation == Operation.LIST_MODELS:
            return "trainedModels", [self._model(f"{scope}/trained-model/model-{each}", membership) for each in numbers]
        if operation == Operation.LIST_CHANNELS:
            arns = [f"{scope}/ml-input-channel/channel-{each}" for each in numbers]
            return "mlInputChannelsList", [self._channel(arn, membership) for arn in arns]
        algorithm = _identity(membership, "sandbox", _TRAINED_AT) | {
            "configuredModelAlgorithmAssociationArn": f"{scope}{_ALGORITHM}",
            "configuredModelAlgorithmArn": f"arn:aws:cleanrooms-ml:{owner}:configured-model-algorithm/sandbox",
        }
        return "configuredModelAlgorithmAssociations", [algorithm] if numbers else []

    def _model(self, arn: str, membership: str) -> dict[str, Any]:
        return _identity(membership, arn, _TRAINED_AT) | {
            "status": self.status(arn),
            "trainedModelArn": arn,
            "configuredModelAlgorithmAssociationArn": f"{_scope(arn)}{_ALGORITHM}",
        }

    def _channel(self, arn: str, membership: str) -> dict[str, Any]:
        return _identity(membership, arn, self._channels_created_at) | {
            "status": self.status(arn),
            "mlInputChannelArn": arn,
            "configuredModelAlgorithmAssociations": [f"{_scope(arn)}{_ALGORITHM}"],
        }

    def _budget(self, channel: str, left: int) -> dict[str, Any]:
        """A budget of the table behind a channel, as the service's model shapes it."""
        scope = _scope(channel).replace(":cleanrooms-ml:", ":cleanrooms:")
        began_at = wire_time(self._channels_created_at)
        lifetime = {"budgetType": "LIFETIME", "startTime": began_at, "remainingBudget": left, "budget": max(left, 100)}
        return {
            "resourceArn": f"{scope}/configuredtableassociation/{uuid5(NAMESPACE_URL, scope)}",
            "details": [lifetime],
            "aggregateRemainingBudget": left,
        }

    @property
    def _channels_created_at(self) -> float:
        return self._begun_at - self._settings.channel_age_days * _DAY_SECONDS


def _scope(arn: str) -> str:
    """The part of an ARN down to the membership."""
    return "/".join(arn.split("/")[:2])


def _identity(membership: str, path: str, created_at: float) -> dict[str, Any]:
    """What every resource of a membership shows; it is called what its path ends with."""
    return {
        "membershipIdentifier": membership,
        "collaborationIdentifier": collaboration(membership),
        "name": path.rpartition("/")[2][:63] or "sandbox",
        "createTime": wire_time(created_at),
        "updateTime": wire_time(created_at),
    }


def _membership(identifier: str, owner: str, created_at: float) -> dict[str, Any]:
    """A membership as ListMemberships of AWS Clean Rooms shows it; `owner` is region and account."""
    shared = collaboration(identifier)
    return {
        "id": identifier,
        "arn": f"arn:aws:cleanrooms:{owner}:membership/{identifier}",
        "collaborationId": shared,
        "collaborationArn": f"arn:aws:cleanrooms:{owner}:collaboration/{shared}",
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


def wire_time(seconds: float) -> str:
    """Return Unix seconds as the wire has them: ISO 8601 in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@cache
def collaboration(membership: str) -> str:
    """Return the collaboration a membership belongs to: made up, and always the same."""
    return str(uuid5(NAMESPACE_URL, membership))
