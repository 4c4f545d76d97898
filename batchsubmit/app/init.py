"""Finds what a first manifest can name: memberships, their trained models, and the channels that fit these."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from batchsubmit.app.run import require_region
from batchsubmit.aws import open_client, resolve_region
from batchsubmit.cleanrooms.client import outcome_of
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.config import Settings
from batchsubmit.errors import BatchsubmitError
from batchsubmit.text import counted

INSTANCE_TYPE = "ml.m5.xlarge"
"""That of AWS's own example of an inference job."""

MOST_ROWS = 20
_BETWEEN_PAGES_SECONDS = 0.1
_RECEIVES = "CAN_RECEIVE_INFERENCE_OUTPUT"
_EXAMPLE = "11111111-1111-4111-8111-111111111111"

_Listed = list[dict[str, Any]]


@dataclass(slots=True)
class FirstRows:
    """Rows that are valid as they stand, the region they are of, and what was left out and why."""

    rows: list[dict[str, str]] = field(default_factory=list)
    region: str = ""
    notes: list[str] = field(default_factory=list)

    def add(self, membership: Mapping[str, Any], models: _Listed, channels: _Listed, algorithms: _Listed) -> None:
        """Add a row for each active model, with the newest active channel that has data for its algorithm."""
        names = {each["configuredModelAlgorithmAssociationArn"]: each["name"] for each in algorithms}
        active = sorted(filter(_is_active, channels), key=lambda each: each["createTime"])
        for model in {each["trainedModelArn"]: each for each in filter(_is_active, models)}.values():
            algorithm = model["configuredModelAlgorithmAssociationArn"]
            fitting = [each for each in active if algorithm in each["configuredModelAlgorithmAssociations"]]
            if fitting:
                comment = f"{membership['collaborationName']}: model {model['name']} by {names.get(algorithm, '?')}"
                self.rows.append(_row(membership, model, fitting[-1], f"{comment}, data {fitting[-1]['name']}"))
            else:
                self.notes.append(f"trained model {model['name']} has no active ML input channel: it has no row")
        if not any(map(_is_active, models)):
            self.notes.append(f"membership {membership['id']} has no active trained model: it has no row")


def _is_active(listed: Mapping[str, Any]) -> bool:
    return bool(listed["status"] == "ACTIVE")


def _row(
    membership: Mapping[str, Any], model: Mapping[str, Any], channel: Mapping[str, Any], comment: str
) -> dict[str, str]:
    return {
        "name": f"{model['name'][:59]}-001",
        "membershipIdentifier": membership["id"],
        "trainedModelArn": model["trainedModelArn"],
        "dataSource.mlInputChannelArn": channel["mlInputChannelArn"],
        "resourceConfig.instanceType": INSTANCE_TYPE,
        "outputConfiguration.members.0.accountId": membership["arn"].split(":")[4],
        "var.comment": comment,
    }


def example(region: str) -> dict[str, str]:
    """A row for who has no credentials yet: valid, and of nobody."""
    scope = f"arn:aws:cleanrooms-ml:{region or 'us-east-1'}:123456789012:membership/{_EXAMPLE}"
    membership = {"id": _EXAMPLE, "arn": scope.replace("-ml", "", 1)}
    model = {"name": "example", "trainedModelArn": f"{scope}/trained-model/your-model"}
    channel = {"mlInputChannelArn": f"{scope}/ml-input-channel/your-channel"}
    return _row(
        membership, model, channel, "An example: put your own membership, model, channel and account in its place"
    )


async def find_rows(settings: Settings, memberships: Sequence[str]) -> FirstRows:
    """Ask for the memberships, `memberships` only where some are given, and for what is in them. Raises nothing."""
    found = FirstRows()
    try:
        found.region = require_region(resolve_region(settings.aws))
        async with _asking("ListMemberships"), open_client("cleanrooms", region=found.region, attempts=5) as client:
            listed = await _list(client, "list_memberships", "membershipSummaries", status="ACTIVE")
        chosen = _chosen(found, listed, memberships)
        async with open_client("cleanroomsml", region=found.region, attempts=5) as client:
            for membership in chosen:
                await _look_into(found, client, membership)
    except BatchsubmitError as exc:
        found.notes.append(str(exc).partition("; nothing was sent")[0])
    if len(found.rows) > MOST_ROWS:
        found.notes.append(f"{counted(len(found.rows) - MOST_ROWS, 'more model')} found: --membership ID narrows it")
        del found.rows[MOST_ROWS:]
    return found


def _chosen(found: FirstRows, listed: _Listed, memberships: Iterable[str]) -> _Listed:
    """Those that were asked for, or all; notes what is not there and who receives nothing."""
    wanted = set(memberships) or {each["id"] for each in listed}
    chosen = [each for each in listed if each["id"] in wanted]
    found.notes += [
        f"there is no active membership {each}" for each in sorted(wanted - {each["id"] for each in chosen})
    ]
    if not listed:
        found.notes.append("this account has no active membership in this region")
    for each in chosen:
        if _RECEIVES not in each.get("mlMemberAbilities", {}).get("customMLMemberAbilities", ()):
            found.notes.append(
                f"in {each['collaborationName']} this account may not receive inference output: "
                "put the account of a member who may into outputConfiguration.members.0.accountId"
            )
    return chosen


async def _look_into(found: FirstRows, client: Any, membership: Mapping[str, Any]) -> None:  # noqa: ANN401 (aiobotocore's)
    asked = {"membershipIdentifier": membership["id"]}
    try:
        async with _asking("ListTrainedModels"):
            models = await _list(client, "list_trained_models", "trainedModels", **asked)
        async with _asking("ListMLInputChannels"):
            channels = await _list(client, "list_ml_input_channels", "mlInputChannelsList", **asked)
        async with _asking("ListConfiguredModelAlgorithmAssociations"):
            operation = "list_configured_model_algorithm_associations"
            algorithms = await _list(client, operation, "configuredModelAlgorithmAssociations", **asked)
    except BatchsubmitError as exc:
        found.notes.append(f"membership {membership['id']}: {exc}")
    else:
        found.add(membership, models, channels, algorithms)


async def _list(client: Any, operation: str, member: str, **request: str) -> _Listed:  # noqa: ANN401 (aiobotocore's)
    """Read a whole list, page by page, with a pause after each."""
    found: _Listed = []
    async for page in client.get_paginator(operation).paginate(**request):
        found += page[member]
        await asyncio.sleep(_BETWEEN_PAGES_SECONDS)
    return found


@asynccontextmanager
async def _asking(operation: str) -> AsyncIterator[None]:
    """Say in a sentence why a call brought nothing. Raises BatchsubmitError."""
    try:
        yield
    except BatchsubmitError:
        raise
    except Exception as exc:
        raise BatchsubmitError(str(ReadError(operation, outcome_of(exc, has_left=True)))) from exc
