"""Submitted jobs followed to their end, on a service in memory and a clock that jumps."""

import asyncio
from datetime import timedelta

import pytest
from conftest import EPOCH, OTHER_MEMBERSHIP, FakeClock, job_named

from batchsubmit.catalog import Catalog
from batchsubmit.cleanrooms.memory import Disturbance, MemoryCleanRooms
from batchsubmit.config import RetrySettings, SlotSettings
from batchsubmit.follow import Follower
from batchsubmit.jobs import Accepted, Event, Finished, Forbidden, Job, Outcome, Submitted, Uncertain
from batchsubmit.ledger.memory import MemoryLedger
from batchsubmit.observers.tally import Tally
from batchsubmit.recorder import Recorder
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.stopping import Stop, StopReason


class JumpingStop(Stop):
    """Pauses move the clock instead of waiting for it."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    async def pause(self, seconds: float) -> None:
        """Jump."""
        await self._clock.sleep(seconds)


class Watch:
    """A follower with everything around it in memory."""

    def __init__(self, clock: FakeClock) -> None:
        settings = SandboxSettings(
            per_membership=0, per_account=0, pending_seconds=1, job_seconds=60, failing_names=frozenset({"bad"}), seed=1
        )
        self.clock = clock
        self.trouble: Outcome | None = None
        self.service = SandboxService(settings, lambda: clock.now().timestamp())
        self.api = MemoryCleanRooms(self.service, disturb=self._disturb)
        self.stop = JumpingStop(clock)
        self.ledger = MemoryLedger()
        self.tally = Tally()
        self.follower = Follower(
            catalog=Catalog(self.api, RetrySettings(), sleep=clock.sleep),
            recorder=Recorder(self.ledger, clock, [self.tally]),
            slots=SlotSettings(min_poll_seconds=1, max_poll_seconds=8),
            stop=self.stop,
        )

    def _disturb(self, operation: str, _name: str) -> Disturbance | None:
        return Disturbance(self.trouble) if self.trouble and not operation.startswith("Start") else None

    async def submitted(self, *jobs: Job) -> list[str]:
        """Start jobs and record them; gives their keys."""
        for job in jobs:
            outcome = await self.api.start(job)
            assert isinstance(outcome, Accepted)
            self.ledger.note(
                Submitted(
                    at="",
                    job=job.key,
                    membership=job.membership,
                    name=job.name,
                    arn=outcome.arn,
                    attempt=1,
                    via="start",
                )
            )
        return [job.key for job in jobs]

    @property
    def finished(self) -> dict[str, tuple[str, str]]:
        """Status and message of the finished jobs by name."""
        events: list[Event] = self.ledger.events
        return {event.name: (event.status, event.message) for event in events if isinstance(event, Finished)}


@pytest.fixture
def watch(clock: FakeClock) -> Watch:
    """With nothing submitted."""
    return Watch(clock)


async def test_nothing_submitted_means_nothing_to_follow(watch: Watch) -> None:
    """No call is made."""
    watch.trouble = Forbidden("AccessDeniedException", "")
    await watch.follower.follow(["nobody"])
    assert not watch.stop.requested


async def test_every_job_is_followed_to_its_end_in_every_membership(watch: Watch) -> None:
    """Good or bad, with the service's words about the bad one."""
    keys = await watch.submitted(job_named("a"), job_named("bad"), job_named("c", membership=OTHER_MEMBERSHIP))
    await watch.follower.follow(keys)
    assert {name: status for name, (status, _) in watch.finished.items()} == {
        "a": "ACTIVE",
        "bad": "CREATE_FAILED",
        "c": "ACTIVE",
    }
    assert watch.finished["a"][1] == ""
    assert "non-zero status" in watch.finished["bad"][1]
    assert watch.follower.running == 0
    assert (watch.tally.finished_well, watch.tally.finished_badly) == (2, 1)


async def test_an_end_is_seen_within_the_poll_time_and_few_calls_are_spent(watch: Watch) -> None:
    """The pauses double up to their bound."""
    await watch.follower.follow(await watch.submitted(job_named("a")))
    assert watch.clock.now() < EPOCH + timedelta(seconds=61 + 8 + 1)
    assert watch.service.tally.received("ListTrainedModelInferenceJobs") < 15


async def test_jobs_of_other_runs_or_rows_are_left_alone(watch: Watch) -> None:
    """Only the keys that were asked for are recorded."""
    [wanted, _] = await watch.submitted(job_named("a"), job_named("b"))
    await watch.follower.follow([wanted])
    assert set(watch.finished) == {"a"}


async def test_a_job_that_list_does_not_show_yet_is_waited_for(watch: Watch) -> None:
    """It has just been accepted."""
    watch.service.configure(watch.service.settings.changed({"list_lag_seconds": 30}))
    await watch.follower.follow(await watch.submitted(job_named("a")))
    assert watch.finished["a"][0] == "ACTIVE"


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(Forbidden("AccessDeniedException", "no"), StopReason.CREDENTIALS), (Uncertain("500"), StopReason.UNREACHABLE)],
)
async def test_a_service_that_does_not_tell_stops_the_run(watch: Watch, trouble: Outcome, reason: StopReason) -> None:
    """Resumable, with a sentence that says what it was about."""
    keys = await watch.submitted(job_named("a"))
    watch.trouble = trouble
    await watch.follower.follow(keys)
    assert watch.stop.reason is reason
    assert "cannot be followed" in watch.stop.message
    assert watch.finished == {}


async def test_a_stopped_run_follows_no_longer(watch: Watch) -> None:
    """It ends at once."""
    keys = await watch.submitted(job_named("a"))
    watch.stop.request(StopReason.SIGNAL, "")
    await asyncio.wait_for(watch.follower.follow(keys), 5)
    assert watch.finished == {}
