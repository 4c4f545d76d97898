"""The rules by which an unknown job becomes a known one, in virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, job_arn, job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from memory_ledger import MemoryLedger
from virtual_time import EPOCH, VirtualClock, running_loop, virtually
from world import GET, LIST, World

from batchsubmit.cleanrooms.api import JobDetails, JobPage
from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import (
    KEY_TAG,
    Absent,
    Accepted,
    Denied,
    Duplicate,
    Event,
    Intent,
    InvalidRequest,
    Job,
    JobSubmitted,
    JobUnknown,
    NotSent,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.errors import StoppedError
from batchsubmit.sandbox import SandboxService
from batchsubmit.submit.lookup import Finding, NotThere, Undecided
from batchsubmit.submit.stopping import StopReason

SETTLE_SECONDS = 10.0
JOB = job_named("a")
FORBIDDEN = Denied("AccessDeniedException", "not authorized")
THROTTLED = Throttled("ThrottlingException", "Rate exceeded")


class Api(MemoryCleanRooms):
    """The service in memory; tests bend single answers."""

    def __init__(self, service: SandboxService, disturb: Callable[[str, str], Disturbance | None]) -> None:
        super().__init__(service, tag_jobs=False, disturb=disturb)
        self.listed_at: list[float] = []
        self.read_seconds = 0.0
        self.pages: list[JobPage | Result] = []
        self.deleted: set[str] = set()
        self.filled_in: dict[str, Any] = {}

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Result:
        """The next of `pages`, then the service's own."""
        self.listed_at.append(running_loop().time())
        if self.pages:
            return self.pages.pop(0)
        own = token if token != "more" else None
        return await super().list_page(membership, trained_model=trained_model, token=own)

    async def get(self, membership: str, arn: str) -> JobDetails | Result:
        """Read a job, unless it is gone."""
        details = await super().get(membership, arn)
        await asyncio.sleep(self.read_seconds)
        if arn in self.deleted:
            return InvalidRequest("ResourceNotFoundException", "gone")
        if isinstance(details, JobDetails):
            return replace(details, request={**details.request, **self.filled_in})
        return details


class Desk(World):
    """A lookup, and what it looks at. Make it on a virtual loop."""

    def __init__(self, *, lag_seconds: float = 0.0) -> None:
        self.loop = running_loop()
        settings = {
            "rate": {"max_per_second": 0, "reads_per_second": 0},
            "retry": {"base_seconds": 0.01, "cap_seconds": 0.05},
            "lookup": {"settle_seconds": SETTLE_SECONDS},
        }
        super().__init__(VirtualClock(self.loop), settings=settings, api=Api, list_lag_seconds=lag_seconds)
        self.use(self.ledger)

    def use(self, ledger: MemoryLedger) -> None:
        """Write to this ledger from now on."""
        self.ledger = ledger
        self.lookup = self.engine().runner.lookup

    async def started(self, job: Job, *, key: str | None = None) -> str:
        """Have the service accept a job, tagged with a key or not; gives the ARN."""
        request = dict(job.request) | ({"tags": {KEY_TAG: key}} if key else {})
        outcome = await self.api.start(replace(job, request=request))
        assert isinstance(outcome, Accepted)
        return outcome.arn

    def intended(self, job: Job, attempt: int = 1) -> None:
        """Note that a call is about to leave."""
        intent = Intent(**self._of(job), attempt=attempt, trained_model=job.trained_model)
        self.ledger.note(intent)

    def doubted(self, job: Job, attempt: int = 1) -> None:
        """Note a call without an answer."""
        self.intended(job, attempt)
        self.ledger.note(JobUnknown(**self._of(job), reason="read time-out", attempt=attempt))

    def submitted(self, job: Job, arn: str) -> None:
        """Note an answer."""
        self.ledger.note(JobSubmitted(**self._of(job), arn=arn, attempt=1, via="start"))

    def _of(self, job: Job) -> dict[str, str]:
        at = self.clock.now().isoformat().replace("+00:00", "Z")
        return {"at": at, "job": job.key, "membership": job.membership, "name": job.name}

    async def resolve(self, *jobs: Job, knows: bool = True) -> list[Finding]:
        """Look jobs up together. `knows` is False where the manifest has lost their rows."""
        async with asyncio.TaskGroup() as tasks:
            findings = [
                tasks.create_task(self.lookup.resolve(job.key, job.request if knows else None, tasks)) for job in jobs
            ]
        return [finding.result() for finding in findings]

    def phase(self, job: Job = JOB) -> Phase:
        """Where the ledger has a job."""
        state = self.ledger.state.get(job.key)
        assert state is not None
        return state.phase


# The tag


@virtually
async def test_a_job_with_our_tag_is_found_and_recorded() -> None:
    """At the first look: what is there need not settle."""
    desk = Desk()
    desk.doubted(JOB, attempt=3)
    arn = await desk.started(JOB, key=JOB.key)
    assert await desk.resolve(JOB) == [Accepted(arn)]
    [event] = desk.events(JobSubmitted)
    assert isinstance(event, JobSubmitted)
    assert (event.job, event.arn, event.attempt, event.via) == (JOB.key, arn, 3, "lookup")
    assert desk.loop.time() == 0


@virtually
async def test_the_tag_decides_among_jobs_that_look_alike() -> None:
    """The same name and the same request, but another key."""
    desk = Desk()
    await desk.started(JOB, key="z" * 26)
    desk.doubted(JOB)
    ours = await desk.started(JOB, key=JOB.key)
    await desk.started(JOB, key="y" * 26)
    assert await desk.resolve(JOB) == [Accepted(ours)]
    assert desk.events(Duplicate) == []


@virtually
async def test_a_job_that_carries_another_key_is_not_ours() -> None:
    """However alike: another ledger or batch made it."""
    desk = Desk()
    desk.doubted(JOB)
    await desk.started(JOB, key="z" * 26)
    assert await desk.resolve(JOB) == [NotThere()]
    assert desk.phase() is Phase.ABSENT


@virtually
async def test_our_tag_is_enough_where_the_row_is_gone() -> None:
    """The ledger alone knows the key."""
    desk = Desk()
    desk.doubted(JOB)
    arn = await desk.started(JOB, key=JOB.key)
    assert await desk.resolve(JOB, knows=False) == [Accepted(arn)]


@virtually
async def test_a_name_that_only_begins_the_same_is_not_even_read() -> None:
    """Get calls are saved."""
    desk = Desk()
    desk.doubted(JOB)
    await desk.started(job_named("ab"), key="z" * 26)
    assert await desk.resolve(JOB) == [NotThere()]
    assert desk.calls[GET] == 0


# The request, where there is no tag


@virtually
async def test_an_untagged_job_with_the_whole_request_is_ours() -> None:
    """Also where the service filled something in."""
    desk = Desk()
    desk.api.filled_in = {"kmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/default"}
    desk.doubted(JOB)
    arn = await desk.started(JOB)
    assert await desk.resolve(JOB) == [Accepted(arn)]


@virtually
async def test_the_user_s_own_tags_are_no_part_of_the_comparison() -> None:
    """Someone may have changed them since."""
    desk = Desk()
    job = job_named("a", tags={"team": "red"})
    desk.doubted(job)
    arn = await desk.started(job_named("a", tags={"team": "blue"}))
    assert await desk.resolve(job) == [Accepted(arn)]


@pytest.mark.parametrize(
    "difference",
    [
        {"description": "other"},
        {"resourceConfig": {"instanceType": "ml.m5.large", "instanceCount": 2}},
        {"resourceConfig": {"instanceType": "ml.m5.xlarge"}},
        {"environment": {"KEY": "other"}},
        {"environment": {}},
        {"dataSource": {"mlInputChannelArn": job_arn("x").replace("trained-model-inference-job", "ml-input-channel")}},
        {"outputConfiguration": {"members": [{"accountId": "444455556666"}]}},
        {"outputConfiguration": {"members": [{"accountId": "111122223333"}], "accept": "text/csv"}},
    ],
    ids="-".join,
)
def test_an_untagged_job_that_differs_anywhere_is_not_ours(difference: dict[str, Any]) -> None:
    """Members, members of members, and values."""
    asked: dict[str, Any] = {
        "description": "d",
        "environment": {"KEY": "value"},
        "resourceConfig": {"instanceType": "ml.m5.large", "instanceCount": 1},
        "outputConfiguration": {"members": [{"accountId": "111122223333"}], "accept": "application/json"},
    }

    @virtually
    async def look() -> list[Finding]:
        desk = Desk()
        job = job_named("a", **asked)
        desk.doubted(job)
        await desk.started(replace(job, request={**job.request, **difference}))
        return await desk.resolve(job)

    assert look() == [NotThere()]


@virtually
async def test_of_two_rows_of_one_name_the_job_of_the_fuller_one_is_not_the_other_s() -> None:
    """Untagged, both without an answer, and only one of them was accepted."""
    desk = Desk()
    fuller = job_named("a", description="with one")
    desk.doubted(JOB)
    desk.doubted(fuller)
    arn = await desk.started(fuller)
    assert await desk.resolve(JOB, fuller) == [NotThere(), Accepted(arn)]


@virtually
async def test_an_untagged_job_from_long_before_the_intent_is_not_ours() -> None:
    """An earlier round's job of the same row."""
    desk = Desk()
    await desk.started(JOB)
    await asyncio.sleep(3 * 3600)
    desk.doubted(JOB)
    assert await desk.resolve(JOB) == [NotThere()]


@virtually
async def test_an_untagged_job_of_a_row_that_is_gone_leaves_the_job_unknown() -> None:
    """It may be ours, and nothing can tell."""
    desk = Desk()
    desk.doubted(JOB)
    await desk.started(JOB)
    [finding] = await desk.resolve(JOB, knows=False)
    assert isinstance(finding, Undecided)
    assert "manifest" in finding.reason
    assert desk.phase() is Phase.UNKNOWN
    assert desk.loop.time() >= SETTLE_SECONDS  # till then a tagged one might have come


@virtually
async def test_a_row_that_is_gone_is_absent_where_nothing_has_its_name() -> None:
    """As with any other."""
    desk = Desk()
    desk.doubted(JOB)
    assert await desk.resolve(JOB, knows=False) == [NotThere()]


# Claims, copies and duplicates


@virtually
async def test_an_arn_that_another_job_claims_is_not_ours() -> None:
    """Identical rows, untagged: the answered one's job is its own."""
    desk = Desk()
    copy = replace(JOB, key="c" * 26)
    arn = await desk.started(JOB)
    desk.intended(copy)
    desk.submitted(copy, arn)
    desk.doubted(JOB)
    assert await desk.resolve(JOB) == [NotThere()]


@virtually
async def test_a_job_with_our_key_whose_arn_another_call_was_answered_with_is_not_started_again() -> None:
    """The tag proves that it exists; the ledger's word for the other job does not take it away."""
    desk = Desk()
    other = replace(JOB, key="c" * 26, name="another name")
    arn = await desk.started(JOB, key=JOB.key)
    desk.intended(other)
    desk.submitted(other, arn)
    desk.doubted(JOB)
    [finding] = await desk.resolve(JOB)
    assert isinstance(finding, Undecided)
    assert arn in finding.reason
    assert desk.phase() is Phase.UNKNOWN


@virtually
async def test_an_arn_that_is_another_job_s_duplicate_is_not_ours() -> None:
    """It is spoken for as well."""
    desk = Desk()
    copy = replace(JOB, key="c" * 26)
    first, second = await desk.started(JOB), await desk.started(JOB)
    desk.intended(copy)
    desk.submitted(copy, first)
    at = {"at": "2026-11-23T00:00:00.000000Z", "job": copy.key, "membership": copy.membership, "name": copy.name}
    desk.ledger.note(Duplicate(**at, arn=second, of=first))
    desk.doubted(JOB)
    assert await desk.resolve(JOB) == [NotThere()]


@pytest.mark.parametrize("accepted", [0, 1, 2, 3])
def test_untagged_copies_get_one_job_each(accepted: int) -> None:
    """As many as there are; for the others there is none."""

    @virtually
    async def look() -> None:
        desk = Desk()
        copies = [replace(JOB, key=letter * 26) for letter in "abc"]
        for copy in copies:
            desk.doubted(copy)
        arns = [await desk.started(JOB) for _ in range(accepted)]
        findings = await desk.resolve(*copies)
        assert sorted(each.arn for each in findings if isinstance(each, Accepted)) == sorted(arns)
        assert findings.count(NotThere()) == 3 - accepted

    look()


@virtually
async def test_an_untagged_copy_s_job_is_not_taken_while_its_call_is_under_way() -> None:
    """The answer may still say whose it is."""
    desk = Desk()
    copy = replace(JOB, key="c" * 26)
    desk.doubted(JOB)
    desk.intended(copy)
    arn = await desk.started(JOB)
    looking = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(SETTLE_SECONDS / 2)
    assert not looking.done()
    desk.submitted(copy, arn)
    assert await looking == [NotThere()]


@virtually
async def test_a_job_is_not_absent_while_a_copy_s_call_keeps_the_only_candidate_in_doubt() -> None:
    """Untagged: ours was accepted, and the copy's call outlasts the settle time."""
    desk = Desk()
    copy = replace(JOB, key="c" * 26)
    desk.doubted(JOB)
    ours = await desk.started(JOB)
    desk.intended(copy)
    looking = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(SETTLE_SECONDS * 1.5)
    assert desk.phase() is Phase.UNKNOWN
    desk.submitted(copy, await desk.started(JOB))
    assert await looking == [Accepted(ours)]


@virtually
async def test_an_arn_that_is_claimed_while_it_is_being_read_is_not_ours() -> None:
    """Untagged: the copy's answer arrives during our Get."""
    desk = Desk()
    desk.api.read_seconds = 1.0
    copy = replace(JOB, key="c" * 26)
    desk.doubted(JOB)
    desk.intended(copy)
    arn = await desk.started(JOB)
    looking = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(0.5)
    assert desk.calls[GET] == 1
    desk.submitted(copy, arn)
    assert await looking == [NotThere()]


@virtually
async def test_of_several_matches_the_oldest_is_ours_and_the_others_are_duplicates() -> None:
    """Each is recorded: it runs, and is paid for."""
    desk = Desk()
    desk.doubted(JOB)
    arns = []
    for _ in range(4):
        arns.append(await desk.started(JOB, key=JOB.key))
        await asyncio.sleep(1)
    assert await desk.resolve(JOB) == [Accepted(arns[0])]
    duplicates = [event for event in desk.events(Duplicate) if isinstance(event, Duplicate)]
    assert [event.arn for event in duplicates] == arns[1:]
    assert {event.of for event in duplicates} == {arns[0]}
    state = desk.ledger.state.get(JOB.key)
    assert state is not None
    assert (state.arn, state.duplicates) == (arns[0], tuple(arns[1:]))


# The settle time


@virtually
async def test_nothing_is_absent_before_a_look_that_began_after_the_settle_time() -> None:
    """By the clock that never steps."""
    desk = Desk()
    await asyncio.sleep(1)
    desk.doubted(JOB)
    assert await desk.resolve(JOB) == [NotThere()]
    assert desk.api.listed_at[-1] >= 1 + SETTLE_SECONDS
    assert desk.loop.time() < 1 + SETTLE_SECONDS * 1.3
    [event] = desk.events(Absent)
    assert isinstance(event, Absent)
    assert event.attempt == 1


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("after_seconds", [0.0, 5.0, 9.9])
def test_steps_of_the_wall_clock_neither_shorten_nor_lengthen_it(hours: int, after_seconds: float) -> None:
    """Nor do they hide a job that shows late."""

    @virtually
    async def look() -> None:
        desk = Desk(lag_seconds=SETTLE_SECONDS - 0.5)
        desk.doubted(JOB)
        arn = await desk.started(JOB, key=JOB.key)
        looking = asyncio.ensure_future(desk.resolve(JOB))
        await asyncio.sleep(after_seconds)
        desk.clock.offset_seconds = hours * 3600
        assert await looking == [Accepted(arn)]
        assert desk.loop.time() < SETTLE_SECONDS * 1.3

    look()


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_intent_written_by_a_wrong_wall_clock_is_found_all_the_same(hours: int) -> None:
    """The service's clock is right."""

    @virtually
    async def look() -> None:
        desk = Desk()
        desk.clock.offset_seconds = hours * 3600
        desk.doubted(JOB)
        desk.clock.offset_seconds = 0
        arn = await desk.started(JOB)
        assert await desk.resolve(JOB) == [Accepted(arn)]

    look()


@virtually
async def test_a_look_that_began_too_early_proves_nothing_however_long_it_takes() -> None:
    """The page was read before the job was to be seen."""
    desk = Desk(lag_seconds=SETTLE_SECONDS - 1)
    desk.doubted(JOB)
    arn = await desk.started(JOB, key=JOB.key)

    async def slow_page(*_: object, **__: object) -> JobPage:
        await asyncio.sleep(SETTLE_SECONDS * 2)
        return JobPage(jobs=(), next_token=None)

    real, desk.api.list_page = desk.api.list_page, slow_page  # type: ignore[method-assign]
    looking = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(1)
    desk.api.list_page = real  # type: ignore[method-assign]
    assert await looking == [Accepted(arn)]


@virtually
async def test_each_job_of_a_group_has_its_own_settle_time() -> None:
    """One that joins late is not judged by the others' clock."""
    desk = Desk()
    late = job_named("late")
    desk.doubted(JOB)
    first = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(SETTLE_SECONDS * 0.7)
    desk.doubted(late)
    assert await desk.resolve(late) == [NotThere()]
    assert await first == [NotThere()]
    decided = {event.job: datetime.fromisoformat(event.at) - EPOCH for event in desk.events(Absent)}
    assert SETTLE_SECONDS <= decided[JOB.key].total_seconds() < SETTLE_SECONDS * 1.3
    assert decided[late.key].total_seconds() >= SETTLE_SECONDS * 1.7


# The reads


@virtually
async def test_many_jobs_of_one_membership_and_model_share_their_looks() -> None:
    """A thousand unknown jobs cost no more List calls than one."""
    alone = Desk()
    alone.doubted(JOB)
    await alone.resolve(JOB)
    desk = Desk()
    jobs = [job_named(f"job-{number}") for number in range(50)]
    for job in jobs:
        desk.doubted(job)
    assert await desk.resolve(*jobs) == [NotThere()] * 50
    assert desk.calls[LIST] <= alone.calls[LIST] + 1


@virtually
async def test_memberships_and_models_are_looked_through_apart() -> None:
    """And each job is found in its own."""
    desk = Desk()
    jobs = [JOB, job_named("a", model="two"), job_named("a", membership=OTHER_MEMBERSHIP)]
    arns = []
    for job in jobs:
        desk.doubted(job)
        arns.append(await desk.started(job, key=job.key))
    assert await desk.resolve(*jobs) == [Accepted(arn) for arn in arns]
    assert desk.calls[LIST] == 3


@virtually
async def test_an_empty_page_in_the_middle_is_not_the_end() -> None:
    """The job stands on the next one."""
    desk = Desk()
    desk.doubted(JOB)
    arn = await desk.started(JOB, key=JOB.key)
    desk.api.pages = [JobPage(jobs=(), next_token="more"), JobPage(jobs=(), next_token="and more")]
    assert await desk.resolve(JOB) == [Accepted(arn)]
    assert desk.loop.time() == 0


@virtually
async def test_a_token_that_expires_begins_the_look_again() -> None:
    """Half a list proves nothing."""
    desk = Desk()
    desk.doubted(JOB)
    arn = await desk.started(JOB, key=JOB.key)
    desk.api.pages = [
        JobPage(jobs=(), next_token="more"),
        InvalidRequest("ValidationException", "nextToken is expired."),
    ]
    assert await desk.resolve(JOB) == [Accepted(arn)]
    assert desk.calls[LIST] == 1


@pytest.mark.parametrize("trouble", [THROTTLED, Uncertain("500"), NotSent("EndpointConnection", "refused")], ids=str)
def test_reads_that_fail_are_tried_again(trouble: Result) -> None:
    """List and Get alike."""

    @virtually
    async def look() -> None:
        desk = Desk()
        desk.doubted(JOB)
        arn = await desk.started(JOB, key=JOB.key)
        desk.troubles = {LIST: [trouble] * 3, GET: [trouble] * 3}
        assert await desk.resolve(JOB) == [Accepted(arn)]
        assert (desk.calls[LIST], desk.calls[GET]) == (4, 4)

    look()


@pytest.mark.parametrize("operation", [LIST, GET])
@pytest.mark.parametrize("trouble", [FORBIDDEN, THROTTLED], ids=["forbidden", "throttled for ever"])
def test_where_the_service_does_not_tell_the_job_stays_unknown(operation: str, trouble: Result) -> None:
    """Nothing is written down, and the reason names the call."""

    @virtually
    async def look() -> None:
        desk = Desk()
        desk.doubted(JOB)
        await desk.started(JOB, key=JOB.key)
        desk.troubles[operation] = [trouble] * 999
        before = list(desk.ledger.events)
        [finding] = await desk.resolve(JOB)
        assert isinstance(finding, Undecided)
        assert operation in finding.reason
        assert desk.ledger.events == before
        assert desk.phase() is Phase.UNKNOWN

    look()


@virtually
async def test_trouble_after_the_settle_time_does_not_prove_absence() -> None:
    """The last look must be a whole one."""
    desk = Desk()
    desk.doubted(JOB)
    looking = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(SETTLE_SECONDS - 0.1)
    desk.troubles[LIST] = [FORBIDDEN]
    [finding] = await looking
    assert isinstance(finding, Undecided)
    assert desk.events(Absent) == []


@virtually
async def test_a_job_that_get_does_not_know_leaves_only_its_own_undecided() -> None:
    """No job is ever deleted: List shows one of its name, so it is not sent again; others are decided."""
    desk = Desk()
    other = job_named("b")
    for job in (JOB, other):
        desk.doubted(job)
    desk.api.deleted = {await desk.started(JOB, key="z" * 26)}
    arn = await desk.started(other, key=other.key)
    undecided, found = await desk.resolve(JOB, other)
    assert isinstance(undecided, Undecided)
    assert "Get does not know" in undecided.reason
    assert found == Accepted(arn)


# How it ends


@virtually
async def test_a_stop_ends_the_search_and_leaves_the_job_unknown() -> None:
    """At once; the next run goes on."""
    desk = Desk()
    desk.doubted(JOB)
    looking = asyncio.ensure_future(desk.resolve(JOB))
    await asyncio.sleep(1)
    desk.stop.request(StopReason.SIGNAL, "SIGINT received")
    [finding] = await looking
    assert isinstance(finding, Undecided)
    assert desk.loop.time() == 1
    assert desk.phase() is Phase.UNKNOWN


@virtually
async def test_a_job_that_is_no_longer_unknown_is_not_looked_up() -> None:
    """Nor one that the ledger has never heard of."""
    desk = Desk()
    desk.intended(JOB)
    desk.submitted(JOB, job_arn("x"))
    for finding in await desk.resolve(JOB, job_named("never")):
        assert isinstance(finding, Undecided)
    assert not desk.calls


@virtually
async def test_an_intent_without_an_answer_is_looked_up_as_well() -> None:
    """Its process died."""
    desk = Desk()
    desk.intended(JOB)
    arn = await desk.started(JOB, key=JOB.key)
    assert await desk.resolve(JOB) == [Accepted(arn)]


@virtually
async def test_a_ledger_that_fails_is_told_to_all_who_wait() -> None:
    """Nobody waits for ever."""

    class FullLedger(MemoryLedger):
        def put(self, event: Event) -> Any:  # noqa: ANN401 (an awaitable)
            raise StoppedError(f"the disk is full: {type(event).__name__}")

    desk = Desk()
    other = job_named("b")
    desk.use(FullLedger())
    for job in (JOB, other):
        desk.doubted(job)
        await desk.started(job, key=job.key)
    with pytest.raises(ExceptionGroup) as caught:
        await desk.resolve(JOB, other)
    assert caught.group_contains(StoppedError)
    assert desk.phase() is desk.phase(other) is Phase.UNKNOWN


@virtually
async def test_what_was_looked_up_once_can_be_doubted_and_looked_up_again() -> None:
    """A second attempt's fate is its own."""
    desk = Desk()
    desk.doubted(JOB)
    assert await desk.resolve(JOB) == [NotThere()]
    desk.doubted(JOB, attempt=2)
    arn = await desk.started(JOB, key=JOB.key)
    assert await desk.resolve(JOB) == [Accepted(arn)]
    assert [type(event) for event in desk.ledger.events] == [
        Intent,
        JobUnknown,
        Absent,
        Intent,
        JobUnknown,
        JobSubmitted,
    ]
