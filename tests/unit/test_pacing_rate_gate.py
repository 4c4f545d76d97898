"""The rate gate in virtual time: three calls at once, then an even pace; and workers that share the service's limit."""

import asyncio
import random
import time
from contextlib import suppress

import pytest
from conftest import job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from virtual_time import VirtualClock, running_loop, virtual_loop, virtually

from batchsubmit.config import RetrySettings
from batchsubmit.core.job_states import BURST
from batchsubmit.core.jobs import Accepted, Throttled
from batchsubmit.pacing import Pace, RateGate, retried
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.sandbox.refusals import Refusal

SETTLED_SECONDS = 60
WATCHED_SECONDS = 660


async def passages(gate: RateGate, *, until: float) -> list[float]:
    """When many waiters pass a gate, as far as they do until a moment of the loop."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def wait() -> None:
        if await gate.admit():
            times.append(loop.time())

    with suppress(TimeoutError):
        async with asyncio.timeout_at(until), asyncio.TaskGroup() as waiters:
            for _ in range(3000):
                waiters.create_task(wait())
    return times


@pytest.mark.parametrize("rate", [0.2, 1, 5, 50])
@virtually
async def test_three_calls_go_at_once_and_then_one_each_time_a_call_s_time_has_passed(rate: float) -> None:
    """None comes closer to the one before."""
    times = await passages(RateGate(Pace(rate), monotonic=running_loop().time), until=19.1 / rate)
    assert times[:BURST] == [0.0] * BURST
    assert times[BURST:] == pytest.approx([(number + 1) / rate for number in range(19)], rel=0.01)


@virtually
async def test_the_call_after_a_burst_waits_for_a_late_first_answer() -> None:
    """The service may have seen the burst as late as that, and its bucket refills from then on."""
    loop = running_loop()
    pace = Pace(1)
    loop.call_later(0.7, lambda: pace.succeeded(sent_at=0.0, now=0.7))
    loop.call_later(1.2, lambda: pace.succeeded(sent_at=0.0, now=1.2))
    times = await passages(RateGate(pace, monotonic=loop.time), until=4)
    assert times == pytest.approx([0, 0, 0, 1.7, 2.7, 3.7])


@pytest.mark.parametrize("idle_seconds", [4.5, 1000.0])
@virtually
async def test_after_a_pause_there_are_three_at_once_again(idle_seconds: float) -> None:
    """And no more, however long it was."""
    loop = running_loop()
    gate = RateGate(Pace(1), monotonic=loop.time)
    await passages(gate, until=5)
    await asyncio.sleep(idle_seconds)
    begin = loop.time()
    times = await passages(gate, until=begin + 0.5)
    assert times == [begin] * BURST


@virtually
async def test_a_call_that_was_held_up_is_made_up_for() -> None:
    """By the next ones: the pace on the long run is the rate."""
    loop = running_loop()
    gate = RateGate(Pace(1), monotonic=loop.time)
    await passages(gate, until=5)
    await asyncio.sleep(1.7)
    times = await passages(gate, until=20)
    assert len(times) == 15


@virtually
async def test_the_gate_follows_a_cut_at_once() -> None:
    """Half the rate, each call up to half of its time late."""
    loop = running_loop()
    pace = Pace(1)
    gate = RateGate(pace, monotonic=loop.time)
    await passages(gate, until=5)
    pace.throttled(sent_at=5, now=5)
    times = await passages(gate, until=105)
    assert len(times) == pytest.approx(50, abs=1)


class Worker:
    """Submits without end at the default rate, and counts once it has settled."""

    def __init__(self, service: SandboxService, number: int) -> None:
        self._loop = running_loop()
        self._service = service
        self._api = MemoryCleanRooms(service, disturb=self._throttled)
        self._gate = RateGate(Pace(1), monotonic=self._loop.time)
        self._name = f"worker-{number}"
        self.accepted = self.throttled = 0

    def _throttled(self, operation: str, _name: str) -> Disturbance | None:
        try:
            self._service.throttle(operation)
        except Refusal as refusal:
            return Disturbance(Throttled(refusal.code, refusal.message))
        return None

    async def work(self) -> None:
        """Keep a dozen jobs in progress."""
        await asyncio.gather(*(self._submit_for_ever() for _ in range(12)))

    async def _submit_for_ever(self) -> None:
        while True:
            await retried(self._attempt, RetrySettings(), sleep=asyncio.sleep)

    async def _attempt(self) -> Accepted | Throttled:
        await self._gate.admit()
        sent_at = self._loop.time()
        await asyncio.sleep(0.02)
        outcome = await self._api.start(job_named(self._name))
        await asyncio.sleep(0.02)
        now = self._loop.time()
        if isinstance(outcome, Throttled):
            self._gate.pace.throttled(sent_at=sent_at, now=now)
            self.throttled += now > SETTLED_SECONDS
            return outcome
        assert isinstance(outcome, Accepted)
        self._gate.pace.succeeded(sent_at=sent_at, now=now)
        self.accepted += now > SETTLED_SECONDS
        return outcome


def work_together(workers: int, seed: int) -> list[Worker]:
    """Let workers share the limit that the service has by default."""
    random.seed(seed)
    with virtual_loop() as loop:

        async def work() -> list[Worker]:
            free = SandboxSettings(per_membership=0, per_account=0, seed=seed)
            service = SandboxService(free, VirtualClock(loop).service_time)
            engine_parts = [Worker(service, number) for number in range(workers)]
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCHED_SECONDS):
                    await asyncio.gather(*(worker.work() for worker in engine_parts))
            return engine_parts

        return loop.run_until_complete(work())


def test_one_worker_alone_is_never_throttled_and_uses_the_whole_limit() -> None:
    """The first call of the burst is on its way for a while; the later ones are not too early for all that."""
    [worker] = work_together(1, seed=0)
    assert worker.throttled == 0
    assert worker.accepted >= WATCHED_SECONDS - SETTLED_SECONDS - 1


@pytest.mark.parametrize("seed", range(5))
def test_two_workers_lose_at_most_one_call_in_ten_once_settled(seed: int) -> None:
    """They use nearly all of the limit, and neither starves."""
    one, other = work_together(2, seed)
    accepted, throttled = one.accepted + other.accepted, one.throttled + other.throttled
    assert throttled <= 0.1 * (accepted + throttled)
    assert accepted >= 0.85 * (WATCHED_SECONDS - SETTLED_SECONDS)
    assert min(one.accepted, other.accepted) >= 0.25 * accepted


async def test_processor_time_does_not_grow_with_the_waiters() -> None:
    """Five thousand cost no more than five."""

    async def cost(waiters: int) -> float:
        gate = RateGate(Pace(20))
        waiting = [asyncio.create_task(gate.admit()) for _ in range(waiters)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        began = time.process_time()
        for task in waiting[1:11]:
            await task
        spent = time.process_time() - began
        gate.close()
        await asyncio.gather(*waiting)
        return spent

    few, many = await cost(11), await cost(5000)
    assert many < few + 0.05
