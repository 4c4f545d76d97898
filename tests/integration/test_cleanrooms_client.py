"""The real client on a wire that misbehaves: which outcome comes out, and that each call is one request."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from byte_server import http, wire
from conftest import job_arn, job_named
from strategies import REGION

from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms
from batchsubmit.config import AwsSettings, Settings
from batchsubmit.core.jobs import (
    Accepted,
    Conflicted,
    Denied,
    Forbidden,
    NotSent,
    QuotaExceeded,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.sandbox import FaultPlan, SandboxServer, SandboxService, SandboxSettings
from batchsubmit.sandbox.faults import InjectedFault, ScriptedFault

JOB = job_named("a")
START = "StartTrainedModelInferenceJob"
QUICK = AwsSettings(read_timeout_seconds=0.3, connect_timeout_seconds=0.3)
FREE = SandboxSettings(per_membership=0, per_account=0, starts_per_second=0, reads_per_second=0, pending_seconds=3600)

pytestmark = pytest.mark.usefixtures("credentials")


@asynccontextmanager
async def client_of(
    url: str, monkeypatch: pytest.MonkeyPatch, settings: AwsSettings = QUICK
) -> AsyncIterator[CleanRooms]:
    """A client configured as users do it: by the endpoint's variable."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLEANROOMSML", url)
    async with open_cleanrooms(Settings(aws=settings), region=REGION) as client:
        yield client


@pytest.mark.parametrize(
    ("fault", "kind", "is_accepted"),
    [
        (InjectedFault.NONE, Accepted, True),
        (InjectedFault.QUOTA, QuotaExceeded, False),
        (InjectedFault.QUOTA_ACCOUNT, QuotaExceeded, False),
        (InjectedFault.QUOTA_BARE, QuotaExceeded, False),
        (InjectedFault.THROTTLED, Throttled, False),
        (InjectedFault.THROTTLING_400, Throttled, False),
        (InjectedFault.REQUEST_LIMIT, Uncertain, False),
        (InjectedFault.ACCESS_DENIED, Denied, False),
        (InjectedFault.EXPIRED_TOKEN, Forbidden, False),
        (InjectedFault.ERROR_BEFORE, Uncertain, False),
        (InjectedFault.UNAVAILABLE, Uncertain, False),
        (InjectedFault.CUT_BEFORE, Uncertain, False),
        (InjectedFault.STALL, Uncertain, False),
        (InjectedFault.ERROR_AFTER, Uncertain, True),
        (InjectedFault.ABORTED_AFTER, Uncertain, True),
        (InjectedFault.TIMEOUT_AFTER, Uncertain, True),
        (InjectedFault.LOST_AFTER, Uncertain, True),
        (InjectedFault.RESET_AFTER, Uncertain, True),
        (InjectedFault.TRUNCATED, Uncertain, True),
        (InjectedFault.SLOW_ANSWER, Uncertain, True),
        (InjectedFault.UNREADABLE, Uncertain, True),
        (InjectedFault.NO_ARN, Uncertain, True),
    ],
    ids=str,
)
async def test_every_fault_is_one_request_and_its_outcome(
    monkeypatch: pytest.MonkeyPatch, fault: InjectedFault, kind: type[Result], is_accepted: bool
) -> None:
    """The client repeats nothing by itself: each repeat might start another paid job."""
    service = SandboxService(FREE, time.time)
    async with SandboxServer(service) as server, client_of(server.url, monkeypatch) as client:
        server.faults.configure(FaultPlan(script=(ScriptedFault(fault=fault, times=9, seconds=1.0),)))
        outcome = await client.start(JOB)
        assert type(outcome) is kind
        assert service.calls[START].total() == 1
        assert [job.name for job in service.jobs()] == (["a"] if is_accepted else [])


async def test_a_slow_acceptance_after_the_time_out_is_uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job comes to be though nobody waits for it any more."""
    service = SandboxService(FREE, time.time)
    async with SandboxServer(service) as server, client_of(server.url, monkeypatch) as client:
        server.faults.configure(FaultPlan(script=(ScriptedFault(fault=InjectedFault.SLOW_ACCEPTANCE, seconds=0.6),)))
        assert isinstance(await client.start(JOB), Uncertain)


async def test_calls_work_again_after_a_broken_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is not used again."""
    service = SandboxService(FREE, time.time)
    async with SandboxServer(service) as server, client_of(server.url, monkeypatch) as client:
        faults = (
            InjectedFault.NONE,
            InjectedFault.RESET_AFTER,
            InjectedFault.NONE,
            InjectedFault.LOST_AFTER,
            InjectedFault.NONE,
        )
        server.faults.configure(FaultPlan(script=tuple(ScriptedFault(fault=fault) for fault in faults)))
        outcomes = [type(await client.start(job_named(str(number)))) for number in range(5)]
    assert outcomes == [Accepted, Uncertain, Accepted, Uncertain, Accepted]


async def test_a_closed_port_means_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing left."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with client_of(f"http://127.0.0.1:{taken.getsockname()[1]}", monkeypatch) as client:
            assert isinstance(await client.start(JOB), NotSent)


async def test_a_host_without_an_address_means_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is reserved for never being one."""
    async with client_of("http://nobody.invalid", monkeypatch) as client:
        assert isinstance(await client.start(JOB), NotSent)


async def test_a_connection_that_never_comes_about_means_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener's queue is full: the connect time-out ends it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(8)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            async with client_of(f"http://127.0.0.1:{listener.getsockname()[1]}", monkeypatch) as client:
                assert isinstance(await client.start(JOB), NotSent)
        finally:
            for filler in fillers:
                filler.close()


async def test_a_server_without_tls_means_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request waits for the handshake."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with wire(lambda _: reply) as (url, _), client_of(url.replace("http:", "https:"), monkeypatch) as client:
        assert isinstance(await client.start(JOB), NotSent)


GOOD = json.dumps({"trainedModelInferenceJobArn": job_arn("1")}).encode()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (http("200 OK", GOOD, "application/json"), Accepted),
        (http("200 OK"), Uncertain),
        (http("200 OK", b""), Uncertain),
        (http("200 OK", b"[]", "application/json"), Uncertain),
        (http("200 OK", b"null", "application/json"), Uncertain),
        (http("204 No Content", b""), Uncertain),
        (http("404 Not Found"), Forbidden),
        (http("400 Bad Request"), Forbidden),
        (http("403 Forbidden"), Forbidden),
        (http("407 Proxy Authentication Required"), Forbidden),
        (http("402 Payment Required"), QuotaExceeded),
        (http("408 Request Timeout"), Uncertain),
        (http("409 Conflict"), Conflicted),
        (http("429 Too Many Requests"), Throttled),
        (http("500 Internal Server Error"), Uncertain),
        (http("502 Bad Gateway"), Uncertain),
        (http("503 Service Unavailable"), Uncertain),
        (http("504 Gateway Timeout", b""), Uncertain),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + GOOD, Uncertain),
        (b"SSH-2.0-Nonsense\r\n", Uncertain),
        (b"", Uncertain),
        (None, Uncertain),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else getattr(value, "__name__", "no answer"),
)
async def test_whatever_answers_is_read_with_suspicion(
    monkeypatch: pytest.MonkeyPatch, reply: bytes | None, kind: type[Result]
) -> None:
    """A page of HTML is no acceptance, a proxy's error no verdict, silence no refusal; one request each."""
    async with wire(lambda _: reply) as (url, requests), client_of(url, monkeypatch) as client:
        outcome = await client.start(JOB)
        assert type(outcome) is kind
        assert len(requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_to_a_second_start(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """One call is one request, wherever it is told to go."""
    reply = http(f"{status} Elsewhere", b"").replace(b"\r\n\r\n", b"\r\nLocation: /elsewhere\r\n\r\n")
    async with wire(lambda _: reply) as (url, requests), client_of(url, monkeypatch) as client:
        outcome = await client.start(JOB)
        assert not isinstance(outcome, Accepted | NotSent)
        assert len(requests) == 1


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the memory, and a container that is killed for that loses its calls in progress."""
    reply = http("200 OK", GOOD + b" " * 34_000_000, "application/json")
    async with wire(lambda _: reply) as (url, requests), client_of(url, monkeypatch, AwsSettings()) as client:
        assert isinstance(await client.start(JOB), Uncertain)
    assert len(requests) == 1


async def test_a_connection_that_ends_before_the_request_is_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can know what the other side read of it, so nothing is sent again."""
    connections = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", monkeypatch) as client:
        assert isinstance(await client.start(JOB), Uncertain)
        assert connections == 1


@pytest.mark.parametrize("variables", [{"AWS_MAX_ATTEMPTS": "9"}, {"AWS_RETRY_MODE": "adaptive"}], ids=str)
async def test_no_configuration_of_the_users_turns_retries_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """AWS's own variables for retries have no say here."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with (
        wire(lambda _: http("503 Service Unavailable")) as (url, requests),
        client_of(url, monkeypatch) as client,
    ):
        assert isinstance(await client.start(JOB), Uncertain)
        assert len(requests) == 1


async def test_a_proxy_carries_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for all AWS clients: by the environment."""
    async with wire(lambda _: http("200 OK", GOOD, "application/json")) as (url, requests):
        monkeypatch.setenv("HTTP_PROXY", url)
        async with client_of("http://cleanrooms.invalid", monkeypatch) as client:
            assert isinstance(await client.start(JOB), Accepted)
    assert requests[0].startswith(b"POST http://cleanrooms.invalid/memberships/")


async def test_credentials_that_cannot_be_refreshed_stop_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is sent with the old ones."""
    answer = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", "SessionToken": "C"}
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()  # within ten minutes, each call asks again
    (tmp_path / "answer.json").write_text(json.dumps({**answer, "Expiration": soon}))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'answer.json'}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    reply = http("200 OK", GOOD, "application/json")
    async with wire(lambda _: reply) as (url, requests), client_of(url, monkeypatch) as client:
        (tmp_path / "answer.json").unlink()
        assert isinstance(await client.start(JOB), Forbidden)
        assert requests == []


async def test_no_call_leaves_later_than_a_call_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """While credentials are refreshed, a lease may end; then others have the job, and look it up."""

    async def hang(**_: object) -> None:
        await asyncio.Event().wait()

    hasty = AwsSettings(connect_timeout_seconds=0.05, read_timeout_seconds=0.05)
    async with wire(lambda _: None) as (url, requests), client_of(url, monkeypatch, hasty) as client:
        client.client.meta.events.register("before-sign.cleanroomsml", hang)
        assert await client.start(JOB) == NotSent("Timeout", "the call was given up after 0.1 s")
        assert requests == []


async def test_the_request_names_the_program_and_carries_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that CloudTrail and a lookup know whose it was."""
    reply = http("200 OK", GOOD, "application/json")
    async with wire(lambda _: reply) as (url, requests), client_of(url, monkeypatch) as client:
        assert await client.start(JOB) == Accepted(job_arn("1"))
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert b"user-agent: batchsubmit/" in head.lower()
    assert json.loads(body)["tags"] == {"batchsubmit:key": JOB.key}


async def test_a_cancelled_call_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no outcome: the one exception that comes through."""
    arrived = asyncio.Event()

    def silent(_: bytes) -> None:
        arrived.set()

    async with wire(silent) as (url, _), client_of(url, monkeypatch, AwsSettings()) as client:
        call = asyncio.create_task(client.start(JOB))
        await asyncio.wait_for(arrived.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_no_credentials_are_told_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by it."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoppedError, match="no AWS credentials"):
        async with client_of("http://127.0.0.1:1", monkeypatch):
            pass


async def test_half_of_the_credentials_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is missing."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoppedError, match=r"no AWS credentials.*AWS_SECRET_ACCESS_KEY"):
        async with client_of("http://127.0.0.1:1", monkeypatch):
            pass


@pytest.mark.parametrize(("variable", "value"), [("AWS_PROFILE", "nobody"), ("AWS_CONFIG_FILE", "broken")])
async def test_a_wrong_aws_configuration_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    """In one sentence."""
    if value == "broken":
        (tmp_path / "broken").write_text("[default\nregion")
        value = str(tmp_path / "broken")
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match="AWS configuration"):
        async with client_of("http://127.0.0.1:1", monkeypatch):
            pass


async def test_a_rehearsal_sees_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile, no endpoint, no credentials."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLEANROOMSML", "http://127.0.0.1:1")
    async with (
        wire(lambda _: http("200 OK", GOOD, "application/json")) as (url, requests),
        open_cleanrooms(Settings(aws=QUICK), region=REGION, sandbox_url=url) as client,
    ):
        assert isinstance(await client.start(JOB), Accepted)
    assert b"AKIDEXAMPLE" not in requests[0]
