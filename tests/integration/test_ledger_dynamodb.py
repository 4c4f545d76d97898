"""The shared ledger on a local DynamoDB, through a proxy that throttles, fails, and loses answers on its way."""

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
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
from batchsubmit.core.job_states import Phase
from batchsubmit.errors import StoppedError, UsageError
from batchsubmit.ledger.base import LostJobError, Mine, Taken
from batchsubmit.ledger.dynamodb import (
    DynamoTable,
    may_pass,
    open_table,
    write_address,
)
from batchsubmit.ledger.items import Address
from batchsubmit.ledger.location import TableLocation
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.ledger.shared import LeaseTerms, SharedLedger, open_shared

REGION = "us-east-1"
QUICK = LeaseTerms(lease_seconds=2.0, call_seconds=0.2)
HERE = Address("job#a", "job")
_numbers = count()

REFUSALS = {
    "throttled": (400, "ProvisionedThroughputExceededException"),
    "conflict": (400, "TransactionConflictException"),
    "conflict in another region": (400, "ReplicatedWriteConflictException"),
    "failed": (500, "InternalServerError"),
}
FOREIGN = {
    "empty": ("application/x-amz-json-1.0", b""),
    "page": ("text/html", b"<html>Sign in to continue</html>"),
    "other json": ("application/json", b"{}"),
    "anonymous": ("application/x-amz-json-1.0", b"{}"),
}
"""Answers with status 200 that something between us and DynamoDB gives in its place."""


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
            named = {"x-amzn-requestid": "r"}
            return web.Response(status=status, text=answer, content_type="application/x-amz-json-1.0", headers=named)
        if fault in FOREIGN:
            kind, content = FOREIGN[fault]
            return web.Response(body=content, content_type=kind)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.post(self.upstream, data=body, headers=headers) as answer,
        ):
            content, declared = await answer.read(), answer.headers.get("x-amz-crc32")
            kept = {k: v for k, v in answer.headers.items() if k.lower() in {"content-type", "x-amzn-requestid"}}
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        if fault == "trickles":
            return await trickle(request, content, kept)
        if fault == "changed":
            kept["x-amz-crc32"] = declared or str(zlib.crc32(content))
            content = content.replace(b"job#a", b"job#b")
        return web.Response(status=answer.status, body=content, headers=kept)


async def trickle(request: web.Request, content: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Answer a byte at a time, until nobody listens."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    with suppress(ConnectionError):
        for byte in content + b" " * 1000:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
    return response


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
    async with open_table(name, region=REGION, concurrency=32, give_up_seconds=give_up_seconds) as table:
        await table.create()
        yield table


def worker(table: DynamoTable, name: str) -> AbstractAsyncContextManager[SharedLedger]:
    """Another worker on the table."""
    return open_shared(table, name, f"process {name}", clock=SystemClock(), terms=QUICK, keeps_all=True)


@pytest.mark.parametrize("fault", [*REFUSALS, "lost"])
async def test_a_write_survives_trouble_and_is_made_once(proxy: Proxy, fault: str) -> None:
    """Its own repetition is no conflict."""
    async with new_table() as table:
        proxy.script = [fault, fault]
        await table.write(HERE, 0, {"lines": ["1"]})
        proxy.script = [fault, fault]
        await table.write(HERE, 1, {"lines": ["1", "2"]})
        proxy.script = [fault]
        assert await table.get(HERE) == {"version": 2, "lines": ["1", "2"]}
        assert proxy.seen[fault] == 5


@pytest.mark.parametrize("fault", FOREIGN)
async def test_an_answer_that_is_not_dynamodb_s_is_no_write_and_no_item(proxy: Proxy, fault: str) -> None:
    """A portal's page, an empty 200: the write is repeated until DynamoDB has it, the item is read again."""
    async with new_table() as table:
        for follows in range(2):
            proxy.script = [fault]
            assert (await table.write(HERE, follows, {"lines": [str(follows)]}))["version"] == follows + 1
        proxy.script = [fault]
        assert await table.get(HERE) == {"version": 2, "lines": ["1"]}
        proxy.script = [fault]
        assert await table.get_many([HERE]) == {HERE: {"version": 2, "lines": ["1"]}}
        proxy.script = [fault]
        assert [page async for page in table.scan()] == [{HERE: {"version": 2, "lines": ["1"]}}]
        assert proxy.seen[fault] == 5


async def test_an_answer_whose_checksum_does_not_fit_is_read_again(proxy: Proxy) -> None:
    """Someone changed it on its way."""
    async with new_table() as table:
        await table.write(HERE, 0, {"holder": "job#a"})
        proxy.script = ["changed"]
        assert await table.get(HERE) == {"version": 1, "holder": "job#a"}
        assert proxy.seen["changed"] == 1


async def test_foreign_answers_that_last_stop_the_run_with_what_they_are(proxy: Proxy) -> None:
    """No write is believed, and the person is told of the proxy."""
    async with new_table(give_up_seconds=2) as table:
        proxy.faults = {"page": 1.0}
        with pytest.raises(StoppedError, match=r"the answer is not DynamoDB's \(status 200, text/html"):
            await table.write(HERE, 0, {})


async def test_an_answer_that_trickles_is_given_up_in_time(proxy: Proxy) -> None:
    """A write of which it was that is repeated, and is made once; a read, too."""
    async with new_table(give_up_seconds=4) as table, asyncio.timeout(20):
        proxy.script = ["trickles"]
        await table.write(HERE, 0, {"lines": ["1"]})
        proxy.script = ["trickles"]
        assert await table.get(HERE) == {"version": 1, "lines": ["1"]}


class Hanging:
    """A client that never begins its call, as one whose fresh credentials do not come."""

    async def batch_get_item(self, **_: object) -> None:
        """Wait."""
        await asyncio.Event().wait()


async def test_a_call_that_does_not_leave_is_given_up_in_time() -> None:
    """The HTTP client's own limits begin with the request."""
    with pytest.raises(StoppedError, match=r"no whole answer within 0\.1 s"):
        await DynamoTable(Hanging(), "t", give_up_seconds=0.4).get(HERE)


class EndlessPages:
    """A client whose Scan goes on for ever: with the same end, or with ever new ones and no item."""

    def __init__(self, *, repeats: bool) -> None:
        self.repeats = repeats
        self.calls = 0

    async def scan(self, **_: object) -> dict[str, object]:
        """One more page."""
        self.calls += 1
        end = {"pk": {"S": "p" if self.repeats else str(self.calls)}, "sk": {"S": "s"}}
        return {"Items": [end] if self.repeats else [], "LastEvaluatedKey": end}

    async def batch_get_item(self, *, RequestItems: dict[str, object]) -> dict[str, object]:  # noqa: N803 (AWS's name)
        """Read nothing."""
        return {"Responses": {}, "UnprocessedKeys": RequestItems}


@pytest.mark.parametrize("repeats", [False, True])
async def test_pages_that_do_not_end_stop_the_read(repeats: bool) -> None:
    """After a bounded number of them."""
    client = EndlessPages(repeats=repeats)
    async with asyncio.timeout(20):
        with pytest.raises(StoppedError, match="its pages do not end"):
            _ = [page async for page in DynamoTable(client, "t").scan()]
    assert client.calls < 100


async def test_items_that_are_never_read_stop_the_read() -> None:
    """As under throttling that does not end."""
    async with asyncio.timeout(20):
        with pytest.raises(StoppedError, match="cannot be read: the answer lacks"):
            await DynamoTable(EndlessPages(repeats=True), "t", give_up_seconds=0.5).get_many([HERE])


class OneItem:
    """A client whose reads bring one item."""

    def __init__(self, item: dict[str, object]) -> None:
        self.item = item

    async def scan(self, **_: object) -> dict[str, object]:
        """The only page."""
        return {"Items": [self.item]}

    async def batch_get_item(self, **_: object) -> dict[str, object]:
        """The only answer."""
        return {"Responses": {"t": [self.item]}}


@pytest.mark.parametrize("item", [{"sk": {"S": "job"}}, {**write_address(HERE), "version": {"N": "1.5"}}])
async def test_items_that_this_program_never_wrote_stop_the_read(item: dict[str, object]) -> None:
    """One without a key, or with a fraction."""
    table = DynamoTable(OneItem(item), "t", give_up_seconds=0.1)
    with pytest.raises(StoppedError, match="cannot be read: the answer lacks"):
        await table.get(HERE)
    with pytest.raises(StoppedError, match="cannot be read: the answer lacks"):
        _ = [page async for page in table.scan()]


async def test_an_item_that_was_not_asked_for_stops_the_read() -> None:
    """It is the answer to another call."""
    table = DynamoTable(OneItem(write_address(HERE)), "t", give_up_seconds=0.1)
    with pytest.raises(StoppedError, match="cannot be read: the answer lacks"):
        await table.get(Address("job#b", "job"))


def test_every_error_that_a_call_may_bring_by_dynamodb_s_model_is_passing_unless_it_is_named_here() -> None:
    """A new one in a newer botocore is decided on, not overlooked."""
    final = {
        "ConditionalCheckFailedException",  # read by `write`: another version, or our own write
        "ItemCollectionSizeLimitExceededException",  # of tables with local secondary indexes, which ours has none of
        "ResourceNotFoundException",  # UsageError, or MissingTableError once the table was there
    }
    model = Session().get_service_model("dynamodb")
    called = ("BatchGetItem", "Scan", "UpdateItem")
    for shape in (shape for name in called for shape in model.operation_model(name).error_shapes):
        error = ClientError({"Error": {"Code": shape.name}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "UpdateItem")
        assert may_pass(error) == (shape.name not in final), shape.name


async def test_trouble_that_lasts_stops_the_run(proxy: Proxy) -> None:
    """With a sentence that names the ledger."""
    async with new_table(give_up_seconds=2) as table:
        proxy.faults = {"failed": 1.0}
        with pytest.raises(StoppedError, match=r"dynamodb://fleet-\d+ does not take job#a.*InternalServerError"):
            await table.write(HERE, 0, {})


async def test_a_table_that_is_not_there_is_a_usage_error_at_once(proxy: Proxy) -> None:
    """It is not waited for."""
    async with open_table("gone", region=REGION, concurrency=1) as table:
        with pytest.raises(UsageError, match="ledger create-table gone makes it"):
            await table.get(HERE)


async def test_workers_that_claim_the_same_jobs_never_share_one(proxy: Proxy) -> None:
    """Four workers, sixty jobs, and every fifth call in trouble: each job has one intent and one outcome."""
    proxy.faults = {"throttled": 0.04, "failed": 0.02, "lost": 0.04}
    proxy.faults |= {"conflict": 0.02, "conflict in another region": 0.02, "empty": 0.04, "page": 0.02}
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
    assert Counter(each.phase for each in book) == {Phase.SUBMITTED: len(keys)}
    assert min(proxy.seen[fault] for fault in (*REFUSALS, "lost", "empty", "page")) > 0


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
    name = f"lease of {ledger._session.owner}"
    (renewing,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    renewing.cancel()


async def patiently(ledger: SharedLedger, key: str) -> Mine:
    """Claim a job as often as it is said to be taken."""
    while True:
        claim = await ledger.claim(key)
        if isinstance(claim, Mine):
            return claim
        await asyncio.sleep(claim.retry_after_seconds)
