"""Many jobs over several memberships, on a service, a ledger and a manifest in memory."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, job_named, request_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from memory_ledger import MemoryLedger
from strategies import MEMBERSHIP
from virtual_time import VirtualClock, running_loop, virtually
from world import LIST, QUICK, MemorySource, World, manifest_source

from batchsubmit.cleanrooms.api import Input, Resource
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.clock import SystemClock, timestamp
from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import (
    Absent,
    Denied,
    Event,
    Forbidden,
    Intent,
    InvalidRequest,
    Job,
    JobSubmitted,
    OtherQuotaExceeded,
    QuotaExceeded,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import Mine, Taken
from batchsubmit.submit.engine import Engine, open_reads
from batchsubmit.submit.stopping import StopReason


class CountingApi(MemoryCleanRooms):
    """Takes a moment for each call, and counts how many are under way."""

    under_way = 0
    most_under_way = 0
    slow = ""

    async def start(self, job: Job) -> Result:
        """Make one call."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(300 if job.name == self.slow else 3):
            await asyncio.sleep(0)
        self.under_way -= 1
        return await super().start(job)


class Runs(World):
    """A world in which rows are submitted, as often as needed, and which can be stopped after some calls."""

    def __init__(self, *, concurrency: int = 8, retry: Mapping[str, float] = {}, **quotas: float) -> None:
        settings = {"submit": {"concurrency": concurrency}, "retry": {**QUICK["retry"], **retry}}
        super().__init__(api=CountingApi, settings=settings, **quotas)
        self.stop_after: int | None = None

    async def submit(self, rows: Iterable[Mapping[str, Any]], **options: Any) -> Engine:  # noqa: ANN401 (of build_engine)
        """Submit these rows in a run of their own."""
        self.new_stop()
        return await self.run(manifest_source(rows, self.ledger), **options)

    def disturb(self, operation: str, name: str) -> Disturbance | None:
        """Stop where that is wanted."""
        trouble = super().disturb(operation, name)
        if len(self.starts) == self.stop_after:
            self.stop.request(StopReason.SIGNAL, "SIGINT received")
        return trouble


def rows(count: int, membership: str = MEMBERSHIP, prefix: str = "job") -> list[dict[str, Any]]:
    """This many requests."""
    return [request_named(f"{prefix}-{number}", membership=membership) for number in range(count)]


def names(requests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Their names, sorted."""
    return sorted(request["name"] for request in requests)


async def test_every_job_is_submitted_exactly_once() -> None:
    """And the ledger has the service's own ARNs."""
    world = Runs()
    await world.submit(rows(100))
    assert sorted(world.names) == names(rows(100))
    assert world.arns_agree


async def test_a_second_run_makes_no_call() -> None:
    """The ledger knows."""
    world = Runs()
    await world.submit(rows(10))
    world.starts.clear()
    await world.submit(rows(10))
    assert world.starts == []


async def test_an_empty_source_ends_at_once() -> None:
    """There is nothing to do."""
    world = Runs()
    await world.submit([])
    assert world.ledger.events == []


async def test_no_more_calls_are_under_way_than_allowed_and_they_are_used() -> None:
    """Once the lane is open."""
    world = Runs(concurrency=5)
    await world.submit(rows(100))
    assert world.api.most_under_way == 5


async def test_jobs_wait_for_slots_and_all_get_one() -> None:
    """Refused calls cost nothing but the call."""
    world = Runs(per_membership=2, per_account=3, job_seconds=0.02)
    both = rows(10) + rows(10, OTHER_MEMBERSHIP, "other")
    await world.submit(both)
    assert sorted(world.names) == names(both)
    assert world.arns_agree
    assert all(state.phase in {Phase.SUBMITTED, Phase.FINISHED} for state in world.ledger.state)


async def test_a_full_membership_does_not_hold_up_another() -> None:
    """Its jobs all go through while the first waits for ever."""
    world = Runs()
    words = "inference jobs per membership"
    quota = Disturbance(QuotaExceeded("ServiceQuotaExceededException", "", quota_name=words, quota_value=25.0))
    stuck = rows(3)
    world.troubles = {row["name"]: [quota] * 5 for row in stuck}
    free = rows(20, OTHER_MEMBERSHIP, "free")
    await world.submit(stuck + free)
    last_free = max(world.starts.index(name) for name in names(free))
    assert sorted(world.names[:20]) == names(free)
    assert last_free < len(world.starts) - 3


@virtually
async def test_a_look_at_an_input_that_takes_its_time_holds_up_no_other_lane() -> None:
    """The jobs that wait for it take no place among those in progress."""

    class SlowLooks(MemoryCleanRooms):
        async def input(self, wanted: Input) -> Resource | Result:
            await asyncio.sleep(60 if "slow" in wanted.arn else 0)
            return await super().input(wanted)

    settings = {"submit": {"concurrency": 2, "wait_for_inputs": True}}
    world = World(VirtualClock(running_loop()), api=SlowLooks, settings=settings)
    slow = [job_named(f"slow-{number}", membership=OTHER_MEMBERSHIP, model="slow") for number in range(5)]
    await world.run([*slow, *(job_named(f"ready-{number}") for number in range(5))])
    assert [name.partition("-")[0] for name in world.starts] == ["ready"] * 5 + ["slow"] * 5


async def test_a_job_that_can_never_work_fails_alone() -> None:
    """The others go on."""
    world = Runs()
    world.troubles["job-3"] = [Disturbance(InvalidRequest("ValidationException", "no"))]
    await world.submit(rows(10))
    assert sorted(world.names) == names(row for row in rows(10) if row["name"] != "job-3")
    assert Counter(each.phase for each in world.ledger.state) == {Phase.SUBMITTED: 9, Phase.REJECTED: 1}
    assert not world.stop.requested


@pytest.mark.parametrize("took_effect", [False, True])
async def test_a_lost_answer_is_looked_up_and_the_job_runs_once(took_effect: bool) -> None:
    """Found, or not there and sent again."""
    world = Runs()
    world.troubles["job-3"] = [Disturbance(Uncertain("read time-out"), took_effect=took_effect)]
    await world.submit(rows(10))
    assert sorted(world.names) == names(rows(10))
    assert world.arns_agree
    assert world.starts.count("job-3") == (1 if took_effect else 2)


async def test_a_job_whose_calls_never_bring_an_answer_fails_in_the_end() -> None:
    """It is not tried for ever."""
    world = Runs()
    world.troubles["job-0"] = [Disturbance(Uncertain("500"))] * 99
    await world.submit(rows(1))
    assert world.starts == ["job-0"] * 3
    assert Counter(each.phase for each in world.ledger.state) == {Phase.REJECTED: 1}


async def test_an_undecidable_job_stays_unknown_and_is_never_sent_again() -> None:
    """Where List may not be called; unless the user says so."""
    world = Runs()
    forbidden = Disturbance(Denied("AccessDeniedException", "no"))
    world.troubles["job-0"] = [Disturbance(Uncertain("500"), took_effect=True)]
    world.troubles[LIST] = [forbidden] * 9
    engine = await world.submit(rows(3))
    assert world.starts.count("job-0") == 1
    assert Counter(each.phase for each in world.ledger.state) == {Phase.SUBMITTED: 2, Phase.UNKNOWN: 1}
    [reason] = engine.in_progress.undecided.values()
    assert "AccessDenied" in reason
    await world.submit(rows(3))
    assert world.starts.count("job-0") == 1
    await world.submit(rows(3), resubmit_unknown=True)
    assert world.starts.count("job-0") == 2


@pytest.mark.parametrize("was_accepted", [False, True])
async def test_what_a_dead_run_left_is_looked_up_before_anything_new_of_its_lane(was_accepted: bool) -> None:
    """It runs once, whether or not it had been accepted. Other lanes do not wait."""
    world = Runs()
    if was_accepted:
        await world.submit(rows(1))
        left, world.ledger = world.ledger, MemoryLedger()
        for event in left.events[:-1]:
            world.ledger.note(event)
    else:
        world.ledger.note(intent_of(rows(1)[0]))
    old = len(world.ledger.events)
    world.starts.clear()
    others = rows(5, OTHER_MEMBERSHIP, "other")
    await world.submit(rows(3) + others)
    assert sorted(world.names) == sorted(names(rows(3)) + names(others))
    assert world.arns_agree
    assert world.starts.count("job-0") == (0 if was_accepted else 1)
    new = world.ledger.events[old:]
    settled = next(
        number for number, event in enumerate(new) if isinstance(event, Absent | JobSubmitted) and event.name == "job-0"
    )
    own = [number for number, event in enumerate(new) if isinstance(event, Intent) and event.membership == MEMBERSHIP]
    assert settled < min(own)
    if not was_accepted:
        assert {event.name for event in new[:settled]} == set(names(others))


async def test_a_job_that_a_dead_run_left_is_shown_as_one_that_is_looked_up() -> None:
    """The wait of its lane is not another one."""
    world = Runs()
    world.ledger.note(intent_of(rows(1)[0]))
    engine, shown = world.engine(manifest_source(rows(1), world.ledger)), set[int]()
    running = asyncio.create_task(engine.run(world.ledger.state.undecided()))
    while not running.done():
        shown.add(engine.in_progress.looked_up)
        await asyncio.sleep(0)
    assert shown == {0, 1}


def intent_of(request: Mapping[str, Any]) -> Intent:
    """What a run that was killed during a call leaves behind."""
    return Intent(
        at=timestamp(SystemClock().now()),
        job=job_named(request["name"]).key,
        membership=request["membershipIdentifier"],
        name=request["name"],
        attempt=1,
        trained_model=request["trainedModelArn"],
    )


@virtually
async def test_reads_that_are_throttled_for_long_still_go_on_at_one_or_two_a_second() -> None:
    """Slots idle while a poll waits."""
    world = World(VirtualClock(running_loop()), settings={"rate": {"reads_per_second": 50}})
    world.troubles[LIST] = Disturbance(Throttled("ThrottlingException", ""))
    reads = open_reads(world.api, world.settings, world.stop, world.clock)
    with suppress(TimeoutError):
        async with asyncio.timeout(100):
            while True:
                with suppress(ReadError):
                    await reads.jobs(MEMBERSHIP)
    assert world.calls[LIST] > 100


async def test_a_stop_lets_no_new_call_begin_and_awaits_those_under_way() -> None:
    """Whatever was accepted is in the ledger."""
    world = Runs(concurrency=4)
    world.stop_after = 5
    await world.submit(rows(100))
    assert 5 <= len(world.starts) <= 5 + 4
    assert world.arns_agree
    assert not world.ledger.state.undecided()
    world.stop_after = None
    await world.submit(rows(100))
    assert sorted(world.names) == names(rows(100))


async def test_refused_credentials_stop_the_run_and_burn_no_job() -> None:
    """All the others are as new as before."""
    world = Runs(concurrency=1)
    world.troubles["job-1"] = [Disturbance(Forbidden("ExpiredTokenException", "expired"))]
    await world.submit(rows(50))
    assert world.stop.reason is StopReason.CREDENTIALS
    assert len(world.starts) == 2
    await world.submit(rows(50))
    assert sorted(world.names) == names(rows(50))


DENIED = Disturbance(Denied("AccessDeniedException", "no"))
SPENT = Disturbance(OtherQuotaExceeded("ServiceQuotaExceededException", "", "Data access budget", 0))


async def test_jobs_that_are_denied_first_are_rejected_once_another_is_accepted() -> None:
    """The answers of those before it said nothing of the caller."""
    world = Runs(concurrency=1)
    for number in range(15):
        world.troubles[f"job-{number}"] = [DENIED]
    await world.submit(rows(16))
    assert not world.stop.requested
    assert Counter(each.phase for each in world.ledger.state) == {Phase.REJECTED: 15, Phase.SUBMITTED: 1}


async def test_an_acceptance_under_way_decides_before_a_run_stops_for_denials() -> None:
    """Five denials of two memberships are back while the first call is still on the wire."""
    world = Runs(concurrency=8)
    for number in range(1, 8):
        world.troubles |= {f"job-{number}": [DENIED], f"other-{number}": [DENIED]}
    world.api.slow = "job-0"
    await world.submit([*rows(8), *rows(8, OTHER_MEMBERSHIP, "other")[1:]])
    assert not world.stop.requested
    assert Counter(each.phase for each in world.ledger.state) == {Phase.REJECTED: 14, Phase.SUBMITTED: 1}


async def test_a_run_that_stops_leaves_denied_jobs_as_new_as_before() -> None:
    """Two lanes, nothing accepted: it is rather the caller."""
    world = Runs(concurrency=1)
    world.troubles |= {"job-0": [DENIED], "other-0": [DENIED]}
    await world.submit([*rows(1), *rows(1, OTHER_MEMBERSHIP, "other")])
    assert world.stop.reason is StopReason.DENIED
    assert "all of 2 jobs were denied" in world.stop.message
    assert Counter(each.phase for each in world.ledger.state) == {Phase.REFUSED: 2}


class OpenSource(MemorySource):
    """As a queue is: more may come, until all of these are taken."""

    @property
    def is_open(self) -> bool:  # type: ignore[override]
        """Whether it is closed yet."""
        return bool(self.waiting())


async def test_a_source_without_end_does_not_stop_for_denials() -> None:
    """Each job is decided at once."""
    world = Runs(concurrency=1)
    for number in range(30):
        world.troubles[f"job-{number}"] = [DENIED]
    await world.run(OpenSource(job_named(f"job-{number}") for number in range(30)))
    assert not world.stop.requested
    assert Counter(each.phase for each in world.ledger.state) == {Phase.REJECTED: 30}


async def test_a_held_lane_touches_no_other_and_spends_no_attempts() -> None:
    """One call, then no other while the wait lasts; the run ends when only its jobs are left."""
    world = Runs(concurrency=1, retry={"cap_seconds": 60.0})
    world.troubles |= {f"other-{number}": [SPENT] * 99 for number in range(5)}
    engine = await world.submit([*rows(5, OTHER_MEMBERSHIP, "other"), *rows(20)])
    assert world.stop.reason is StopReason.HELD
    assert "'Data access budget' of 0" in world.stop.message
    assert OTHER_MEMBERSHIP in world.stop.message
    assert engine.slots.other_quotas == {OTHER_MEMBERSHIP: "'Data access budget' of 0"}
    assert len([name for name in world.starts if name.startswith("other")]) == 1
    assert sorted(world.names) == names(rows(20))


async def test_a_job_that_a_ledger_which_fails_leaves_unknown_is_listed_with_the_reason() -> None:
    """The answer was lost, and what the lookup found cannot be written; the next run cannot even claim it."""

    class FailingLedger(MemoryLedger):
        async def claim(self, key: str) -> Mine | Taken:
            if self.state.undecided():
                raise StoppedError("the table cannot be reached")
            return await super().claim(key)

        def put(self, event: Event) -> Any:  # noqa: ANN401 (an awaitable)
            if isinstance(event, JobSubmitted):
                raise StoppedError("No space left on device")
            return super().put(event)

    world = Runs()
    world.ledger = FailingLedger()
    world.troubles["job-0"] = [Disturbance(Uncertain("500"), took_effect=True)]
    for words in ("the ledger cannot be written", "the ledger cannot be relied on"):
        engine = await world.submit(rows(1))
        assert world.stop.reason is StopReason.LEDGER
        assert list(engine.in_progress.undecided.values()) == [words]
    assert world.starts == ["job-0"]


async def test_a_ledger_that_fails_stops_the_run_before_another_call() -> None:
    """What was under way is awaited."""

    class FillingLedger(MemoryLedger):
        def put(self, event: Event) -> Any:  # noqa: ANN401 (an awaitable)
            if isinstance(event, Intent) and len(self.events) >= 20:
                raise StoppedError("No space left on device")
            return super().put(event)

    world = Runs(concurrency=3)
    world.ledger = FillingLedger()
    await world.submit(rows(50))
    assert world.stop.reason is StopReason.LEDGER
    assert "No space left" in world.stop.message
    assert world.arns_agree
    assert len(world.starts) < 15
