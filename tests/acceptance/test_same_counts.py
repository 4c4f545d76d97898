"""One run with several kinds of endings: every surface says the same numbers, in the same words."""

import csv
import io
from collections import Counter

from conftest import Program, Sandbox, csv_text

LEDGER = "jobs.ledger.jsonl"
NAMES = [f"job-{number:03}" for number in range(200)]
REJECTED, UNKNOWN, CANCELLED = NAMES[:3], NAMES[3:5], NAMES[-1]


def test_all_surfaces_show_the_same_numbers(submitting: Program, sandbox: Sandbox) -> None:
    """JSON of submit, status and report, what people are shown, the export's states, the ledger's last line."""
    sandbox.configure(job_seconds=120, per_membership=300, per_account=300)
    start, unread = "StartTrainedModelInferenceJob", {"ListTrainedModelInferenceJobs": {"access_denied": 1.0}}
    refused = [{"operation": start, "name": name, "fault": "validation"} for name in REJECTED]
    lost = [{"fault": "lost_after", "name": name} for name in UNKNOWN]
    sandbox.disturb(*refused, *lost, probabilities=unread)
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    quick = {"BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": "0.5", "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": "1"}
    ended = submitting.run("submit", "jobs.csv", "--rate", "200", "--json", **quick)
    counts = ended.summary["counts"]
    assert (counts["total"], counts["rejected"], counts["unknown"], counts["submitted"]) == (200, 3, 2, 195)
    assert submitting.events(LEDGER)[-1]["counts"] == counts
    assert "3 of 200 jobs rejected, 2 unknown" in ended.stderr
    assert_same(submitting, counts, ended.stderr)

    sandbox.disturb(probabilities={})
    assert submitting.run("cancel", LEDGER, "--name", CANCELLED, "--yes").status == 0
    counts |= {"cancelled": 1, "running": counts["running"] - 1}
    assert_same(submitting, counts, submitting.run("status", LEDGER, "--all").stdout)


def assert_same(program: Program, counts: dict[str, int], shown: str) -> None:
    """Read every surface of a ledger."""
    assert program.run("status", LEDGER, "--json").summary["counts"] == counts
    assert program.run("report", LEDGER, "--json").summary["counts"] == counts
    for text in (shown, program.run("status", LEDGER).stdout):
        assert all(f"{count:>9,} {name}" in text for name, count in counts.items() if count and name != "total"), text
    states = Counter(row["state"] for row in csv.DictReader(io.StringIO(program.run("export", LEDGER).stdout)))
    named = ("succeeded", "failed", "cancelled", "rejected", "unknown")
    assert [states[name] for name in named] == [counts[name] for name in named]
    assert states["submitted"] + sum(states[name] for name in named[:3]) == counts["submitted"]
