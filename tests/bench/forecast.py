"""Whether the forecast holds: real runs of `submit --wait` against the sandbox over HTTP, each foretold by `plan`.

    .venv/bin/python tests/bench/forecast.py [--seeds 20] [--jobs 100] [--job-seconds 1.5] [--sigma 0.5]

For each seed a sandbox is started whose jobs run for log-normal times on 5 slots a membership, 10 an account. A first
batch of as many jobs is followed to its end; its ledger is the history. `plan` foretells the next batch, which is then
submitted. The actual finish is the service's: from the first acceptance of that batch to its last end. Printed are the
interval, the truth and the error of each seed, and at the end how often the 80 % interval held the truth and the median
error. It is good with at least 14 of 20 inside and a median error under 10 %.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import datetime
from operator import sub
from pathlib import Path
from typing import Any

from harness import machine, tell
from slots import best_makespan
from workload import PROGRAM, Sandbox, request, run_watched, sandbox, surroundings

SETTINGS = {"rate__max_per_second": 0, "slots__min_poll_seconds": 0.05, "slots__max_poll_seconds": 5}


def write_batch(path: Path, numbers: Iterable[int]) -> Path:
    """Jobs of two memberships in turn."""
    rows = (request(3 * (number // 2) + number % 2) for number in numbers)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def seconds_of(service: Sandbox, since: int) -> tuple[float, float]:
    """From the first acceptance to the last end of the jobs that came after so many, and what was possible."""
    jobs = service.jobs()[since:]
    begun = [datetime.fromisoformat(job["createTime"]).timestamp() for job in jobs]
    ended = [datetime.fromisoformat(job["updateTime"]).timestamp() for job in jobs]
    times = zip((job["membershipIdentifier"] for job in jobs), map(sub, ended, begun), strict=True)
    return max(ended) - min(begun), best_makespan(list(times))


def measure(service: Sandbox, folder: Path, jobs: int) -> tuple[dict[str, Any], float, float]:
    """Foretell a batch and run it: the forecast, the seconds it took, and those of the best schedule."""
    before = write_batch(folder / "before.jsonl", range(jobs))
    batch = write_batch(folder / "batch.jsonl", range(jobs, 2 * jobs))
    around = surroundings(service.url, **SETTINGS)
    run_watched([*PROGRAM, "submit", str(before), "--wait", "--ledger", "before.ledger"], around, folder)
    asked = [*PROGRAM, "plan", str(batch), "--history", "before.ledger", "--json"]
    plan = json.loads(subprocess.run(asked, env=around, cwd=folder, capture_output=True, check=True).stdout)
    run_watched([*PROGRAM, "submit", str(batch), "--wait", "--ledger", "batch.ledger"], around, folder)
    return plan["finish"], *seconds_of(service, jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs, each with a seed of its own (20)")
    parser.add_argument("--jobs", type=int, default=100, help="jobs of a batch, and of the one before (100)")
    parser.add_argument("--job-seconds", type=float, default=1.5, help="mean running time (1.5)")
    parser.add_argument("--sigma", type=float, default=0.5, help="log-normal spread of it (0.5)")
    options = parser.parse_args()
    print(machine())
    print(f"{'seed':>4} {'low s':>8} {'median s':>9} {'high s':>8} {'actual s':>9} {'x best':>7} {'error':>7}  inside")
    errors, inside = [], 0
    for seed in range(options.seeds):
        tell(f"seed {seed + 1} of {options.seeds}")
        times = ("--job-seconds", str(options.job_seconds), "--job-sigma", str(options.sigma), "--seed", str(seed))
        quotas = ("--per-membership", "5", "--per-account", "10")
        with tempfile.TemporaryDirectory() as folder, sandbox(*quotas, *times) as service:
            finish, actual, best = measure(service, Path(folder), options.jobs)
        low, middle, high = (finish[name] for name in ("low_seconds", "seconds", "high_seconds"))
        is_inside = low <= actual <= high
        inside += is_inside
        errors.append(abs(middle - actual) / actual)
        verdict = "yes" if is_inside else "no"
        interval = f"{low:>8.1f} {middle:>9.1f} {high:>8.1f}"
        print(f"{seed:>4} {interval} {actual:>9.1f} {actual / best:>7.3f} {errors[-1]:>7.1%}  {verdict}")
    print(f"inside the 80 % interval: {inside} of {options.seeds}; median error {statistics.median(errors):.1%}")


if __name__ == "__main__":
    main()
