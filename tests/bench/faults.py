"""The long fault sweep: everything goes wrong a little all the time, and jobs are counted on the service's side.

    .venv/bin/python tests/bench/faults.py [--jobs 2000] [--seed N] [--folder FOLDER]

Of the Start calls 5 % lose their answer after acceptance, 5 % end in a 500 after and 5 % before it, 5 % are throttled,
2 % meet a conflict, 2 % are answered after the read time-out; 5 % of List and Get are throttled, and List shows a job
only after half of the settle time. The real program submits the manifest in one unattended run, once with tags and once
without. Prints `jobs, looked up, duplicates, losses` of each; exit status 1 where anything is not as it should be.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom

from harness import machine
from workload import PROGRAM, fetch, request, run_watched, sandbox, surroundings, write_manifest

START = "StartTrainedModelInferenceJob"
SETTLE_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 1.0
TROUBLE = {
    START: {
        "lost_after": 0.05,
        "error_after": 0.05,
        "error_before": 0.05,
        "throttled": 0.05,
        "conflict": 0.02,
        "slow_answer": 0.02,
    },
    "ListTrainedModelInferenceJobs": {"throttled": 0.05},
    "GetTrainedModelInferenceJob": {"throttled": 0.05},
}


def measure(jobs: int, seed: int, folder: Path, *, tags: bool) -> bool:
    """Run once; print the counts and say whether they are as they should be."""
    manifest, ledger = write_manifest(folder / "jobs.csv", jobs), folder / f"tags-{tags}.ledger.jsonl"
    with sandbox("--list-lag-seconds", str(SETTLE_SECONDS / 2)) as service:
        plan = {"probabilities": TROUBLE, "slow_seconds": READ_TIMEOUT_SECONDS * 2, "seed": seed}
        fetch(f"{service.url}/_sandbox/faults", method="PUT", body=json.dumps(plan).encode())
        environment = surroundings(
            service.url,
            lookup__settle_seconds=SETTLE_SECONDS,
            aws__read_timeout_seconds=READ_TIMEOUT_SECONDS,
            retry__base_seconds=0.05,
            retry__cap_seconds=1,
            submit__tag_jobs=tags,
        )
        command = [*PROGRAM, "submit", str(manifest), "--ledger", str(ledger), "--rate", "0"]
        began = time.monotonic()
        run_watched(command, environment, folder)
        seconds = time.monotonic() - began
        on_service = service.jobs()
    per_row = Counter(job["name"] for job in on_service)
    duplicates = sum(count - 1 for count in per_row.values())
    losses = sum(request(number)["name"] not in per_row for number in range(jobs))
    submitted = [event for event in map(json.loads, ledger.open()) if event["event"] == "submitted"]
    looked_up = sum(event["via"] == "lookup" for event in submitted)
    agree = {event["arn"] for event in submitted} == {job["arn"] for job in on_service}
    kind = "with tags" if tags else "without tags"
    print(f"{kind}: jobs {jobs}, looked up {looked_up}, duplicates {duplicates}, losses {losses}; {seconds:.0f} s")
    if not agree:
        print("the ledger's ARNs are not the service's")
    return agree and not duplicates and not losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000, help="jobs to submit (2,000)")
    parser.add_argument("--seed", type=int, help="of the faults; printed, if none is given")
    parser.add_argument("--folder", help="where the ledger is written (the folder for temporary files)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else SystemRandom().randrange(10**6)
    print(f"seed {seed}; {machine()}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        clean = [measure(options.jobs, seed, Path(folder), tags=tags) for tags in (True, False)]
    sys.exit(0 if all(clean) else 1)


if __name__ == "__main__":
    main()
