"""Looks at the jobs that run: carries out the polls that `slots` asks for, and records which jobs have ended.

When to poll, and what follows for the slots, is decided in `slots`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from batchsubmit.cleanrooms.api import JobDetails, JobSummary
from batchsubmit.cleanrooms.reads import ReadError, Reads
from batchsubmit.core.job_states import RUNNING_STATUSES, JobState, Phase, is_good_end, is_running
from batchsubmit.log import get_logger
from batchsubmit.slots import JobClass, Poll, RunningJob, SeenJob, Slots
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop, StopReason

_OVERLAP = timedelta(minutes=5)
"""How much further back than its last one a poll considers: clocks differ, and List lags."""

_FIRST_MOST = 200
"""Of what ended before a fleet's first poll, only the latest: a table is asked of each, and others have looked."""


class Poller:
    """Polls the jobs of one run. Where jobs are followed, a poll that fails stops it; else slots are found by tries."""

    def __init__(self, *, reads: Reads, recorder: Recorder, slots: Slots, stop: Stop) -> None:
        self._reads = reads
        self._recorder = recorder
        self._slots = slots
        self._stop = stop
        self._looked_at: dict[str, datetime] = {}

    def follow(self, key: str) -> None:
        """Poll a job from now on, if the ledger has it as submitted and not ended."""
        state = self._recorder.ledger.state.get(key)
        if state is None or state.phase is not Phase.SUBMITTED:
            return
        clock = self._recorder.clock
        now, age = clock.monotonic(), _age(datetime.fromisoformat(state.since), clock.now()) if state.since else 0.0
        kind = JobClass(state.trained_model)
        job = RunningJob(arn=state.arn, key=key, kind=kind, began_at=now - age, seen_at=now - age)
        self._slots.runs(state.membership, job)

    async def poll(self, poll: Poll, seen: Callable[[], None]) -> None:
        """Carry out one poll; `seen` is called as soon as freed slots can be used.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        clock = self._recorder.clock
        began, began_at = clock.now(), clock.monotonic()
        try:
            seen_jobs = await self._see(poll)
        except ReadError as exc:
            if self._slots.follows:
                words = f"the jobs cannot be followed to their end: {exc}"
                self._stop.request(StopReason.of(exc.outcome), words)
            get_logger().warning("slots.unseen", membership=poll.membership, reason=str(exc))
            self._slots.could_not_poll(poll, clock.monotonic(), permanently=exc.is_forbidden)
            return
        # An earlier run of this ledger may have started some of those that are taken for others' jobs.
        others = self._slots.others(poll, seen_jobs)
        for key in self._recorder.ledger.state.claims(others).values():
            self.follow(key)
        now = clock.monotonic()
        ended = self._slots.saw(poll, seen_jobs, began_at=began_at, now=now)
        seen()
        await self._record_ends(poll, ended, seen_jobs, began=began)

    async def _see(self, poll: Poll) -> list[SeenJob]:
        """Make the calls. A job that neither Get nor List knows gives its slot back. Raises ReadError."""
        finding = (self._reads.find(poll.membership, arn) for arn in poll.arns)
        found: dict[str, JobSummary | JobDetails] = {}
        for arn, answer in zip(poll.arns, await asyncio.gather(*finding, return_exceptions=True), strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                found[arn] = answer
        missing = set(poll.arns) - found.keys()
        if poll.lists_all or missing:
            listed = {job.arn: job for job in await self._reads.jobs(poll.membership)}
            found |= listed if poll.lists_all else {arn: listed[arn] for arn in missing & listed.keys()}
        for arn in missing - found.keys():
            self._slots.gone(poll.membership, arn)
        now = self._recorder.clock.now()
        return [_seen(job, now) for job in found.values()]

    async def _record_ends(
        self, poll: Poll, ended: Iterable[RunningJob], seen_jobs: Iterable[SeenJob], *, began: datetime
    ) -> None:
        """Record the ends of jobs that were polled, and of those that ended unseen since the last poll."""
        ledger = self._recorder.ledger
        seen = {each.arn: each for each in seen_jobs}
        keys = {job.arn: job.key for job in ended if job.key}
        others = {job.arn for job in ended if not job.key}
        keys |= await ledger.claims(others | (self._unseen(poll, seen_jobs, began) - keys.keys()))
        running = await self._running(keys)
        reasons = {
            arn: await self._reason(state) for arn, state in running.items() if not is_good_end(seen[arn].status)
        }
        if reasons:  # another poll may have recorded ends during those reads
            running = await self._running({arn: state.job for arn, state in running.items()})
        for arn, state in running.items():
            end = self._recorder.finished(state, seen[arn].status, seen[arn].ended_at, reasons.get(arn))
            self._recorder.note(end)

    async def _running(self, keys: Mapping[str, str]) -> dict[str, JobState]:
        """Give the jobs, by ARN, whose end the ledger does not have; `keys` are theirs, by ARN."""
        states = await self._recorder.ledger.states(set(keys.values()))
        known = {arn: state for arn, key in keys.items() if (state := states.get(key))}
        return {arn: state for arn, state in known.items() if state.phase is Phase.SUBMITTED and state.arn == arn}

    def _unseen(self, poll: Poll, seen_jobs: Iterable[SeenJob], began: datetime) -> set[str]:
        """ARNs of jobs that a List shows to have ended since the last; the first one, those of earlier runs too."""
        since = self._looked_at.get(poll.membership)
        all_ended = [(each.ended_at, each) for each in seen_jobs if each.ended_at is not None]
        if not all_ended or not poll.lists_all:
            return set()
        # By the service's clock where that is behind ours, or what ends next would seem to be old news.
        self._looked_at[poll.membership] = min(began, max(at for at, _ in all_ended))
        if since is None and self._recorder.ledger.is_shared:
            all_ended = sorted(all_ended, key=lambda pair: pair[0])[-_FIRST_MOST:]
        return {each.arn for at, each in all_ended if since is None or at >= since - _OVERLAP}

    async def _reason(self, state: JobState) -> JobDetails:
        """Ask for the service's words about a job that ended badly; else say why there are none."""
        try:
            return await self._reads.details(state.membership, state.arn)
        except ReadError as exc:
            return JobDetails(arn=state.arn, status="", message=f"no reason known: {exc}", tags={}, request={})


def _seen(job: JobSummary | JobDetails, now: datetime) -> SeenJob:
    runs = is_running(job.status)
    if runs and job.status not in RUNNING_STATUSES:
        get_logger().warning("job.unknown_status", arn=job.arn, status=job.status, taken_for="running")
    ended_at = None if runs else job.updated_at
    created_at = job.created_at or now
    return SeenJob(
        arn=job.arn,
        status=job.status,
        is_running=runs,
        trained_model=str(job.request.get("trainedModelArn", "")) if isinstance(job, JobDetails) else job.trained_model,
        ran_seconds=_age(created_at, ended_at or now),
        ended_at=ended_at,
    )


def _age(since: datetime, until: datetime) -> float:
    """Seconds, not fewer than none: the two times may be of different clocks."""
    return max((until - since).total_seconds(), 0.0)
