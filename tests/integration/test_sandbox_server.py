"""The sandbox over HTTP, seen by the AWS libraries themselves."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import boto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from batchsubmit.sandbox import FaultPlan, Faults, SandboxServer, SandboxService, SandboxSettings
from batchsubmit.sandbox.faults import InjectedFault, ScriptedFault
from batchsubmit.sandbox.refusals import Operation

MEMBERSHIP = "11111111-2222-3333-4444-555555555555"
SCOPE = f"arn:aws:cleanrooms-ml:us-east-1:123456789012:membership/{MEMBERSHIP}"
ACCESS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "x", "region_name": "us-east-1"}
LONG = 60.0  # seconds no test waits for
SETTINGS = SandboxSettings(pending_seconds=0, job_seconds=LONG, cancel_seconds=LONG, seed=1)


def request(name: str = "job", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a request."""
    return {
        "membershipIdentifier": MEMBERSHIP,
        "name": name,
        "trainedModelArn": f"{SCOPE}/trained-model/m/1.0",
        "resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": 2},
        "outputConfiguration": {"accept": "text/csv", "members": [{"accountId": "123456789012"}]},
        "dataSource": {"mlInputChannelArn": f"{SCOPE}/ml-input-channel/c"},
        **more,
    }


@asynccontextmanager
async def sandbox(
    *script: ScriptedFault, settings: SandboxSettings = SETTINGS, read_timeout: float = LONG
) -> AsyncIterator[tuple[SandboxServer, Any]]:
    """Serve a sandbox and open an aiobotocore client on it, without retries."""
    config = AioConfig(retries={"total_max_attempts": 1}, read_timeout=read_timeout)
    async with SandboxServer(SandboxService(settings, time.time)) as server:
        server.faults.configure(FaultPlan(script=script))
        session = get_session()
        async with session.create_client("cleanroomsml", endpoint_url=server.url, config=config, **ACCESS) as client:
            yield server, client


async def test_every_operation_works_through_aiobotocore() -> None:
    """ARNs with slashes in the path, typed answers."""
    async with sandbox() as (_, client):
        asked = request("\u00fc \U0001f600", tags={"batchsubmit:key": "k", "a b&c": "d"}, environment={"A": "\n"})
        arn = (await client.start_trained_model_inference_job(**asked))["trainedModelInferenceJobArn"]
        job = {"membershipIdentifier": MEMBERSHIP, "trainedModelInferenceJobArn": arn}
        shown = await client.get_trained_model_inference_job(**job)
        assert asked == {name: shown[name] for name in asked}
        assert shown["createTime"].utcoffset() is not None
        assert shown["updateTime"] - shown["createTime"] < timedelta(seconds=LONG)
        listed = await client.list_trained_model_inference_jobs(membershipIdentifier=MEMBERSHIP)
        [summary] = listed["trainedModelInferenceJobs"]
        assert (summary["name"], summary["status"]) == (asked["name"], "CREATE_IN_PROGRESS")
        await client.cancel_trained_model_inference_job(**job)
        assert (await client.get_trained_model_inference_job(**job))["status"] == "CANCEL_IN_PROGRESS"


async def test_answers_have_every_required_member_of_their_shapes() -> None:
    """Held against the service model itself."""
    async with sandbox() as (_, client):
        arn = (await client.start_trained_model_inference_job(**request()))["trainedModelInferenceJobArn"]
        model = {"membershipIdentifier": MEMBERSHIP, "trainedModelArn": request()["trainedModelArn"]}
        channel = {"membershipIdentifier": MEMBERSHIP, **request()["dataSource"]}
        job = {"membershipIdentifier": MEMBERSHIP, "trainedModelInferenceJobArn": arn}
        shapes = client.meta.service_model
        answers = {
            "GetTrainedModel": await client.get_trained_model(**model),
            "GetMLInputChannel": await client.get_ml_input_channel(**channel),
            Operation.GET: await client.get_trained_model_inference_job(**job),
        }
        for operation, answer in answers.items():
            assert set(shapes.operation_model(operation).output_shape.required_members) <= answer.keys()
        listed = await client.list_trained_model_inference_jobs(membershipIdentifier=MEMBERSHIP)
        summary = shapes.shape_for("TrainedModelInferenceJobSummary")
        assert set(summary.required_members) <= listed["trainedModelInferenceJobs"][0].keys()


def _inputs_of(url: str, membership: str, region: str) -> dict[str, list[dict[str, Any]]]:
    """All that is listed, page by page, by operation."""
    access = {**ACCESS, "region_name": region}
    found: dict[str, list[dict[str, Any]]] = {}
    for service, operation, asked in (
        ("cleanrooms", "list_memberships", {"status": "ACTIVE"}),
        ("cleanroomsml", "list_trained_models", {"membershipIdentifier": membership}),
        ("cleanroomsml", "list_ml_input_channels", {"membershipIdentifier": membership}),
        ("cleanroomsml", "list_configured_model_algorithm_associations", {"membershipIdentifier": membership}),
    ):
        client = boto3.client(service, endpoint_url=url, **access)
        pages = client.get_paginator(operation).paginate(**asked, PaginationConfig={"PageSize": 2})
        for page in pages:
            [(member, items)] = [(name, items) for name, items in page.items() if isinstance(items, list)]
            model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation])
            shape = model.output_shape.members[member].member
            assert all(set(shape.required_members) <= item.keys() <= set(shape.members) for item in items)
            found.setdefault(member, []).extend(items)
        client.close()
    return found


async def test_what_a_membership_has_is_listed_page_by_page_and_fits_together() -> None:
    """In the caller's region, with all required members; another membership has nothing."""
    settings = SandboxSettings()
    async with SandboxServer(SandboxService(settings, time.time)) as server:
        membership = settings.memberships[1]
        found = await asyncio.to_thread(_inputs_of, server.url, membership, "eu-west-1")
        nothing = await asyncio.to_thread(_inputs_of, server.url, MEMBERSHIP, "eu-west-1")
    assert [each["id"] for each in found["membershipSummaries"]] == list(settings.memberships)
    models, channels = found["trainedModels"], found["mlInputChannelsList"]
    [algorithm] = found["configuredModelAlgorithmAssociations"]
    assert len({each["trainedModelArn"] for each in models}) == 2
    assert all(f":eu-west-1:123456789012:membership/{membership}/" in each["mlInputChannelArn"] for each in channels)
    arn = algorithm["configuredModelAlgorithmAssociationArn"]
    assert all(each["configuredModelAlgorithmAssociationArn"] == arn for each in models)
    assert all(each["configuredModelAlgorithmAssociations"] == [arn] for each in channels)
    assert nothing["trainedModels"] == nothing["mlInputChannelsList"] == []


async def test_plain_boto3_works_as_well() -> None:
    """It signs, encodes and parses by itself; its paginator finds every job once."""
    settings = SandboxSettings(per_membership=0, per_account=0, starts_per_second=0)
    config = Config(retries={"total_max_attempts": 1})

    def use(url: str) -> tuple[set[str], list[str]]:
        client = boto3.client("cleanroomsml", endpoint_url=url, config=config, **ACCESS)
        try:
            started = {
                client.start_trained_model_inference_job(**request(f"job-{number}"))["trainedModelInferenceJobArn"]
                for number in range(23)
            }
            pages = client.get_paginator("list_trained_model_inference_jobs").paginate(
                membershipIdentifier=MEMBERSHIP,
                trainedModelArn=request()["trainedModelArn"],
                PaginationConfig={"PageSize": 5},
            )
            listed = [job for page in pages for job in page["trainedModelInferenceJobs"]]
            return started, [job["trainedModelInferenceJobArn"] for job in listed]
        finally:
            client.close()

    async with SandboxServer(SandboxService(settings, time.time)) as server:
        started, listed = await asyncio.to_thread(use, server.url)
    assert len(listed) == 23
    assert set(listed) == started


async def test_the_quota_can_be_read_from_the_exception() -> None:
    """The modelled exception carries the name and the value."""
    async with sandbox(settings=SandboxSettings(per_membership=1)) as (_, client):
        await client.start_trained_model_inference_job(**request())
        with pytest.raises(client.exceptions.ServiceQuotaExceededException) as caught:
            await client.start_trained_model_inference_job(**request())
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 402
    assert response["ResponseMetadata"]["RequestId"]
    assert response["quotaValue"] == 1.0
    assert "per membership" in response["quotaName"]


async def test_a_call_signed_for_another_region_is_refused() -> None:
    """The region is read from the signature."""
    async with SandboxServer(SandboxService(SETTINGS, time.time)) as server:
        elsewhere = {**ACCESS, "region_name": "eu-west-1"}
        async with get_session().create_client("cleanroomsml", endpoint_url=server.url, **elsewhere) as client:
            with pytest.raises(client.exceptions.ValidationException, match="Region in the ARN must be eu-west-1"):
                await client.start_trained_model_inference_job(**request())


@pytest.mark.parametrize(
    ("fault", "exception"),
    [
        (InjectedFault.QUOTA_BARE, "ServiceQuotaExceededException"),
        (InjectedFault.THROTTLED, "ThrottlingException"),
        (InjectedFault.CONFLICT, "ConflictException"),
        (InjectedFault.ACCESS_DENIED, "AccessDeniedException"),
        (InjectedFault.VALIDATION, "ValidationException"),
        (InjectedFault.NOT_FOUND, "ResourceNotFoundException"),
    ],
)
async def test_modelled_errors_become_modelled_exceptions(fault: InjectedFault, exception: str) -> None:
    """As they do with AWS."""
    async with sandbox(ScriptedFault(fault=fault)) as (server, client):
        with pytest.raises(getattr(client.exceptions, exception)) as caught:
            await client.start_trained_model_inference_job(**request())
        assert "quotaName" not in caught.value.response
        assert server.service.jobs() == ()


@pytest.mark.parametrize(
    ("fault", "code", "accepted"),
    [
        (InjectedFault.TOO_MANY_REQUESTS, "TooManyRequestsException", 0),
        (InjectedFault.THROTTLING_400, "Throttling", 0),
        (InjectedFault.REQUEST_LIMIT, "RequestLimitExceeded", 0),
        (InjectedFault.SLOW_DOWN, "SlowDown", 0),
        (InjectedFault.EXPIRED_TOKEN, "ExpiredTokenException", 0),
        (InjectedFault.UNRECOGNIZED_CLIENT, "UnrecognizedClientException", 0),
        (InjectedFault.ERROR_BEFORE, "InternalServerException", 0),
        (InjectedFault.UNAVAILABLE, "ServiceUnavailable", 0),
        (InjectedFault.ERROR_AFTER, "InternalServerException", 1),
    ],
)
async def test_other_errors_have_their_codes(fault: InjectedFault, code: str, accepted: int) -> None:
    """The code comes through; the job is there or not."""
    async with sandbox(ScriptedFault(fault=fault)) as (server, client):
        with pytest.raises(ClientError) as caught:
            await client.start_trained_model_inference_job(**request())
        assert caught.value.response["Error"]["Code"] == code
        assert len(server.service.jobs()) == accepted


@pytest.mark.parametrize(
    ("fault", "accepted"), [(InjectedFault.CUT_BEFORE, 0), (InjectedFault.LOST_AFTER, 1), (InjectedFault.TRUNCATED, 1)]
)
async def test_a_cut_connection_is_seen_as_one(fault: InjectedFault, accepted: int) -> None:
    """And the next call opens another."""
    async with sandbox(ScriptedFault(fault=fault)) as (server, client):
        with pytest.raises((ConnectionClosedError, HTTPClientError)):
            await client.start_trained_model_inference_job(**request())
        assert len(server.service.jobs()) == accepted
        await client.start_trained_model_inference_job(**request())


async def test_a_reset_connection_looks_like_a_failed_connect() -> None:
    """The trap: aiobotocore says EndpointConnectionError, and yet the job was accepted."""
    async with sandbox(ScriptedFault(fault=InjectedFault.RESET_AFTER)) as (server, client):
        with pytest.raises(EndpointConnectionError) as caught:
            await client.start_trained_model_inference_job(**request())
        assert not isinstance(caught.value.__context__, aiohttp.ClientConnectorError)
        assert len(server.service.jobs()) == 1


@pytest.mark.parametrize(
    ("fault", "accepted"),
    [(InjectedFault.SLOW_ANSWER, 1), (InjectedFault.SLOW_ACCEPTANCE, 0), (InjectedFault.STALL, 0)],
)
async def test_a_slow_answer_runs_into_the_read_timeout(fault: InjectedFault, accepted: int) -> None:
    """Accepted at once, later or never; closing the server does not wait for it."""
    async with sandbox(ScriptedFault(fault=fault, seconds=LONG), read_timeout=0.2) as (server, client):
        with pytest.raises(ReadTimeoutError):
            await client.start_trained_model_inference_job(**request())
        assert len(server.service.jobs()) == accepted


@pytest.mark.parametrize("fault", [InjectedFault.SLOW_ACCEPTANCE, InjectedFault.SLOW_ANSWER])
async def test_a_patient_caller_gets_the_answer(fault: InjectedFault) -> None:
    """Slow is not lost."""
    async with sandbox(ScriptedFault(fault=fault, seconds=0.01)) as (server, client):
        answer = await client.start_trained_model_inference_job(**request())
        assert answer["trainedModelInferenceJobArn"] == server.service.jobs()[0].arn


@pytest.mark.parametrize("fault", [InjectedFault.UNREADABLE, InjectedFault.NO_ARN])
async def test_an_unreadable_answer_has_no_arn(fault: InjectedFault) -> None:
    """To botocore both are an answer; the job is there."""
    async with sandbox(ScriptedFault(fault=fault)) as (server, client):
        answer = await client.start_trained_model_inference_job(**request())
        assert "trainedModelInferenceJobArn" not in answer
        assert len(server.service.jobs()) == 1


@pytest.mark.parametrize("operation", [Operation.LIST, Operation.GET])
async def test_reading_can_be_forbidden_or_throttled(operation: str) -> None:
    """List and Get have their own entries."""
    script = (
        ScriptedFault(fault=InjectedFault.ACCESS_DENIED, operation=operation),
        ScriptedFault(fault=InjectedFault.THROTTLED, operation=operation),
    )
    async with sandbox(*script) as (_, client):
        arn = (await client.start_trained_model_inference_job(**request()))["trainedModelInferenceJobArn"]
        job = {"membershipIdentifier": MEMBERSHIP, "trainedModelInferenceJobArn": arn}

        async def read() -> None:
            if operation == Operation.GET:
                await client.get_trained_model_inference_job(**job)
            else:
                await client.list_trained_model_inference_jobs(membershipIdentifier=MEMBERSHIP)

        with pytest.raises(client.exceptions.AccessDeniedException):
            await read()
        with pytest.raises(client.exceptions.ThrottlingException):
            await read()
        await read()


async def test_a_paginator_goes_on_over_an_empty_page() -> None:
    """The page has a token, so it is not the last."""
    empty = ScriptedFault(fault=InjectedFault.EMPTY_PAGE, operation=Operation.LIST)
    script = (ScriptedFault(fault=InjectedFault.NONE, operation=Operation.LIST), empty)
    async with sandbox(*script) as (_, client):
        for _ in range(3):
            await client.start_trained_model_inference_job(**request())
        paginator = client.get_paginator("list_trained_model_inference_jobs")
        pages = paginator.paginate(membershipIdentifier=MEMBERSHIP, PaginationConfig={"PageSize": 1})
        sizes = [len(page["trainedModelInferenceJobs"]) async for page in pages]
        assert sorted(sizes) == [0, 1, 1, 1]


async def test_the_largest_environment_and_the_longest_query_fit() -> None:
    """Well over the usual limits of a web server. By boto3, because aiohttp warns of sending that much."""
    environment = {"K" * 1023 + chr(65 + number): "\U0001f600" * 10240 for number in range(16)}
    long_arn = f"{SCOPE}/trained-model/" + "/" * 1900  # slashes triple when encoded

    def use(url: str) -> str:
        client = boto3.client("cleanroomsml", endpoint_url=url, **ACCESS)
        try:
            client.start_trained_model_inference_job(**request(environment=environment))
            query = {"trainedModelArn": long_arn, "nextToken": "/" * 10240}
            with pytest.raises(client.exceptions.ValidationException) as caught:
                client.list_trained_model_inference_jobs(membershipIdentifier=MEMBERSHIP, **query)
            return str(caught.value)
        finally:
            client.close()

    async with SandboxServer(SandboxService(SETTINGS, time.time)) as server:
        assert "nextToken is not valid" in await asyncio.to_thread(use, server.url)
        assert server.service.jobs()[0].request["environment"] == environment


async def test_what_aws_does_not_know_is_404_as_with_aws() -> None:
    """With the error's type in the header."""
    async with (
        sandbox() as (server, _),
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/nonsense") as answer,
    ):
        assert answer.status == 404
        assert answer.headers["x-amzn-errortype"] == "UnknownOperationException"
        assert answer.headers["x-amzn-requestid"]


async def test_the_back_door_lists_every_accepted_job() -> None:
    """As JSON lines, in the order of acceptance, lost answers included."""
    async with sandbox(ScriptedFault(fault=InjectedFault.ERROR_AFTER)) as (server, client):
        with pytest.raises(ClientError):
            await client.start_trained_model_inference_job(**request("one", tags={"a": "b"}))
        await client.start_trained_model_inference_job(**request("two"))
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{server.url}/_sandbox/jobs") as answer:
                jobs = [json.loads(line) async for line in answer.content]
            async with session.put(f"{server.url}/_sandbox/quotas", json={"per_membership": 2}) as answer:
                assert (await answer.json())["per_membership"] == 2
        assert [(job["name"], job["tags"]) for job in jobs] == [("one", {"a": "b"}), ("two", {})]
        assert request("two").items() <= jobs[1].items()
        assert jobs[0]["arn"] == server.service.jobs()[0].arn
        with pytest.raises(client.exceptions.ServiceQuotaExceededException):
            await client.start_trained_model_inference_job(**request("three"))


async def test_it_says_where_it_listens_and_is_gone_after_its_block() -> None:
    """With the faults it was given."""
    plan = FaultPlan(script=(ScriptedFault(fault=InjectedFault.CONFLICT, operation=Operation.START),))
    async with aiohttp.ClientSession() as session:
        async with (
            SandboxServer(SandboxService(SETTINGS, time.time), Faults(plan)) as server,
            session.get(f"{server.url}/_sandbox/stats") as answer,
        ):
            assert (await answer.json())["unspent_faults"] == 1
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{server.url}/_sandbox/stats")


async def test_a_port_in_use_is_an_error_at_once() -> None:
    """Nothing is left open."""
    async with SandboxServer(SandboxService(SETTINGS, time.time)) as server:
        other = SandboxServer(SandboxService(SETTINGS, time.time), port=server.port)
        with pytest.raises(OSError, match="in use"):
            await other.__aenter__()
