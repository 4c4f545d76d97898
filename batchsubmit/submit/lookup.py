"""Unknown to known: finds out on the service whether an attempt whose answer nobody saw was accepted.

All unknown jobs of one membership and model share one pass through List. A job is ours where its tag carries our key
or, untagged, where it has everything that we asked for and no other job of the ledger claims it. Only a pass that
began after the settle time is over may say that a job is not there. The settle time is measured by this process's
monotonic clock from the moment it learned of the doubt, so that no step of the wall clock can shorten it.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from batchsubmit.cleanrooms.api import JobDetails, JobSummary
from batchsubmit.cleanrooms.reads import ReadError, Reads
from batchsubmit.config import LookupSettings
from batchsubmit.core.job_states import UNDECIDED, JobState, Phase
from batchsubmit.core.jobs import KEY_TAG, Absent, Accepted, Duplicate, JobEvent, JobSubmitted
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import ClaimedArnError, LostJobError
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop

CLOCK_SKEW = timedelta(hours=2)
"""How far an intent's time may be ahead of the service's. AWS refuses calls signed a quarter of an hour off, but the
clock may have been set between the intent and the call; an hour's step, and room. It only saves Get calls."""

_PASSES_PER_SETTLE_TIME = 4


@dataclass(frozen=True, slots=True)
class NotThere:
    """The service has no such job; it may be tried again."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The service does not tell, or the run is stopping, or the job was lost to another worker: it stays unknown."""

    reason: str
    is_lost: bool = False


Finding: TypeAlias = Accepted | NotThere | Undecided
"""What the last attempt came to; where it was accepted, the ledger says so now."""


@dataclass(slots=True, eq=False)
class _Case:
    """One unknown job under investigation. `request` is None where only the ledger still knows of it.

    The last pass found it ambiguous where an untagged job of its name cannot be compared, contested where one could as
    well be that of an identical row.
    """

    state: JobState
    request: Mapping[str, Any] | None
    settled_at: float
    finding: asyncio.Future[Finding]
    matches: list[JobSummary] = field(default_factory=list)
    doubt: str = ""
    is_contested: bool = False


class Lookup:
    """Resolves unknown jobs, those of one membership and model together."""

    def __init__(self, *, reads: Reads, recorder: Recorder, settings: LookupSettings, stop: Stop) -> None:
        self._reads = reads
        self._recorder = recorder
        self._settle_seconds = settings.settle_seconds
        self._stop = stop
        self._groups: dict[tuple[str, str], list[_Case]] = {}

    async def resolve(self, key: str, request: Mapping[str, Any] | None, tasks: asyncio.TaskGroup) -> Finding:
        """Find out whether a job's last attempt was accepted, and record it. The search runs among `tasks`.

        `request` is what the attempt asked for, where that is still known.

        Raises StoppedError where the ledger can no longer be relied on.
        """
        state = self._recorder.ledger.state.get(key)
        if state is None or state.phase not in UNDECIDED:
            return Undecided("the ledger does not know of an attempt")
        now = self._recorder.clock.monotonic()
        case = _Case(state, request, now + self._settle_seconds, asyncio.get_running_loop().create_future())
        place = (state.membership, state.trained_model)
        group = self._groups.setdefault(place, [])
        group.append(case)
        if len(group) == 1:
            tasks.create_task(self._investigate(place), name=f"look up {state.membership}")
        return await case.finding

    async def _investigate(self, place: tuple[str, str]) -> None:
        """Pass after pass, until the group has no open case; a case that joins meanwhile is taken along."""
        clock = self._recorder.clock
        group = self._groups[place]
        try:
            while group:
                began = clock.monotonic()
                await self._pass(place, list(group), began)
                group[:] = [case for case in group if not case.finding.done()]
                if group:
                    # Some looks while the settle time runs, and one right after it; never more than half of the time.
                    now = clock.monotonic()
                    next_due = min(case.settled_at for case in group) - now
                    regular = max(self._settle_seconds / _PASSES_PER_SETTLE_TIME, now - began)
                    await self._stop.pause(max(min(regular, next_due) if next_due > 0 else regular, 0.01))
                if self._stop.requested:
                    _close(group, Undecided("the run stopped before the lookup was over"))
                    group.clear()
        except StoppedError as exc:
            for case in group:
                if not case.finding.done():
                    case.finding.set_exception(exc)
        finally:
            del self._groups[place]

    async def _pass(self, place: tuple[str, str], cases: list[_Case], began: float) -> None:
        """Read the list once and decide every case that it decides."""
        membership, trained_model = place
        try:
            listed = await self._reads.jobs(membership, trained_model=trained_model or None)
            await self._find_matches(membership, listed, cases)
        except ReadError as exc:
            _close(cases, Undecided(str(exc)))
            return
        for case in cases:
            stamp, attempt = case.state.stamp(self._recorder.now()), case.state.attempt
            if case.matches:
                arn, *more = (job.arn for job in case.matches)
                await self._record(case, JobSubmitted(**stamp, arn=arn, attempt=attempt, via="lookup"), Accepted(arn))
                for each in more if case.finding.done() else ():
                    with suppress(ClaimedArnError, LostJobError):
                        await self._recorder.record(Duplicate(**stamp, arn=each, of=arn))
            elif began < case.settled_at or case.is_contested:
                continue
            elif case.doubt:
                _close([case], Undecided(case.doubt))
            else:
                await self._record(case, Absent(**stamp, attempt=attempt), NotThere())

    async def _find_matches(self, membership: str, listed: list[JobSummary], cases: list[_Case]) -> None:
        """Give each case the jobs that are its own, oldest first. Raises ReadError."""
        names = {case.state.name for case in cases}
        named = sorted((job for job in listed if job.name in names), key=lambda job: (job.created_at, job.arn))
        claims = await self._recorder.ledger.claims({job.arn for job in named})
        details: dict[str, JobDetails | None] = {}
        for case in cases:
            case.matches, case.doubt, case.is_contested = [], "", False
            earliest = datetime.fromisoformat(case.state.since) - CLOCK_SKEW
            for job in named:
                is_possible = job.name == case.state.name and job.created_at >= earliest
                if is_possible and job.arn not in case.state.earlier and not self._is_another_row_s(job, case, claims):
                    if job.arn not in details:
                        details[job.arn] = await self._reads.find(membership, job.arn)
                    self._compare(case, job, details[job.arn], cases, claims)

    def _is_another_row_s(self, job: JobSummary, case: _Case, claims: Mapping[str, str]) -> bool:
        owner = claims.get(job.arn, case.state.job)
        other = self._recorder.ledger.state.get(owner)
        return owner != case.state.job and (other is None or other.name == case.state.name)

    def _compare(
        self, case: _Case, job: JobSummary, details: JobDetails | None, cases: Collection[_Case], claims: dict[str, str]
    ) -> None:
        """Take a job of the right name as the case's own, if it is."""
        if details is None:
            case.doubt = f"List shows a job of its name that Get does not know: {job.arn}"
        elif claims.get(job.arn, case.state.job) != case.state.job:
            # Some Start call of another name was answered with this ARN: the job here exists all the same.
            if details.tags.get(KEY_TAG) == case.state.tag:
                case.doubt = f"its job {job.arn} is recorded as that of job {claims[job.arn]}: run verify"
        elif KEY_TAG in details.tags:
            if details.tags[KEY_TAG] == case.state.tag:
                case.matches.append(job)
        elif case.request is None:
            case.doubt = "an untagged job has its name, and the manifest no longer has its row"
        elif not case.matches and _is_what_was_asked(case.request, details.request):
            # Untagged jobs of identical rows look alike: one for each case, and none while a call that is under way
            # may have made it.
            case.is_contested = self._has_sibling_under_way(case.state, cases)
            if not case.is_contested:
                case.matches.append(job)
                claims[job.arn] = case.state.job

    def _has_sibling_under_way(self, state: JobState, cases: Collection[_Case]) -> bool:
        looked_up = {case.state.job for case in cases}
        return any(
            other.phase is Phase.INTENT
            and (other.name, other.membership, other.trained_model)
            == (state.name, state.membership, state.trained_model)
            and other.job not in looked_up
            for other in self._recorder.ledger.state.undecided()
        )

    async def _record(self, case: _Case, event: JobEvent, finding: Finding) -> None:
        """Write a finding down, unless other workers of a shared ledger know better by now."""
        try:
            await self._recorder.record(event)
        except ClaimedArnError:
            return  # an identical, untagged job got it meanwhile, by its own answer: the next pass looks for one more
        except LostJobError as exc:
            finding = Undecided(str(exc), is_lost=True)
        case.finding.set_result(finding)


def _close(cases: list[_Case], finding: Finding) -> None:
    """End cases with one finding."""
    for case in cases:
        if not case.finding.done():
            case.finding.set_result(finding)


_NEVER_FILLED_IN = ("description", "environment")
"""Members that only a user sets. Others the service may fill in where a request leaves them out."""


def _is_what_was_asked(asked: Mapping[str, Any], has: Mapping[str, Any]) -> bool:
    """Whether a job has all that a request asked for, and nothing of the user's beyond it. Tags are no part."""
    own = {name: value for name, value in asked.items() if name != "tags"}
    return _has_all_of(own, has) and all(
        (asked.get(name) or None) == (has.get(name) or None) for name in _NEVER_FILLED_IN
    )


def _has_all_of(asked: Any, has: Any) -> bool:  # noqa: ANN401 (JSON)
    if isinstance(asked, Mapping):
        return isinstance(has, Mapping) and all(
            name in has and _has_all_of(value, has[name]) for name, value in asked.items()
        )
    if isinstance(asked, list):
        return isinstance(has, list) and len(asked) == len(has) and all(map(_has_all_of, asked, has))
    return bool(asked == has)
