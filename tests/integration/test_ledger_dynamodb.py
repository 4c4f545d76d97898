"""The shared ledger on a local DynamoDB, through a proxy that throttles, fails, and loses answers on its way."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
from aiohttp import ClientSession, web
from botocore.exceptions import ClientError
from botocore.session import Session
from local_aws import LocalAws
from shared_ledger_events import intent, submitted

from batchsubmit.clock import SystemClock
from batchsubmit.core.states import Phase
from batchsubmit.errors import StoppedError
from batchsubmit.ledger.base import LostJobError, Mine, TableLocation, Taken
from batchsubmit.ledger.dynamodb import (
    DynamoTable,
    create_table,
    may_pass,
    open_dynamodb,
    open_table,
)
from batchsubmit.ledger.leases import LeaseTerms
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.ledger.shared import SharedLedger, open_shared
from batchsubmit.ledger.table import Address, Change, MissingTableError

REGION = "us-east-1"
QUICK = LeaseTerms(lease_seconds=1.0, call_seconds=0.2)
HERE = Address("job#a", "job")
_numbers = count()

REFUSALS = {
    "throttled": (400, "ProvisionedThroughputExceededException"),
    "conflict": (400, "TransactionConflictException"),
    "conflict in another region": (400, "ReplicatedWriteConflictException"),
    "failed": (500, "InternalServerError"),
}


@dataclass
class Proxy:
    """Passes calls on to DynamoDB; draws a fault for each from `faults`, or takes the next of `script`."""

    upstream: str
    faults: dict[str, float] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    dice: Random = field(default_factory=lambda: Random(0))
    url: str = ""

    def _draw(self) -> str:
        if self.script:
            return self.script.pop(0)
        names = [*self.faults, ""]
        return self.dice.choices(names, [*self.faults.values(), 1 - sum(self.faults.values())])[0]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call."""
        body, fault = await request.read(), self._draw()
        self.seen[fault] += 1
        if fault in REFUSALS:
            status, code = REFUSALS[fault]
            answer = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "not now"})
            return web.Response(status=status, text=answer, content_type="application/x-amz-json-1.0")
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.post(self.upstream, data=body, headers=headers) as answer,
        ):
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() in {"content-type", "x-amzn-requestid"}}
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=content, headers=kept)


@pytest.fixture
async def proxy(aws: LocalAws, monkeypatch: pytest.MonkeyPatch, credentials: None) -> AsyncIterator[Proxy]:
    """A proxy without faults, which the AWS configuration names as DynamoDB."""
    made = Proxy(aws.url)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", made.url)
    yield made
    await runner.cleanup()


@asynccontextmanager
async def new_table(*, give_up_seconds: float = 20.0) -> AsyncIterator[DynamoTable]:
    """An empty table."""
    name = f"fleet-{next(_numbers)}"
    async with open_dynamodb(region=REGION, concurrency=1) as client:
        await create_table(client, name)
    async with open_table(name, region=REGION, concurrency=32, give_up_seconds=give_up_seconds) as table:
        yield table


def worker(table: DynamoTable, name: str) -> AbstractAsyncContextManager[SharedLedger]:
    """Another worker on the table."""
    return open_shared(table, name, f"process {name}", clock=SystemClock(), terms=QUICK, keeps_all=True)


@pytest.mark.parametrize("fault", [*REFUSALS, "lost"])
async def test_a_write_survives_trouble_and_is_made_once(proxy: Proxy, fault: str) -> None:
    """Its own repetition is no conflict."""
    async with new_table() as table:
        proxy.script = [fault, fault]
        await table.write(HERE, 0, Change(append={"lines": ["1"]}))
        proxy.script = [fault, fault]
        await table.write(HERE, 1, Change(append={"lines": ["2"]}))
        proxy.script = [fault]
        assert await table.get(HERE) == {"version": 2, "lines": ["1", "2"]}
        assert proxy.seen[fault] == 5


def test_every_error_that_a_call_may_bring_by_dynamodb_s_model_is_passing_unless_it_is_named_here() -> None:
    """A new one in a newer botocore is decided on, not overlooked."""
    final = {
        "ConditionalCheckFailedException",  # read by `write`: another version, or our own write
        "ItemCollectionSizeLimitExceededException",  # of tables with local secondary indexes, which ours has none of
        "ResourceNotFoundException",  # MissingTableError
    }
    model = Session().get_service_model("dynamodb")
    called = ("GetItem", "BatchGetItem", "UpdateItem")
    for shape in (shape for name in called for shape in model.operation_model(name).error_shapes):
        error = ClientError({"Error": {"Code": shape.name}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "UpdateItem")
        assert may_pass(error) == (shape.name not in final), shape.name


async def test_trouble_that_lasts_stops_the_run(proxy: Proxy) -> None:
    """With a sentence that names the ledger."""
    async with new_table(give_up_seconds=0.3) as table:
        proxy.faults = {"failed": 1.0}
        with pytest.raises(StoppedError, match=r"dynamodb://fleet-\d+ does not take job#a.*InternalServerError"):
            await table.write(HERE, 0, Change())


async def test_a_table_that_is_gone_stops_the_run_at_once(proxy: Proxy) -> None:
    """It is not waited for."""
    async with open_dynamodb(region=REGION, concurrency=1) as client:
        with pytest.raises(MissingTableError, match="ledger create-table gone makes it"):
            await DynamoTable(client, "gone").get(HERE)


async def test_workers_that_claim_the_same_jobs_never_share_one(proxy: Proxy) -> None:
    """Four workers, sixty jobs, and every tenth call in trouble: each job has one intent and one outcome."""
    proxy.faults = {"throttled": 0.04, "failed": 0.02, "lost": 0.04}
    proxy.faults |= {"conflict": 0.02, "conflict in another region": 0.02}
    keys = [f"job-{number}" for number in range(60)]
    done: Counter[str] = Counter()

    async def serve(ledger: SharedLedger, order: list[str]) -> None:
        for key in order:
            claim = await ledger.claim(key)
            if isinstance(claim, Taken):
                continue
            if claim.state is None:
                await ledger.put(intent(key))
                if ledger.holds(key):
                    done[key] += 1
                    await ledger.put(submitted(key))
            ledger.release(key)

    async with new_table() as table, AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(worker(table, f"w{number}")) for number in range(4)]
        drawn = Random(1)
        await asyncio.gather(*(serve(ledger, drawn.sample(keys, len(keys))) for ledger in ledgers))
        await asyncio.gather(*(ledger.flush() for ledger in ledgers))
        proxy.faults = {}
        book = await asyncio.to_thread(fold_ledger, TableLocation(table.name), region=REGION)
    assert done == Counter(keys)
    assert book.counts() == {Phase.SUBMITTED: len(keys)}
    assert min(proxy.seen[fault] for fault in (*REFUSALS, "lost")) > 0


async def test_a_dead_workers_job_is_taken_over_after_its_lease(proxy: Proxy) -> None:
    """A living one's is not, and one that comes back finds that it has lost its jobs."""
    async with new_table() as table, AsyncExitStack() as stack, worker(table, "dead") as dead:
        living = await stack.enter_async_context(worker(table, "living"))
        assert await dead.claim("a") == Mine(None)
        await dead.put(intent("a"))
        await asyncio.sleep(2 * QUICK.lease_seconds)
        assert isinstance(await living.claim("a"), Taken)
        assert dead.holds("a")
        await suspend(dead)
        claim = await patiently(living, "a")
        assert claim.state is not None
        assert claim.state.phase is Phase.INTENT
        assert not dead.holds("a")
        with pytest.raises(LostJobError):
            await dead.put(intent("a", attempt=2))


async def suspend(ledger: SharedLedger) -> None:
    """Stop renewing the lease of a worker."""
    name = f"lease of {ledger.owner}"
    (renewing,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    renewing.cancel()


async def patiently(ledger: SharedLedger, key: str) -> Mine:
    """Claim a job as often as it is said to be taken."""
    while True:
        claim = await ledger.claim(key)
        if isinstance(claim, Mine):
            return claim
        await asyncio.sleep(claim.retry_after_seconds)
