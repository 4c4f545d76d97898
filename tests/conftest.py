"""What tests of every layer share: isolation from the machine's AWS set-up, jobs, a fake clock, the program itself.

Standing here also puts this folder on the import path; `pythonpath` in pyproject.toml adds `support`.
"""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import botocore.session
import hypothesis
import pytest
import structlog
from botocore.loaders import create_loader
from local_aws import LocalAws, local_aws, moto
from program_server import Process, ProgramServer, program_server
from strategies import ACCOUNT, MEMBERSHIP, REGION, arn, minimal_request

from batchsubmit.core.jobs import Job, job_digest, key_text
from batchsubmit.schema import canonical

CONSOLE_SCRIPT = Path(sys.executable).with_name("batchsubmit")
OTHER_MEMBERSHIP = "fedcba98-7654-3210-fedc-ba9876543210"
EPOCH = datetime(2026, 11, 23, tzinfo=UTC)
LONGEST_RUN_SECONDS = 60

# Test modules and the program are compiled once, not by each process that imports them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for what a shell starts with `&`; programs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is no finding. More examples: pytest --hypothesis-profile=thorough
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.load_profile("quick")


_LONGEST_FILES = (
    "test_every_step",
    "test_shared_runs",
    "test_fleet",
    "test_worker",
    "test_fault_sweep",
    "test_nightly_cronjob",
    "test_book_examples",
    "test_rate",
    "test_kill_sweep",
    "test_queue_source",
    "test_deployed",
    "test_queue_mishaps",
    "test_nightly",
    "test_exactly_once",
)
"""Files of few but long tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist hand files out in the order of collection, not by the number of their tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that none of them runs alone at the end."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST_FILES)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over the collected tests, half a million objects that stay."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: many a test waits for a program half of its time."""
    return (os.cpu_count() or 1) + 2


def of_all_workers(factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of this run share, for what takes seconds to make."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(autouse=True)
def _no_aws_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide whatever AWS and batchsubmit configuration the machine has."""
    for name in list(os.environ):
        if name.upper().startswith(("AWS_", "BATCHSUBMIT_")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(of_all_workers(tmp_path_factory) / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-credentials"))


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Take back what a command that ran in this process has set up."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dummy credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "dummy")


@pytest.fixture(scope="session", autouse=True)
def _service_models_read_once() -> Iterator[None]:
    """Let all botocore sessions of this process share their loader: reading a service's model is half of a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(create_loader))
        yield


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """A local AWS that is quick, for all tests; each makes queues, tables and buckets of its own."""
    with local_aws(tmp_path_factory.mktemp("aws")) as started:
        yield started


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """A local AWS that is faithful."""
    with moto() as url:
        yield url


class FakeClock:
    """A clock that only moves when someone sleeps on it or a test turns it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Aware UTC."""
        return EPOCH + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Jump, and let others run."""
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    """A clock at a standstill."""
    return FakeClock()


def request_named(name: str, *, membership: str = MEMBERSHIP, model: str = "one", **members: object) -> dict[str, Any]:
    """A valid request of this name in this membership, for this model."""
    return minimal_request(
        membershipIdentifier=membership,
        name=name,
        trainedModelArn=arn("trained-model", model, membership=membership),
        dataSource={"mlInputChannelArn": arn("ml-input-channel", membership=membership)},
        **members,
    )


def job_named(name: str, *, membership: str = MEMBERSHIP, model: str = "one", **members: object) -> Job:
    """A job with a request of this name."""
    request = request_named(name, membership=membership, model=model, **members)
    return Job(key=key_text(job_digest(canonical(request))), membership=membership, name=name, request=request)


def job_arn(name: str, membership: str = MEMBERSHIP) -> str:
    """An ARN as the service gives to jobs."""
    return arn("trained-model-inference-job", name, membership=membership)


def write_jsonl(path: Path, requests: Iterable[Mapping[str, Any]]) -> Path:
    """Write a JSONL manifest."""
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


CSV_HEADER = (
    "name,membershipIdentifier,trainedModelArn,resourceConfig.instanceType,"
    "outputConfiguration.members.0.accountId,dataSource.mlInputChannelArn\n"
)


def csv_text(names: Iterable[str], *, membership: str = MEMBERSHIP) -> str:
    """A CSV manifest with a job of each name."""
    model, channel = (arn(kind, membership=membership) for kind in ("trained-model", "ml-input-channel"))
    rows = (f"{name},{membership},{model},ml.m5.large,{ACCOUNT},{channel}\n" for name in names)
    return CSV_HEADER + "".join(rows)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A `batchsubmit sandbox` process, seen through its back door."""

    url: str

    def get(self, name: str) -> bytes:
        """Read something of `/_sandbox/`."""
        with urllib.request.urlopen(f"{self.url}/_sandbox/{name}") as answer:  # noqa: S310 (our own URL)
            return bytes(answer.read())

    def change(self, method: str, name: str, **members: object) -> None:
        """Change something under `/_sandbox/`."""
        body = json.dumps(members).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/{name}", body, method=method)  # noqa: S310 (ours)
        with urllib.request.urlopen(request):  # noqa: S310 (ours)
            pass

    def jobs(self) -> list[dict[str, Any]]:
        """The accepted jobs in the order of acceptance."""
        return [json.loads(line) for line in self.get("jobs").splitlines()]

    def names(self) -> list[str]:
        """Their names."""
        return [job["name"] for job in self.jobs()]

    def calls(self, operation: str = "StartTrainedModelInferenceJob") -> int:
        """How many calls of an operation arrived, whatever became of them."""
        calls = json.loads(self.get("stats"))["calls"]
        return sum(calls.get(operation, {}).values())

    def configure(self, **settings: object) -> None:
        """Change its settings."""
        self.change("PUT", "settings", **settings)

    def disturb(self, *script: Mapping[str, object], **plan: object) -> None:
        """Inject these faults from now on."""
        self.change("PUT", "faults", script=list(script), **plan)


@pytest.fixture(scope="session")
def _sandbox_process() -> Iterator[Sandbox]:
    with subprocess.Popen([CONSOLE_SCRIPT, "sandbox"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Sandbox(process.stdout.readline().strip())
        finally:
            process.terminate()


@pytest.fixture
def sandbox(_sandbox_process: Sandbox) -> Sandbox:
    """An empty sandbox without quotas, rates or faults, as a process of its own; its jobs run for ever so long."""
    _sandbox_process.configure(
        per_membership=0,
        per_account=0,
        starts_per_second=0,
        reads_per_second=0,
        pending_seconds=0.0,
        job_seconds=3600.0,
        failing_names=[],
        list_lag_seconds=0,
        other_quotas={},
        denied=[],
    )
    _sandbox_process.configure(failure_messages={}, unpublished="")
    _sandbox_process.configure(creating_seconds={}, access_budgets={}, channel_age_days=0.0, input_statuses={})
    _sandbox_process.disturb()
    _sandbox_process.change("POST", "reset")
    return _sandbox_process


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        summary: dict[str, Any] = json.loads(self.stdout)
        return summary


@dataclass(slots=True)
class Program:
    """The real program, as a process in a folder of its own; started by `server`, without the cost of its imports."""

    folder: Path
    server: ProgramServer
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: object, stdin: bytes = b"", **environment: str | None) -> Ended:
        """Run to the end. No way to end may show a traceback, nor a warning."""
        with self.server.start(arguments, self.folder, self._environment(environment), with_stdin=True) as process:
            return finish(process, stdin)

    @contextmanager
    def running(
        self, *arguments: object, streams: Mapping[int, int] = MappingProxyType({}), **environment: str | None
    ) -> Iterator[Process]:
        """Run beside the test, with `streams` as its 0, 1 or 2; killed at the end if need be. `finish` waits for it."""
        changed = self._environment(environment)
        with self.server.start(arguments, self.folder, changed, streams=streams) as process:
            try:
                yield process
            finally:
                process.kill()

    def _environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        merged = {**os.environ, **self.environment, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def events(self, ledger: str) -> list[dict[str, Any]]:
        """The whole lines of a ledger in the program's folder."""
        lines = (self.folder / ledger).read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def arns(self, ledger: str) -> list[str]:
        """The ARNs that a ledger has as submitted."""
        return [event["arn"] for event in self.events(ledger) if event["event"] == "submitted"]


def finish(process: Process, stdin: bytes = b"") -> Ended:
    """Wait until a running program has ended."""
    stdout, stderr = process.communicate(stdin, timeout=LONGEST_RUN_SECONDS)
    return checked(Ended(process.returncode, stdout.decode(), stderr.decode()))


def checked(ended: Ended) -> Ended:
    """Hold that people never see the inside."""
    assert "Traceback" not in ended.stderr
    assert "Warning" not in ended.stderr
    return ended


@pytest.fixture(scope="session")
def _program_server() -> Iterator[ProgramServer]:
    with program_server(CONSOLE_SCRIPT) as server:
        yield server


@pytest.fixture
def program(tmp_path: Path, _program_server: ProgramServer) -> Program:
    """The program without credentials, region or endpoint."""
    return Program(tmp_path, _program_server)


@pytest.fixture
def submitting(program: Program, sandbox: Sandbox) -> Program:
    """The program with dummy credentials, pointed at the sandbox process, quick in all its waits."""
    program.environment |= {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "dummy",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_CLEANROOMSML": sandbox.url,
        "BATCHSUBMIT_RATE__MAX_PER_SECOND": "0",
        "BATCHSUBMIT_RETRY__BASE_SECONDS": "0.01",
        "BATCHSUBMIT_RETRY__CAP_SECONDS": "0.05",
        "BATCHSUBMIT_SLOTS__MIN_POLL_SECONDS": "0.05",
        "BATCHSUBMIT_SLOTS__MAX_POLL_SECONDS": "0.2",
        "BATCHSUBMIT_LOOKUP__SETTLE_SECONDS": "0.2",
    }
    return program
