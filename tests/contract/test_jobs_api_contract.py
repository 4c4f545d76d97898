"""What both sides of `JobsApi` promise: the reaction table, and reads that tell what was started."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from conftest import OTHER_MEMBERSHIP, job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from strategies import MEMBERSHIP, REGION, arn

from batchsubmit.cleanrooms.api import Input, JobDetails, JobPage, JobsApi, Resource
from batchsubmit.cleanrooms.client import open_cleanrooms
from batchsubmit.cleanrooms.responses import read_refusal
from batchsubmit.config import Settings, SubmitSettings
from batchsubmit.core.job_states import RUNNING_STATUSES
from batchsubmit.core.jobs import (
    KEY_TAG,
    Accepted,
    Conflicted,
    Denied,
    Forbidden,
    InvalidRequest,
    QuotaExceeded,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.sandbox import FaultPlan, SandboxServer, SandboxService, SandboxSettings
from batchsubmit.sandbox.faults import InjectedFault, ScriptedFault

VERSION = "01234567-89ab-4def-8123-456789abcdef"
FREE = SandboxSettings(per_membership=0, per_account=0, starts_per_second=0, reads_per_second=0, pending_seconds=3600)
START, LIST, GET = "StartTrainedModelInferenceJob", "ListTrainedModelInferenceJobs", "GetTrainedModelInferenceJob"
CANCEL = "CancelTrainedModelInferenceJob"

REFUSALS = {
    InjectedFault.QUOTA_BARE: (402, "ServiceQuotaExceededException", QuotaExceeded),
    InjectedFault.THROTTLED: (429, "ThrottlingException", Throttled),
    InjectedFault.TOO_MANY_REQUESTS: (429, "TooManyRequestsException", Throttled),
    InjectedFault.THROTTLING_400: (400, "Throttling", Throttled),
    InjectedFault.REQUEST_LIMIT: (503, "RequestLimitExceeded", Uncertain),
    InjectedFault.SLOW_DOWN: (503, "SlowDown", Uncertain),
    InjectedFault.CONFLICT: (409, "ConflictException", Conflicted),
    InjectedFault.VALIDATION: (400, "ValidationException", InvalidRequest),
    InjectedFault.NOT_FOUND: (404, "ResourceNotFoundException", InvalidRequest),
    InjectedFault.ACCESS_DENIED: (403, "AccessDeniedException", Denied),
    InjectedFault.EXPIRED_TOKEN: (403, "ExpiredTokenException", Forbidden),
    InjectedFault.UNRECOGNIZED_CLIENT: (403, "UnrecognizedClientException", Forbidden),
    InjectedFault.SUBSCRIPTION_REQUIRED: (403, "SubscriptionRequiredException", Forbidden),
    InjectedFault.UNKNOWN_OPERATION: (404, "UnknownOperationException", Forbidden),
    InjectedFault.ERROR_BEFORE: (500, "InternalServerException", Uncertain),
    InjectedFault.UNAVAILABLE: (503, "ServiceUnavailable", Uncertain),
}
LOST = [
    InjectedFault.ERROR_AFTER,
    InjectedFault.SLOW_DOWN_AFTER,
    InjectedFault.ABORTED_AFTER,
    InjectedFault.TIMEOUT_AFTER,
    InjectedFault.TIMEOUT_EXCEPTION_AFTER,
    InjectedFault.LOST_AFTER,
    InjectedFault.RESET_AFTER,
    InjectedFault.TRUNCATED,
    InjectedFault.UNREADABLE,
    InjectedFault.NO_ARN,
]


@dataclass
class Side:
    """One side of the seam, with the service behind it and a way to disturb its next call."""

    api: JobsApi
    service: SandboxService
    inject: Callable[[InjectedFault, str], None]

    @property
    def names(self) -> list[str]:
        """The jobs that the service has."""
        return [job.name for job in self.service.jobs()]


@asynccontextmanager
async def over_http(service: SandboxService, *, tag_jobs: bool = True) -> AsyncIterator[Side]:
    """The real client against the sandbox's server."""
    async with SandboxServer(service) as server:
        creating = open_cleanrooms(
            Settings(submit=SubmitSettings(tag_jobs=tag_jobs)), region=REGION, sandbox_url=server.url
        )
        async with creating as api:

            def inject(fault: InjectedFault, operation: str) -> None:
                server.faults.configure(FaultPlan(script=(ScriptedFault(fault=fault, operation=operation),)))

            yield Side(api, service, inject)


@asynccontextmanager
async def in_memory(service: SandboxService, *, tag_jobs: bool = True) -> AsyncIterator[Side]:
    """The in-memory side."""
    planned: dict[str, InjectedFault] = {}

    def disturb(operation: str, name: str) -> Disturbance | None:
        fault = planned.pop(operation, None)
        if fault is None:
            return None
        if fault in REFUSALS:
            status, code, _ = REFUSALS[fault]
            return Disturbance(read_refusal(status, code, "injected", {}))
        return Disturbance(Uncertain(fault), took_effect=True)

    def inject(fault: InjectedFault, operation: str) -> None:
        planned[operation] = fault

    yield Side(MemoryCleanRooms(service, tag_jobs=tag_jobs, disturb=disturb), service, inject)


SIDES = [over_http, in_memory]


@pytest.fixture(params=SIDES)
def opening(request: pytest.FixtureRequest) -> Callable[..., AbstractAsyncContextManager[Side]]:
    """How one side is opened."""
    opener: Callable[..., AbstractAsyncContextManager[Side]] = request.param
    return opener


@pytest.fixture
async def side(opening: Callable[..., AbstractAsyncContextManager[Side]]) -> AsyncIterator[Side]:
    """A side on a service without quotas."""
    async with opening(SandboxService(FREE, time.time)) as opened:
        yield opened


async def test_an_accepted_job_brings_the_service_s_own_arn(side: Side) -> None:
    """And the job carries our key beside the user's own tags."""
    job = job_named("\u00fc \U0001f600", tags={"team": "growth"})
    outcome = await side.api.start(job)
    [record] = side.service.jobs()
    assert outcome == Accepted(record.arn)
    assert record.name == job.name
    assert record.tags == {"team": "growth", KEY_TAG: job.key}
    assert KEY_TAG not in job.request["tags"]


async def test_tags_can_be_switched_off(opening: Callable[..., AbstractAsyncContextManager[Side]]) -> None:
    """Some roles may not tag."""
    async with opening(SandboxService(FREE, time.time), tag_jobs=False) as side:
        await side.api.start(job_named("a"))
        await side.api.start(job_named("b", tags={"team": "growth"}))
    assert [record.tags or {} for record in side.service.jobs()] == [{}, {"team": "growth"}]


@pytest.mark.parametrize("fault", REFUSALS, ids=str)
async def test_a_refusal_is_told_by_what_can_be_done_about_it(side: Side, fault: InjectedFault) -> None:
    """And nothing was started."""
    _, code, kind = REFUSALS[fault]
    side.inject(fault, START)
    outcome = await side.api.start(job_named("a"))
    assert type(outcome) is kind
    assert code in (outcome.reason if isinstance(outcome, Uncertain) else getattr(outcome, "code", ""))
    assert side.names == []
    assert isinstance(await side.api.start(job_named("a")), Accepted)


@pytest.mark.parametrize("fault", LOST, ids=str)
async def test_a_lost_answer_is_uncertain_and_the_job_runs(side: Side, fault: InjectedFault) -> None:
    """Nobody may take it for a refusal, nor for a call that never left."""
    side.inject(fault, START)
    outcome = await side.api.start(job_named("a"))
    assert isinstance(outcome, Uncertain)
    assert outcome.reason
    assert side.names == ["a"]


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        (SandboxSettings(per_membership=2, per_account=0, pending_seconds=3600), 2),
        (SandboxSettings(per_membership=0, per_account=2, pending_seconds=3600), 2),
    ],
)
async def test_a_full_quota_names_itself_and_its_value(
    opening: Callable[..., AbstractAsyncContextManager[Side]], settings: SandboxSettings, value: float
) -> None:
    """So that it can be learned."""
    async with opening(SandboxService(settings, time.time)) as side:
        outcomes: list[Result] = [await side.api.start(job_named(name)) for name in "abc"]
    *accepted, refused = outcomes
    assert all(isinstance(outcome, Accepted) for outcome in accepted)
    assert isinstance(refused, QuotaExceeded)
    assert refused.code == "ServiceQuotaExceededException"
    assert refused.quota_value == value
    assert refused.quota_name
    assert refused.message


async def test_a_model_that_does_not_exist_rejects_the_job(
    opening: Callable[..., AbstractAsyncContextManager[Side]],
) -> None:
    """For good."""
    settings = SandboxSettings(missing_inputs=frozenset({arn("trained-model")}))
    async with opening(SandboxService(settings, time.time)) as side:
        outcome = await side.api.start(job_named("a"))
    assert isinstance(outcome, InvalidRequest)
    assert outcome.code == "ResourceNotFoundException"


async def pages(side: Side, **filters: str) -> list[JobPage]:
    """Every page of the membership."""
    read: list[JobPage] = []
    token: str | None = None
    while not read or token:
        page = await side.api.list_page(MEMBERSHIP, token=token, **filters)
        assert isinstance(page, JobPage)
        read.append(page)
        token = page.next_token
    return read


async def test_a_list_has_every_job_of_the_membership_in_pages(side: Side) -> None:
    """A hundred a page; with name, status and an aware time; and none of another membership."""
    before = datetime.now(UTC)
    names = [f"job-{number}" for number in range(105)]
    for name in names:
        await side.api.start(job_named(name))
    await side.api.start(job_named("elsewhere", membership=OTHER_MEMBERSHIP))
    read = await pages(side)
    assert [len(page.jobs) for page in read] == [100, 5]
    jobs = [job for page in read for job in page.jobs]
    assert sorted(job.name for job in jobs) == sorted(names)
    assert {job.arn for job in jobs} == {each.arn for each in side.service.jobs() if each.name != "elsewhere"}
    assert all(job.status in RUNNING_STATUSES for job in jobs)
    assert all(abs((job.created_at - before).total_seconds()) < 60 for job in jobs)


async def test_a_list_of_one_model_leaves_the_others_out(side: Side) -> None:
    """As the lookup asks for it."""
    await side.api.start(job_named("a", model="one"))
    await side.api.start(job_named("b", model="two"))
    [page] = await pages(side, trained_model=arn("trained-model", "two"))
    assert [job.name for job in page.jobs] == ["b"]


async def test_an_empty_membership_is_an_empty_page(side: Side) -> None:
    """Not an error."""
    assert await side.api.list_page(MEMBERSHIP) == JobPage(jobs=(), next_token=None)


@pytest.mark.parametrize(
    "fault", [InjectedFault.THROTTLED, InjectedFault.ACCESS_DENIED, InjectedFault.ERROR_BEFORE], ids=str
)
@pytest.mark.parametrize("operation", [LIST, GET])
async def test_a_read_that_is_refused_is_told_like_a_start(side: Side, fault: InjectedFault, operation: str) -> None:
    """The same table."""
    accepted = await side.api.start(job_named("a"))
    assert isinstance(accepted, Accepted)
    side.inject(fault, operation)
    reading = side.api.list_page(MEMBERSHIP) if operation == LIST else side.api.get(MEMBERSHIP, accepted.arn)
    assert type(await reading) is REFUSALS[fault][2]


async def test_a_wrong_token_is_rejected(side: Side) -> None:
    """The reader then begins again."""
    assert isinstance(await side.api.list_page(MEMBERSHIP, token="nonsense"), InvalidRequest)


async def test_details_tell_what_was_asked_for(side: Side) -> None:
    """Every member of the request, and the tags, so that a lookup can prove whose the job is."""
    job = job_named(
        "a",
        description="d",
        environment={"A": "1"},
        containerExecutionParameters={"maxPayloadInMB": 5},
        tags={"team": "growth"},
    )
    accepted = await side.api.start(job)
    assert isinstance(accepted, Accepted)
    details = await side.api.get(MEMBERSHIP, accepted.arn)
    assert isinstance(details, JobDetails)
    assert details.arn == accepted.arn
    assert details.status in RUNNING_STATUSES
    assert details.tags == {"team": "growth", KEY_TAG: job.key}
    assert details.request == {name: value for name, value in job.request.items() if name != "tags"}


async def test_a_job_that_is_not_there_is_rejected_as_not_found(side: Side) -> None:
    """By the code that the lookup knows."""
    outcome = await side.api.get(MEMBERSHIP, arn("trained-model-inference-job", "12345678-1234-1234-1234-123456789012"))
    assert isinstance(outcome, InvalidRequest)
    assert outcome.code == "ResourceNotFoundException"


async def started(side: Side) -> str:
    """Start a job; its ARN."""
    accepted = await side.api.start(job_named("a"))
    assert isinstance(accepted, Accepted)
    return accepted.arn


async def test_a_cancelled_job_is_turned_around(side: Side) -> None:
    """The service takes the call; a second one changes nothing."""
    arn_of_job = await started(side)
    for _ in range(2):
        assert await side.api.cancel(MEMBERSHIP, arn_of_job) == Accepted(arn_of_job)
    details = await side.api.get(MEMBERSHIP, arn_of_job)
    assert isinstance(details, JobDetails)
    assert details.status in {"CANCEL_PENDING", "CANCEL_IN_PROGRESS"}


async def test_a_job_that_has_ended_cannot_be_cancelled(
    opening: Callable[..., AbstractAsyncContextManager[Side]],
) -> None:
    """It is told as a conflict, in the service's words."""
    settings = SandboxSettings(pending_seconds=0, job_seconds=0)
    async with opening(SandboxService(settings, time.time)) as side:
        outcome = await side.api.cancel(MEMBERSHIP, await started(side))
    assert isinstance(outcome, Conflicted)
    assert "ACTIVE" in outcome.message


async def test_cancelling_a_job_that_is_not_there_is_rejected_as_not_found(side: Side) -> None:
    """As with Get."""
    nobody = arn("trained-model-inference-job", "12345678-1234-1234-1234-123456789012")
    outcome = await side.api.cancel(MEMBERSHIP, nobody)
    assert isinstance(outcome, InvalidRequest)
    assert outcome.code == "ResourceNotFoundException"


@pytest.mark.parametrize(
    "fault", [InjectedFault.THROTTLED, InjectedFault.ACCESS_DENIED, InjectedFault.ERROR_BEFORE], ids=str
)
async def test_a_cancellation_that_is_refused_is_told_like_a_start(side: Side, fault: InjectedFault) -> None:
    """The same table, and the job runs on."""
    arn_of_job = await started(side)
    side.inject(fault, CANCEL)
    assert type(await side.api.cancel(MEMBERSHIP, arn_of_job)) is REFUSALS[fault][2]
    details = await side.api.get(MEMBERSHIP, arn_of_job)
    assert isinstance(details, JobDetails)
    assert details.status.startswith("CREATE")


async def test_models_and_channels_are_read_with_their_status(side: Side) -> None:
    """What a plan looks at before anything is sent."""
    model, channel = arn("trained-model"), arn("ml-input-channel")
    assert await side.api.input(Input("trained model", MEMBERSHIP, model)) == Resource(arn=model, status="ACTIVE")
    assert await side.api.input(Input("trained model", MEMBERSHIP, model, VERSION)) == Resource(
        arn=model, status="ACTIVE"
    )
    read = await side.api.input(Input("channel", MEMBERSHIP, channel))
    assert isinstance(read, Resource)
    assert (read.arn, read.status, read.budgets) == (channel, "ACTIVE", {})
    side.service.configure(SandboxSettings(input_statuses={model: "INACTIVE", channel: "INACTIVE"}))
    assert await side.api.input(Input("trained model", MEMBERSHIP, model)) == Resource(arn=model, status="INACTIVE")
    read = await side.api.input(Input("channel", MEMBERSHIP, channel))
    assert isinstance(read, Resource)
    assert (read.arn, read.status) == (channel, "INACTIVE")


async def test_a_channel_tells_how_long_it_is_kept_and_what_may_still_be_taken_of_it(side: Side) -> None:
    """Days from its creation, and a budget for each table behind it."""
    channel = arn("ml-input-channel")
    side.service.configure(SandboxSettings(retention_days=3, access_budgets={channel: 7}))
    read = await side.api.input(Input("channel", MEMBERSHIP, channel))
    assert isinstance(read, Resource)
    [(table, left)] = read.budgets.items()
    assert "/configuredtableassociation/" in table
    assert left == 7
    assert read.kept_until is not None
    assert timedelta(days=2.9) < read.kept_until - datetime.now(UTC) <= timedelta(days=3)


async def test_what_is_still_being_created_is_not_ready_until_then(side: Side) -> None:
    """A Start that names it is in conflict meanwhile; that it is a 409 is an assumption."""
    channel = arn("ml-input-channel")
    side.service.configure(SandboxSettings(creating_seconds={channel: 3600}))
    read = await side.api.input(Input("channel", MEMBERSHIP, channel))
    assert isinstance(read, Resource)
    assert read.status == "CREATE_PENDING"
    assert isinstance(await side.api.start(job_named("a")), Conflicted)
    side.service.configure(SandboxSettings())
    assert isinstance(await side.api.start(job_named("a")), Accepted)


@pytest.mark.parametrize("fault", REFUSALS)
async def test_models_and_channels_that_cannot_be_read_say_why(side: Side, fault: InjectedFault) -> None:
    """Trouble is an outcome here as well."""
    side.inject(fault, "GetTrainedModel")
    assert isinstance(
        await side.api.input(Input("trained model", MEMBERSHIP, arn("trained-model"))), REFUSALS[fault][2]
    )
    side.inject(fault, "GetMLInputChannel")
    assert isinstance(await side.api.input(Input("channel", MEMBERSHIP, arn("ml-input-channel"))), REFUSALS[fault][2])


async def test_what_is_missing_is_not_found(side: Side) -> None:
    """A model or channel that does not exist will not come about by asking again."""
    model, channel = arn("trained-model"), arn("ml-input-channel")
    gone = SandboxSettings(missing_inputs=frozenset({model, channel}))
    side.service.configure(gone)
    for answer in (
        await side.api.input(Input("trained model", MEMBERSHIP, model)),
        await side.api.input(Input("channel", MEMBERSHIP, channel)),
    ):
        assert isinstance(answer, InvalidRequest)
        assert answer.code == "ResourceNotFoundException"
