"""Whether the estimate holds: batches that the program itself runs in virtual time, each foretold from other jobs.

    .venv/bin/python tests/bench/forecast.py [--seeds 20] [--jobs 100] [--history 100] [--job-minutes 30] [--sigma 0.5]

For each seed, jobs of log-normal times are drawn twice: those of an earlier batch, which the estimate is made from, and
those of the batch, which engine, scheduler and submitter run against the sandbox's state machine, two memberships, 5
slots each, 10 an account, 0.1 s a call. Printed are the interval, the truth and the error of each seed, then how often
the 80 % interval held the truth and the median error. Good are 15 to 18 of 20 inside and an error of at most 8 %.
"""

import argparse
import math
import statistics
import sys
from collections import Counter
from pathlib import Path
from random import Random

from harness import machine, tell

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from simulation import SimulatedJob, Workload, simulate
from strategies import arn

from batchsubmit.config import Settings
from batchsubmit.forecast import JobClass, LaneWork, RunTimes, SlotCounts, forecast

HOMES = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(2)]
KIND = JobClass("model", "ml.m5.xlarge")


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
    print(f"{'seed':>4} {'low h':>8} {'median h':>9} {'high h':>8} {'actual h':>9} {'error':>7}  inside")
    errors, inside = [], 0
    for seed in range(options.seeds):
        tell(f"seed {seed + 1} of {options.seeds}")
        dice, mu = Random(seed), math.log(60 * options.job_minutes)
        times = RunTimes()
        for _ in range(options.history):
            times.add(KIND, dice.lognormvariate(mu, options.sigma))
        jobs = [
            SimulatedJob(home, arn("trained-model", membership=home), dice.lognormvariate(mu, options.sigma))
            for home in HOMES * (options.jobs // 2)
        ]
        lanes = [LaneWork(account="1", waiting=Counter({KIND: options.jobs // 2})) for _ in HOMES]
        finish = forecast(lanes, SlotCounts(), times, per_second=settings.rate.max_per_second)
        assert finish is not None
        actual = simulate(Workload(jobs=jobs, call_seconds=0.1), settings, seed=seed).makespan_seconds
        is_inside = finish.low_seconds <= actual <= finish.high_seconds
        inside += is_inside
        errors.append(abs(finish.seconds - actual) / actual)
        low, median, high, real = (
            each / 3600 for each in (finish.low_seconds, finish.seconds, finish.high_seconds, actual)
        )
        verdict = "yes" if is_inside else "no"
        print(f"{seed:>4} {low:>8.2f} {median:>9.2f} {high:>8.2f} {real:>9.2f} {errors[-1]:>7.1%}  {verdict}")
    print(f"inside the 80 % interval: {inside} of {options.seeds}; median error {statistics.median(errors):.1%}")


if __name__ == "__main__":
    main()
