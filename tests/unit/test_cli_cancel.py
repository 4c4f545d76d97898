"""Which jobs are cancelled, and what becomes of calls that bring something else than consent."""

import asyncio
import time

import pytest
from conftest import OTHER_MEMBERSHIP, FakeClock, job_arn, job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from memory_ledger import MemoryLedger
from strategies import MEMBERSHIP

from batchsubmit.cli.cancel import Canceller, chosen, runs_on
from batchsubmit.config import Settings
from batchsubmit.core.job_states import JobState, Phase
from batchsubmit.core.jobs import Accepted, Conflicted, Denied, JobFinished, NotSent, Throttled, Uncertain
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason

CANCEL = "CancelTrainedModelInferenceJob"


def state(name: str, *, membership: str = MEMBERSHIP, phase: Phase = Phase.SUBMITTED, arn: str = "a") -> JobState:
    """A job of this name."""
    return JobState(job=f"key-{name}", membership=membership, name=name, phase=phase, arn=arn)


def test_only_submitted_jobs_are_chosen() -> None:
    """What is unknown, failed or finished is not the ledger's to cancel."""
    states = [state(phase.value, phase=phase) for phase in Phase]
    assert [each.name for each in chosen(states, memberships=(), names=())] == ["submitted"]


@pytest.mark.parametrize(
    ("memberships", "names", "expected"),
    [
        ((), (), ["a1", "A1", "b1"]),
        ((MEMBERSHIP,), (), ["a1", "A1"]),
        ((), ("a*",), ["a1"]),
        ((), ("a*", "b?"), ["a1", "b1"]),
        ((OTHER_MEMBERSHIP,), ("a*",), []),
    ],
)
def test_filters_narrow_the_choice(memberships: tuple[str, ...], names: tuple[str, ...], expected: list[str]) -> None:
    """Globs tell cases apart, as the service does."""
    states = [state("a1"), state("A1"), state("b1", membership=OTHER_MEMBERSHIP)]
    assert [each.name for each in chosen(states, memberships=memberships, names=names)] == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("CREATE_PENDING", True),
        ("CREATE_IN_PROGRESS", True),
        ("CANCEL_PENDING", False),
        ("CANCEL_IN_PROGRESS", False),
        ("ACTIVE", False),
        ("CREATE_FAILED", False),
        ("CANCEL_FAILED", False),
        ("INACTIVE", False),
        ("", True),
        ("SOME_NEW_STATUS", True),
    ],
)
def test_a_job_runs_on_unless_it_has_ended_or_is_being_cancelled(status: str, *, expected: bool) -> None:
    """Only the known final statuses are an end."""
    assert runs_on(status) is expected


class Bench:
    """A canceller on a service in memory, whose next cancellations bring what is planned."""

    def __init__(self, **settings: object) -> None:
        self.service = SandboxService(SandboxSettings(pending_seconds=3600.0).changed(settings), time.time)
        self.planned: list[Disturbance] = []
        self.forbidden = ""
        self.stop = Stop()
        self.api = MemoryCleanRooms(self.service, disturb=self._disturb)
        settings = Settings.model_validate(
            {
                "retry": {"max_attempts": 3, "base_seconds": 0.001, "cap_seconds": 0.001},
                "rate": {"max_per_second": 0, "reads_per_second": 0},
                "slots": {"min_poll_seconds": 0.001, "max_poll_seconds": 0.002},
            }
        )
        self.canceller = Canceller(self.api, settings, self.stop)

    def _disturb(self, operation: str, _: str) -> Disturbance | None:
        if operation == self.forbidden:
            return Disturbance(Denied("AccessDeniedException", "no"))
        return self.planned.pop(0) if operation == CANCEL and self.planned else None

    async def started(self, name: str) -> JobState:
        """A running job."""
        accepted = await self.api.start(job_named(name))
        assert isinstance(accepted, Accepted)
        return state(name, arn=accepted.arn)

    def status(self) -> list[str]:
        """What the service has."""
        return [str(job.status) for job in self.service.jobs()]


@pytest.mark.parametrize(
    "planned",
    [
        Disturbance(Throttled("ThrottlingException", "")),
        Disturbance(NotSent("ConnectTimeout", "")),
        Disturbance(Uncertain("500")),
        Disturbance(Uncertain("the answer was lost"), took_effect=True),
        Disturbance(Conflicted("ConflictException", "busy")),
    ],
    ids=lambda each: f"{type(each.outcome).__name__}-{each.took_effect}",
)
async def test_a_call_that_may_be_repeated_is(planned: Disturbance) -> None:
    """And a lost answer is no reason to call again for a job that is on its way."""
    bench = Bench()
    job = await bench.started("a")
    bench.planned = [planned]
    await bench.canceller.cancel([job])
    assert bench.canceller.asked == [job]
    assert bench.status()[0].startswith("CANCEL")
    assert bench.service.calls[CANCEL].total() == 1


@pytest.mark.parametrize("outcome", [Uncertain("500"), Conflicted("ConflictException", "busy")])
async def test_trouble_that_does_not_end_is_told_after_a_bounded_number_of_calls(
    outcome: Uncertain | Conflicted,
) -> None:
    """With its words."""
    bench = Bench()
    job = await bench.started("a")
    bench.planned = [Disturbance(outcome)] * 9
    await bench.canceller.cancel([job])
    assert len(bench.planned) == 6
    assert bench.canceller.asked == []
    assert ("500" in bench.canceller.refused[job.job]) or ("busy" in bench.canceller.refused[job.job])


async def test_a_job_that_ended_meanwhile_is_well() -> None:
    """The conflict is looked into, not repeated; how it ended is the follower's to record."""
    bench = Bench(pending_seconds=0.0, job_seconds=0.0)
    job = await bench.started("a")
    await bench.canceller.cancel([job])
    assert bench.canceller.asked == [job]
    assert bench.service.calls[CANCEL].total() == 1
    assert bench.status() == ["ACTIVE"]


async def test_a_forbidden_call_stops_the_others() -> None:
    """No job would fare better, and the action is named."""
    bench = Bench()
    jobs = [await bench.started("a"), await bench.started("b")]
    bench.planned = [Disturbance(Denied("AccessDeniedException", "no"))] * 2
    await bench.canceller.cancel(jobs)
    assert bench.stop.reason is StopReason.DENIED
    assert "cleanrooms-ml:CancelTrainedModelInferenceJob" in bench.stop.message
    assert bench.canceller.asked == []


async def test_a_service_that_cannot_be_reached_stops_the_rest() -> None:
    """In words that the page on troubleshooting has."""
    bench = Bench()
    bench.planned = [Disturbance(NotSent("ConnectTimeout", "no route"))] * 9
    await bench.canceller.cancel([await bench.started("a"), await bench.started("b")])
    assert bench.stop.reason is StopReason.UNREACHABLE
    assert bench.stop.message == "nothing could be sent: no route"
    assert len(bench.planned) == 6


async def test_nothing_is_called_once_the_run_is_asked_to_stop() -> None:
    """Ctrl-C leaves the rest running."""
    bench = Bench()
    job = await bench.started("a")
    bench.stop.request(StopReason.SIGNAL, "SIGINT")
    await bench.canceller.cancel([job])
    assert bench.service.calls[CANCEL].total() == 0


async def test_the_service_is_asked_where_each_job_stands() -> None:
    """By List, by Get where List lags, and a ghost is nowhere."""
    bench = Bench(list_lag_seconds=3600.0)
    hidden = await bench.started("hidden")
    bench.service.configure(bench.service.settings.changed({"list_lag_seconds": 0.0}))
    shown = await bench.started("shown")
    bench.service.configure(bench.service.settings.changed({"list_lag_seconds": 3600.0}))
    await bench.api.cancel(MEMBERSHIP, shown.arn)
    ghost = state("ghost", arn=job_arn("12345678-1234-1234-1234-123456789012"))
    assert await bench.canceller.look([hidden, shown, ghost]) == ([hidden], [shown])


async def record(bench: Bench, ledger: MemoryLedger, clock: FakeClock, jobs: list[JobState]) -> None:
    """Wait for the ends of jobs."""
    await bench.canceller.record_ends(jobs, Recorder(ledger, clock))


async def test_each_end_is_recorded_as_the_service_tells_it(clock: FakeClock) -> None:
    """Once, when it has come, with its own time."""
    bench, ledger = Bench(cancel_seconds=0.05), MemoryLedger()
    jobs = [await bench.started(name) for name in "ab"]
    await bench.canceller.cancel(jobs)
    await record(bench, ledger, clock, jobs)
    finished = [event for event in ledger.events if isinstance(event, JobFinished)]
    assert sorted((event.name, event.arn, event.status) for event in finished) == [
        (job.name, job.arn, "INACTIVE") for job in jobs
    ]
    assert all(event.ended for event in finished)


async def test_nobody_waits_for_an_end_that_cannot_be_seen(clock: FakeClock) -> None:
    """The run stops and says which action is missing."""
    bench, ledger = Bench(cancel_seconds=3600.0), MemoryLedger()
    job = await bench.started("a")
    bench.forbidden = "GetTrainedModelInferenceJob"
    await record(bench, ledger, clock, [job])
    assert "cleanrooms-ml:GetTrainedModelInferenceJob" in bench.stop.message
    assert ledger.events == []


async def test_a_stop_ends_the_waiting(clock: FakeClock) -> None:
    """Ctrl-C, say: what has not ended is not recorded."""
    bench, ledger = Bench(cancel_seconds=3600.0), MemoryLedger()
    job = await bench.started("a")
    waiting = asyncio.create_task(record(bench, ledger, clock, [job]))
    await asyncio.sleep(0)
    bench.stop.request(StopReason.SIGNAL, "SIGINT")
    await asyncio.wait_for(waiting, 5)
    assert ledger.events == []
