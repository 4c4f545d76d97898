"""Reads a shared ledger's events off its table, also while workers write. Blocking: it is for commands that read.

Every read is consistent, so each job's events are whole and in order as of the moment at which its item was read.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice, pairwise
from typing import IO, Any, TypeAlias

from botocore import exceptions as aws
from botocore.config import Config
from botocore.session import Session

from batchsubmit.aws import USER_AGENT
from batchsubmit.core.jobs import Event, RunEnded, RunStarted
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.ledger.attributes import read_item, write_address
from batchsubmit.ledger.codec import LineDamagedError, decode_line
from batchsubmit.ledger.items import JOB, RUNS, JobRow, page_address, read_run
from batchsubmit.ledger.table import Address, Item

ReadItem = Callable[[Address], Item | None]


def read_table(name: str, region: str | None) -> Iterator[Event]:
    """Yield the events of all runs, then those of each job in their order. Memory does not grow with the table.

    Raises UsageError, LedgerError (damaged lines), StoppedError (DynamoDB does not tell).
    """
    client = _connect(region)
    try:
        yield from _read(client, name)
    except aws.ClientError as exc:
        if exc.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            raise UsageError(f"there is no DynamoDB table {name} in region {region}") from exc
        raise StoppedError(f"the ledger dynamodb://{name} cannot be read: {exc}") from exc
    except aws.BotoCoreError as exc:
        raise StoppedError(f"the ledger dynamodb://{name} cannot be read: {exc}") from exc
    finally:
        client.close()


def _connect(region: str | None) -> Any:  # noqa: ANN401 (botocore makes clients at run time)
    # botocore's own retries will do: a read may be repeated as often as one likes.
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


def job_events(key: str, item: Item, get: ReadItem, name: str) -> Iterator[Event]:
    """The events of one job in their order, from its pages and its own item. Raises LedgerError."""
    row = JobRow.read(key, item)
    number = 0
    for lines in (*_paged_lines(row, get, name), row.lines):
        for line in lines:
            number += 1
            try:
                yield decode_line(line.encode())
            except LineDamagedError as exc:
                raise LedgerError(
                    f"the ledger dynamodb://{name} is damaged at event {number} of job {key}: {exc}"
                ) from exc


def _paged_lines(row: JobRow, get: ReadItem, name: str) -> Iterator[list[str]]:
    for start, end in pairwise((0, *row.pages)):
        page = get(page_address(row.key, start, end))
        lines = page["lines"] if page else None
        if not isinstance(lines, list):
            raise LedgerError(f"the ledger dynamodb://{name} lacks events {start + 1} to {end} of job {row.key}")
        yield [str(line) for line in lines]


LINES_A_RUN = 200_000
"""About a hundred megabytes of ledger lines."""

Keyed: TypeAlias = tuple[str, int, bytes]
"""What to sort by, first text, then number; and the line, without its newline."""


def sort_lines(lines: Iterable[Keyed], *, lines_a_run: int = LINES_A_RUN) -> Iterator[Keyed]:
    """Yield the lines in the order of their keys; those with equal keys in the order in which they came."""
    coming = iter(lines)
    with ExitStack() as stack:
        runs: list[IO[bytes]] = []
        while run := sorted(islice(coming, lines_a_run), key=_key):
            if len(run) < lines_a_run and not runs:
                yield from run
                return
            runs.append(_spill(run, stack))
        yield from heapq.merge(*map(_read_run, runs), key=_key)


def _key(line: Keyed) -> tuple[str, int]:
    return line[:2]


def _spill(run: Iterable[Keyed], stack: ExitStack) -> IO[bytes]:
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    file.writelines(b"%s\t%d\t%s\n" % (text.encode(), number, line) for text, number, line in run)
    file.seek(0)
    return file


def _read_run(file: IO[bytes]) -> Iterator[Keyed]:
    for line in file:
        text, number, rest = line.removesuffix(b"\n").split(b"\t", 2)
        yield text.decode(), int(number), rest
