"""What the benchmarks share: manifests, the program's surroundings, and processes that are seen from outside."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"
MEMBERSHIPS = tuple(f"{digit * 8}-0000-4000-8000-{digit * 12}" for digit in "123")
PROGRAM = [sys.executable, "-m", "batchsubmit"]
_MINIMAL_SERVER = Path(__file__).with_name("minimal_server.py")
_SAMPLE_SECONDS = 0.01


def request(number: int, memberships: Sequence[str] = MEMBERSHIPS) -> dict[str, Any]:
    """The request of one row."""
    membership = memberships[number % len(memberships)]
    scope = f"arn:aws:cleanrooms-ml:{REGION}:{ACCOUNT}:membership/{membership}"
    return {
        "membershipIdentifier": membership,
        "name": f"job-{number:07}",
        "trainedModelArn": f"{scope}/trained-model/churn-v3",
        "resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": 1},
        "outputConfiguration": {"members": [{"accountId": ACCOUNT}]},
        "dataSource": {"mlInputChannelArn": f"{scope}/ml-input-channel/customers"},
        "environment": {"PARTITION": f"{number:07}"},
        "tags": {"team": "growth"},
    }


_COLUMNS = (
    "name,membershipIdentifier,trainedModelArn,dataSource.mlInputChannelArn,resourceConfig.instanceType,"
    "resourceConfig.instanceCount,outputConfiguration.members.0.accountId,environment.PARTITION,tags.team\n"
)


def write_manifest(path: Path, rows: int, memberships: Sequence[str] = MEMBERSHIPS) -> Path:
    """Write the requests of so many rows as CSV."""
    with path.open("w") as file:
        file.write(_COLUMNS)
        for number in range(rows):
            row = request(number, memberships)
            cells = (
                row["name"],
                row["membershipIdentifier"],
                row["trainedModelArn"],
                row["dataSource"]["mlInputChannelArn"],
                "ml.m5.xlarge,1",
                ACCOUNT,
                row["environment"]["PARTITION"],
                "growth",
            )
            file.write(",".join(cells) + "\n")
    return path


def write_submitted_ledger(path: Path, rows: int) -> Path:
    """Write a ledger in which the jobs of `write_manifest` are all submitted, by one run."""
    from batchsubmit.core.jobs import Intent, JobSubmitted, RunStarted, job_digest, key_text  # noqa: PLC0415 (few need them)
    from batchsubmit.ledger.lines import encode_line  # noqa: PLC0415
    from batchsubmit.schema import canonical  # noqa: PLC0415

    at = "2026-11-23T12:00:00.{:06}Z".format
    arn = "arn:aws:cleanrooms-ml:{}:{}:membership/{}/trained-model-inference-job/{:08x}-0000-4000-8000-000000000000"
    with path.open("wb") as file:
        start = RunStarted(
            at=at(0), run="r", batch="", manifest=path.name, manifest_sha256="0", version="0", holder="bench"
        )
        file.write(encode_line(start))
        for number in range(rows):
            row = request(number)
            key = key_text(job_digest(canonical(row)))
            membership, name, moment = row["membershipIdentifier"], row["name"], at(number % 1_000_000)
            job = {"at": moment, "job": key, "membership": membership, "name": name}
            file.write(encode_line(Intent(**job, attempt=1, trained_model=row["trainedModelArn"])))
            named = arn.format(REGION, ACCOUNT, membership, number)
            file.write(encode_line(JobSubmitted(**job, arn=named, attempt=1, via="start")))
    return path


def surroundings(url: str, **settings: object) -> dict[str, str]:
    """The environment of a client of `url`: nothing of the machine's own AWS set-up, dummy credentials."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("AWS_", "BATCHSUBMIT_"))}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "dummy",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_CLEANROOMSML": url,
        **{f"BATCHSUBMIT_{name.upper()}": str(value) for name, value in settings.items()},
    }


def fetch(url: str, *, method: str = "GET", body: bytes | None = None) -> bytes:
    """Make one call at a server's back door."""
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method)) as answer:  # noqa: S310 (ours)
        return bytes(answer.read())


@contextmanager
def _serving(command: Sequence[str]) -> Iterator[str]:
    """Run a server that prints its URL on its first line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class MinimalServer:
    """The minimal server, in a process of its own."""

    url: str

    def reset(self) -> None:
        """Forget the calls so far."""
        fetch(f"{self.url}/reset", method="POST")

    def times(self) -> list[float]:
        """When each call came, by the monotonic clock."""
        times: list[float] = json.loads(fetch(f"{self.url}/calls"))["times"]
        return times

    def cpu_seconds(self) -> float:
        """What the server has used of a core."""
        return float(json.loads(fetch(f"{self.url}/calls"))["cpu_seconds"])


@contextmanager
def minimal_server() -> Iterator[MinimalServer]:
    """Run the minimal server."""
    with _serving([sys.executable, str(_MINIMAL_SERVER)]) as url:
        yield MinimalServer(url)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A `batchsubmit sandbox` in a process of its own."""

    url: str

    def jobs(self) -> list[dict[str, Any]]:
        """Every job that it has accepted."""
        return [json.loads(line) for line in fetch(f"{self.url}/_sandbox/jobs").splitlines()]

    def accepted(self) -> int:
        """How many jobs it has accepted."""
        return int(json.loads(fetch(f"{self.url}/_sandbox/stats"))["accepted"])

    def calls(self, operation: str = "StartTrainedModelInferenceJob") -> int:
        """How many requests of an operation came, whatever became of them."""
        return sum(json.loads(fetch(f"{self.url}/_sandbox/stats"))["calls"].get(operation, {}).values())

    def disturb(self, *, slow_seconds: float = 5.0, **probabilities: float) -> None:
        """Let faults happen to Start calls, with these probabilities."""
        plan = {"probabilities": {"StartTrainedModelInferenceJob": probabilities}, "slow_seconds": slow_seconds}
        fetch(f"{self.url}/_sandbox/faults", method="PUT", body=json.dumps(plan).encode())

    def reset(self) -> None:
        """Forget all jobs."""
        fetch(f"{self.url}/_sandbox/reset", method="POST")


@contextmanager
def sandbox(*options: str) -> Iterator[Sandbox]:
    """Run a sandbox without quotas and rates whose jobs outlast the benchmark."""
    quotas = ("--per-membership", "0", "--per-account", "0")
    quiet = (*quotas, "--starts-per-second", "0", "--reads-per-second", "0", "--job-seconds", "86400")
    with _serving([*PROGRAM, "sandbox", *quiet, *options]) as url:
        yield Sandbox(url)


@dataclass(slots=True)
class CpuLog:
    """The CPU time of a process as read off from outside, moment by moment. Needs Linux's /proc; empty elsewhere."""

    pid: int
    moments: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def watch(self, ended: threading.Event) -> None:
        """Take samples until the process has ended."""
        tick = os.sysconf("SC_CLK_TCK")
        while not ended.wait(_SAMPLE_SECONDS):
            try:
                used = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                return
            self.moments.append(time.monotonic())
            self.seconds.append((int(used[11]) + int(used[12])) / tick)

    def between(self, begin: float, end: float) -> float:
        """CPU seconds used between two moments; NaN where nothing is known."""
        if not self.moments:
            return float("nan")
        return self._at(end) - self._at(begin)

    def _at(self, moment: float) -> float:
        return self.seconds[min(bisect_left(self.moments, moment), len(self.seconds) - 1)]


@dataclass(frozen=True, slots=True)
class Watched:
    """A process that has ended well: how long it took, and its CPU use."""

    seconds: float
    cpu: CpuLog
    output: str


def run_watched(command: Sequence[str], environment: dict[str, str], folder: Path) -> Watched:
    """Run a client to its end; RuntimeError with its own words where it fails."""
    began = time.monotonic()
    ended = threading.Event()
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        cpu = CpuLog(process.pid)
        watch = threading.Thread(target=cpu.watch, args=[ended])
        watch.start()
        output, complaints = process.communicate()
        seconds = time.monotonic() - began
        ended.set()
        watch.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {complaints}")
    return Watched(seconds, cpu, output)
