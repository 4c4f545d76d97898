"""The figures to set beside ours: what GNU parallel and stock boto3 do where a run dies or an answer is lost.

    .venv/bin/python tests/bench/peers.py [--runs N] [--jobs 60] [--folder FOLDER]

GNU parallel runs a script that makes one Start call, eight at a time with --joblog, is killed with `kill -9` when about
half of the jobs are accepted, and goes on with --resume-failed; printed is how many jobs were started twice. Skipped
where `parallel` is not installed.

boto3 makes one call whose answers are all lost after the service has accepted the job; printed is how many requests
reached the service, each of them a job of its own. The service is `batchsubmit sandbox` in both.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median

from harness import machine, tell
from workload import Sandbox, request, sandbox, surroundings

AT_ONCE = 8
ANSWER_SECONDS = 0.2
"""A Start call on the real service takes about as long."""

_START_ONE = """
import json, sys, urllib.request
body = json.loads(sys.argv[2])
path = f"/memberships/{body.pop('membershipIdentifier')}/trained-model-inference-jobs"
headers = {"Content-Type": "application/json"}
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode(), headers)).read()
"""


def repeated_by_parallel(parallel: str, service: Sandbox, folder: Path, jobs: int, random: Random) -> int:
    """Kill GNU parallel midway, let it resume, and count the jobs that were started more than once."""
    service.reset()
    service.disturb(slow_answer=1.0, slow_seconds=ANSWER_SECONDS)
    script, log, requests = folder / "start_one.py", folder / "joblog", folder / "requests.jsonl"
    script.write_text(_START_ONE)
    log.unlink(missing_ok=True)
    requests.write_text("".join(json.dumps(request(number)) + "\n" for number in range(jobs)))
    command = [parallel, "--joblog", str(log), "-j", str(AT_ONCE), "-a", str(requests)]
    work = [sys.executable, str(script), service.url, "{}"]
    reached = random.uniform(0.3, 0.7) * jobs
    with subprocess.Popen([*command, *work], stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and service.accepted() < reached:
            time.sleep(0.01)
        process.kill()
    time.sleep(2 * ANSWER_SECONDS + 1)  # the scripts that it had started live on and end by themselves
    subprocess.run([*command, "--resume-failed", *work], stderr=subprocess.DEVNULL, check=True)
    names = [job["name"] for job in service.jobs()]
    if len(set(names)) != jobs:
        raise RuntimeError(f"GNU parallel started {len(set(names))} of {jobs} jobs")
    return len(names) - jobs


def requests_by_boto3(service: Sandbox, mode: str) -> tuple[int, int]:
    """Lose every answer to one call of boto3; returns the requests and the jobs that came of it."""
    service.reset()
    service.disturb(lost_after=1.0)
    program = (
        "import boto3, json, sys\n"
        "try:\n"
        "    boto3.client('cleanroomsml').start_trained_model_inference_job(**json.loads(sys.argv[1]))\n"
        "except Exception as exc:\n"
        "    print(type(exc).__name__)\n"
    )
    environment = surroundings(service.url) | {"AWS_RETRY_MODE": mode}
    subprocess.run(
        [sys.executable, "-c", program, json.dumps(request(0))], env=environment, stdout=subprocess.DEVNULL, check=True
    )
    return service.calls(), len(service.jobs())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="kills of GNU parallel (5)")
    parser.add_argument("--jobs", type=int, default=60, help="jobs of GNU parallel (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (1)")
    parser.add_argument("--folder", help="where the job log is written (the folder for temporary files)")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, sandbox() as service:
        for mode in ("standard", "legacy"):
            requests, jobs = requests_by_boto3(service, mode)
            print(f"boto3, {mode} retries, one call whose answers are lost: {requests} requests, {jobs} jobs started")
        parallel = shutil.which("parallel")
        if parallel is None:
            print("GNU parallel: not installed, skipped")
            return
        random = Random(options.seed)
        repeated = []
        for number in range(options.runs):
            tell(f"GNU parallel, run {number + 1} of {options.runs}")
            repeated.append(repeated_by_parallel(parallel, service, Path(folder), options.jobs, random))
    spread = f"{median(repeated):g} ({min(repeated)} to {max(repeated)}, n={len(repeated)})"
    print(f"GNU parallel, kill -9 and --resume-failed: {spread} of {options.jobs} jobs were started twice")


if __name__ == "__main__":
    main()
