"""Running jobs watched to their end by an engine with nothing left to submit, in virtual time."""

import asyncio

import pytest
from conftest import OTHER_MEMBERSHIP, job_named
from memory_ledger import SlowLedger
from strategies import MEMBERSHIP
from virtual_time import VirtualClock, running_loop, virtually
from world import GET, LIST, MemorySource, World

from batchsubmit.cleanrooms.api import JobDetails
from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import Accepted, Denied, InvalidRequest, Job, JobFinished, JobSubmitted, Result, Uncertain
from batchsubmit.slots import Poll
from batchsubmit.submit.stopping import StopReason


class Watch(World):
    """A run that has submitted everything, and an engine that watches it, in virtual time."""

    def __init__(self, *, follows: bool = True, **quotas: int) -> None:
        super().__init__(
            VirtualClock(running_loop()),
            ledger=SlowLedger(),
            settings={
                "slots": {"min_poll_seconds": 1, "max_poll_seconds": 8},
                "retry": {},
                "submit": {"concurrency": 2},
            },
            pending_seconds=1,
            job_seconds=60,
            failing_names=frozenset({"bad"}),
            **quotas,
        )
        self.source = MemorySource(())
        self.engine_at_work = self.engine(self.source, follows=follows)
        self.slots, self.poller = self.engine_at_work.slots, self.engine_at_work.poller

    async def submitted(self, *jobs: Job) -> list[str]:
        """Start jobs and record them; gives their keys."""
        for job in jobs:
            outcome = await self.api.start(job)
            assert isinstance(outcome, Accepted)
            stamp = job.stamp(timestamp(self.clock.now()))
            self.ledger.note(JobSubmitted(**stamp, arn=outcome.arn, attempt=1, via="start"))
        return [job.key for job in jobs]

    async def follow(self, *keys: str, waiting: tuple[Job, ...] = ()) -> None:
        """Run the engine until it ends by itself."""
        for key in keys:
            self.poller.follow(key)
        for job in reversed(waiting):
            self.source.put_back(job)
        await asyncio.wait_for(self.engine_at_work.run(), 10_000)


@virtually
async def test_nothing_submitted_means_nothing_to_follow() -> None:
    """No call is made."""
    watch = Watch()
    watch.troubles[LIST] = watch.troubles[GET] = Denied("AccessDeniedException", "")
    await watch.follow("nobody")
    assert not watch.stop.requested
    assert watch.clock.monotonic() == 0


@virtually
async def test_every_job_is_followed_to_its_end_in_every_membership() -> None:
    """Good or bad, with the service's words about the bad one; bad ends count as failures."""
    watch = Watch()
    keys = await watch.submitted(job_named("a"), job_named("bad"), job_named("c", membership=OTHER_MEMBERSHIP))
    await watch.follow(*keys)
    statuses = {name: status for name, (status, _) in watch.finished.items()}
    assert statuses == {"a": "ACTIVE", "bad": "CREATE_FAILED", "c": "ACTIVE"}
    assert watch.finished["a"][1] == ""
    assert "non-zero status" in watch.finished["bad"][1]
    assert watch.slots.ours() == {MEMBERSHIP: 0, OTHER_MEMBERSHIP: 0}
    assert (watch.counts.succeeded, watch.counts.failed) == (2, 1)


@virtually
async def test_the_service_s_own_time_of_the_end_is_recorded() -> None:
    """Not the time at which it was seen."""
    watch = Watch()
    await watch.follow(*await watch.submitted(job_named("a")))
    [event] = [each for each in watch.ledger.events if isinstance(each, JobFinished)]
    assert event.ended.startswith("2026-11-23T00:01:01")
    assert event.ended < event.at


@virtually
async def test_an_end_is_seen_within_the_poll_time_and_few_calls_are_spent() -> None:
    """Rarely early in its life."""
    watch = Watch()
    await watch.follow(*await watch.submitted(job_named("a")))
    assert watch.clock.monotonic() < 61 + 8 + 1
    assert watch.service.calls[LIST].total() + watch.service.calls[GET].total() < 15


@virtually
async def test_jobs_of_other_runs_or_rows_are_left_alone() -> None:
    """Only the keys that were asked for are waited for."""
    watch = Watch()
    [wanted, _] = await watch.submitted(job_named("a"), job_named("b", membership=OTHER_MEMBERSHIP))
    await watch.follow(wanted)
    assert set(watch.finished) == {"a"}


@virtually
async def test_a_job_of_this_ledger_that_a_look_shows_is_known_again() -> None:
    """An earlier run started it; its end is recorded with the others'."""
    watch = Watch()
    [wanted, _] = await watch.submitted(job_named("a"), job_named("b"))
    await watch.follow(wanted)
    assert set(watch.finished) == {"a", "b"}


@virtually
async def test_the_first_poll_records_the_ends_of_jobs_that_earlier_runs_submitted() -> None:
    """Also where nobody follows jobs: those of other programs, which the list has as well, are nobody's."""
    watch = Watch(follows=False)
    await watch.submitted(job_named("a"), job_named("bad"))
    await watch.api.start(job_named("stranger"))
    await watch.clock.sleep(100)
    await watch.poller.poll(Poll(MEMBERSHIP, ()), lambda: None)
    assert {name: status for name, (status, _) in watch.finished.items()} == {"a": "ACTIVE", "bad": "CREATE_FAILED"}


@virtually
async def test_an_end_is_recorded_once_where_two_polls_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that waits for a failed job's reason does not record again what another has recorded meanwhile."""
    watch = Watch()
    await watch.submitted(job_named("bad"), job_named("good"))
    await watch.clock.sleep(100)
    get = watch.api.get

    async def slowly(membership: str, arn: str) -> JobDetails | Result:
        await watch.clock.sleep(1)
        return await get(membership, arn)

    monkeypatch.setattr(watch.api, "get", slowly)
    await asyncio.gather(*(watch.poller.poll(Poll(MEMBERSHIP), lambda: None) for _ in range(2)))
    ends = [event.name for event in watch.ledger.events if isinstance(event, JobFinished)]
    assert sorted(ends) == ["bad", "good"]


@virtually
async def test_a_job_that_list_does_not_show_yet_is_waited_for() -> None:
    """It has just been accepted."""
    watch = Watch()
    watch.service.configure(watch.service.settings.changed({"list_lag_seconds": 30}))
    await watch.follow(*await watch.submitted(job_named("a")))
    assert watch.finished["a"][0] == "ACTIVE"


@virtually
async def test_a_job_that_list_never_shows_is_asked_for_by_name() -> None:
    """Its slot is not lost, and its end is recorded."""
    watch = Watch()
    watch.service.configure(watch.service.settings.changed({"list_lag_seconds": 1_000_000}))
    await watch.follow(*await watch.submitted(job_named("a")))
    assert watch.finished["a"][0] == "ACTIVE"


@virtually
async def test_a_job_that_the_service_does_not_know_is_waited_for_no_longer() -> None:
    """Nothing is recorded of its end: `verify` calls it a ghost."""
    watch = Watch()
    keys = await watch.submitted(job_named("a"))
    watch.service.reset()
    watch.troubles[GET] = InvalidRequest("ResourceNotFoundException", "no such job")
    await watch.follow(*keys)
    assert watch.finished == {}
    assert not watch.stop.requested


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(Denied("AccessDeniedException", "no"), StopReason.DENIED), (Uncertain("500"), StopReason.UNREACHABLE)],
)
@virtually
async def test_a_service_that_does_not_tell_stops_a_run_that_follows(trouble: Result, reason: StopReason) -> None:
    """Resumable, with a sentence that says what it was about."""
    watch = Watch()
    keys = await watch.submitted(job_named("a"))
    watch.troubles = {LIST: trouble, GET: trouble}
    await watch.follow(*keys)
    assert watch.stop.reason is reason
    assert "cannot be followed" in watch.stop.message
    assert watch.finished == {}


@virtually
async def test_a_service_that_does_not_tell_does_not_stop_a_run_that_only_submits() -> None:
    """Slots come back by single tries."""
    watch = Watch(follows=False, per_membership=2)
    watch.troubles = dict.fromkeys((LIST, GET), Denied("AccessDeniedException", "no"))
    await watch.follow(waiting=tuple(job_named(f"job-{number}") for number in range(9)))
    assert not watch.stop.requested
    assert len(watch.service.jobs()) == 9


@virtually
async def test_a_read_that_fails_for_a_while_makes_nobody_blind_for_ever() -> None:
    """Looks are taken up again, and ends are seen."""
    watch = Watch(follows=False, per_membership=2)
    watch.troubles = dict.fromkeys((LIST, GET), Uncertain("500"))
    running_loop().call_later(150, watch.troubles.clear)
    await watch.follow(waiting=tuple(job_named(f"job-{number}") for number in range(20)))
    assert len(watch.finished) > 5


@virtually
async def test_a_stopped_run_follows_no_longer() -> None:
    """It ends at once."""
    watch = Watch()
    keys = await watch.submitted(job_named("a"))
    watch.stop.request(StopReason.SIGNAL, "")
    await watch.follow(*keys)
    assert watch.clock.monotonic() < 1
    assert watch.finished == {}
