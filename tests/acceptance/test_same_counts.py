"""One ledger with every kind of ending: every surface says the same numbers, in the same words."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import Ended, Program, Sandbox, request_named, write_jsonl
from webhook import listening

from batchsubmit import submit_jobs
from batchsubmit.core.jobs import JobEvent
from batchsubmit.ledger.lines import decode_line
from batchsubmit.observers.base import Readings
from batchsubmit.observers.metrics import Metrics

LEDGER = "jobs.ledger.jsonl"
NAMES = [f"job-{number:04}" for number in range(1100)]
REJECTED, FAILED, CANCELLED, UNKNOWN = NAMES[:3], NAMES[3:7], NAMES[700], NAMES[1090:1092]
ENVIRONMENT = {
    "BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": "0.5",
    "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": "4",
    "BATCHSUBMIT_SLOTS__PER_MEMBERSHIP": "3000",
    "BATCHSUBMIT_SLOTS__PER_ACCOUNT": "3000",
    "BATCHSUBMIT_RATE__MAX_PER_SECOND": "0",
    "BATCHSUBMIT_RATE__READS_PER_SECOND": "0",
}


@pytest.mark.timeout(400)
def test_all_surfaces_show_the_same_numbers(
    submitting: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON of submit, status and report, the API, a notice, logs, metrics, what people are shown, the export."""
    start, unread = "StartTrainedModelInferenceJob", {"ListTrainedModelInferenceJobs": {"access_denied": 1.0}}
    sandbox.configure(job_seconds=0.2, pending_seconds=0, per_membership=3000, per_account=3000, failing_names=FAILED)
    sandbox.disturb(*({"operation": start, "name": name, "fault": "validation"} for name in REJECTED))
    runs = [submit(submitting, 600, "--wait")]
    sandbox.configure(job_seconds=600, cancel_seconds=0.1)
    runs.append(submit(submitting, 1000))
    assert submitting.run("cancel", LEDGER, "--name", CANCELLED, "--yes", **ENVIRONMENT).status == 0
    sandbox.disturb(*({"fault": "lost_after", "name": name} for name in UNKNOWN), probabilities=unread)
    with listening() as hook:
        runs.append(submit(submitting, 1100, "--notify", hook.url))
        [notice] = hook.bodies
    counts = runs[-1].summary["counts"]
    ends = {"succeeded": 593, "failed": 4, "cancelled": 1}
    assert (
        counts == {"total": 1100, "pending": 0, "submitted": 1095, "running": 497, "rejected": 3, "unknown": 2} | ends
    )
    assert submitting.events(LEDGER)[-1]["counts"] == notice["counts"] == counts
    assert "4 of 1,100 jobs failed, 3 rejected, 1 cancelled, 2 unknown" in runs[-1].stderr
    assert notice["headline"].startswith("4 of 1,100 jobs failed, 3 rejected, 1 cancelled, 2 unknown")
    assert logged(runs) == {name: counts[name] for name in ("submitted", "rejected", "failed", "succeeded", "unknown")}
    assert measured(submitting.folder / LEDGER) == {name: counts[name] for name in ("submitted", "rejected", *ends)}
    assert_same(submitting, counts, runs[-1].stderr)

    for name, value in (submitting.environment | ENVIRONMENT).items():
        monkeypatch.setenv(name, value)
    report = submit_jobs(map(request_named, NAMES), ledger=submitting.folder / LEDGER, wait=False)
    assert report.summary.counts.as_dict() == counts
    outcomes = {name: len(getattr(report, name)) for name in ("submitted", "rejected", "unknown")}
    assert outcomes == {name: counts[name] for name in outcomes}


def submit(program: Program, rows: int, *options: object) -> Ended:
    """Submit the first rows, with a log line for each job."""
    write_jsonl(program.folder / "jobs.jsonl", map(request_named, NAMES[:rows]))
    return program.run("submit", "jobs.jsonl", "--ledger", LEDGER, "--json", "-v", *options, **ENVIRONMENT)


def logged(runs: list[Ended]) -> Counter[str]:
    """The lines of the log by what they say of a job; those of calls that were found out later are not its end."""
    lines = (json.loads(line) for each in runs for line in each.stderr.splitlines() if line.startswith("{"))
    return Counter(line["event"].removeprefix("job.") for line in lines if line["event"].startswith("job."))


def measured(ledger: Path) -> dict[str, float]:
    """What the metrics of a process would be that saw all these events."""
    metrics = Metrics(Readings)
    for line in ledger.read_bytes().splitlines():
        if isinstance(event := decode_line(line), JobEvent):
            metrics.saw(event)
    found = Counter[str]()
    for sample in (each for family in metrics.registry.collect() for each in family.samples):
        end = {"ACTIVE": "succeeded", "INACTIVE": "cancelled"}.get(sample.labels.get("status", ""))
        name = end or sample.name.removeprefix("batchsubmit_jobs_").removesuffix("_total")
        found[name] += int(sample.value) if sample.name.endswith("_total") else 0
    return {name: found[name] for name in ("submitted", "rejected", "succeeded", "failed", "cancelled")}


def assert_same(program: Program, counts: dict[str, int], shown: str) -> None:
    """Read every surface of a ledger."""
    assert program.run("status", LEDGER, "--json").summary["counts"] == counts
    assert program.run("report", LEDGER, "--json").summary["counts"] == counts
    for text in (shown, program.run("status", LEDGER).stdout, program.run("status", LEDGER, "--watch").stdout):
        assert all(f"{count:>9,} {name}" in text for name, count in counts.items() if count and name != "total"), text
    states = Counter(row["state"] for row in csv.DictReader(io.StringIO(program.run("export", LEDGER).stdout)))
    named = ("succeeded", "failed", "cancelled", "rejected", "unknown")
    assert [states[name] for name in named] == [counts[name] for name in named]
    assert states["submitted"] + sum(states[name] for name in named[:3]) == counts["submitted"]
