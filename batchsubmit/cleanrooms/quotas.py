"""The quotas of the account, as Service Quotas has them: an optional head start on what refusals would teach.

What cannot be read is not known, and then learned as usual: no run fails for the want of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batchsubmit.advice import QUOTA_SERVICE
from batchsubmit.aws import Timeouts, open_client
from batchsubmit.cleanrooms.responses import as_number
from batchsubmit.config import AwsSettings
from batchsubmit.log import get_logger


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedQuotas:
    """Jobs that may be pending or running at once; None where Service Quotas does not say."""

    per_membership: int | None = None
    per_account: int | None = None


async def read_quotas(settings: AwsSettings, *, region: str) -> AppliedQuotas:
    """Read the quotas for a run from Service Quotas: an optional head start on what refusals would teach.

    What cannot be read is logged, and then learned as usual.
    """
    try:
        quotas = await ask_quotas(settings, region=region)
    except Exception as exc:  # noqa: BLE001 (whatever it is, the quotas are learned as usual)
        get_logger().warning("slots.service_quotas_unread", reason=str(exc))
        return AppliedQuotas()
    get_logger().info("slots.service_quotas", per_membership=quotas.per_membership, per_account=quotas.per_account)
    return quotas


async def ask_quotas(settings: AwsSettings, *, region: str) -> AppliedQuotas:
    """Ask Service Quotas, with one call for each hundred quotas of the service. Raises whatever goes wrong."""
    async with open_client("service-quotas", region=region, timeouts=Timeouts.of(settings), attempts=3) as client:
        pages = client.get_paginator("list_service_quotas").paginate(ServiceCode=QUOTA_SERVICE)
        return quotas_in([quota async for page in pages for quota in page.get("Quotas", ())])


def quotas_in(listed: Iterable[Mapping[str, Any]]) -> AppliedQuotas:
    """Find two of Service Quotas' list by their names: that of jobs per membership, and that of jobs per account.

    Where several fit (a region's new kind of jobs, perhaps), none of them is taken.
    """
    found: dict[str, set[int]] = {"per membership": set(), "per account": set()}
    for quota in listed:
        name = str(quota.get("QuotaName", "")).lower()
        value = as_number(quota.get("Value"))
        if "inference job" in name and value is not None:
            for scope, values in found.items():
                if scope in name:
                    values.add(int(value))
    membership, account = ((values.pop() if len(values) == 1 else None) for values in found.values())
    return AppliedQuotas(per_membership=membership, per_account=account)
