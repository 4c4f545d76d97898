"""When a look at the service pays, and which: one List for all of a membership, or Gets for those about to end. Pure.

A look costs calls; not looking costs slots that idle unseen. A job last seen at `s` is expected to have cost
h(t - s)^2 / 2 slot-seconds by `t`, where h is the chance a second that it ends. Measured in mean running times and
weighed with `_CALLS_A_JOB_TIME`, that is compared with the calls of the look: it is due when both are equal, which
makes the sum of both costs least. So looks are rare early in a job's life and close near its expected end.
"""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from batchsubmit.slots.durations import Durations
from batchsubmit.slots.roster import RunningJob

_CALLS_A_JOB_TIME = 250.0
"""Calls that one slot idling for a job's whole running time is worth. For five jobs whose ages tell nothing it comes to
five Lists a job and 1.7 % of the slots' time unseen; less of both where running times are known."""

_CALLS_WHEN_NOBODY_WAITS = 12.0
"""The same where a freed slot would not be used, and the look only serves to write down what has ended."""

_STEPS = 12

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Look:
    """A look that is due. Without `arns` it is a List of the whole membership, else a Get of each."""

    membership: str
    arns: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it shows the jobs of others too."""
        return not self.arns


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When a membership was last looked at, how often it may be, and how much a look is worth."""

    looked_at: float
    least_seconds: float
    most_seconds: float
    slots_are_wanted: bool

    @property
    def weight(self) -> float:
        """Calls worth making to save a slot from idling for a job's running time."""
        return _CALLS_A_JOB_TIME if self.slots_are_wanted else _CALLS_WHEN_NOBODY_WAITS


def plan_look(
    membership: str, jobs: Collection[RunningJob], durations: Durations, *, pages: int, now: float, terms: Terms
) -> tuple[float, Look]:
    """Say when to look at a membership next, and how. There is at least one job; times are monotonic seconds."""
    pulls = [_pull(job, durations, now) for job in jobs]
    if math.sqrt(max(pages, 1) * sum(pulls)) <= sum(map(math.sqrt, pulls)):
        last = max(terms.looked_at, min(job.seen_at for job in jobs))
        due = _due(lambda at: sum(_gain(job, durations, at) for job in jobs), max(pages, 1), last, terms)
        return due, Look(membership)
    for job in jobs:
        if job.due_at is None:
            job.due_at = _due(lambda at, job=job: _gain(job, durations, at), 1, job.seen_at, terms)  # type: ignore[misc]
    due = min(job.due_at or 0.0 for job in jobs)
    return due, Look(membership, tuple(_together(jobs, due)))


def _together(jobs: Iterable[RunningJob], due: float) -> Iterable[str]:
    """Those that are due, and those that would be very soon."""
    for job in jobs:
        slack = 0.2 * (due - job.seen_at)
        if job.due_at is not None and job.due_at <= due + slack:
            yield job.arn


def _pull(job: RunningJob, durations: Durations, now: float) -> float:
    """How strongly a job calls for looks at this moment, a second squared."""
    age = max(now - job.began_at, 1e-3)
    model = durations.of(job.kind)
    return model.hazard(age) / (model.mean_seconds or age) + 1e-12


def _gain(job: RunningJob, durations: Durations, at: float) -> float:
    """What a look at this moment is expected to save, in running times of a job."""
    unseen = max(at - job.seen_at, 0.0)
    age = max(at - unseen / 3 - job.began_at, 1e-3)
    model = durations.of(job.kind)
    return model.hazard(age) * unseen * unseen / 2 / (model.mean_seconds or age)


def _due(gain: Callable[[float], float], cost: float, last: float, terms: Terms) -> float:
    """Find the moment after `last` at which the gain comes up to the cost, within the bounds."""
    least, most = terms.least_seconds, max(terms.most_seconds, terms.least_seconds)
    if gain(last + most) * terms.weight < cost:
        return last + most
    low, high = least, most
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if gain(last + middle) * terms.weight < cost:
            low = middle
        else:
            high = middle
    return last + high
