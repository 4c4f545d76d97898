"""How long jobs run, learned from those that have ended: per trained model and instance type. Pure.

The times of jobs are taken to be log-normal. What is asked is not how long a job will run but how likely a job that has
run for so long ends now (its hazard), because that is what decides when a look at the service pays.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_ENOUGH = 3
"""Jobs that must have ended before a class of jobs is judged by its own times."""

_KEPT = 200
"""Times kept of a class, the latest ones: models and data change."""

_PRIOR_SIGMA = 0.5
_PRIOR_WEIGHT = 2.0
"""Three equal times do not prove that all are equal: the spread starts from a guess that weighs as much as two jobs."""

_LEAST_SIGMA = 0.02
_NO_AGE = 1e-9
"""Seconds: a job that is younger has not begun."""

_FAR_TAIL = 6.0
"""From so many standard deviations on the hazard is computed by its asymptote: the survival is too small a number."""


@dataclass(frozen=True, slots=True)
class JobClass:
    """Jobs that can be expected to take about as long as one another."""

    trained_model: str
    instance_type: str = ""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A distribution of running times, by the mean and the standard deviation of their logarithms (seconds)."""

    mu: float
    sigma: float

    @property
    def mean_seconds(self) -> float:
        """The expected running time."""
        return math.exp(self.mu + self.sigma**2 / 2)

    def hazard(self, age_seconds: float) -> float:
        """How likely, a second, a job that has run for so long ends now."""
        if age_seconds < _NO_AGE:
            return 0.0
        z = (math.log(age_seconds) - self.mu) / self.sigma
        if z > _FAR_TAIL:
            return z / (self.sigma * age_seconds)
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        survival = math.erfc(z / math.sqrt(2)) / 2
        return density / (survival * self.sigma * age_seconds)


@dataclass(frozen=True, slots=True)
class Unlearned:
    """Nothing has ended yet: a job may end at any age, as likely in the next tenth of its age whatever that is."""

    def hazard(self, age_seconds: float) -> float:
        """How likely, a second, a job that has run for so long ends now."""
        return 1 / max(age_seconds, 1e-3)

    mean_seconds = 0.0
    """Unknown."""


class Durations:
    """What has been learned so far."""

    def __init__(self) -> None:
        self._seconds: dict[JobClass, list[float]] = {}
        self._models: dict[JobClass, LogNormal | Unlearned] = {}

    def learn(self, kind: JobClass, seconds: float) -> None:
        """Take in that a job has ended after so many seconds."""
        for each in self._circles(kind):
            times = self._seconds.setdefault(each, [])
            times.append(max(seconds, 1e-3))
            del times[:-_KEPT]
        self._models.clear()

    def of(self, kind: JobClass) -> LogNormal | Unlearned:
        """The distribution for a job: of its class, else of its model, else of all jobs, whatever has enough."""
        if kind not in self._models:
            self._models[kind] = self._fitted(kind)
        return self._models[kind]

    def _fitted(self, kind: JobClass) -> LogNormal | Unlearned:
        circles = [self._seconds.get(each, []) for each in self._circles(kind)]
        known = next((times for times in circles if len(times) >= _ENOUGH), circles[-1])
        return fit(known) if known else Unlearned()

    def times(self, kind: JobClass) -> list[float]:
        """The times on which `of` rests, in seconds, in the order in which they were learned."""
        circles = [self._seconds.get(each, []) for each in self._circles(kind)]
        return list(next((times for times in circles if len(times) >= _ENOUGH), circles[-1]))

    def _circles(self, kind: JobClass) -> tuple[JobClass, ...]:
        """From the narrowest class to all jobs."""
        return tuple(dict.fromkeys((kind, JobClass(kind.trained_model), _ALL)))


_ALL = JobClass("")


def fit(seconds: Iterable[float]) -> LogNormal:
    """Fit a distribution to the times of jobs that have ended; at least one."""
    logs = [math.log(each) for each in seconds]
    mu = sum(logs) / len(logs)
    squares = sum((each - mu) ** 2 for each in logs) + _PRIOR_WEIGHT * _PRIOR_SIGMA**2
    return LogNormal(mu, max(math.sqrt(squares / (len(logs) - 1 + _PRIOR_WEIGHT)), _LEAST_SIGMA))
