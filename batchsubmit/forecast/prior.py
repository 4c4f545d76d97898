"""What is known of the time that jobs will take, with the doubt about it: to be drawn from. Pure, but for the dice.

A `Knowledge` is resampled once for each imagined future: what we believe about the jobs is itself a draw, and only then
the jobs are. So the doubt that comes from having seen few jobs is in every number that follows.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol

from batchsubmit.forecast.history import Observation

_ENOUGH = 3
"""Jobs of a trained model that must have ended before it is judged by its own."""

_MANY = 20
"""From so many jobs on their own times are drawn from; fewer have not shown yet how long a long job takes."""

_KEPT = 2_000
"""Observations kept of a model, the latest ones."""

_PRIOR_SIGMA = 0.5
_PRIOR_WEIGHT = 2.0
"""As in `durations`: a few equal times do not prove that all are equal."""

_GUESSED_MEAN_SIGMA = 0.15
_GUESSED_SIGMA = 0.3
"""What `--job-minutes` is taken to mean: the mean to within about a sixth, and jobs that differ by about a third."""

_TAIL_SHARE = 0.1
"""A job older than any that was seen is expected to need a tenth of its age more."""


class Times(Protocol):
    """One belief about how long jobs take."""

    def draw(self, count: int) -> list[float]:
        """Draw the seconds of so many jobs."""
        ...

    def draw_rest(self, age_seconds: float) -> float:
        """Draw what a job that has run for so long still needs."""
        ...


class Knowledge(Protocol):
    """What is known of one kind of job."""

    def believed(self, dice: Random) -> Times:
        """Draw a belief."""
        ...


class Observed:
    """Knowledge from jobs that were seen."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self._observations = sorted(observations[-_KEPT:], key=lambda each: (each.seconds, not each.ended))
        self._logs = [math.log(each.seconds) for each in self._observations if each.ended]

    def believed(self, dice: Random) -> Times:
        """Resample the jobs that were seen; of a few, draw the log-normal distribution that they may come from."""
        if len(self._logs) < _MANY:
            return self._log_normal(dice)
        again = dice.choices(self._observations, k=len(self._observations))
        if not any(each.ended for each in again):
            return self._log_normal(dice)
        return _Empirical(sorted(again, key=lambda each: (each.seconds, not each.ended)), dice)

    def _log_normal(self, dice: Random) -> "_LogNormal":
        count = len(self._logs)
        mean = sum(self._logs) / count
        squares = sum((each - mean) ** 2 for each in self._logs) + _PRIOR_WEIGHT * _PRIOR_SIGMA**2
        freedom = count - 1 + _PRIOR_WEIGHT
        sigma = math.sqrt(squares / dice.gammavariate(freedom / 2, 2.0))
        return _LogNormal(dice.gauss(mean, sigma / math.sqrt(count)), sigma, dice)


@dataclass(frozen=True, slots=True)
class Guessed:
    """Knowledge from somebody's word: what jobs take on average."""

    mean_seconds: float

    def believed(self, dice: Random) -> Times:
        """Doubt the mean, and give the jobs a spread."""
        mu = math.log(self.mean_seconds) - _GUESSED_SIGMA**2 / 2
        return _LogNormal(dice.gauss(mu, _GUESSED_MEAN_SIGMA), _GUESSED_SIGMA, dice)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Knowledge of jobs that all take the same time, such as the sandbox's."""

    seconds: float

    def believed(self, dice: Random) -> Times:
        """There is no doubt."""
        del dice
        return _Same(self.seconds)


@dataclass(frozen=True, slots=True)
class _Same:
    seconds: float

    def draw(self, count: int) -> list[float]:
        return [self.seconds] * count

    def draw_rest(self, age_seconds: float) -> float:
        return max(self.seconds - age_seconds, 0.0)


@dataclass(frozen=True, slots=True)
class _LogNormal:
    mu: float
    sigma: float
    dice: Random

    def draw(self, count: int) -> list[float]:
        return [self.dice.lognormvariate(self.mu, self.sigma) for _ in range(count)]

    def draw_rest(self, age_seconds: float) -> float:
        longer = [each for each in self.draw(32) if each > age_seconds]
        return longer[0] - age_seconds if longer else _beyond(age_seconds, self.dice)


class _Empirical:
    """The times that were seen, weighed by Kaplan and Meier: jobs cut short pass their weight on to longer ones."""

    def __init__(self, observations: Sequence[Observation], dice: Random) -> None:
        self._dice = dice
        self._seconds: list[float] = []
        weights: list[float] = []
        surviving, at_risk = 1.0, len(observations)
        last = len(observations) - 1
        for number, each in enumerate(observations):
            # The longest counts as ended even where it was cut short (Efron): its weight has nowhere else to go.
            if each.ended or number == last:
                weights.append(surviving / at_risk)
                self._seconds.append(each.seconds)
                surviving -= weights[-1]
            at_risk -= 1
        self._weights = list(accumulate(weights))

    def draw(self, count: int) -> list[float]:
        return self._dice.choices(self._seconds, cum_weights=self._weights, k=count)

    def draw_rest(self, age_seconds: float) -> float:
        first = bisect_right(self._seconds, age_seconds)
        if first == len(self._seconds):
            return _beyond(age_seconds, self._dice)
        weights = self._weights[first:]
        before = self._weights[first - 1] if first else 0.0
        [seconds] = self._dice.choices(self._seconds[first:], cum_weights=[each - before for each in weights])
        return seconds - age_seconds


def _beyond(age_seconds: float, dice: Random) -> float:
    return dice.expovariate(1 / max(age_seconds * _TAIL_SHARE, 1e-3))


class Expectations:
    """Knowledge by trained model, with what is known of all jobs for models that were hardly seen."""

    def __init__(self, of_all: Knowledge, of_models: Mapping[str, Knowledge] | None = None) -> None:
        self._of_all = of_all
        self._of_models = of_models or {}

    @classmethod
    def learned(cls, observations: Mapping[str, Sequence[Observation]]) -> "Expectations | None":
        """Learn from jobs that were seen; None where none has ended."""
        everything = [each for times in observations.values() for each in times]
        if not any(each.ended for each in everything):
            return None
        seen = {model: times for model, times in observations.items() if sum(each.ended for each in times) >= _ENOUGH}
        return cls(Observed(everything), {model: Observed(times) for model, times in seen.items()})

    def believed(self, dice: Random) -> Callable[[str], Times]:
        """Draw one belief about every model."""
        of_all = self._of_all.believed(dice)
        of_models = {model: knowledge.believed(dice) for model, knowledge in self._of_models.items()}
        return lambda model: of_models.get(model, of_all)
