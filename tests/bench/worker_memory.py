"""A worker's resident memory over 50,000 messages, which must not grow with what is done and over.

    .venv/bin/python tests/bench/worker_memory.py [--messages 50000] [--ledger table|file]

One worker on a queue and a ledger in MiniStack and on the minimal server, quotas and rate limit off, its probes on as
anywhere. The queue is filled as it empties, so that memory is that of the work and not of a backlog. Prints the memory
at a tenth, at half and at the end, and the growth between the last two in bytes a message; exit status 1 where that is
more than `--most-bytes`. A worker on a table keeps nothing of settled jobs in memory; the one writer of a file keeps 80
bytes of each and its name, by design.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from fleet import QUICK_MINISTACK, request
from harness import machine, tell
from workload import PROGRAM, MinimalServer, minimal_server, surroundings

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from local_aws import LocalAws, LocalQueue, free_port, local_aws

PORTION = 1000
MOST_BYTES = {"table": 60.0, "file": 250.0}


def resident_bytes(pid: int) -> int:
    """What a process has in memory. Needs Linux's /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def done_at(queue: LocalQueue, server: MinimalServer, messages: int) -> Iterator[int]:
    """Keep the queue filled; gives how many jobs were submitted by now, until all are."""
    numbers = count()
    sent = done = 0
    while done < messages:
        if sent < messages and sent - done < 2 * PORTION:
            queue.put(*(request(next(numbers)) for _ in range(min(PORTION, messages - sent))))
            sent += PORTION
        else:
            time.sleep(0.2)
        done = len(server.times())
        yield done


def measure(messages: int, ledger: str, folder: Path) -> dict[int, int]:
    """Let a worker submit so many; gives its memory at the marks."""
    with local_aws(folder, script=QUICK_MINISTACK) as aws, minimal_server() as server:
        environment = surroundings(
            server.url,
            worker__metrics_port=free_port(),
            worker__wait_seconds=1,
            rate__max_per_second=0,
            log__format="json",
        )
        environment |= {"AWS_ENDPOINT_URL": aws.url}
        queue = aws.make_queue()
        if ledger == "table":
            subprocess.run([*PROGRAM, "ledger", "create-table", "bench"], env=environment, check=True)
        where = "dynamodb://bench" if ledger == "table" else str(folder / "worker.ledger.jsonl")
        command = [*PROGRAM, "worker", "--queue-url", queue.url, "--ledger", where, "--json"]
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE) as worker:
            marks = _at_marks(worker.pid, done_at(queue, server, messages), messages)
            worker.send_signal(signal.SIGTERM)
            assert worker.stdout is not None
            summary = json.loads(worker.stdout.read())
        _check(aws, queue, summary, messages)
    return marks


def _at_marks(pid: int, progress: Iterator[int], messages: int) -> dict[int, int]:
    left, marks = [messages // 10, messages // 2, messages], {}
    began = time.monotonic()
    for done in progress:
        if done >= left[0]:
            marks[left.pop(0)] = resident_bytes(pid)
            tell(f"{done:,} messages in {time.monotonic() - began:.0f} s: {resident_bytes(pid) / 2**20:.1f} MiB")
    return marks


def _check(aws: LocalAws, queue: LocalQueue, summary: dict[str, object], messages: int) -> None:
    del aws
    if summary["submitted"] != messages or queue.size():
        raise RuntimeError(f"{queue.size()} messages are left, and the worker says {summary}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000, help="how many (50,000)")
    parser.add_argument("--ledger", choices=("table", "file"), default="table", help="where the ledger is (table)")
    parser.add_argument("--most-bytes", type=float, help="growth a message that is still flat (60; with a file 250)")
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        marks = measure(options.messages, options.ledger, Path(folder))
    for done, size in marks.items():
        print(f"{done:>8,} messages  {size / 2**20:6.1f} MiB")
    (_, _), (half, at_half), (end, at_end) = marks.items()
    growth = (at_end - at_half) / (end - half)
    print(f"growth over the second half: {growth:.0f} bytes a message")
    sys.exit(0 if growth <= (options.most_bytes or MOST_BYTES[options.ledger]) else 1)


if __name__ == "__main__":
    main()
