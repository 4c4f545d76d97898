"""A fleet on one queue and one DynamoDB ledger: workers die and are replaced, messages come twice, and calls go wrong.

`tests/bench/fleet.py` is the same with 5,000 messages.
"""

import json
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import pytest
from book import PAGES
from conftest import Program, Sandbox, finish, request_named
from local_aws import LocalAws, LocalQueue, free_port
from program_server import Process
from prometheus_client.parser import text_string_to_metric_families
from sqs_proxy import SqsProxy, sqs_proxy
from worker_programs import in_virginia, serving, until, working

__all__ = ["working"]

JOBS = 150
MEMBERSHIPS = [f"{digit * 8}-0000-4000-8000-{digit * 12}" for digit in "12345"]
POISON = ["no JSON", "[]", '{"manifest": "no place"}', json.dumps(in_virginia(request_named("")))]
EVERY_THIRTY_THIRD = 33
SETTLE_SECONDS = 1.0
READ_TIMEOUT_SECONDS = 0.5
START = "StartTrainedModelInferenceJob"
TROUBLE = {
    START: {
        "lost_after": 0.05,
        "error_after": 0.05,
        "error_before": 0.05,
        "throttled": 0.02,
        "conflict": 0.02,
        "slow_answer": 0.02,
    },
    "ListTrainedModelInferenceJobs": {"throttled": 0.05},
    "GetTrainedModelInferenceJob": {"throttled": 0.05},
}
_numbers = count()


@pytest.fixture
def fleet(working: Program) -> Program:
    """The program with leases and visibility that are over soon, and a pace at which workers can be ended mid-way."""
    working.environment |= {
        "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": str(READ_TIMEOUT_SECONDS),
        "BATCHSUBMIT_AWS__CONNECT_TIMEOUT_SECONDS": "0.5",
        "BATCHSUBMIT_LEDGER__LEASE_SECONDS": "3",
        "BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": str(SETTLE_SECONDS),
        "BATCHSUBMIT_RATE__MAX_PER_SECOND": "10",
        "BATCHSUBMIT_RETRY__CAP_SECONDS": "0.2",
        "BATCHSUBMIT_WORKER__VISIBILITY_TIMEOUT_SECONDS": "8",  # on a busy machine a move takes seconds
    }
    return working


@pytest.fixture
def table(fleet: Program) -> str:
    """The location of an empty table."""
    name = f"workers-{next(_numbers)}"
    made = fleet.run("ledger", "create-table", name)
    assert made.status == 0, made.stderr
    return f"dynamodb://{name}"


def wanted(jobs: int = JOBS) -> list[dict[str, object]]:
    """Requests of five memberships."""
    return [
        in_virginia(request_named(f"job-{number:04}", membership=MEMBERSHIPS[number % len(MEMBERSHIPS)]))
        for number in range(jobs)
    ]


def deliver_some_twice(proxy: SqsProxy) -> Counter[str]:
    """Let every 33rd message, and each that is no job, come again with the next answer, to whom it may; count them."""
    copies: Counter[str] = Counter()
    late: list[dict[str, Any]] = []
    seen: set[str] = set()

    def after(operation: str, members: dict[str, Any], answer: dict[str, Any]) -> None:
        if operation != "ReceiveMessage":
            return
        room = int(members.get("MaxNumberOfMessages", 1)) - len(answer.get("Messages", []))
        again, late[:] = late[: max(room, 0)], late[max(room, 0) :]
        for message in answer.get("Messages", []):
            is_first = message["MessageId"] not in seen
            seen.add(message["MessageId"])
            if is_first and (len(seen) % EVERY_THIRTY_THIRD == 0 or message["Body"] in POISON):
                late.append(message)
        if again:
            answer["Messages"] = [*answer.get("Messages", []), *again]
            copies.update(message["Body"] for message in again)

    proxy.after = after
    return copies


def scrape(port: int) -> dict[str, list[float]]:
    """What a worker's /metrics has, as Prometheus reads it: the counts of each family, without its `_created`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            family.name: [each.value for each in family.samples if not each.name.endswith("_created")]
            for family in families
        }


def documented_metrics() -> set[str]:
    """The families in the book's table."""
    names = re.findall(r"^\| `(batchsubmit_\w+)` \| (?:counter|gauge|histogram) ", PAGES["metrics"], re.MULTILINE)
    assert len(names) > 20
    return {name.removesuffix("_total") for name in names}


@contextmanager
def troubled_queue(aws: LocalAws) -> Iterator[tuple[LocalQueue, SqsProxy]]:
    """A queue, and a way to it on which messages are doubled."""
    with sqs_proxy(aws.url) as proxy:
        yield aws.make_queue(), proxy


def test_a_fleet_submits_every_job_once_whatever_fails(
    fleet: Program, sandbox: Sandbox, aws: LocalAws, table: str
) -> None:
    """One worker is killed, one drained, both are replaced: one job each, and poison alone among the dead letters."""
    sandbox.configure(list_lag_seconds=SETTLE_SECONDS / 2)
    sandbox.disturb(probabilities=TROUBLE, slow_seconds=READ_TIMEOUT_SECONDS * 2, seed=11)
    with troubled_queue(aws) as (queue, proxy), ExitStack() as stack:
        copies = deliver_some_twice(proxy)
        fleet.environment["AWS_ENDPOINT_URL_SQS"] = proxy.url
        half = JOBS // 2
        queue.put(*wanted()[:half], *POISON, *wanted()[half:])

        def begin(metrics_port: int = 0) -> Process:
            port = {"BATCHSUBMIT_WORKER__METRICS_PORT": str(metrics_port)}
            return stack.enter_context(serving(fleet, queue, "--ledger", table, **port))

        port = free_port()
        killed, drained, steady = begin(), begin(), begin(port)
        until(lambda: len(sandbox.names()) >= JOBS // 4)
        killed.send_signal(signal.SIGKILL)
        replacement = begin()
        until(lambda: len(sandbox.names()) >= JOBS // 2)
        drained.send_signal(signal.SIGTERM)
        first = finish(drained)
        assert first.status == 0, first.stderr
        another = begin()
        until(lambda: queue.size() == 0)
        check = fleet.run("worker", "--check", BATCHSUBMIT_WORKER__METRICS_PORT=str(port))
        assert check.status == 0, check.stderr
        scraped = scrape(port)
        for process in (steady, replacement, another):
            process.send_signal(signal.SIGTERM)
        ended = [finish(process) for process in (steady, replacement, another)]
    assert [each.status for each in ended] == [0, 0, 0], [each.stderr for each in ended]
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in wanted())
    assert queue.dead is not None
    assert sorted(each["Body"] for each in queue.dead.drain()) == sorted(POISON)
    assert len(copies) > len(POISON)
    assert scraped.keys() >= documented_metrics()
    assert sum(scraped["batchsubmit_jobs_submitted"]) == ended[0].summary["submitted"] > 0
    sandbox.disturb()
    verified = fleet.run("verify", table)
    assert verified.status == 0, verified.stdout
    status = json.loads(fleet.run("status", table, "--json").stdout)
    assert (status["counts"]["submitted"], status["counts"]["rejected"]) == (JOBS, len(POISON))


def test_a_manifest_s_message_goes_once_the_fleet_has_decided_all_rows(
    fleet: Program, sandbox: Sandbox, aws: LocalAws, table: str
) -> None:
    """Two workers expand it at the same time, and each submits a part; rows also come as messages of their own."""
    sandbox.configure(per_membership=1, per_account=0, job_seconds=1.0)
    queue = aws.make_queue()
    rows = wanted(20)
    aws.put_object("fleet", "rows.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
    queue.put({"manifest": "s3://fleet/rows.jsonl"}, {"request": {"manifest": "no request"}}, *rows[::4])
    queue.put({"manifest": "s3://fleet/rows.jsonl"})
    with serving(fleet, queue, "--ledger", table) as first, serving(fleet, queue, "--ledger", table) as second:
        until(lambda: queue.size() == 0)
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
        ended = [finish(process) for process in (first, second)]
    assert [each.status for each in ended] == [0, 0], [each.stderr for each in ended]
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in rows)
    assert fleet.run("verify", table).status == 0
    counts = json.loads(fleet.run("status", table, "--json").stdout)["counts"]
    assert counts["submitted"] == len(rows)
    assert counts["rejected"] == 1


def test_a_worker_that_stood_still_for_longer_than_its_lease_sends_nothing_more(
    fleet: Program, sandbox: Sandbox, aws: LocalAws, table: str
) -> None:
    """Another has taken its jobs over by then; it says so and ends with status 3, to be started again.

    It stands still while it waits for an answer: between its look at the lease and the first byte, nothing could help.
    """
    sandbox.disturb({"fault": "slow_answer", "times": 3, "seconds": 1.0})
    queue = aws.make_queue()
    queue.put(*wanted(40))
    slowly = {"BATCHSUBMIT_SUBMIT__CONCURRENCY": "1"}  # so that it holds some jobs when it is stopped, and not all
    with serving(fleet, queue, "--ledger", table, **slowly) as frozen:
        until(lambda: len(sandbox.names()) >= 3)
        frozen.send_signal(signal.SIGSTOP)
        with serving(fleet, queue, "--ledger", table) as other:
            until(lambda: queue.size() == 0)
            frozen.send_signal(signal.SIGCONT)
            stopped = finish(frozen)
            other.send_signal(signal.SIGTERM)
            assert finish(other).status == 0
    assert stopped.status == 3, stopped.stderr
    assert stopped.summary["stop_reason"] == "ledger"
    assert sorted(sandbox.names()) == sorted(str(each["name"]) for each in wanted(40))
    assert fleet.run("verify", table).status == 0
