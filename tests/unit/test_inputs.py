"""Which jobs wait for a trained model or a channel, how it is looked at, and when they are taken again."""

import asyncio
import time
from collections.abc import Callable

import pytest
from conftest import FakeClock, job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from strategies import MEMBERSHIP, arn
from world import World

from batchsubmit.cleanrooms.api import Input, Resource
from batchsubmit.cleanrooms.reads import Reads
from batchsubmit.config import RetrySettings
from batchsubmit.core.jobs import Denied, Forbidden, Job, NotSent, Result, Throttled, Uncertain
from batchsubmit.core.source import Ending
from batchsubmit.errors import StoppedError
from batchsubmit.pacing import Pace, RateGate
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.submit.inputs import MOST_CHECKED, Readiness, check_inputs
from batchsubmit.submit.stopping import StopReason

MODEL, CHANNEL = arn("trained-model", "one"), arn("ml-input-channel")
MODEL_INPUT = Input("trained model", MEMBERSHIP, arn("trained-model"))
CHANNEL_INPUT = Input("channel", MEMBERSHIP, arn("ml-input-channel"))


class Loan:
    """A delivery that notes what it is told; one of a queue goes `away`."""

    def __init__(self, job: Job, told: list[str], *, away: bool = False) -> None:
        self.job = job
        self._told = told
        self._away = away

    def ended(self, how: Ending) -> None:
        """Back to the head of its lane."""
        self._told.append(f"{self.job.name} {how.value}")

    def put_aside(self) -> Callable[[], None] | None:
        """Give the way back, unless it is away."""
        return None if self._away else lambda: self._told.append(f"{self.job.name} back")


class Bench(World):
    """Inputs, whose reads may be spoiled."""

    def __init__(self, clock: FakeClock, **sandbox: object) -> None:
        settings = {"rate": {"max_per_second": 0, "reads_per_second": 0}, "submit": {"wait_for_inputs": True}}
        super().__init__(clock, settings=settings | {"retry": {}, "slots": {}}, **sandbox)
        self.told = list[str]()
        self.spoiled: Result | None = None
        runner = self.engine().runner
        self.inputs, self.doing = runner.inputs, runner.in_progress

    def disturb(self, operation: str, name: str) -> Disturbance | None:
        """Spoil the reads."""
        return Disturbance(self.spoiled) if self.spoiled else super().disturb(operation, name)

    def keep(self, tasks: asyncio.TaskGroup, *names: str, away: bool = False, model: str = "one") -> list[bool]:
        """Take jobs of these names; says of each whether it has to wait."""
        loans = [Loan(job_named(name, model=model), self.told, away=away) for name in names]
        return [self.inputs.keep(each, tasks, self.doing) for each in loans]

    async def know(self, *, looks: int = 2) -> None:
        """Look at the model, then at the channel, which comes second."""
        for _ in range(looks):
            async with asyncio.TaskGroup() as tasks:
                self.keep(tasks, "first")
        self.told.clear()

    def looks(self) -> int:
        """How often the model was read."""
        return self.service.calls["GetTrainedModel"].total()


async def test_what_is_ready_is_looked_at_once_however_many_jobs_name_it(clock: FakeClock) -> None:
    """Jobs that come during the look wait for it, and are then taken in their order."""
    bench = Bench(clock)
    async with asyncio.TaskGroup() as tasks:
        assert bench.keep(tasks, "a", "b") == [True, True]
    assert bench.told == ["b released", "a released"]  # each goes to the head of its lane
    await bench.know()
    async with asyncio.TaskGroup() as tasks:
        assert bench.keep(tasks, "a", "b") == [False, False]
    assert bench.looks() == 1


async def test_what_is_being_created_is_looked_at_ever_more_rarely(clock: FakeClock) -> None:
    """From a second to a minute apart; the jobs go on in their order once it is there."""
    bench = Bench(clock, creating_seconds={MODEL: 3600.0})
    await bench.know(looks=1)
    clock.slept.clear()
    async with asyncio.TaskGroup() as tasks:
        assert bench.keep(tasks, "a", "b") == [True, True]
    assert clock.slept[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert bench.told == ["b back", "a back"]
    assert 3600 <= clock.seconds < 3600 + 60
    assert bench.looks() < 70


async def test_a_job_that_goes_away_by_itself_leaves_nothing_to_look_at(clock: FakeClock) -> None:
    """A message comes again, and the input is looked at then."""
    bench = Bench(clock, creating_seconds={MODEL: 3600.0})
    await bench.know(looks=1)
    async with asyncio.TaskGroup() as tasks:
        assert bench.keep(tasks, "a", away=True) == [True]
    assert (bench.told, bench.looks(), bench.doing.is_anything) == ([], 1, False)


async def test_a_look_that_fails_meanwhile_does_not_end_the_wait(clock: FakeClock) -> None:
    """The service is down for a minute: that says nothing of the model."""
    bench = Bench(clock, creating_seconds={MODEL: 600.0})
    await bench.know(looks=1)
    async with asyncio.TaskGroup() as tasks:
        bench.keep(tasks, "a")
        await asyncio.sleep(0)
        bench.spoiled = Uncertain("500")
        while clock.seconds < 300:  # noqa: ASYNC110 (the clock moves as the other task sleeps)
            await asyncio.sleep(0)
        assert bench.told == []
        bench.spoiled = None
    assert bench.told == ["a back"]
    assert clock.seconds >= 600


async def test_what_can_not_be_used_refuses_its_jobs_with_the_reason(clock: FakeClock) -> None:
    """They need not wait, and no call is made for them."""
    bench = Bench(clock, input_statuses={MODEL: "INACTIVE"})
    await bench.know()
    async with asyncio.TaskGroup() as tasks:
        assert bench.keep(tasks, "a") == [False]
    refusal = bench.inputs.refusal(job_named("a"))
    assert refusal is not None
    assert (refusal.code, refusal.message) == ("InputUnusable", f"trained model {MODEL} is INACTIVE")
    assert bench.inputs.refusal(job_named("b", model="two")) is None


async def test_a_stop_lets_the_jobs_go_and_says_what_they_waited_for(clock: FakeClock) -> None:
    """The wait ends at once."""
    bench = Bench(clock, creating_seconds={MODEL: 3600.0})
    await bench.know(looks=1)
    async with asyncio.TaskGroup() as tasks:
        bench.keep(tasks, "a")
        bench.stop.request(StopReason.SIGNAL, "")
    assert bench.told == ["a back"]
    assert bench.inputs.unfinished == {f"trained model {MODEL}": "CREATE_PENDING"}
    assert clock.seconds < 120


async def test_only_so_many_inputs_are_looked_at_for_the_first_time_at_once(clock: FakeClock) -> None:
    """A manifest may have a model for each row: reads are needed for slots as well."""
    bench = Bench(clock)
    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            assert bench.inputs.has_room
            bench.keep(tasks, "a", model=f"model-{number}")
        assert not bench.inputs.has_room
    assert bench.inputs.has_room


class CountingApi(MemoryCleanRooms):
    """Counts how many reads are under way."""

    under_way = most_under_way = 0

    async def input(self, wanted: Input) -> Resource | Result:
        """Take a moment for it."""
        self.under_way += 1
        CountingApi.most_under_way = max(CountingApi.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return await super().input(wanted)


async def check(wanted: list[Input], *outcomes: Result, **settings: object) -> Readiness:
    """Check inputs on a sandbox that first answers with these."""
    left = list(outcomes)

    def disturb(operation: str, name: str) -> Disturbance | None:
        del operation, name
        return Disturbance(left.pop(0)) if left else None

    async def sleep(seconds: float) -> None:
        del seconds

    service = SandboxService(SandboxSettings().changed(settings), time.time)
    api = CountingApi(service, disturb=disturb)
    return await check_inputs(Reads(api, RetrySettings(), gate=RateGate(Pace(0)), sleep=sleep), wanted)


async def test_what_is_active_is_no_problem_and_is_asked_for_once() -> None:
    """However many rows name it."""
    found = await check([MODEL_INPUT, CHANNEL_INPUT, MODEL_INPUT, CHANNEL_INPUT])
    assert (found.checked, found.problems, found.untold) == (2, (), ())


async def test_what_is_missing_or_not_active_is_a_problem() -> None:
    """Each with its ARN and the service's words."""
    found = await check(
        [MODEL_INPUT, CHANNEL_INPUT],
        input_statuses={MODEL_INPUT.arn: "CREATE_FAILED"},
        missing_inputs=[CHANNEL_INPUT.arn],
    )
    channel, model = found.problems
    assert f"{CHANNEL_INPUT.arn}: ResourceNotFoundException" in channel
    assert model.endswith("is CREATE_FAILED, not ACTIVE")


async def test_throttled_reads_are_repeated() -> None:
    """As often as other reads."""
    assert (await check([MODEL_INPUT], Throttled("x", ""), Throttled("x", ""))).untold == ()
    [untold] = (await check([MODEL_INPUT], *[Uncertain("500")] * 8)).untold
    assert "500" in untold


async def test_a_read_that_is_not_permitted_is_told_and_no_problem() -> None:
    """The role may start jobs all the same."""
    found = await check([MODEL_INPUT], Denied("AccessDeniedException", "no"))
    assert found.problems == ()
    assert "AccessDeniedException" in found.untold[0]


@pytest.mark.parametrize("outcome", [Forbidden("ExpiredTokenException", "old"), NotSent("ConnectTimeout", "no way")])
async def test_where_no_call_can_succeed_the_check_ends(outcome: Result) -> None:
    """Credentials and connections are not the resource's fault."""
    with pytest.raises(StoppedError, match="cannot be asked"):
        await check([MODEL_INPUT], *[outcome] * 8)


async def test_no_more_are_read_than_a_look_before_the_run_is_worth() -> None:
    """A channel a row is possible, and they share a few connections."""
    needs = [Input("channel", MEMBERSHIP, f"{CHANNEL_INPUT.arn}-{number}") for number in range(MOST_CHECKED + 5)]
    assert (await check(needs)).checked == MOST_CHECKED
    assert CountingApi.most_under_way == 8
