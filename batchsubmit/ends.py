"""Writes down which jobs have ended, as polls show it: those of this run, and on a shared ledger those of all others.

A fleet's workers each see a part: the one that started a job may be gone by the time it ends, and whoever polls next
finds it ended among the jobs of others. Whose it is, the ledger is asked by ARN, once for each that a poll newly shows.
When to poll is decided in `slots`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from batchsubmit.cleanrooms.reads import Catalog, ReadError
from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import Finished
from batchsubmit.core.states import JobState, Phase
from batchsubmit.slots import Ended, Poll, Sighting
from batchsubmit.submit.recorder import Recorder

_OVERLAP = timedelta(minutes=5)
"""How much further back than its last one a poll considers: clocks differ, and List lags."""

_FIRST_MOST = 200
"""Of what ended before the first poll, only the latest: no more jobs can have ended unseen than there are slots."""


class Ends:
    """One run's record of ends."""

    def __init__(self, catalog: Catalog, recorder: Recorder) -> None:
        self._catalog = catalog
        self._recorder = recorder
        self._looked_at: dict[str, datetime] = {}

    async def record(
        self, poll: Poll, ended: Iterable[Ended], sightings: Iterable[Sighting], *, began: datetime
    ) -> None:
        """Record the ends of jobs that were watched, and of those that ended unwatched since the last poll.

        `began` is the time of the poll. Raises StoppedError where the ledger can no longer be relied on.
        """
        ledger = self._recorder.ledger
        seen = {each.job.arn: each.sighting for each in ended}
        keys = {each.job.arn: each.job.key for each in ended if each.job.key}
        if ledger.is_shared:
            seen = (self._unwatched(poll, sightings, began) if poll.lists_all else {}) | seen
            others = seen.keys() - keys.keys()
            keys |= await ledger.claims(others) if others else {}
        states = await ledger.states(set(keys.values())) if keys else {}
        for arn, key in keys.items():
            state = states.get(key)
            if state is not None and state.phase is Phase.SUBMITTED and state.arn == arn:
                await self._record(state, seen[arn])

    def _unwatched(self, poll: Poll, sightings: Iterable[Sighting], began: datetime) -> dict[str, Sighting]:
        """Give the jobs that have ended since the last poll."""
        since = self._looked_at.get(poll.membership)
        all_ended = [(each.ended_at, each) for each in sightings if each.ended_at is not None]
        if not all_ended:
            return {}
        # By the service's clock where that is behind ours, or what ends next would seem to be old news.
        self._looked_at[poll.membership] = min(began, max(at for at, _ in all_ended))
        if since is None:
            all_ended = sorted(all_ended, key=lambda pair: pair[0])[-_FIRST_MOST:]
        return {each.arn: each for at, each in all_ended if since is None or at >= since - _OVERLAP}

    async def _record(self, state: JobState, sighting: Sighting) -> None:
        """Write down that a job has ended, with the service's words where it ended badly."""
        code, message, logs = "", "", ""
        if sighting.status != "ACTIVE":
            try:
                details = await self._catalog.details(state.membership, state.arn)
                code, message, logs = details.code, details.message, details.logs
            except ReadError as exc:
                message = f"no reason known: {exc}"
        self._recorder.note(
            Finished(
                **state.stamp(self._recorder.now()),
                arn=state.arn,
                status=sighting.status,
                code=code,
                message=message,
                logs=logs,
                ended=timestamp(sighting.ended_at) if sighting.ended_at else "",
            )
        )
