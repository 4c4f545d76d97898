"""The jobs that an earlier run left unknown: each is looked up before its lane goes on."""

import asyncio
from collections.abc import Mapping
from typing import Any

from batchsubmit.core.source import Source
from batchsubmit.core.states import Action, JobState
from batchsubmit.engine.crew import Crew, Limits
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import Taken
from batchsubmit.ledger.claims import Held
from batchsubmit.submit.in_progress import UnderWay
from batchsubmit.submit.job_run import Carrier
from batchsubmit.submit.lookup import Finding, Found, NotThere, Undecided
from batchsubmit.submit.stopping import Stop, StopReason


class Settler:
    """Settles what was left unknown; what is not there goes back to the source."""

    def __init__(
        self, *, source: Source, crew: Crew, carrier: Carrier, stop: Stop, limits: Limits, under_way: UnderWay
    ) -> None:
        self._source = source
        self._crew = crew
        self._carrier = carrier
        self._stop = stop
        self._limits = limits
        self._under_way = under_way

    async def settle(self, state: JobState, tasks: asyncio.TaskGroup) -> None:
        """Look a job up and let its lane go on. The lane was blocked for it before."""
        request = self._request_of(state.job)
        held = await self._carrier.claim(state.job)
        while isinstance(held, Taken) and not self._stop.requested:
            await self._stop.pause(held.retry_after_seconds)
            held = await self._carrier.claim(state.job)
        if isinstance(held, Held):
            with self._carrier.letting_go(state.job):
                await self._settle_in_hand(state.job, held.action, request, tasks)
        else:
            reason = f"in the hands of {held.by}" if held else "the ledger cannot be relied on"
            self._under_way.undecided[state.job] = reason
        self._under_way.unblock(state.membership)

    def _request_of(self, key: str) -> Mapping[str, Any] | None:
        try:
            return self._source.request_of(key)
        except StoppedError as exc:
            self._stop.request(StopReason.MANIFEST, str(exc))
            return None

    async def _settle_in_hand(
        self, key: str, action: Action, request: Mapping[str, Any] | None, tasks: asyncio.TaskGroup
    ) -> None:
        finding: Finding = NotThere()
        if action is Action.LOOK_UP:
            finding = await self._carrier.find(key, request, tasks)
        elif action is not Action.SUBMIT:
            self._crew.watcher.follow(key)
            return
        match finding:
            case Found():
                self._crew.watcher.follow(key)
            case NotThere():
                self._source.reinstate(key)
            case Undecided() if self._limits.resubmit_unknown and not self._stop.requested:
                self._crew.claims.send_again(key)
                self._source.reinstate(key)
            case Undecided(reason):
                self._under_way.undecided[key] = reason
