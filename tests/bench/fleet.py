"""The long fleet: several workers on one queue and one DynamoDB ledger, jobs counted on the service's side.

    .venv/bin/python tests/bench/fleet.py [--jobs 5000] [--speed-jobs 3000] [--runs 5] [--only sweep|speed|idle]

The sweep: messages of five memberships and 20 that can never work, three real workers, one of them killed by SIGKILL at
a quarter and one drained by SIGTERM at the half, both replaced. 3 % of the messages are delivered twice, and the calls
fail as in `faults.py`. Prints `jobs, duplicates, losses, dead letters`; exit status 1 where anything is not as it
should be. The speed: messages a second of 1, 2 and 4 workers, with quotas, rate limit and faults off, and how they
scale. A round lasts from the first accepted job to the last; the messages come when all workers have started. The
service is the minimal server; queue and table are in a MiniStack each (`quick_ministack.py`), which runs operations one
after another on one core: `table ms/job` is what the table's needs for a job, and a thousand by that is the most jobs a
second that any number of workers can reach here. The machine's cores are the other bound. Idle: what one worker at an
empty queue uses of a core, and how many receive calls it makes, with the settings as they are by default.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from faults import TROUBLE
from harness import Ratio, alternate, machine, print_figures, print_ratios, tell
from workload import ACCOUNT, PROGRAM, REGION, MinimalServer, fetch, minimal_server, sandbox, surroundings

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from local_aws import LocalAws, LocalQueue, free_port, local_aws
from sqs_proxy import SqsProxy, sqs_proxy

QUICK_MINISTACK = Path(__file__).with_name("quick_ministack.py")
MEMBERSHIPS = tuple(f"{digit * 8}-0000-4000-8000-{digit * 12}" for digit in "12345")
POISON = [f"no JSON {number}" for number in range(20)]
SHARE_DELIVERED_TWICE = 0.03
SETTLE_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 1.0
LEASE_SECONDS = 5
IDLE_SECONDS = 100
START_SECONDS = 10
"""In which four workers have started and all messages are on the queue."""

_LONGEST_SECONDS = 1800
_NUMBERS = count()


def request(number: int) -> dict[str, Any]:
    """The request of one message."""
    membership = MEMBERSHIPS[number % len(MEMBERSHIPS)]
    scope = f"arn:aws:cleanrooms-ml:{REGION}:{ACCOUNT}:membership/{membership}"
    return {
        "membershipIdentifier": membership,
        "name": f"job-{number:07}",
        "trainedModelArn": f"{scope}/trained-model/churn-v3",
        "resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": 1},
        "outputConfiguration": {"members": [{"accountId": ACCOUNT}]},
        "dataSource": {"mlInputChannelArn": f"{scope}/ml-input-channel/customers"},
    }


@dataclass(slots=True)
class Fleet:
    """Workers on one queue and one table, each a process."""

    environment: dict[str, str]
    queue: LocalQueue
    table: str
    folder: Path
    stack: ExitStack

    def begin(self) -> "subprocess.Popen[bytes]":
        """One more worker; its words go to a file."""
        log = self.stack.enter_context((self.folder / f"worker-{next(_NUMBERS)}.log").open("wb"))
        command = [*PROGRAM, "worker", "--queue-url", self.queue.url, "--ledger", self.table]
        process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        self.stack.callback(_end, process)
        return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


@contextmanager
def fleet(
    aws: LocalAws, sqs_url: str, service_url: str, folder: Path, queues: LocalAws | None = None, **settings: object
) -> Iterator[Fleet]:
    """A new queue (of `queues`, where that is not the table's `aws`) and a new table, and nobody at work."""
    quick: dict[str, object] = {
        "worker__metrics_port": 0,
        "worker__wait_seconds": 1,
        "worker__visibility_timeout_seconds": 10,
        "rate__max_per_second": 0,
        "ledger__lease_seconds": LEASE_SECONDS,
        "lookup__settle_seconds": SETTLE_SECONDS,
        "aws__read_timeout_seconds": READ_TIMEOUT_SECONDS,
        "aws__connect_timeout_seconds": 1,
    }
    environment = surroundings(service_url, **{**quick, **settings})
    environment |= {"AWS_ENDPOINT_URL": aws.url, "AWS_ENDPOINT_URL_SQS": sqs_url}
    name = f"fleet-{next(_NUMBERS)}"
    subprocess.run([*PROGRAM, "ledger", "create-table", name], env=environment, check=True, capture_output=True)
    with ExitStack() as stack:
        yield Fleet(environment, (queues or aws).make_queue(), f"dynamodb://{name}", folder, stack)


def until(condition: Callable[[], bool]) -> None:
    """Look until it holds; RuntimeError where it never does."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the fleet does not come to an end")
        time.sleep(0.1)


def deliver_some_twice(proxy: SqsProxy, seed: int) -> Counter[str]:
    """Let some messages come again with the next answer that has room, to whichever worker that is; count them."""
    copies: Counter[str] = Counter()
    late: list[dict[str, Any]] = []
    random, seen = Random(seed), set[str]()

    def after(operation: str, members: dict[str, Any], answer: dict[str, Any]) -> None:
        if operation != "ReceiveMessage":
            return
        messages = answer.get("Messages", [])
        room = max(int(members.get("MaxNumberOfMessages", 1)) - len(messages), 0)
        again, late[:] = late[:room], late[room:]
        new = [each for each in messages if each["MessageId"] not in seen]
        seen.update(each["MessageId"] for each in new)
        late.extend(each for each in new if random.random() < SHARE_DELIVERED_TWICE)
        if again:
            answer["Messages"] = [*messages, *again]
            copies.update(each["MessageId"] for each in again)

    proxy.after = after
    return copies


def sweep(jobs: int, seed: int, folder: Path) -> bool:
    """Run the fleet through all of it; print the counts and say whether they are as they should be."""
    with (
        local_aws(folder) as aws,
        sqs_proxy(aws.url) as proxy,
        sandbox("--list-lag-seconds", str(SETTLE_SECONDS / 2)) as service,
        fleet(aws, proxy.url, service.url, folder, retry__base_seconds=0.05, retry__cap_seconds=1) as workers,
    ):
        plan = {"probabilities": TROUBLE, "slow_seconds": READ_TIMEOUT_SECONDS * 2, "seed": seed}
        fetch(f"{service.url}/_sandbox/faults", method="PUT", body=json.dumps(plan).encode())
        copies = deliver_some_twice(proxy, seed)
        queue, dead = workers.queue, workers.queue.dead
        bodies: list[object] = [request(number) for number in range(jobs)]
        step = max(jobs // len(POISON), 1)
        for number, body in enumerate(POISON):
            bodies.insert(number * (step + 1), body)
        queue.put(*bodies)
        began = time.monotonic()
        killed, drained, steady = (workers.begin() for _ in range(3))
        until(lambda: service.accepted() >= jobs // 4)
        killed.send_signal(signal.SIGKILL)
        tell(f"killed one at {service.accepted()} jobs")
        others = [steady, workers.begin()]
        until(lambda: service.accepted() >= jobs // 2)
        drained.send_signal(signal.SIGTERM)
        tell(f"drained one at {service.accepted()} jobs, exit status {drained.wait(60)}")
        others.append(workers.begin())
        until(lambda: queue.size() == 0)
        seconds = time.monotonic() - began
        for process in others:
            process.send_signal(signal.SIGTERM)
        statuses = [drained.returncode, *(process.wait(60) for process in others)]
        per_row = Counter(job["name"] for job in service.jobs())
        letters = Counter(each["Body"] for each in dead.drain()) if dead else Counter()
        fetch(f"{service.url}/_sandbox/faults", method="PUT", body=b"{}")
        verified = subprocess.run(
            [*PROGRAM, "verify", workers.table], env=workers.environment, check=False, capture_output=True, text=True
        )
    duplicates = sum(number - 1 for number in per_row.values())
    losses = sum(request(number)["name"] not in per_row for number in range(jobs))
    print(
        f"jobs {jobs}, duplicates {duplicates}, losses {losses}, dead letters {letters.total()} of {len(POISON)}; "
        f"{sum(copies.values())} messages delivered twice, {seconds:.0f} s"
    )
    print(f"exit statuses {statuses}, verify {verified.returncode}")
    if any(statuses):
        for log in sorted(folder.glob("worker-*.log")):
            print(log.name, *log.read_text(errors="replace").splitlines()[-2:], sep="\n  ")
    if verified.returncode:
        print(verified.stdout)
    is_clean = not duplicates and not losses and letters == Counter(POISON)
    return is_clean and not any(statuses) and verified.returncode == 0


@dataclass(frozen=True, slots=True)
class QueueParts:
    """What the speed is measured on, each server a process."""

    table: LocalAws
    queues: LocalAws
    service: MinimalServer
    folder: Path


def speed(workers: int, jobs: int, site: QueueParts) -> dict[str, float]:
    """Let so many workers empty a queue; gives jobs a second, and what workers and table use of a core for a job."""
    site.service.reset()
    with fleet(site.table, site.queues.url, site.service.url, site.folder, site.queues) as program:
        processes = [program.begin() for _ in range(workers)]
        program.queue.put(*(request(number) for number in range(jobs)), DelaySeconds=START_SECONDS)
        until(lambda: len(site.service.times()) > 0)
        pids = [site.table.pid, *(each.pid for each in processes)]
        before = list(map(_cpu_seconds, pids))
        until(lambda: len(site.service.times()) >= jobs)
        in_table, *used = (_cpu_seconds(pid) - then for pid, then in zip(pids, before, strict=True))
        times = site.service.times()
        for process in processes:
            process.send_signal(signal.SIGTERM)
        statuses = [process.wait(60) for process in processes]
        if any(statuses) or len(times) != jobs:
            raise RuntimeError(f"{len(times)} calls, and the workers ended with {statuses}")
    seconds = times[-1] - times[0]
    return {
        "jobs/s": (jobs - 1) / seconds,
        "CPU ms/job": 1000 * sum(used) / jobs,
        "table ms/job": 1000 * in_table / jobs,
        "table's cores": in_table / seconds,
    }


def idle(folder: Path) -> None:
    """Let a worker wait at an empty queue, and print what that costs."""
    port = free_port()
    usual = {"wait_seconds": 20, "visibility_timeout_seconds": 300, "metrics_port": port}
    with (
        local_aws(folder) as aws,
        minimal_server() as service,
        fleet(aws, aws.url, service.url, folder) as program,
    ):
        program.environment |= {f"BATCHSUBMIT_WORKER__{name.upper()}": str(value) for name, value in usual.items()}
        program.environment |= {"BATCHSUBMIT_LEDGER__LEASE_SECONDS": "120"}
        worker = program.begin()
        time.sleep(START_SECONDS)
        used, polls = _cpu_seconds(worker.pid), _polls(port)
        time.sleep(IDLE_SECONDS)
        used, polls = _cpu_seconds(worker.pid) - used, _polls(port) - polls
    print(f"idle for {IDLE_SECONDS} s: {100 * used / IDLE_SECONDS:.2f} % of a core, {polls:.0f} receive calls")


def _polls(port: int) -> float:
    lines = fetch(f"http://127.0.0.1:{port}/metrics").decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("batchsubmit_queue_polls_total"))


def _cpu_seconds(pid: int) -> float:
    """What a process has used of a core. Needs Linux's /proc; NaN elsewhere."""
    try:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def measure_speed(jobs: int, runs: int, folder: Path) -> None:
    """1, 2 and 4 workers in turns."""
    with (
        local_aws(folder, script=QUICK_MINISTACK) as table,
        local_aws(folder, script=QUICK_MINISTACK) as queues,
        minimal_server() as service,
    ):
        site = QueueParts(table, queues, service, folder)
        crews = {f"{size} worker{'s' if size > 1 else ''}": size for size in (1, 2, 4)}
        alternatives = {name: lambda size=size: speed(size, jobs, site) for name, size in crews.items()}
        measured = alternate(alternatives, runs=runs, warm_ups=1)
    print_figures(measured)
    print_ratios(measured, [Ratio("jobs/s", name, "1 worker") for name in list(crews)[1:]])
    floor = min(figures["table ms/job"] for rounds in measured.values() for figures in rounds)
    print(f"the table's one core allows {1000 / floor:,.0f} jobs/s at the most, the machine's cores the rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000, help="messages of the sweep (5,000)")
    parser.add_argument("--speed-jobs", type=int, default=3000, help="messages of a round of the speed (3,000)")
    parser.add_argument("--runs", type=int, default=5, help="rounds of the speed (5)")
    parser.add_argument("--seed", type=int, default=11, help="of faults and double deliveries (11)")
    parser.add_argument("--only", choices=("sweep", "speed", "idle"), help="one of the three")
    options = parser.parse_args()
    print(machine(), flush=True)
    is_clean = True
    with tempfile.TemporaryDirectory() as folder:
        if options.only in {None, "sweep"}:
            is_clean = sweep(options.jobs, options.seed, Path(folder))
        if options.only in {None, "speed"}:
            measure_speed(options.speed_jobs, options.runs, Path(folder))
        if options.only in {None, "idle"}:
            idle(Path(folder))
    sys.exit(0 if is_clean else 1)


if __name__ == "__main__":
    main()
