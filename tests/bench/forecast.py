"""Whether the estimate holds: batches that the program itself runs in virtual time, each foretold from other jobs.

    .venv/bin/python tests/bench/forecast.py [--seeds 20] [--jobs 100] [--history 100] [--job-minutes 30] [--sigma 0.5]

For each seed, jobs of log-normal times are drawn twice: those of an earlier batch, which the estimate is made from, and
those of the batch, which engine, scheduler and submitter run against the sandbox's state machine, two memberships, 5
slots each, 10 an account, 0.1 s a call. Printed are the interval, the truth and the error of each seed, then how often
the 80 % interval held the truth and the median error. Good are 15 to 18 of 20 inside and an error of at most 8 %.

The last column is the error of what a display shows once a tenth of the jobs has ended, by the batch's own events
alone. Good are 16 of 20 within 15 %.
"""

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from random import Random

from harness import machine, tell

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from conftest import job_named
from slot_trial import SlotTrial
from virtual_time import EPOCH, virtual_loop

from batchsubmit.clock import timestamp
from batchsubmit.config import Settings
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.jobs import JobEvent, JobFinished, RunStarted, Share
from batchsubmit.forecast import JobClass, LaneWork, RunHistory, SlotCounts, forecast
from batchsubmit.observers.base import Observer

HOMES = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(2)]
KIND = JobClass("model", "ml.m5.large")


class AtATenth(Observer):
    """Reads a run's events as its display does, and keeps the end that is estimated once a tenth of the jobs ended."""

    def __init__(self, homes: Sequence[str], settings: Settings) -> None:
        self.history, self.ended, self.wanted, self.seconds = RunHistory(), 0, len(homes) // 10, math.nan
        jobs = [job_named("job", membership=home) for home in homes]
        kinds = Counter((job.membership, job.trained_model, job.instance_type) for job in jobs)
        run = {"run": "r", "batch": "", "manifest": "m", "manifest_sha256": "0", "version": "", "holder": ""}
        work = tuple(Share(*kind, jobs=count) for kind, count in kinds.items())
        self.history.apply(RunStarted(at=timestamp(EPOCH), work=work, per_second=settings.rate.max_per_second, **run))

    def saw(self, event: JobEvent) -> None:
        """Take in an event."""
        self.history.apply(event)
        self.ended += isinstance(event, JobFinished)
        if self.ended == self.wanted and math.isnan(self.seconds):
            now = datetime.fromisoformat(event.at)
            finish = self.history.finish(now)
            assert finish is not None
            self.seconds = (now - EPOCH).total_seconds() + finish.seconds


def end_of(homes: Sequence[str], seconds: Sequence[float], settings: Settings, seed: int) -> tuple[float, float]:
    """Run such a batch; when it ends as it is estimated after a tenth of its jobs, and when it does."""
    display = AtATenth(homes, settings)
    given = {name: getattr(settings, name).model_dump() for name in ("rate", "retry", "slots", "lookup", "submit")}
    with virtual_loop() as loop:
        trial = SlotTrial(
            loop,
            settings=given,
            seed=seed,
            observers=[display],
            job_seconds_of=lambda name: seconds[int(name.removeprefix("job-"))],
            per_membership=5,
            per_account=10,
        )
        makespan = trial.submit(homes).makespan
    return display.seconds, makespan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="batches, each with a seed of its own (20)")
    parser.add_argument("--jobs", type=int, default=100, help="jobs of a batch (100)")
    parser.add_argument("--history", type=int, default=100, help="jobs that were seen before (100)")
    parser.add_argument("--job-minutes", type=float, default=30.0, help="median running time (30)")
    parser.add_argument("--sigma", type=float, default=0.5, help="log-normal spread of it (0.5)")
    options = parser.parse_args()
    settings = Settings()
    print(machine())
    print(f"{'seed':>4} {'low h':>8} {'median h':>9} {'high h':>8} {'actual h':>9} {'error':>7}  inside  at a tenth")
    errors, inside, tenths = [], 0, []
    for seed in range(options.seeds):
        tell(f"seed {seed + 1} of {options.seeds}")
        dice, mu = Random(seed), math.log(60 * options.job_minutes)
        times = RunTimes()
        for _ in range(options.history):
            times.add(KIND, dice.lognormvariate(mu, options.sigma))
        homes = HOMES * (options.jobs // 2)
        seconds = [dice.lognormvariate(mu, options.sigma) for _ in homes]
        lanes = [LaneWork(waiting=Counter({KIND: options.jobs // 2})) for _ in HOMES]
        finish = forecast(lanes, SlotCounts(), times, per_second=settings.rate.max_per_second)
        assert finish is not None
        at_a_tenth, actual = end_of(homes, seconds, settings, seed)
        tenths.append(at_a_tenth / actual - 1)
        is_inside = finish.low_seconds <= actual <= finish.high_seconds
        inside += is_inside
        errors.append(abs(finish.seconds - actual) / actual)
        low, median, high, real = (
            each / 3600 for each in (finish.low_seconds, finish.seconds, finish.high_seconds, actual)
        )
        verdict = "yes" if is_inside else "no"
        hours = f"{low:>8.2f} {median:>9.2f} {high:>8.2f} {real:>9.2f}"
        print(f"{seed:>4} {hours} {errors[-1]:>7.1%}  {verdict:<6} {tenths[-1]:>+10.1%}")
    print(f"inside the 80 % interval: {inside} of {options.seeds}; median error {statistics.median(errors):.1%}")
    near = sum(abs(error) <= 0.15 for error in tenths)
    print(f"after a tenth of the jobs: {near} of {options.seeds} within 15 % of the end")


if __name__ == "__main__":
    main()
