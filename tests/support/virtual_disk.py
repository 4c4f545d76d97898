"""Tests in virtual time (`simulation.loop`): a disk and a wire on it that outlive a killed process.

Everything runs in one thread and in one order, so a test that draws its numbers from a seed always ends the same way,
and a test can stop between any two turns of the loop. Nothing here may use threads or real sockets.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from simulation.loop import VirtualLoop, virtual_loop

from batchsubmit.cleanrooms.api import JobDetails, JobPage, JobsApi
from batchsubmit.core.jobs import Event, Job, Outcome
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import SoleWriter

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class SlowLedger(SoleWriter):
    """A ledger whose disk takes its time: what is not durable yet may be lost with the process, from its end on."""

    def __init__(self, events: Iterable[Event] = (), *, write_seconds: float = 0.004) -> None:
        super().__init__(LedgerState())
        self.events = list(events)
        for event in self.events:
            self.state.apply(event)
        self.durable = len(self.events)
        self._write_seconds = write_seconds
        self._waiting: list[asyncio.Future[None]] = []
        self._writing = False
        self._is_dead = False

    def put(self, event: Event) -> Awaitable[None]:
        """Record an event; what is returned resolves once the disk has it."""
        self.note(event)
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append(durable)
        return durable

    def note(self, event: Event) -> None:
        """Record an event with the next group."""
        if self._is_dead:
            raise StoppedError("the process is dead")
        self.events.append(event)
        self.state.apply(event)
        if not self._writing:
            self._write_a_group()

    def _write_a_group(self) -> None:
        self._writing = True
        group, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        # What comes before this timer's turn belongs to the next group, as with a thread that writes.
        loop.call_later(self._write_seconds, self._written, len(self.events), group)

    def _written(self, count: int, group: list[asyncio.Future[None]]) -> None:
        if self._is_dead:
            return
        self.durable = count
        for durable in group:
            if not durable.done():
                durable.set_result(None)
        self._writing = False
        if self._waiting or self.durable < len(self.events):
            self._write_a_group()

    def killed(self, *, kept: int = 0) -> "SlowLedger":
        """End with the process; gives what the next one finds: all that was durable, and `kept` events after it."""
        self._is_dead = True
        return SlowLedger(self.events[: self.durable + kept], write_seconds=self._write_seconds)


class Wire:
    """`JobsApi` at a distance: a request on its way arrives even where its sender is cancelled or dead."""

    def __init__(self, service: JobsApi, *, seconds: float = 0.01) -> None:
        self._service = service
        self._seconds = seconds
        self.is_cut = False

    async def start(self, job: Job) -> Outcome:
        """Make one call."""
        return await self._carry(self._service.start(job))

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Outcome:
        """Read a page."""
        return await self._carry(self._service.list_page(membership, trained_model=trained_model, token=token))

    async def get(self, membership: str, arn: str) -> JobDetails | Outcome:
        """Read a job."""
        return await self._carry(self._service.get(membership, arn))

    async def cancel(self, membership: str, arn: str) -> Outcome:
        """Cancel a job."""
        return await self._carry(self._service.cancel(membership, arn))

    async def _carry(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        if self.is_cut:
            call.close()
            raise asyncio.CancelledError("a dead process makes no call")
        return await asyncio.shield(asyncio.ensure_future(self._travel(call)))

    async def _travel(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        await asyncio.sleep(self._seconds)
        answer = await call
        await asyncio.sleep(self._seconds)
        return answer


def virtually(test: Callable[_Arguments, Coroutine[Any, Any, _Result]]) -> Callable[_Arguments, _Result]:
    """Run an async test on a loop in virtual time."""

    @wraps(test)
    def run(*given: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with virtual_loop() as loop:
            return loop.run_until_complete(test(*given, **named))

    return run


def running_loop() -> VirtualLoop:
    """The loop that the caller runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
