"""Submissions a second: the real program beside a bare aiobotocore loop and boto3 in threads, in one run.

    .venv/bin/python tests/bench/throughput.py [--jobs N] [--runs N] [--folder FOLDER] [--profile]

Quotas and rate are off, 32 calls may be under way at once, HTTP is real, and the server is the minimal one in a
process of its own. `batchsubmit submit` is the program as people start it, with everything on: validation, intents on
the disk before each call, group commit, checksums. The bare loop is `asyncio.gather` over an aiobotocore client with
its defaults, boto3 a pool of 32 threads; neither writes anything down. Each is a process of its own.

`jobs/s` runs from the first call to the last as the server saw them. `process s` is the whole process, start and
imports included. `CPU ms/call` is what the client's process used between first and last call (from /proc, Linux only).
The start is long beside a small manifest: with `--jobs 2000` the first of 32 connections and fsyncs weigh in.
With --profile nothing is compared: the program runs once under cProfile, and what costs most in its main thread is
printed. The profiler makes small functions look dearer than they are.
"""

import argparse
import asyncio
import math
import pstats
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import Figures, Ratio, alternate, machine, print_figures, print_ratios
from workload import PROGRAM, MinimalServer, minimal_server, request, run_watched, surroundings, write_manifest

CONCURRENCY = 32
PROFILE_LINES = 60
OURS, BARE, BOTO3 = "batchsubmit submit", "bare aiobotocore", "boto3, 32 threads"


async def _bare(jobs: int) -> None:
    from aiobotocore.session import get_session  # noqa: PLC0415 (each client pays for its own imports)

    requests = [request(number) for number in range(jobs)]
    semaphore = asyncio.Semaphore(CONCURRENCY)
    async with get_session().create_client("cleanroomsml") as client:

        async def start(number: int) -> str:
            async with semaphore:
                answer = await client.start_trained_model_inference_job(**requests[number])
                return str(answer["trainedModelInferenceJobArn"])

        arns = await asyncio.gather(*(start(number) for number in range(jobs)))
    print(len(set(arns)))


def _threads(jobs: int) -> None:
    import boto3  # noqa: PLC0415 (each client pays for its own imports)
    from botocore.config import Config  # noqa: PLC0415

    requests = [request(number) for number in range(jobs)]
    # Its default pool of 10 connections would make 22 of the threads open a new one for each call.
    client = boto3.client("cleanroomsml", config=Config(max_pool_connections=CONCURRENCY))

    def start(number: int) -> str:
        return str(client.start_trained_model_inference_job(**requests[number])["trainedModelInferenceJobArn"])

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        arns = set(pool.map(start, range(jobs)))
    print(len(arns))


CLIENTS: dict[str, Callable[[int], None]] = {"bare": lambda jobs: asyncio.run(_bare(jobs)), "boto3": _threads}


class Bench:
    """One manifest and one server, for all runs."""

    def __init__(self, server: MinimalServer, folder: Path, jobs: int) -> None:
        self._server = server
        self._folder = folder
        self._jobs = jobs
        self._manifest = write_manifest(folder / "jobs.csv", jobs)

    def submit(self) -> Figures:
        """Run the program on a new ledger."""
        ledger = self._folder / "jobs.ledger.jsonl"
        ledger.unlink(missing_ok=True)
        return self._measured([*PROGRAM, *self._submission(ledger)])

    def profile(self) -> pstats.Stats:
        """Run the program once under cProfile."""
        profile = self._folder / "profile"
        command = [*PROGRAM[:1], "-m", "cProfile", "-o", str(profile), *PROGRAM[1:]]
        ledger = self._folder / "profiled.ledger.jsonl"
        run_watched([*command, *self._submission(ledger)], surroundings(self._server.url), self._folder)
        return pstats.Stats(str(profile))

    def _submission(self, ledger: Path) -> list[str]:
        options = ["--rate", "0", "--concurrency", str(CONCURRENCY), "--ledger", str(ledger)]
        return ["submit", str(self._manifest), *options]

    def client(self, name: str) -> Figures:
        """Run one of the clients of this file."""
        return self._measured([sys.executable, __file__, "--client", name, "--jobs", str(self._jobs)])

    def _measured(self, command: list[str]) -> Figures:
        self._server.reset()
        served_before = self._server.cpu_seconds()
        ended = run_watched(command, surroundings(self._server.url), self._folder)
        served = self._server.cpu_seconds() - served_before
        times = self._server.times()
        if len(times) != self._jobs:
            raise RuntimeError(f"{self._jobs} jobs made {len(times)} calls: {' '.join(command)}")
        figures = {
            "jobs/s": (len(times) - 1) / (times[-1] - times[0]),
            "process s": ended.seconds,
            "CPU ms/call": 1000 * ended.cpu.between(times[0], times[-1]) / len(times),
            "server CPU ms/call": 1000 * served / len(times),
        }
        return {name: value for name, value in figures.items() if not math.isnan(value)}


def measure(jobs: int, runs: int, folder: str | None = None, *, warm_ups: int = 1) -> dict[str, list[Figures]]:
    with tempfile.TemporaryDirectory(dir=folder) as place, minimal_server() as server:
        bench = Bench(server, Path(place), jobs)
        alternatives = {
            OURS: bench.submit,
            BARE: lambda: bench.client("bare"),
            BOTO3: lambda: bench.client("boto3"),
        }
        return alternate(alternatives, runs=runs, warm_ups=warm_ups)


def print_profile(jobs: int, folder: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place, minimal_server() as server:
        stats = Bench(server, Path(place), jobs).profile()
    for order in ("cumulative", "tottime"):
        stats.sort_stats(order).print_stats(PROFILE_LINES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs a run (10000)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, after a warm-up (5)")
    parser.add_argument("--folder", help="where the ledger is written (the folder for temporary files)")
    parser.add_argument("--profile", action="store_true", help="profile the program instead")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        CLIENTS[options.client](options.jobs)
        return
    if options.profile:
        print_profile(options.jobs, options.folder)
        return
    measured = measure(options.jobs, options.runs, options.folder)
    print(f"{options.jobs:,} jobs, concurrency {CONCURRENCY}; {machine()}")
    print_figures(measured)
    print_ratios(
        measured, [Ratio(figure, OURS, other) for figure in ("jobs/s", "process s") for other in (BARE, BOTO3)]
    )


if __name__ == "__main__":
    main()
