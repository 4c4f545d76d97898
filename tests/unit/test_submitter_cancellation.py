"""Cancellation alone: at whatever moment a submission is cancelled, the ledger tells the truth and nothing hangs.

A second signal cancels what is under way. Then a job is either as new as before, or in the ledger as what happened to
it, or left as an intent, which the next run looks up. It is never accepted without at least the intent.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from memory_ledger import SlowLedger
from virtual_time import VirtualClock, VirtualLoop, virtual_loop
from world import World

from batchsubmit.core.job_states import BURST, UNDECIDED, JobState, Phase
from batchsubmit.core.jobs import Conflicted, Job, Result, Throttled, Uncertain
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import LedgerError
from batchsubmit.ledger.base import Ledger
from batchsubmit.ledger.file import LedgerFile, open_ledger
from batchsubmit.ledger.read import fold_ledger

JOB = job_named("a")
SETTINGS = {
    "rate": {"max_per_second": 0, "reads_per_second": 0},
    "retry": {"base_seconds": 0.01, "cap_seconds": 0.02, "max_attempts": 3},
    "lookup": {"settle_seconds": 0.05},
    "submit": {"concurrency": 32},
}
PATIENCE_SECONDS = 20


class Submission(World):
    """One submission in virtual time, on a slow disk and a slow wire."""

    def __init__(self, loop: VirtualLoop, *script: Disturbance) -> None:
        super().__init__(VirtualClock(loop), *script, ledger=SlowLedger(), settings=SETTINGS, way_seconds=0.01)

    async def submit(self) -> object:
        """Submit the job."""
        return await self.engine().runner.submitter.submit(JOB)

    async def submit_and_look_up(self) -> object:
        """Submit the job, and look it up where its answer is lost."""
        runner = self.engine().runner
        await runner.submitter.submit(JOB)
        async with asyncio.TaskGroup() as tasks:
            return await runner.lookup.resolve(JOB.key, JOB.request, tasks)

    @property
    def state(self) -> JobState | None:
        """Where the ledger has the job, once all is written."""
        assert self.ledger.durable == len(self.ledger.events)
        return self.ledger.state.get(JOB.key)


def cancelled_at_every_turn(
    work: Callable[[Submission], Coroutine[Any, Any, object]], *script: Disturbance
) -> Iterator[Submission]:
    """Do the work again and again, each time cancelled one turn of the loop later, until it ends before."""
    turn = 0
    while True:
        with virtual_loop() as loop:
            world = Submission(loop, *script)
            task = loop.create_task(work(world))
            if turn:
                loop.run_steps(turn)
            was_done = task.done()
            task.cancel()
            loop.run_until_complete(asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 60))
            # The request that was on its way arrives, and the disk is done.
            loop.run_until_complete(asyncio.sleep(1))
            yield world
        if was_done:
            assert turn > 5
            return
        turn += 1


def test_a_submission_cancelled_at_any_moment_is_in_the_ledger_as_it_is() -> None:
    """What was accepted is never without an intent, and what is said to be submitted is."""
    phases = set()
    for world in cancelled_at_every_turn(Submission.submit):
        state, jobs = world.state, world.service.jobs()
        phases.add(state.phase if state else None)
        if jobs:
            assert state is not None
            assert len(jobs) == 1
            assert state.phase in UNDECIDED or state.arn == jobs[0].arn
        else:
            assert state is None or state.phase in UNDECIDED
    assert phases == {None, Phase.INTENT, Phase.SUBMITTED}


def test_a_submission_cancelled_once_its_answer_is_taken_is_recorded_all_the_same() -> None:
    """Taken by the ledger is written, though its writer is gone."""
    unfinished = 0
    for world in cancelled_at_every_turn(Submission.submit):
        kinds = [type(event).__name__ for event in world.ledger.events]
        assert kinds in ([], ["Intent"], ["Intent", "JobSubmitted"])
        unfinished += kinds == ["Intent", "JobSubmitted"]
    assert unfinished > 1  # that is, also before the submission was over


@pytest.mark.parametrize("took_effect", [False, True])
def test_a_lost_answer_cancelled_at_any_moment_of_its_lookup_is_not_decided_wrongly(took_effect: bool) -> None:
    """Unknown, or what the service says."""
    lost = Disturbance(Uncertain("read time-out"), took_effect=took_effect)
    right = Phase.SUBMITTED if took_effect else Phase.ABSENT
    phases = set()
    for world in cancelled_at_every_turn(Submission.submit_and_look_up, lost):
        state = world.state
        phases.add(state.phase if state else None)
        assert state is None or state.phase in {*UNDECIDED, right}
        assert len(world.service.jobs()) <= 1
        if state is None:
            assert not world.service.jobs()
    assert phases == {None, *UNDECIDED, right}


@pytest.mark.parametrize("trouble", [Throttled("ThrottlingException", ""), Conflicted("ConflictException", "")])
def test_a_submission_cancelled_between_its_tries_may_be_tried_again(trouble: Result) -> None:
    """A refused try leaves no doubt behind."""
    phases = set()
    for world in cancelled_at_every_turn(Submission.submit, Disturbance(trouble)):
        state = world.state
        phases.add(state.phase if state else None)
        if state is not None and state.phase is Phase.REFUSED:
            assert not world.service.jobs()
    assert phases == {None, Phase.INTENT, Phase.REFUSED, Phase.SUBMITTED}


def test_a_process_killed_at_any_moment_leaves_at_least_the_intent_of_what_was_accepted() -> None:
    """Of what the disk has, and no more: nothing that was only taken counts."""
    for turn in range(60):
        with virtual_loop() as loop:
            world = Submission(loop)
            task = loop.create_task(world.submit())
            loop.run_steps(turn + 1)
            world.api.is_cut = True
            found = world.ledger.killed()
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.run_until_complete(asyncio.sleep(1))
            state = found.state.get(JOB.key)
            assert len(world.service.jobs()) <= (state is not None)
            if state is not None and state.phase is Phase.SUBMITTED:
                assert [job.arn for job in world.service.jobs()] == [state.arn]


class HeldDisk:
    """Lets a test hold every append of a ledger's file."""

    def __init__(self) -> None:
        self.may_write = threading.Event()
        self.may_write.set()
        self.is_writing = threading.Event()

    def hold(self) -> None:
        """From now on nothing becomes durable."""
        self.is_writing.clear()
        self.may_write.clear()

    def let_go(self) -> None:
        """Go on."""
        self.may_write.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldDisk]:
    """A disk that can be held."""
    held, append = HeldDisk(), LedgerFile.append

    def slow_append(self: LedgerFile, data: bytes) -> None:
        held.is_writing.set()
        assert held.may_write.wait(PATIENCE_SECONDS)
        append(self, data)

    monkeypatch.setattr(LedgerFile, "append", slow_append)
    yield held
    held.let_go()


class AnsweringApi(MemoryCleanRooms):
    """Accepts, and answers when it is told to."""

    called: asyncio.Event
    may_answer: asyncio.Event

    async def start(self, job: Job) -> Result:
        """Make one call."""
        self.called.set()
        outcome = await super().start(job)
        await self.may_answer.wait()
        return outcome


class OnFile(World):
    """One submission to a ledger's file."""

    def __init__(self, ledger: Ledger, *, rate: float = 0) -> None:
        super().__init__(ledger=ledger, settings=SETTINGS | {"rate": {"max_per_second": rate}}, api=AnsweringApi)
        self.api.called, self.api.may_answer = asyncio.Event(), asyncio.Event()
        engine = self.engine()
        self.gate, self.submitter = engine.gate, engine.runner.submitter

    def submission(self) -> "asyncio.Task[object]":
        """Begin to submit the job."""
        return asyncio.ensure_future(self.submitter.submit(JOB))


async def _cancelled(task: "asyncio.Task[object]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_SECONDS)


def _found(path: Path) -> JobState | None:
    """What the next run finds."""
    assert path.read_bytes().endswith(b"\n")
    return fold_ledger(path).get(JOB.key)


async def test_cancelled_while_the_file_takes_the_intent_no_call_is_made(tmp_path: Path, disk: HeldDisk) -> None:
    """And the ledger can be closed; the intent is in it."""
    path = tmp_path / "ledger.jsonl"
    async with asyncio.timeout(PATIENCE_SECONDS), open_ledger(path) as ledger:
        world = OnFile(ledger)
        disk.hold()
        task = world.submission()
        await asyncio.to_thread(disk.is_writing.wait, PATIENCE_SECONDS)
        await _cancelled(task)
        disk.let_go()
    assert not world.api.called.is_set()
    state = _found(path)
    assert state is not None
    assert state.phase is Phase.INTENT


async def test_cancelled_at_the_rate_gate_no_call_is_made(tmp_path: Path) -> None:
    """The intent stays: the next run looks, and finds nothing."""
    path = tmp_path / "ledger.jsonl"
    async with asyncio.timeout(PATIENCE_SECONDS), open_ledger(path) as ledger:
        world = OnFile(ledger, rate=0.01)
        for _ in range(BURST):
            assert await world.gate.admit()
        task = world.submission()
        while ledger.state.get(JOB.key) is None:  # noqa: ASYNC110 (a deadline stands around it)
            await asyncio.sleep(0)
        await _cancelled(task)
        world.gate.close()
        assert not await asyncio.wait_for(world.gate.admit(), PATIENCE_SECONDS)
    assert not world.api.called.is_set()
    state = _found(path)
    assert state is not None
    assert state.phase is Phase.INTENT


async def test_cancelled_during_the_call_the_job_is_left_as_an_intent(tmp_path: Path) -> None:
    """It was accepted, and nobody heard of it."""
    path = tmp_path / "ledger.jsonl"
    async with asyncio.timeout(PATIENCE_SECONDS), open_ledger(path) as ledger:
        world = OnFile(ledger)
        task = world.submission()
        await world.api.called.wait()
        await _cancelled(task)
    assert len(world.service.jobs()) == 1
    state = _found(path)
    assert state is not None
    assert state.phase is Phase.INTENT


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled_while_the_file_takes_the_answer_it_is_recorded(
    tmp_path: Path, disk: HeldDisk, times: int
) -> None:
    """Between acceptance and record, once or again."""
    path = tmp_path / "ledger.jsonl"
    async with asyncio.timeout(PATIENCE_SECONDS), open_ledger(path) as ledger:
        world = OnFile(ledger)
        task = world.submission()
        await world.api.called.wait()
        disk.hold()
        world.api.may_answer.set()
        await asyncio.to_thread(disk.is_writing.wait, PATIENCE_SECONDS)
        for _ in range(times - 1):
            task.cancel()
        await _cancelled(task)
        disk.let_go()
    [job] = world.service.jobs()
    state = _found(path)
    assert state is not None
    assert (state.phase, state.arn) == (Phase.SUBMITTED, job.arn)


async def test_the_run_cancelled_while_its_ledger_closes_still_writes_everything(
    tmp_path: Path, disk: HeldDisk
) -> None:
    """A second signal during the last write."""
    path = tmp_path / "ledger.jsonl"
    closing = asyncio.Event()

    async def run() -> None:
        async with open_ledger(path) as ledger:
            world = OnFile(ledger)
            submission = world.submission()
            await world.api.called.wait()
            disk.hold()
            world.api.may_answer.set()
            await asyncio.to_thread(disk.is_writing.wait, PATIENCE_SECONDS)
            submission.cancel()
            await asyncio.gather(submission, return_exceptions=True)
            closing.set()

    task = asyncio.ensure_future(run())
    await asyncio.wait_for(closing.wait(), PATIENCE_SECONDS)
    await asyncio.sleep(0)
    task.cancel()
    disk.let_go()
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), PATIENCE_SECONDS)
    writers = [each for each in asyncio.all_tasks() if each.get_name() == "ledger writer"]
    await asyncio.wait_for(asyncio.gather(*writers), PATIENCE_SECONDS)
    state = _found(path)
    assert state is not None
    assert state.phase is Phase.SUBMITTED
    assert await _is_free(path)


async def test_a_ledger_whose_opening_is_cancelled_is_not_left_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads it cannot be cancelled; whoever imports us may want the ledger again."""
    path, reads, may_read = tmp_path / "ledger.jsonl", threading.Event(), threading.Event()
    opening = LedgerFile.open

    def slow(self: LedgerFile) -> LedgerState:
        book = opening(self)
        reads.set()
        assert may_read.wait(PATIENCE_SECONDS)
        return book

    async def run() -> None:
        async with open_ledger(path):
            pytest.fail("cancelled")

    with monkeypatch.context() as patch:
        patch.setattr(LedgerFile, "open", slow)
        task = asyncio.ensure_future(run())
        await asyncio.to_thread(reads.wait, PATIENCE_SECONDS)
        await _cancelled(task)
        may_read.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await _is_free(path):  # noqa: ASYNC110 (a lock that is given back rings no bell)
            await asyncio.sleep(0.01)


async def _is_free(path: Path) -> bool:
    try:
        async with open_ledger(path):
            return True
    except LedgerError:
        return False
