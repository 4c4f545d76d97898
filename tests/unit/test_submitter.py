"""One job, from its intent to its outcome, on a service and a ledger in memory."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from conftest import FakeClock, job_named
from memory_cleanrooms import Disturbance
from memory_ledger import MemoryLedger
from strategies import MEMBERSHIP
from world import Trouble, World

from batchsubmit.config import SubmitSettings
from batchsubmit.core.job_states import BURST
from batchsubmit.core.jobs import (
    KEY_TAG,
    Accepted,
    Conflicted,
    Denied,
    Event,
    Forbidden,
    Intent,
    InvalidRequest,
    Job,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    NotSent,
    OtherQuotaExceeded,
    QuotaExceeded,
    RefusalCause,
    Refused,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.core.source import Ending
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import LostJobError
from batchsubmit.submit.stopping import StopReason
from batchsubmit.submit.submitter import Submitter

JOB = job_named("a")
THROTTLED = Throttled("ThrottlingException", "Rate exceeded")
CONFLICTED = Conflicted("ConflictException", "in progress")
REJECTED = InvalidRequest("ValidationException", "no")
NOT_SENT = NotSent("EndpointConnection", "refused")
UNCERTAIN = Uncertain("read time-out")
RETRY = {"max_attempts": 3, "base_seconds": 1, "cap_seconds": 2}


class Submissions(World):
    """A service with two slots and a submitter for it; the script is what its Start calls bring."""

    def __init__(self, clock: FakeClock, *script: Trouble, rate: float = 0, **more: Any) -> None:  # noqa: ANN401 (of World)
        settings = {"rate": {"max_per_second": rate}, "retry": RETRY, "submit": {"concurrency": 32}}
        super().__init__(clock, *script, settings=settings, per_membership=2, **more)
        self.open_engine()

    def open_engine(self, *, concurrency: int = 32, **other: Any) -> Submitter:  # noqa: ANN401 (a ledger, a JobsApi)
        """Give a submitter on another service or ledger."""
        vars(self).update(other)
        self.settings = self.settings.model_copy(update={"submit": SubmitSettings(concurrency=concurrency)})
        engine = self.engine()
        self.submitter, self.gate = engine.runner.submitter, engine.gate
        return self.submitter


async def test_an_accepted_job_is_recorded_between_intent_and_arn(clock: FakeClock) -> None:
    """The intent first, the service's own ARN after it."""
    world = Submissions(clock)
    assert isinstance(await world.submitter.submit(JOB), Accepted)
    intent, submitted = world.ledger.events
    assert isinstance(intent, Intent)
    assert (intent.job, intent.membership, intent.name, intent.attempt) == (JOB.key, MEMBERSHIP, "a", 1)
    assert intent.trained_model == JOB.trained_model
    assert isinstance(submitted, JobSubmitted)
    assert (submitted.job, submitted.attempt, submitted.via) == (JOB.key, 1, "start")
    assert [submitted.arn] == world.arns
    assert world.counts.submitted == 1


async def test_the_job_carries_its_key_as_a_tag(clock: FakeClock) -> None:
    """By which a lookup knows it."""
    world = Submissions(clock)
    await world.submitter.submit(JOB)
    [job] = world.service.jobs()
    assert job.tags == {KEY_TAG: JOB.key}


async def test_the_intent_is_durable_before_the_call_leaves(clock: FakeClock) -> None:
    """A call that the ledger does not know of is never made."""
    world = Submissions(clock)
    durable = asyncio.Event()

    class SlowLedger(MemoryLedger):
        def put(self, event: Event) -> Awaitable[None]:
            self.note(event)
            return self._once_durable()

        async def _once_durable(self) -> None:
            await durable.wait()

    submitter = world.open_engine(ledger=SlowLedger())
    submission = asyncio.create_task(submitter.submit(JOB))
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.kinds == [Intent]
    assert world.arns == []
    durable.set()
    assert isinstance(await submission, Accepted)


async def test_a_ledger_that_fails_stops_before_the_call(clock: FakeClock) -> None:
    """Nothing is sent that could not be written down."""
    world = Submissions(clock)

    class FullLedger(MemoryLedger):
        def put(self, event: Event) -> Awaitable[None]:
            raise StoppedError(f"the disk is full: {type(event).__name__}")

    with pytest.raises(StoppedError, match="full"):
        await world.open_engine(ledger=FullLedger()).submit(JOB)
    assert world.arns == []


async def test_a_full_membership_sends_the_job_back_to_its_lane(clock: FakeClock) -> None:
    """One call, no waiting here, and the rate is untouched."""
    world = Submissions(clock, rate=100)
    for name in "xy":
        await world.submitter.submit(job_named(name))
    assert isinstance(await world.submitter.submit(JOB), QuotaExceeded)
    assert world.kinds[-2:] == [Intent, Refused]
    assert world.counts.refused_by_quota == 1
    assert clock.slept == []
    assert world.gate.pace.per_second == 100
    assert not world.stop.requested


async def test_throttling_is_waited_out_and_cuts_the_rate(clock: FakeClock) -> None:
    """However often; each try has its own intent."""
    world = Submissions(clock, THROTTLED, THROTTLED, rate=1000)
    assert isinstance(await world.submitter.submit(JOB), Accepted)
    assert world.kinds == [Intent, Refused, Intent, Refused, Intent, JobSubmitted]
    assert [event.attempt for event in world.ledger.events if isinstance(event, Intent)] == [1, 2, 3]
    assert len(clock.slept) == 2
    assert world.counts.throttled >= 1
    assert world.gate.pace.per_second < 1000


async def test_a_conflict_is_tried_again_and_may_end_well(clock: FakeClock) -> None:
    """409 means not now."""
    world = Submissions(clock, CONFLICTED, CONFLICTED)
    assert isinstance(await world.submitter.submit(JOB), Accepted)
    assert len(world.arns) == 1


async def test_a_conflict_that_lasts_fails_the_job_in_the_service_s_words(clock: FakeClock) -> None:
    """After the attempts of the settings."""
    world = Submissions(clock, *[CONFLICTED] * 9)
    assert await world.submitter.submit(JOB) is Ending.DECIDED
    assert world.kinds == [Intent, Refused] * 3 + [JobRejected]
    failed = world.ledger.events[-1]
    assert isinstance(failed, JobRejected)
    assert (failed.code, failed.message, failed.attempt) == (CONFLICTED.code, CONFLICTED.message, 3)


async def test_a_request_that_can_never_work_fails_at_once(clock: FakeClock) -> None:
    """One call, the service's own words, and the run goes on."""
    world = Submissions(clock, REJECTED)
    assert await world.submitter.submit(JOB) is Ending.DECIDED
    failed = world.ledger.events[-1]
    assert isinstance(failed, JobRejected)
    assert (failed.code, failed.message) == (REJECTED.code, REJECTED.message)
    assert world.kinds.count(Intent) == 1
    assert not world.stop.requested


@pytest.mark.parametrize("took_effect", [False, True])
async def test_an_answer_that_never_came_leaves_the_job_unknown(clock: FakeClock, took_effect: bool) -> None:
    """It is never simply sent again."""
    world = Submissions(clock, Disturbance(UNCERTAIN, took_effect=took_effect))
    assert isinstance(await world.submitter.submit(JOB), Uncertain)
    assert world.kinds == [Intent, JobUnknown]
    unknown = world.ledger.events[-1]
    assert isinstance(unknown, JobUnknown)
    assert unknown.reason == UNCERTAIN.reason
    assert len(world.arns) == took_effect


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (QuotaExceeded("402", "no code"), "slots"),
        (OtherQuotaExceeded("ServiceQuotaExceededException", "spent", "Data access budget", 0), "other_quota"),
        (Denied("AccessDeniedException", "no"), "denied"),
        (Forbidden("ExpiredTokenException", "expired"), "caller"),
        (Forbidden("404", "elsewhere", RefusalCause.WRONG_ENDPOINT), "wrong_endpoint"),
        (REJECTED, "invalid"),
        (NOT_SENT, "not_sent"),
        (THROTTLED, "throttled"),
        (CONFLICTED, "conflict"),
    ],
)
async def test_the_ledger_has_the_cause_of_a_refusal_beside_its_code(
    clock: FakeClock, outcome: Result, cause: str
) -> None:
    """As it was decided where the answer was read; a 402 without a code is counted as one about slots."""
    world = Submissions(clock, outcome)
    await world.submitter.submit(JOB)
    (refused, *_) = [event for event in world.ledger.events if isinstance(event, Refused)]
    assert refused.cause == cause
    assert world.counts.refused_by_quota == (cause == "slots")


async def test_an_answer_that_may_follow_acceptance_and_throttles_cuts_the_rate_too(clock: FakeClock) -> None:
    """A 503 SlowDown says both."""
    world = Submissions(clock, Uncertain("503 SlowDown", is_throttling=True), rate=100)
    assert isinstance(await world.submitter.submit(JOB), Uncertain)
    assert world.kinds == [Intent, JobUnknown]
    assert world.gate.pace.per_second < 100


async def test_refused_credentials_stop_the_run_without_failing_the_job(clock: FakeClock) -> None:
    """No other job would fare better, and this one is as new as before."""
    world = Submissions(clock, Forbidden("ExpiredTokenException", "expired"))
    assert await world.submitter.submit(JOB) is Ending.RELEASED
    assert world.stop.reason is StopReason.CREDENTIALS
    assert "expired" in world.stop.message
    assert world.kinds == [Intent, Refused]


async def test_something_that_is_not_the_service_stops_the_run_as_unreachable(clock: FakeClock) -> None:
    """A proxy's 404 is no verdict on the job."""
    world = Submissions(clock, Forbidden("404", "is the endpoint Clean Rooms ML?", RefusalCause.WRONG_ENDPOINT))
    assert await world.submitter.submit(JOB) is Ending.RELEASED
    assert world.stop.reason is StopReason.UNREACHABLE
    assert world.kinds == [Intent, Refused]


async def test_a_call_that_cannot_leave_is_tried_again_and_then_stops_the_run(clock: FakeClock) -> None:
    """The job is not burned on it."""
    world = Submissions(clock, NOT_SENT)
    assert isinstance(await world.submitter.submit(JOB), Accepted)
    world = Submissions(clock, *[NOT_SENT] * 9)
    assert await world.submitter.submit(JOB) is Ending.RELEASED
    assert world.stop.reason is StopReason.UNREACHABLE
    assert world.kinds == [Intent, Refused] * 3


async def test_a_stopped_run_makes_no_call_and_writes_nothing(clock: FakeClock) -> None:
    """The job is as new as before."""
    world = Submissions(clock)
    world.stop.request(StopReason.SIGNAL, "")
    assert await world.submitter.submit(JOB) is Ending.RELEASED
    assert world.kinds == []


async def test_a_job_waiting_for_the_rate_is_withdrawn_when_the_run_stops(clock: FakeClock) -> None:
    """Its intent is answered by a refusal, so that nobody looks for it."""
    world = Submissions(clock, rate=0.01)
    assert isinstance(await world.submitter.submit(job_named("first")), Accepted)
    for _ in range(BURST - 1):
        await world.gate.admit()
    waiting = asyncio.create_task(world.submitter.submit(JOB))
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.kinds[-1] is Intent
    world.stop.request(StopReason.SIGNAL, "")
    assert await asyncio.wait_for(waiting, 5) is Ending.RELEASED
    assert world.kinds[-1] is Refused
    assert len(world.arns) == 1


class SlowApi:
    """A service that answers when it is told to."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    async def start(self, job: Job) -> Result:
        """Take the job, and answer later."""
        assert job is JOB
        self.called.set()
        return await self.answer


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [(Accepted("arn"), JobSubmitted), (UNCERTAIN, JobUnknown), (REJECTED, JobRejected), (THROTTLED, Refused)],
)
async def test_a_call_under_way_is_awaited_and_recorded_when_the_run_stops(
    clock: FakeClock, outcome: Result, kind: type[Event]
) -> None:
    """And no other one follows it."""
    world = Submissions(clock)
    api = SlowApi()
    submitter = world.open_engine(api=api)
    submission = asyncio.create_task(submitter.submit(JOB))
    await asyncio.wait_for(api.called.wait(), 5)
    world.stop.request(StopReason.SIGNAL, "")
    api.answer.set_result(outcome)
    await asyncio.wait_for(submission, 5)
    assert world.kinds[0] is Intent
    assert world.kinds[-1] is kind
    assert world.kinds.count(Intent) == 1


async def test_a_cancelled_call_leaves_the_intent_alone_in_the_ledger(clock: FakeClock) -> None:
    """Which is what the next run looks up."""
    world = Submissions(clock)
    api = SlowApi()
    submission = asyncio.create_task(world.open_engine(api=api).submit(JOB))
    await asyncio.wait_for(api.called.wait(), 5)
    submission.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submission
    assert world.kinds[0] is Intent
    assert world.kinds[-1] in {Intent, JobUnknown}


async def test_attempts_are_counted_on_from_the_ledger(clock: FakeClock) -> None:
    """A second submission of a job continues its numbers."""
    world = Submissions(clock, *[CONFLICTED] * 3)
    assert await world.submitter.submit(JOB) is Ending.DECIDED
    assert isinstance(await world.submitter.submit(JOB), Accepted)
    attempts = [event.attempt for event in world.ledger.events if isinstance(event, Intent)]
    assert attempts == list(range(1, len(attempts) + 1))


class LosingLedger(MemoryLedger):
    """A ledger in which another worker has taken the job over while the call was under way."""

    def put(self, event: Event) -> Awaitable[None]:
        """Take intents alone."""
        if not isinstance(event, Intent):
            raise LostJobError("job is in the hands of another worker")
        return super().put(event)


@pytest.mark.parametrize("outcome", [None, REJECTED, UNCERTAIN], ids=["accepted", "rejected", "uncertain"])
async def test_a_job_that_was_lost_meanwhile_is_left_to_its_new_owner(clock: FakeClock, outcome: Result | None) -> None:
    """Whatever the call brought, the run goes on."""
    world = Submissions(clock, outcome, ledger=LosingLedger())
    assert await world.submitter.submit(JOB) is Ending.RELEASED
    assert not world.stop.requested
    assert world.kinds[0] is Intent
