"""What every table under a shared ledger promises: DynamoDB's on two local servers, and the one in memory alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from memory_table import MemoryTable

from batchsubmit.ledger.dynamodb import open_table
from batchsubmit.ledger.items import Address, ConflictError, Table

HERE = Address("job#a", "job")
_numbers = count()


@asynccontextmanager
async def on_dynamodb(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Table]:
    """The real side."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    name = f"table-{next(_numbers)}"
    async with open_table(name, region="us-east-1", concurrency=16) as table:
        await table.create()
        yield table


@pytest.fixture(params=["ministack", "moto", "memory"])
async def table(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, credentials: None
) -> AsyncIterator[Table]:
    """An empty table."""
    if request.param == "memory":
        yield MemoryTable()
        return
    url = request.getfixturevalue("moto_url") if request.param == "moto" else request.getfixturevalue("aws").url
    async with on_dynamodb(url, monkeypatch) as opened:
        yield opened


async def test_an_item_is_read_as_it_was_written(table: Table) -> None:
    """Texts, numbers, lists and truths, with the count of writes as its version."""
    assert await table.get(HERE) is None
    await table.write(HERE, 0, {"owner": "é\U0001f511", "count": 3, "lines": ["1", "2"], "pages": [1, 2]})
    assert await table.get(HERE) == {
        "version": 1,
        "owner": "é\U0001f511",
        "count": 3,
        "lines": ["1", "2"],
        "pages": [1, 2],
    }


async def test_a_write_sets_what_it_names_and_gives_the_whole_item(table: Table) -> None:
    """What it does not name stays; an empty text is one."""
    written = await table.write(HERE, 0, {"owner": "w", "lines": ["1"]})
    assert written == {"version": 1, "owner": "w", "lines": ["1"]}
    written = await table.write(HERE, 1, {"state": "s", "owner": ""})
    assert written == {"version": 2, "state": "s", "owner": "", "lines": ["1"]} == await table.get(HERE)


async def test_all_items_are_read(table: Table) -> None:
    """Each once, with its address."""
    for sk in "cab":
        await table.write(Address("runs", sk), 0, {"started": sk})
    await table.write(HERE, 0, {})
    items = {address: item async for page in table.scan() for address, item in page.items()}
    runs = {Address("runs", sk): {"version": 1, "started": sk} for sk in "abc"}
    assert items == {**runs, HERE: {"version": 1}}


@pytest.mark.parametrize("follows", [0, 1, 3])
async def test_a_write_that_follows_another_version_changes_nothing(table: Table, follows: int) -> None:
    """It is told what there is."""
    await table.write(HERE, 0, {"owner": "w"})
    await table.write(HERE, 1, {})
    with pytest.raises(ConflictError) as caught:
        await table.write(HERE, follows, {"owner": "x"})
    assert caught.value.item == {"version": 2, "owner": "w"} == await table.get(HERE)


async def test_a_write_that_follows_what_is_not_there_makes_nothing(table: Table) -> None:
    """Only version 0 is none."""
    with pytest.raises(ConflictError) as caught:
        await table.write(HERE, 1, {"owner": "x"})
    assert caught.value.item is None
    assert await table.get(HERE) is None


async def test_many_items_are_read_at_once(table: Table) -> None:
    """More than DynamoDB gives in one answer; those that do not exist are left out."""
    addresses = [Address(f"job#{number}", "job") for number in range(150)]
    await asyncio.gather(*(table.write(address, 0, {"owner": address.pk}) for address in addresses[::2]))
    found = await table.get_many(addresses)
    assert found == {address: {"version": 1, "owner": address.pk} for address in addresses[::2]}


async def test_of_many_that_write_at_once_one_wins(table: Table) -> None:
    """And the others know it."""

    async def attempt(name: str) -> bool:
        try:
            await table.write(HERE, 0, {"owner": name})
        except ConflictError:
            return False
        return True

    won = await asyncio.gather(*(attempt(str(number)) for number in range(20)))
    assert won.count(True) == 1
    assert await table.get(HERE) == {"version": 1, "owner": str(won.index(True))}
