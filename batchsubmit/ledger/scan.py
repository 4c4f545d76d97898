"""Reads a shared ledger's events off its table, also while workers write. Blocking: it is for commands that read.

Every read is consistent, so each job's events are whole and in order as of the moment at which its item was read.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

from botocore import exceptions as aws
from botocore.config import Config
from botocore.session import Session

from batchsubmit.aws import USER_AGENT
from batchsubmit.core.jobs import Event, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.codec import LineDamagedError, decode_line
from batchsubmit.ledger.dynamodb import read_item, write_address
from batchsubmit.ledger.items import JOB, RUNS, JobRow, page_address, read_run
from batchsubmit.ledger.table import Address, Item


def read_table(name: str, region: str | None) -> Iterator[Event]:
    """Yield the events of all runs, then those of each job in their order. Memory does not grow with the table.

    Raises UsageError, LedgerError (damaged lines), StoppedError (DynamoDB fails).
    """
    client = _connect(region)
    try:
        yield from _read(client, name)
    except client.exceptions.ResourceNotFoundException as exc:
        raise UsageError(f"there is no DynamoDB table {name} in region {region}") from exc
    except (aws.ClientError, aws.BotoCoreError) as exc:
        raise StoppedError(f"the ledger dynamodb://{name} cannot be read: {exc}") from exc
    finally:
        client.close()


def _connect(region: str | None) -> Any:  # noqa: ANN401 (botocore makes clients at run time)
    # botocore's own retries are right here: a read may be repeated.
    config = Config(retries={"total_max_attempts": 10, "mode": "standard"}, user_agent=USER_AGENT)
    try:
        return Session().create_client("dynamodb", region_name=region, config=config)
    except (aws.BotoCoreError, ValueError) as exc:
        raise UsageError(f"the AWS configuration is wrong: {exc}") from exc


def _read(client: Any, name: str) -> Iterator[Event]:  # noqa: ANN401 (botocore makes clients at run time)
    def get(address: Address) -> Item | None:
        answer = client.get_item(TableName=name, Key=write_address(address), ConsistentRead=True)
        return read_item(answer["Item"]) if "Item" in answer else None

    runs = client.get_paginator("query").paginate(
        TableName=name,
        ConsistentRead=True,
        KeyConditionExpression="pk = :runs",
        ExpressionAttributeValues={":runs": {"S": RUNS}},
    )
    yield from run_events([read_item(item) for page in runs for item in page["Items"]], name)
    pages = client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    for page in pages:
        for item in page["Items"]:
            if item["sk"]["S"] == JOB:
                yield from job_events(item["pk"]["S"].removeprefix("job#"), read_item(item), get, name)


def run_events(items: Iterable[Item], name: str) -> list[RunStarted | RunEnded]:
    """All runs by time; the beginnings of those without an end come last, so that the fold knows of open ones.

    Raises LedgerError.
    """
    ended: list[RunStarted | RunEnded] = []
    without_end: list[RunStarted | RunEnded] = []
    for item in items:
        try:
            lines = read_run(item)
        except LineDamagedError as exc:
            raise LedgerError(f"the ledger dynamodb://{name} is damaged at a run: {exc}") from exc
        (ended if len(lines) == 2 else without_end).extend(lines)
    return sorted(ended, key=lambda event: event.at) + without_end


def job_events(key: str, item: Item, get: Callable[[Address], Item | None], name: str) -> Iterator[Event]:
    """The events of one job in their order, from its pages and its own item. Raises LedgerError."""
    for number, line in enumerate(_lines(JobRow.read(key, item), get, name), start=1):
        try:
            yield decode_line(line.encode())
        except LineDamagedError as exc:
            raise LedgerError(f"the ledger dynamodb://{name} is damaged at event {number} of job {key}: {exc}") from exc


def _lines(row: JobRow, get: Callable[[Address], Item | None], name: str) -> Iterator[str]:
    for start, end in pairwise((0, *row.pages)):
        page = get(page_address(row.key, start, end))
        lines = page["lines"] if page else None
        if not isinstance(lines, list):
            raise LedgerError(f"the ledger dynamodb://{name} lacks events {start + 1} to {end} of job {row.key}")
        yield from map(str, lines)
    yield from row.lines
