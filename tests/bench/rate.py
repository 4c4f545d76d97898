"""The rate that is reached, and the most calls in any one second, as the server sees them.

    .venv/bin/python tests/bench/rate.py [--rates 0.5,5,50,200,500] [--seconds N] [--folder FOLDER]

For each rate the real program submits as many jobs as fit into the seconds. `most` is the fullest window of one second,
or of one call's own period where that is longer; it must not exceed the rate (or one). `later` is the same without the
first window, in which connections are made and code runs for the first time. `reached` is the calls after the first one
over the time from first to last; the aim is 95 %.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path

from harness import machine, tell
from workload import PROGRAM, MinimalServer, minimal_server, run_watched, surroundings, write_manifest

RATES = "0.5,5,50,200,500"
LEAST_CALLS = 6
CONCURRENCY = 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server saw of one rate."""

    rate: float
    calls: int
    reached: float
    window_seconds: float
    most: int
    most_later: int

    @property
    def allowed(self) -> int:
        """The most calls that a window may hold."""
        return max(1, floor(self.rate))


def most_within(times: Sequence[float], window_seconds: float) -> int:
    """Count the calls of the fullest window, its end excluded."""
    most = first = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= window_seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def measure(server: MinimalServer, folder: Path, rate: float, seconds: float) -> Seen:
    jobs = max(LEAST_CALLS, round(rate * seconds))
    manifest = write_manifest(folder / "jobs.csv", jobs)
    ledger = folder / f"{rate}.ledger.jsonl"
    server.reset()
    options = ["--rate", str(rate), "--concurrency", str(CONCURRENCY), "--ledger", str(ledger)]
    run_watched([*PROGRAM, "submit", str(manifest), *options], surroundings(server.url), folder)
    times = server.times()
    window_seconds = max(1.0, 1 / rate)
    return Seen(
        rate=rate,
        calls=len(times),
        reached=(len(times) - 1) / (times[-1] - times[0]),
        window_seconds=window_seconds,
        most=most_within(times, window_seconds),
        most_later=most_within([moment for moment in times if moment >= times[0] + window_seconds], window_seconds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default=RATES, help=f"calls a second ({RATES})")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of work for each rate (20)")
    parser.add_argument("--folder", help="where the ledger is written (the folder for temporary files)")
    options = parser.parse_args()
    print(machine())
    head = f"{'rate':>7} {'calls':>7} {'reached/s':>10} {'of rate':>8} {'window s':>9}"
    print(f"{head} {'most':>6} {'later':>6} {'allowed':>8}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, minimal_server() as server:
        for rate in map(float, options.rates.split(",")):
            tell(f"{rate:g} a second")
            seen = measure(server, Path(folder), rate, options.seconds)
            share = f"{seen.reached / rate:.1%}"
            figures = f"{seen.calls:>7} {seen.reached:>10.3f} {share:>8} {seen.window_seconds:>9.2g}"
            over = "" if seen.most <= seen.allowed else "  OVER"
            print(f"{rate:>7g} {figures} {seen.most:>6} {seen.most_later:>6} {seen.allowed:>8}{over}", flush=True)


if __name__ == "__main__":
    main()
