"""Quotas read from Service Quotas: a real client against a local server that speaks its protocol."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from batchsubmit.cleanrooms.quotas import AppliedQuotas, quotas_in, read_quotas
from batchsubmit.config import AwsSettings

MEMBERSHIP = {"QuotaName": "Pending/in-progress custom model inference jobs per membership", "Value": 50.0}
ACCOUNT = {"QuotaName": "Pending/in-progress custom model inference jobs per account", "Value": 80.0}
TRAINING = {"QuotaName": "Pending/in-progress custom model training jobs per account", "Value": 7.0}


class ServiceQuotas:
    """One quota a page, so that there are several."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.calls: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        """ListServiceQuotas, or a refusal."""
        assert request.headers["X-Amz-Target"] == "ServiceQuotasV20190624.ListServiceQuotas"
        asked = json.loads(await request.read())
        self.calls.append(asked)
        if self.refusal is not None:
            return _json({"__type": self.refusal, "message": "no"}, status=400)
        quotas = [TRAINING, MEMBERSHIP, ACCOUNT]
        page = int(asked.get("NextToken", "0"))
        more = {"NextToken": str(page + 1)} if page + 1 < len(quotas) else {}
        return _json({"Quotas": [quotas[page]], **more})


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body), status=status, content_type="application/x-amz-json-1.1")


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch, credentials: None) -> AsyncIterator[ServiceQuotas]:
    """A server that stands for Service Quotas, and an environment that names it."""
    quotas = ServiceQuotas()
    app = web.Application()
    app.router.add_post("/", quotas.answer)
    async with TestServer(app) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", str(server.make_url("/")))
        yield quotas


async def test_both_quotas_are_found_on_whatever_page_they_stand(service: ServiceQuotas) -> None:
    """Those of this service, and not those of training jobs."""
    read = await read_quotas(AwsSettings(), region="us-east-1")
    assert read == AppliedQuotas(per_membership=50, per_account=80)
    assert [call["ServiceCode"] for call in service.calls] == ["cleanrooms-ml"] * 3


@pytest.mark.parametrize("refusal", ["AccessDeniedException", "NoSuchResourceException"])
async def test_a_refusal_is_no_more_than_not_knowing(service: ServiceQuotas, refusal: str) -> None:
    """The quotas are learned as usual."""
    service.refusal = refusal
    assert await read_quotas(AwsSettings(), region="us-east-1") == AppliedQuotas()


async def test_a_service_that_is_not_reached_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, credentials: None
) -> None:
    """Not even where there is no way to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", "http://127.0.0.1:9")
    assert await read_quotas(AwsSettings(connect_timeout_seconds=1), region="us-east-1") == AppliedQuotas()


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [{}],
        [{"QuotaName": "inference jobs per membership"}],
        [MEMBERSHIP, {**MEMBERSHIP, "Value": 1.0}],
        [TRAINING],
    ],
)
def test_what_is_not_clear_is_not_known(listed: list[dict[str, Any]]) -> None:
    """No value, two of them, or another kind of jobs."""
    assert quotas_in(listed) == AppliedQuotas()
