"""The rate that is reached, and the calls that a token bucket of that rate would refuse, as the server sees them.

    .venv/bin/python tests/bench/rate.py [--rates 0.5,1,5,50] [--seconds N] [--folder FOLDER]

For each rate the real program submits as many jobs as fit into the seconds. `reached` is the calls after the burst over
the time from first to last. `refused` is how many a bucket as AWS's would have refused: it begins with three tokens,
refills at the rate, and each call takes one. The aims are 95 % and 0.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import machine, tell
from workload import PROGRAM, MinimalServer, minimal_server, run_watched, surroundings, write_manifest

from batchsubmit.pacing import BURST

RATES = "0.5,1,5,50"
LEAST_CALLS = 10
CONCURRENCY = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server saw of one rate."""

    calls: int
    reached: float
    refused: int


def refused_by_bucket(times: Sequence[float], rate: float) -> int:
    """Count the calls for which a bucket of this rate would have had no token."""
    tokens, before, refused = float(BURST), times[0], 0
    for moment in times:
        tokens = min(BURST, tokens + (moment - before) * rate)
        before = moment
        if tokens < 1:
            refused += 1
        else:
            tokens -= 1
    return refused


def measure(server: MinimalServer, folder: Path, rate: float, seconds: float) -> Seen:
    jobs = max(LEAST_CALLS, round(rate * seconds))
    manifest = write_manifest(folder / "jobs.csv", jobs)
    ledger = folder / f"{rate}.ledger.jsonl"
    server.reset()
    options = ["--rate", str(rate), "--concurrency", str(CONCURRENCY), "--ledger", str(ledger)]
    run_watched([*PROGRAM, "submit", str(manifest), *options], surroundings(server.url), folder)
    times = server.times()
    reached = (len(times) - BURST) / (times[-1] - times[0])
    return Seen(len(times), reached, refused_by_bucket(times, rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default=RATES, help=f"calls a second ({RATES})")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of work for each rate (20)")
    parser.add_argument("--folder", help="where the ledger is written (the folder for temporary files)")
    options = parser.parse_args()
    print(machine())
    print(f"{'rate':>7} {'calls':>7} {'reached/s':>10} {'of rate':>8} {'refused':>8}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, minimal_server() as server:
        for rate in map(float, options.rates.split(",")):
            tell(f"{rate:g} a second")
            seen = measure(server, Path(folder), rate, options.seconds)
            share = f"{seen.reached / rate:.1%}"
            print(f"{rate:>7g} {seen.calls:>7} {seen.reached:>10.3f} {share:>8} {seen.refused:>8}", flush=True)


if __name__ == "__main__":
    main()
