"""The fault sweep: everything goes wrong a little all the time, and unattended each job is there once in the end."""

import json
from collections import Counter

import pytest
from conftest import Ended, Program, Sandbox, csv_text

LEDGER = "jobs.ledger.jsonl"
START, LIST, GET = (
    "StartTrainedModelInferenceJob",
    "ListTrainedModelInferenceJobs",
    "GetTrainedModelInferenceJob",
)
NAMES = [f"job-{number:04}" for number in range(200)]
SETTLE_SECONDS = 1.0
READ_TIMEOUT_SECONDS = 0.5
TROUBLE = {
    START: {
        "lost_after": 0.05,
        "error_after": 0.05,
        "error_before": 0.05,
        "throttled": 0.05,
        "conflict": 0.02,
        "slow_answer": 0.02,
    },
    LIST: {"throttled": 0.05},
    GET: {"throttled": 0.05},
}
WITHOUT_TAGS = {"BATCHSUBMIT_SUBMIT__TAG_JOBS": "false"}


def submit(program: Program, *options: object, **environment: str) -> Ended:
    """Submit the manifest."""
    quick = {
        "BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": str(SETTLE_SECONDS),
        "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": str(READ_TIMEOUT_SECONDS),
        "BATCHSUBMIT_RETRY__CAP_SECONDS": "0.2",
    }
    return program.run("submit", "jobs.csv", "--json", "--rate", 200, *options, **quick, **environment)


def write(program: Program, names: list[str]) -> None:
    """Write the manifest."""
    (program.folder / "jobs.csv").write_text(csv_text(names))


@pytest.mark.parametrize("environment", [{}, WITHOUT_TAGS], ids=["by tag", "by comparison"])
def test_every_job_runs_once_whatever_fails(submitting: Program, sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Nobody helps, and one run is enough."""
    write(submitting, NAMES)
    sandbox.configure(list_lag_seconds=SETTLE_SECONDS / 2)
    sandbox.disturb(probabilities=TROUBLE, slow_seconds=READ_TIMEOUT_SECONDS * 2, seed=11)
    ended = submit(submitting, **environment)
    assert ended.status == 0, ended.stderr
    assert ended.summary["submitted"] == len(NAMES)
    counts = Counter(sandbox.names())
    assert sorted(counts.elements()) == NAMES
    assert sorted(submitting.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())
    met = json.loads(sandbox.get("stats"))["faults"]
    assert all(met[START].get(fault, 0) > 0 for fault in TROUBLE[START]), met
    kinds = Counter(event["event"] for event in submitting.events(LEDGER))
    assert kinds["unknown"] > 20
    assert kinds["absent"] > 2
    assert kinds["duplicate"] == kinds["rejected"] == 0
    tagged = [bool(job["tags"]) for job in sandbox.jobs()]
    assert all(tagged) if not environment else not any(tagged)


@pytest.mark.parametrize(
    ("forbidden", "environment"),
    [((LIST, GET), {}), ((LIST,), WITHOUT_TAGS), ((GET,), {})],
    ids=["List and Get", "List, without tags", "Get"],
)
def test_where_nothing_can_be_looked_up_jobs_stay_unknown_until_the_user_decides(
    submitting: Program, sandbox: Sandbox, forbidden: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Named, with what to do; a rerun sends none of them again."""
    names = NAMES[:6]
    write(submitting, names)
    lost = [{"fault": "lost_after", "name": name} for name in names[:2]]
    denied = {operation: {"access_denied": 1.0} for operation in forbidden}
    sandbox.disturb(*lost, probabilities=denied)
    first = submit(submitting, **environment)
    assert_left_unknown(first, names[:2])
    assert sorted(sandbox.names()) == names
    again = submit(submitting, **environment)
    assert_left_unknown(again, names[:2])
    assert again.summary["submitted"] == 0
    assert sorted(sandbox.names()) == names
    forced = submit(submitting, "--resubmit-unknown", **environment)
    assert forced.status == 0, forced.stderr
    assert forced.summary["submitted"] == 2
    assert sorted(sandbox.names()) == sorted(names + names[:2])
    assert submit(submitting, **environment).status == 0
    assert len(sandbox.names()) == len(names) + 2


def assert_left_unknown(ended: Ended, names: list[str]) -> None:
    """Exit status 3, and people and programs are told which and why."""
    assert ended.status == 3
    assert ended.summary["counts"]["unknown"] == len(names)
    assert sorted(job["name"] for job in ended.summary["unknown_jobs"]) == names
    assert all("AccessDenied" in job["reason"] for job in ended.summary["unknown_jobs"])
    assert all(name in ended.stderr for name in names)
    assert "--resubmit-unknown" in ended.stderr


def test_what_could_not_be_looked_up_is_found_once_it_may_be(submitting: Program, sandbox: Sandbox) -> None:
    """The role was mended: the same command goes on."""
    names = NAMES[:6]
    write(submitting, names)
    lost, never = {"fault": "lost_after", "name": names[0]}, {"fault": "error_before", "name": names[1]}
    sandbox.disturb(lost, never, probabilities={LIST: {"access_denied": 1.0}})
    assert_left_unknown(submit(submitting), names[:2])
    assert sorted(sandbox.names()) == [names[0], *names[2:]]
    sandbox.disturb()
    ended = submit(submitting)
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == names
    assert sorted(submitting.arns(LEDGER)) == sorted(job["arn"] for job in sandbox.jobs())
