"""How well the slots are used: batchsubmit, a plain tenacity back-off, and the best schedule there is, side by side.

    .venv/bin/python tests/bench/slots.py [--jobs 200] [--runs 3] [--lanes 2] [--bare] [--virtual] [--folder FOLDER]

Jobs of two memberships with 5 slots each, 10 in the account, run for log-normal times of 2 s mean (sigma 0.5) on a real
sandbox over HTTP. `plain` is what a careful script does: 32 workers that repeat a refused call after
wait_random_exponential. `ours` is `batchsubmit submit`. Each is compared with the oracle of its own run: greedy list
scheduling of the very times that its jobs took, without any latency. The makespan is the service's: from the first
acceptance to the last end. Calls of all kinds and refused Start calls are counted by the sandbox. With `--bare`, its
402 answers carry neither quotaName nor quotaValue; `--lanes` is the number of memberships. With `--virtual`, our engine
alone runs the same in virtual time, with jobs of half an hour, the settings' defaults and 0.1 s a call.
"""

import argparse
import asyncio
import heapq
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import SystemRandom

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from harness import machine, tell
from tenacity import retry, retry_if_exception_type, wait_random_exponential
from workload import PROGRAM, REGION, Sandbox, fetch, request, run_watched, sandbox, surroundings

from batchsubmit.config import SlotSettings

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from slot_trial import trial

QUOTAS = {"per_membership": 5, "per_account": 10}
WORKERS = 32
START = "StartTrainedModelInferenceJob"
SETTINGS = {
    "rate__max_per_second": 0,
    "rate__reads_per_second": 0,
    "slots__min_poll_seconds": 0.02,
    "slots__max_poll_seconds": 5,
}


@dataclass(frozen=True, slots=True)
class Used:
    """What one run made of its slots."""

    makespan: float
    oracle: float
    refused: float
    calls: float

    @property
    def over_oracle(self) -> float:
        """How many times the best makespan."""
        return self.makespan / self.oracle


def requests(count: int, lanes: int) -> list[dict[str, object]]:
    """Jobs of the memberships in turn."""
    homes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(1, lanes + 1)]
    return [request(number, homes) for number in range(count)]


def best_makespan(jobs: list[tuple[str, float]]) -> float:
    """Greedy list scheduling: each job, in order, as soon as its membership and the account have a slot."""
    running: list[tuple[float, str]] = []
    used: dict[str, int] = {}
    waiting = list(jobs)
    now = 0.0
    while waiting:
        for index, (membership, seconds) in enumerate(waiting):
            has_room = used.get(membership, 0) < QUOTAS["per_membership"]
            if has_room and len(running) < QUOTAS["per_account"]:
                heapq.heappush(running, (now + seconds, membership))
                used[membership] = used.get(membership, 0) + 1
                del waiting[index]
                break
        else:
            now, membership = heapq.heappop(running)
            used[membership] -= 1
    return max((end for end, _ in running), default=now)


def measure(service: Sandbox, run: Callable[[], None]) -> Used:
    """Let a client submit, wait until all has ended, and read off what the service saw."""
    service.reset()
    run()
    while any(job["status"].startswith("CREATE_") and job["status"] != "CREATE_FAILED" for job in service.jobs()):
        pass
    jobs = service.jobs()
    begun = [datetime.fromisoformat(job["createTime"]).timestamp() for job in jobs]
    ended = [datetime.fromisoformat(job["updateTime"]).timestamp() for job in jobs]
    times = [
        (job["membershipIdentifier"], end - begin)
        for begin, end, job in sorted(zip(begun, ended, jobs, strict=True), key=lambda each: each[2]["name"])
    ]
    calls = json.loads(fetch(f"{service.url}/_sandbox/stats"))["calls"]
    starts = calls[START]
    return Used(
        makespan=max(ended) - min(begun),
        oracle=best_makespan(times),
        refused=(sum(starts.values()) - len(jobs)) / len(jobs),
        calls=sum(sum(codes.values()) for codes in calls.values()) / len(jobs),
    )


def submit_ours(service: Sandbox, folder: Path, jobs: list[dict[str, object]]) -> None:
    manifest = folder / "jobs.jsonl"
    manifest.write_text("".join(json.dumps(each) + "\n" for each in jobs))
    ledger = folder / f"{SystemRandom().randrange(10**9)}.ledger.jsonl"
    command = [*PROGRAM, "submit", str(manifest), "--ledger", str(ledger)]
    run_watched(command, surroundings(service.url, **SETTINGS), folder)


def submit_plainly(service: Sandbox, jobs: list[dict[str, object]]) -> None:
    asyncio.run(_submit_plainly(service.url, jobs))


async def _submit_plainly(url: str, jobs: list[dict[str, object]]) -> None:
    todo = iter(jobs)
    config = AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=WORKERS)
    session = get_session()
    session.set_credentials("AKIDEXAMPLE", "dummy")
    async with session.create_client("cleanroomsml", region_name=REGION, endpoint_url=url, config=config) as client:

        @retry(wait=wait_random_exponential(multiplier=0.5, max=30), retry=retry_if_exception_type(ClientError))
        async def start(job: dict[str, object]) -> None:
            await client.start_trained_model_inference_job(**job)

        async def work() -> None:
            for job in todo:
                await start(job)

        await asyncio.gather(*(work() for _ in range(WORKERS)))


def in_virtual_time(jobs: list[dict[str, object]], number: int, *, is_bare: bool) -> Used:
    """Let our engine submit jobs of half an hour, without a wire and a disk."""
    homes = [str(job["membershipIdentifier"]) for job in jobs]
    done = trial(homes, SlotSettings(), seed=number, tells_quota=not is_bare, **QUOTAS)
    return Used(done.makespan, done.oracle(**QUOTAS), done.refused / len(jobs), done.calls_a_job)


def over_http(options: argparse.Namespace, jobs: list[dict[str, object]], number: int) -> Iterator[tuple[str, Used]]:
    """Let both submit jobs of two seconds to a real sandbox."""
    quotas = ("--per-membership", str(QUOTAS["per_membership"]), "--per-account", str(QUOTAS["per_account"]))
    times = ("--job-seconds", "2", "--job-sigma", "0.5", "--seed", str(number))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, sandbox(*quotas, *times) as service:
        if options.bare:
            fetch(f"{service.url}/_sandbox/settings", method="PUT", body=b'{"tells_quota": false}')
        if not options.only_ours:
            yield "plain", measure(service, lambda: submit_plainly(service, jobs))
        yield "ours", measure(service, lambda: submit_ours(service, Path(folder), jobs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="jobs (200)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--lanes", type=int, default=2, help="memberships (2)")
    parser.add_argument("--bare", action="store_true", help="402 without quotaName and quotaValue")
    parser.add_argument("--virtual", action="store_true", help="ours alone, jobs of half an hour, in virtual time")
    parser.add_argument("--only-ours", action="store_true", help="leave the plain submitter out")
    parser.add_argument("--folder", help="where the ledger is written (the folder for temporary files)")
    options = parser.parse_args()
    print(machine())
    jobs = requests(options.jobs, options.lanes)
    seen: dict[str, list[Used]] = {}
    for number in range(options.runs):
        tell(f"run {number + 1} of {options.runs}")
        if options.virtual:
            seen.setdefault("ours", []).append(in_virtual_time(jobs, number, is_bare=options.bare))
            continue
        for who, used in over_http(options, jobs, number):
            seen.setdefault(who, []).append(used)
    print(f"{'':>6} {'makespan s':>11} {'oracle s':>9} {'x oracle':>24} {'refused/job':>12} {'calls/job':>10}")
    for who, runs in seen.items():
        ratios = sorted(each.over_oracle for each in runs)
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        middle = [
            statistics.median(values)
            for values in zip(*((r.makespan, r.oracle, r.refused, r.calls) for r in runs), strict=True)
        ]
        print(f"{who:>6} {middle[0]:>11.1f} {middle[1]:>9.1f} {spread:>24} {middle[2]:>12.3f} {middle[3]:>10.2f}")


if __name__ == "__main__":
    main()
