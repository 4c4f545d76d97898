"""Sorts more lines than fit into memory: sorted runs in temporary files, merged. It knows nothing of what they say."""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO, TypeAlias

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
        yield from heapq.merge(*map(_read, runs), key=_key)


def _key(line: Keyed) -> tuple[str, int]:
    return line[:2]


def _spill(run: Iterable[Keyed], stack: ExitStack) -> IO[bytes]:
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    file.writelines(b"%s\t%d\t%s\n" % (text.encode(), number, line) for text, number, line in run)
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[Keyed]:
    for line in file:
        text, number, rest = line.removesuffix(b"\n").split(b"\t", 2)
        yield text.decode(), int(number), rest
