"""Whole lists and single jobs from a service that may be throttled, empty in the middle or forgetful."""

import time

import pytest
from conftest import FakeClock, job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from strategies import MEMBERSHIP, arn

from batchsubmit.cleanrooms.reads import ReadError, Reads
from batchsubmit.config import RetrySettings
from batchsubmit.core.jobs import Denied, InvalidRequest, NotSent, Result, Throttled, Uncertain
from batchsubmit.pacing import Pace, RateGate
from batchsubmit.sandbox import SandboxService, SandboxSettings

LIST = "ListTrainedModelInferenceJobs"
THROTTLED = Throttled("ThrottlingException", "")
FORBIDDEN = Denied("AccessDeniedException", "not authorized")
EXPIRED = InvalidRequest("ValidationException", "nextToken is expired.")


class Commands:
    """A service with jobs, read through a catalog; `script` disturbs the reads in their order."""

    def __init__(self, clock: FakeClock) -> None:
        self.script: list[Result | None] = []
        self.reads = 0
        service = SandboxService(SandboxSettings(per_membership=0, per_account=0), time.time)
        self.api = MemoryCleanRooms(service, disturb=self._disturb)
        self.catalog = Reads(
            self.api, RetrySettings(base_seconds=1, cap_seconds=2), gate=RateGate(Pace(0)), sleep=clock.sleep
        )

    def _disturb(self, operation: str, _name: str) -> Disturbance | None:
        if operation.startswith("Start"):
            return None
        self.reads += 1
        outcome = self.script.pop(0) if self.script else None
        return Disturbance(outcome) if outcome else None

    async def fill(self, count: int, **members: object) -> list[str]:
        """Start this many jobs; gives their names."""
        names = [f"job-{number:04}" for number in range(count)]
        for name in names:
            await self.api.start(job_named(name, **members))
        return names


@pytest.fixture
def shelf(clock: FakeClock) -> Commands:
    """An empty one."""
    return Commands(clock)


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
async def test_all_pages_are_read_and_each_job_comes_once(shelf: Commands, count: int) -> None:
    """Pages hold a hundred."""
    names = await shelf.fill(count)
    listed = await shelf.catalog.jobs(MEMBERSHIP)
    assert sorted(job.name for job in listed) == names
    assert len({job.arn for job in listed}) == count


async def test_a_list_may_be_of_one_model(shelf: Commands) -> None:
    """The lookup asks for no more than it needs."""
    await shelf.fill(2)
    await shelf.api.start(job_named("other", model="two"))
    listed = await shelf.catalog.jobs(MEMBERSHIP, trained_model=arn("trained-model", "two"))
    assert [job.name for job in listed] == ["other"]


@pytest.mark.parametrize("trouble", [THROTTLED, Uncertain("500"), NotSent("ConnectTimeout", "")])
async def test_a_read_that_fails_is_tried_again(shelf: Commands, clock: FakeClock, trouble: Result) -> None:
    """Reads cost nothing but time."""
    names = await shelf.fill(150)
    shelf.script = [trouble, trouble, None, trouble]
    assert sorted(job.name for job in await shelf.catalog.jobs(MEMBERSHIP)) == names
    assert len(clock.slept) == 3


async def test_a_token_that_expires_begins_the_list_again(shelf: Commands) -> None:
    """What was read may have moved meanwhile."""
    names = await shelf.fill(150)
    shelf.script = [None, EXPIRED]
    assert sorted(job.name for job in await shelf.catalog.jobs(MEMBERSHIP)) == names
    assert shelf.reads == 4


async def test_tokens_that_always_expire_end_in_an_error(shelf: Commands) -> None:
    """Half a list is none."""
    await shelf.fill(150)
    shelf.script = [None, EXPIRED] * 100
    with pytest.raises(ReadError, match=LIST) as caught:
        await shelf.catalog.jobs(MEMBERSHIP)
    assert not caught.value.is_forbidden
    assert shelf.reads < 40


async def test_a_role_that_may_not_list_is_told_at_once(shelf: Commands) -> None:
    """Trying on would not help."""
    shelf.script = [FORBIDDEN] * 9
    with pytest.raises(ReadError) as caught:
        await shelf.catalog.jobs(MEMBERSHIP)
    assert caught.value.is_forbidden
    assert LIST in str(caught.value)
    assert caught.value.outcome == FORBIDDEN
    assert shelf.reads == 1


async def test_trouble_that_lasts_ends_in_an_error(shelf: Commands) -> None:
    """After a bounded number of tries."""
    shelf.script = [THROTTLED] * 999
    with pytest.raises(ReadError) as caught:
        await shelf.catalog.jobs(MEMBERSHIP)
    assert caught.value.outcome == THROTTLED
    assert 1 < shelf.reads < 20


async def test_details_are_those_of_the_job(shelf: Commands) -> None:
    """Its tags and its request, as it was started."""
    job = job_named("a", description="d")
    await shelf.api.start(job)
    [summary] = await shelf.catalog.jobs(MEMBERSHIP)
    shelf.script = [THROTTLED, None]
    details = await shelf.catalog.details(MEMBERSHIP, summary.arn)
    assert details.arn == summary.arn
    assert details.tags["batchsubmit:key"] == job.key
    assert details.request == job.request


async def test_a_job_that_is_not_there_is_told_from_a_service_that_does_not_answer(shelf: Commands) -> None:
    """Only the first proves anything."""
    with pytest.raises(ReadError) as caught:
        await shelf.catalog.details(MEMBERSHIP, arn("trained-model-inference-job", "nothing"))
    assert caught.value.is_not_found
    shelf.script = [Uncertain("500")] * 99
    with pytest.raises(ReadError) as caught:
        await shelf.catalog.details(MEMBERSHIP, arn("trained-model-inference-job", "nothing"))
    assert not caught.value.is_not_found
