"""Follows submitted jobs to their end (`--wait`): looks at the service at intervals and records what has finished."""

import asyncio
from collections.abc import Iterable

from batchsubmit.catalog import Catalog, ReadError
from batchsubmit.cleanrooms import RUNNING_STATUSES
from batchsubmit.config import SlotSettings
from batchsubmit.jobs import Finished
from batchsubmit.recorder import Recorder
from batchsubmit.states import JobState, Phase
from batchsubmit.stopping import Stop, StopReason


class Follower:
    """Looks at each membership in turn until none of its jobs runs, or the run stops."""

    def __init__(self, *, catalog: Catalog, recorder: Recorder, slots: SlotSettings, stop: Stop) -> None:
        self._catalog = catalog
        self._recorder = recorder
        self._slots = slots
        self._stop = stop
        self.running = 0

    async def follow(self, keys: Iterable[str]) -> None:
        """Return once every submitted job among these has finished, or the run is asked to stop."""
        lanes: dict[str, dict[str, JobState]] = {}
        for key in keys:
            state = self._recorder.ledger.book.get(key)
            if state is not None and state.phase is Phase.SUBMITTED:
                lanes.setdefault(state.membership, {})[state.arn] = state
        self.running = sum(map(len, lanes.values()))
        async with asyncio.TaskGroup() as watching:
            for membership, running in lanes.items():
                watching.create_task(self._watch(membership, running), name=f"follow {membership}")

    async def _watch(self, membership: str, running: dict[str, JobState]) -> None:
        """Look at one membership, sooner again when something has finished than when nothing has."""
        pause = self._slots.min_poll_seconds
        while running and not self._stop.requested:
            try:
                finished = await self._look(membership, running)
            except ReadError as exc:
                reason = StopReason.CREDENTIALS if exc.is_forbidden else StopReason.UNREACHABLE
                self._stop.request(reason, f"the jobs cannot be followed to their end: {exc}")
                return
            pause = self._slots.min_poll_seconds if finished else min(pause * 2, self._slots.max_poll_seconds)
            if running:
                await self._stop.pause(pause)

    async def _look(self, membership: str, running: dict[str, JobState]) -> int:
        """Record every job that has finished; give their number."""
        listed = {job.arn: job.status for job in await self._catalog.jobs(membership)}
        ended = {arn: listed[arn] for arn in running if listed.get(arn, "CREATE_PENDING") not in RUNNING_STATUSES}
        for arn, status in ended.items():
            message = "" if status == "ACTIVE" else (await self._catalog.details(membership, arn)).message
            await self._record(running.pop(arn), status, message)
        return len(ended)

    async def _record(self, state: JobState, status: str, message: str) -> None:
        finished = Finished(**state.stamp(self._recorder.now()), arn=state.arn, status=status, message=message)
        await self._recorder.record(finished)
        self.running -= 1
