"""The program's own engine on a simulated service: only clock, wire and ledger are virtual."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from batchsubmit.cleanrooms.api import JobDetails, JobPage, JobsApi
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Event, Job, Outcome
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.core.source import Source
from batchsubmit.ledger.file import SoleWriter
from batchsubmit.observers.base import Observer
from batchsubmit.submit.engine import build_engine
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop
from simulation.loop import VirtualClock

_Result = TypeVar("_Result")


def assemble(
    settings: Settings,
    api: JobsApi,
    source: Source,
    clock: VirtualClock,
    account_of: Callable[[str], str],
    observers: Sequence[Observer] = (),
) -> Coroutine[Any, Any, None]:
    """Put a run together; what is returned submits the whole source."""
    recorder = Recorder(ForgetfulLedger(), clock, observers)
    engine = build_engine(source, settings=settings, api=api, recorder=recorder, stop=Stop(), account_of=account_of)
    return engine.run()


class ForgetfulLedger(SoleWriter):
    """A ledger without a disk that keeps where each job stands, and no events: a simulation never reads them again."""

    def __init__(self) -> None:
        super().__init__(LedgerState())

    def put(self, event: Event) -> Awaitable[None]:
        """Take an event in."""
        self.state.apply(event)
        return _nothing()

    def note(self, event: Event) -> None:
        """Take an event in."""
        self.state.apply(event)


async def _nothing() -> None:
    """Resolve at once."""


class Distance:
    """`JobsApi` at a distance: half of a call's time passes before the service hears of it, half after."""

    def __init__(self, api: JobsApi, call_seconds: float) -> None:
        self._api = api
        self._half = call_seconds / 2

    async def start(self, job: Job) -> Outcome:
        """Make one call."""
        return await self._travel(self._api.start(job))

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Outcome:
        """Read a page."""
        return await self._travel(self._api.list_page(membership, trained_model=trained_model, token=token))

    async def get(self, membership: str, arn: str) -> JobDetails | Outcome:
        """Read a job."""
        return await self._travel(self._api.get(membership, arn))

    async def cancel(self, membership: str, arn: str) -> Outcome:
        """Ask for a job's end."""
        return await self._travel(self._api.cancel(membership, arn))

    async def _travel(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            await asyncio.sleep(self._half)
        except asyncio.CancelledError:
            call.close()
            raise
        answer = await call
        await asyncio.sleep(self._half)
        return answer
